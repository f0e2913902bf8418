//! What cores say to one another: small messages, and no bytes of blobs but the frames that one
//! core hashes for another.

use std::collections::HashSet;
use std::sync::Arc;

use crate::index::Location;
use crate::log::checkpoint::{Covered, Slice};
use crate::log::counters::LogCounters;
use crate::log::error::LogError;
use crate::log::footer::FooterEntry;
use crate::log::record::Head;
use crate::log::segment::Tenant;
use crate::sha256::Sha256;
use crate::store::error::OpenError;
use crate::store::hash_steps::{HashStep, Piece};
use crate::types::{BlobId, CoreId, SegmentId, Sequence};

/// Everything that comes through a core's mailbox.
pub(super) enum Message {
    Request { from: CoreId, call: u64, request: Request },
    Reply { call: u64, reply: Reply },
    Recovery(Recovery),
}

/// What one core asks of another.
#[derive(Debug)]
pub(super) enum Request {
    /// Where is this blob?
    Lookup(BlobId),
    /// Where are these blobs?
    Locate(Vec<BlobId>),
    /// Locks those of these ids that are free and where they were found, to be moved.
    Hold(Vec<(BlobId, Location)>),
    /// Unlocks ids that were held, with their new places.
    Moved(Vec<(BlobId, Option<Location>)>),
    /// Locks an id; the answer comes when it is this core's turn.
    Acquire(BlobId),
    /// Unlocks an id with what came of the operation.
    Release {
        id: BlobId,
        outcome: Outcome,
    },
    /// This segment is gone for good, and with it the records of operations in doubt on these ids.
    Settle {
        segment: SegmentId,
        ids: Vec<BlobId>,
    },
    /// Ids above this one.
    List {
        after: Option<BlobId>,
        limit: usize,
    },
    /// A slice for the checkpoint.
    Slice {
        after: Option<BlobId>,
    },
    Status,
    /// Seal what this core is writing to, so that the scrub can look at it.
    Rotate,
    /// Write this tombstone: the asking core has no room for it.
    Bury(Head),
    /// Hash a frame of this upload: the asking core is busy, and this one is not.
    Hash {
        upload: u64,
        step: HashStep,
    },
    /// This core has closed its logs; answered when the last has, and the checkpoint is written.
    Closed,
}

#[derive(Debug)]
pub(super) enum Reply {
    Lookup(Option<Location>),
    Located(Vec<Option<Location>>),
    /// What those that are held now are moved as.
    Held(Vec<Option<Held>>),
    Moved,
    Settled,
    Acquired(Acquired),
    Released(Released),
    Listed(Vec<BlobId>),
    Slice {
        slice: Slice,
        more: bool,
    },
    Rotated,
    Status(Box<CoreStatus>),
    /// The segment that the tombstone lies in; it counts as unapplied there.
    Buried(Result<SegmentId, LogError>),
    Hashed(Box<Piece>),
    HashState(Box<Sha256>),
    Closed,
}

/// What became of the operation that held the lock of an id.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Nothing,
    /// A write failed: the next start may find its record or not.
    /// In one of these segments.
    InDoubt(Vec<SegmentId>),
    Insert(Location),
    Remove,
}

impl Outcome {
    /// Of an operation whose record could not be written.
    pub fn of_failure(error: &LogError) -> Self {
        match error.segments() {
            [] => Outcome::Nothing,
            segments => Outcome::InDoubt(segments.to_vec()),
        }
    }
}

/// The lock of an id, as its owner grants it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acquired {
    pub current: Option<Location>,
    /// As which the segments know the pieces of `current`, if it has any and is counted.
    pub tenant: Option<Tenant>,
    /// What lies on the disk may say something else than `current` at the next start: neither "it
    /// is there" nor "it is not" may be answered without writing it.
    pub in_doubt: bool,
    /// The number of the operation that may now happen.
    pub sequence: Sequence,
}

/// A blob that is locked to be moved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// Of the new record.
    pub sequence: Sequence,
    /// As which the segments know its pieces, if it has any.
    pub tenant: Tenant,
}

/// What the owner says to an outcome.
#[derive(Clone, Copy, Debug)]
pub(super) struct Released {
    pub id: BlobId,
    /// The location that was replaced or removed.
    pub before: Option<Location>,
    /// Whether the bytes of `before` are counted as live in their segments.
    pub accounted: bool,
    /// As which the segments know the pieces of `before`, if it has any.
    pub tenant: Tenant,
}

/// One core's part of the status.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct CoreStatus {
    pub blob_count: u64,
    pub index_bytes: u64,
    pub log: LogCounters,
    pub waiting_records: u64,
    pub frame_bytes: u64,
    pub frame_budget_bytes: u64,
    pub frame_waiters: u64,
}

/// What cores say during recovery.
pub(super) enum Recovery {
    /// A part of the checkpoint: the slice as it is, with the entries that this core owns. Answered
    /// by `Entered`.
    Slice(Slice),
    /// The checkpoint is not to be believed: forget its slices.
    DiscardSlices,
    /// What is to be read, by all cores together. Nothing of the checkpoint comes after it.
    Plan(Arc<Plan>),
    /// Records of ids that this core owns. Answered by `Entered`.
    Replay { from: CoreId, records: Vec<ReplayRecord> },
    /// So many records, or entries of slices, that this core sent are entered.
    Entered(usize),
    /// A core has read its part.
    Scanned { max_sequence: Sequence, result: Result<(), OpenError> },
    /// A core has built its index.
    Ready,
}

/// The work of a recovery, the same on all cores.
pub(super) struct Plan {
    pub store: [u8; 16],
    /// Segments to read, each by the core that its index falls to.
    pub segments: Vec<SegmentFile>,
    /// Segments that need not be read.
    pub covered: Vec<(Covered, SegmentFile)>,
    pub max_sequence: Sequence,
    /// The bytes of a segment, by data directory.
    pub segment_sizes: Vec<u64>,
    pub result: Result<(), OpenError>,
}

/// A segment's file as it was listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentFile {
    pub id: SegmentId,
    pub dir: usize,
    pub size: u64,
}

/// The numbers of the segments that exist.
pub(super) type Existing = HashSet<SegmentId>;

/// A blob or a tombstone found in a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplayRecord {
    pub segment: SegmentId,
    pub entry: FooterEntry,
}
