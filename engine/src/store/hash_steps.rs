//! What is hashed at a time: how far a payload is, and the frames that one core hashes for another.
//!
//! Invariant: the state of a hash is in one place, with the core that hashes, which keeps the
//! frames in their order. Who hashes where and when is in [`super::hashing`].

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fmt;

use crate::io::AlignedBuf;
use crate::log::CHECK_SIZE;
use crate::log::codec::crc32c;
use crate::sha256::Sha256;
use crate::types::CoreId;

/// How far a frame's payload is hashed, and the checksums of its check blocks so far.
#[derive(Default)]
pub(super) struct Progress {
    pub hashed: usize,
    checks: Vec<u32>,
}

impl Progress {
    /// Hashes on, to the end of a check block or of the payload.
    pub fn step(&mut self, hasher: &mut Sha256, payload: &[u8]) {
        let end = self.step_end(payload.len());
        hasher.update(&payload[self.hashed..end]);
        self.hashed = end;
        let unchecked = self.checks.len() * CHECK_SIZE;
        if end - unchecked == CHECK_SIZE {
            self.checks.push(crc32c(&payload[unchecked..end]));
        }
    }

    pub fn step_end(&self, length: usize) -> usize {
        length.min((self.hashed / CHECK_SIZE + 1) * CHECK_SIZE)
    }

    /// The checksums of a payload that is complete.
    pub fn into_checks(mut self, payload: &[u8]) -> Vec<u32> {
        assert_eq!(self.hashed, payload.len(), "a payload is hashed before it is written");
        let unchecked = self.checks.len() * CHECK_SIZE;
        if unchecked < payload.len() {
            self.checks.push(crc32c(&payload[unchecked..]));
        }
        self.checks
    }
}

/// A frame on its way to be hashed by another core, or back.
pub(super) struct Piece {
    pub buf: AlignedBuf,
    pub length: usize,
    pub progress: Progress,
}

impl fmt::Debug for Piece {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Piece({} bytes)", self.length)
    }
}

/// What a core is asked to do for an upload of another, in this order.
#[derive(Debug)]
pub(super) enum HashStep {
    /// Hash this frame. The first one brings the state of the hash.
    Piece { state: Option<Box<Sha256>>, piece: Box<Piece> },
    /// Give the state back.
    End,
}

/// An upload of another core that is hashed here.
#[derive(Default)]
pub(super) struct Session {
    pub state: Option<Box<Sha256>>,
    pub steps: VecDeque<(u64, HashStep)>,
    /// A task works on the steps.
    pub busy: bool,
}

/// The uploads that a core hashes for others, by their core and number.
pub(super) type Sessions = RefCell<HashMap<(CoreId, u64), Session>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::record::checksums;

    #[test]
    fn in_whatever_steps_a_payload_comes_its_hash_and_checksums_are_the_same() {
        let payload: Vec<u8> = (0..5 * CHECK_SIZE + 777).map(|number| ((number * 31) >> 3) as u8).collect();
        for length in [1, 4096, CHECK_SIZE - 1, CHECK_SIZE, CHECK_SIZE + 1, 3 * CHECK_SIZE, payload.len()] {
            for stride in [1000, CHECK_SIZE - 1, CHECK_SIZE, CHECK_SIZE + 1, payload.len()] {
                let (mut hasher, mut progress) = (Sha256::new(), Progress::default());
                let mut filled = 0;
                while filled < length {
                    filled = length.min(filled + stride);
                    while progress.hashed < filled {
                        progress.step(&mut hasher, &payload[..filled]);
                    }
                }
                assert_eq!(hasher.finalize(), Sha256::digest(&payload[..length]));
                let checks: Vec<u32> = checksums(&payload[..length]).collect();
                assert_eq!(progress.into_checks(&payload[..length]), checks, "{length} bytes by {stride}");
            }
        }
    }
}
