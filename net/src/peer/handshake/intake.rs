//! The bytes of one message, until it is complete. This is all that a peer which hasn't proven
//! itself can make a node hold.

use super::message::MESSAGE_BYTES_MAX;

/// Collects the message that is coming in.
#[derive(Clone)]
pub struct Intake {
    bytes: [u8; MESSAGE_BYTES_MAX],
    filled: usize,
}

impl Intake {
    pub fn new() -> Self {
        Self { bytes: [0; MESSAGE_BYTES_MAX], filled: 0 }
    }

    /// Takes what is missing to the first `wanted` bytes of the message off the front of `input`;
    /// whether they are complete.
    pub fn fill(&mut self, input: &mut &[u8], wanted: usize) -> bool {
        let count = (wanted - self.filled).min(input.len());
        let (taken, rest) = input.split_at(count);
        self.bytes[self.filled..self.filled + count].copy_from_slice(taken);
        self.filled += count;
        *input = rest;
        self.filled == wanted
    }

    /// What has come of the message.
    pub fn message(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    /// The next message follows.
    pub fn clear(&mut self) {
        self.filled = 0;
    }
}
