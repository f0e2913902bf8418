//! Small records that wait for a batch to take them along.

use crate::log::HEAD_ROOM;
use crate::log::error::LogError;
use crate::log::open_segment::{Claim, Placed};
use crate::log::record::{Head, Kind};
use crate::memory::Frame;
use crate::sync::Promise;

/// The payload of a packed record.
pub enum PackedPayload {
    None,
    Bytes(Vec<u8>),
    /// The part of a frame behind its head room.
    Frame(Frame, usize),
}

impl PackedPayload {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            PackedPayload::None => &[],
            PackedPayload::Bytes(bytes) => bytes,
            PackedPayload::Frame(frame, length) => &frame[HEAD_ROOM..HEAD_ROOM + length],
        }
    }
}

/// A record that waits for its batch.
pub(super) struct Packed<F> {
    pub head: Head,
    pub payload: PackedPayload,
    pub reply: Promise<Result<Placed<F>, LogError>>,
}

impl<F> Packed<F> {
    pub fn claim(&self) -> Claim {
        if self.head.kind == Kind::Tombstone { Claim::Tombstone } else { Claim::Data }
    }
}
