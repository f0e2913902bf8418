//! The frames of one direction, decoded incrementally.
//!
//! Invariants:
//! - The result depends only on the bytes, never on how they were split into calls.
//! - The decoder holds a head at most; payloads are handed out where they lie.
//! - What is handed out of a payload is to be believed only at [`FrameEvent::End`]: its checksum is
//!   known when all of it was seen.

use super::error::FrameError;
use super::head::{FrameHead, HEAD_BYTES, PAYLOAD_CHECKSUM_AT, Parsed, expect};
use super::kind::PayloadLimits;
use crate::peer::codec::Crc32c;

/// What the decoder found next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameEvent {
    /// All input is consumed; give more.
    NeedMore,
    /// A frame starts.
    Head(FrameHead),
    /// The next `usize` bytes after the consumed ones are payload of that frame, not verified yet:
    /// take them, and continue behind them. Never zero, never more than the input given holds.
    Payload(usize),
    /// The frame is complete, and its payload has the right checksum.
    End,
}

#[derive(Debug)]
enum State {
    /// In a head.
    Head,
    /// In a payload, of which this many bytes are to come.
    Payload {
        parsed: Parsed,
        remaining: u32,
    },
    Failed(FrameError),
}

/// Decodes the frames of one direction.
#[derive(Debug)]
pub struct FrameDecoder {
    limits: PayloadLimits,
    /// The number of the frame that is next or coming in.
    sequence: u32,
    head: [u8; HEAD_BYTES],
    head_filled: usize,
    /// Of what came of the payload.
    checksum: Crc32c,
    state: State,
}

impl FrameDecoder {
    /// # Panics
    /// When the limits are beyond those of the protocol.
    pub fn new(limits: PayloadLimits) -> Self {
        assert!(limits.is_within_protocol(), "{limits:?}");
        Self { limits, sequence: 0, head: [0; HEAD_BYTES], head_filled: 0, checksum: Crc32c::new(), state: State::Head }
    }

    /// Looks at `input`; returns how many bytes to skip first, and what follows them. With
    /// `Payload(count)` the caller's next input starts `count` bytes behind the skipped ones.
    /// Frames that may be ignored are skipped. An error is final, and comes again.
    pub fn next(&mut self, input: &[u8]) -> Result<(usize, FrameEvent), FrameError> {
        let mut at = 0;
        loop {
            match &mut self.state {
                State::Failed(error) => return Err(*error),
                State::Head => {
                    let count = (HEAD_BYTES - self.head_filled).min(input.len() - at);
                    let filled = self.head_filled + count;
                    self.head[self.head_filled..filled].copy_from_slice(&input[at..at + count]);
                    (self.head_filled, at) = (filled, at + count);
                    if filled < HEAD_BYTES {
                        return Ok((at, FrameEvent::NeedMore));
                    }
                    self.head_filled = 0;
                    let parsed = self.parse_head()?;
                    self.checksum = Crc32c::new();
                    self.state = State::Payload { parsed, remaining: parsed.length() };
                    if let Parsed::Known(head) = parsed {
                        return Ok((at, FrameEvent::Head(head)));
                    }
                }
                State::Payload { parsed, remaining: 0 } => {
                    let (is_known, checksum) = (matches!(parsed, Parsed::Known(_)), parsed.checksum());
                    self.complete(checksum)?;
                    if is_known {
                        return Ok((at, FrameEvent::End));
                    }
                }
                State::Payload { parsed, remaining } => {
                    let count = (*remaining as usize).min(input.len() - at);
                    if count == 0 {
                        return Ok((at, FrameEvent::NeedMore));
                    }
                    self.checksum.update(&input[at..at + count]);
                    *remaining -= count as u32;
                    if matches!(parsed, Parsed::Known(_)) {
                        return Ok((at, FrameEvent::Payload(count)));
                    }
                    at += count;
                }
            }
        }
    }

    fn parse_head(&mut self) -> Result<Parsed, FrameError> {
        let parsed = FrameHead::parse(&self.head, self.sequence, &self.limits);
        parsed.inspect_err(|error| self.state = State::Failed(*error))
    }

    /// The payload has come: another frame follows if its checksum is right.
    fn complete(&mut self, checksum: u32) -> Result<(), FrameError> {
        let verdict = expect("checksum of the payload", PAYLOAD_CHECKSUM_AT, self.checksum.value(), checksum);
        verdict.inspect_err(|error| self.state = State::Failed(*error))?;
        self.sequence = self.sequence.wrapping_add(1);
        self.state = State::Head;
        Ok(())
    }
}
