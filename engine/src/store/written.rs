//! What was just written, into the cache: a fresh upload is served from memory.
//!
//! Payloads of uploads were hashed and checksummed on their way in, so what lies in memory is what
//! was verified. It enters the cache when its write has ended well; that nothing asks for it before
//! the blob is in the index, the keys see to: they name the place of the record.

use std::sync::Arc;

use crate::io::{AlignedBuf, Io, SharedBuf};
use crate::log::HEAD_ROOM;
use crate::log::open_segment::Placed;
use crate::log::record::{Decoded, Head, Placement, Shape};
use crate::memory::Frame;
use crate::store::cached::{Cached, Payload, RecordPlace};
use crate::store::fetch::SMALL_PAYLOAD_MAX;
use crate::store::shard::Shard;

/// A buffer of which less than this part is content is not kept: the content is copied into a
/// smaller one.
const FILLED_MIN_PERCENT: usize = 75;

/// The payload of a record that is about to be written, for when it was.
pub(super) enum Kept {
    /// Beside its head.
    Small(Arc<[u8]>),
    /// For itself, with the bytes that it was charged.
    Large(Payload, usize),
    /// The cache has no room.
    Nothing,
}

fn place_of<F>(placed: &Placed<F>) -> RecordPlace {
    RecordPlace { segment: placed.segment().id, offset_units: placed.offset_units }
}

impl<I: Io> Shard<I> {
    /// Copies a payload that goes away with its write.
    pub(super) fn keep_copy(&self, payload: &[u8]) -> Kept {
        if payload.len() <= SMALL_PAYLOAD_MAX {
            return Kept::Small(Arc::from(payload));
        }
        self.copy(payload).map_or(Kept::Nothing, |(payload, size)| Kept::Large(payload, size))
    }

    /// Takes over a frame that was written: head room, then a payload of `length` bytes. Uploads
    /// give way where new memory is dear and no CPU was idle to make it ready: whoever reads the
    /// blob later has it kept.
    pub(super) async fn keep_frame(&self, frame: Frame, length: usize) -> Kept {
        let size = AlignedBuf::footprint(frame.size());
        if length * 100 < size * FILLED_MIN_PERCENT {
            return self.keep_copy(&frame[HEAD_ROOM..HEAD_ROOM + length]);
        }
        if !AlignedBuf::may_be_kept() {
            return Kept::Nothing;
        }
        let Some(charge) = self.reserve(size).await else { return Kept::Nothing };
        let buf = SharedBuf::new(frame.into_buf(), charge);
        Kept::Large(Payload { buf, range: HEAD_ROOM..HEAD_ROOM + length, from: 0 }, size)
    }

    /// Enters the payload of a piece.
    pub(super) fn piece_written(&self, placed: &Placed<I::File>, kept: Kept) {
        if let Kept::Large(payload, size) = kept {
            self.cache().insert(place_of(placed).payload(), Cached::Payload(payload), size);
        }
    }

    /// Enters the head of a blob, and its payload.
    pub(super) fn blob_written(
        &self,
        placed: &Placed<I::File>,
        head: Head,
        shape: Shape,
        checks: Vec<u32>,
        kept: Kept,
    ) {
        let place = place_of(placed);
        let placement = Placement { segment: place.segment, offset_units: place.offset_units, durable_to_units: 0 };
        let decoded = Decoded { head, shape, placement, checks };
        let payload = match kept {
            Kept::Small(payload) => Some(payload),
            Kept::Large(payload, size) => {
                self.cache().insert(place.payload(), Cached::Payload(payload), size);
                None
            }
            // A head without what comes with it would only be in the way of reading both at once.
            Kept::Nothing => return,
        };
        self.insert_head(place, decoded, payload);
    }
}
