//! Put, get, delete and list over log and index; the only writer of the index.
//!
//! Each core has a [`Shard`]. Any shard takes any request: it asks the owner of the id by message, and reads, hashes and writes bytes itself.

mod accounting;
mod background;
mod backlog;
mod backoff;
mod blob;
mod cached;
mod calls;
mod checkpoint;
mod compaction;
mod delete;
mod fetch;
mod hashing;
mod identity;
#[cfg(all(test, feature = "loom"))]
mod interleavings;
mod limits;
mod location;
mod locks;
mod message;
pub mod offline;
mod owner;
mod ownership;
mod plan;
mod pressure;
mod quarantine;
mod reader;
mod readers;
mod reading;
mod recent;
mod reclaim;
mod records;
mod recount;
mod recovery;
mod replay;
mod scrub;
mod shard;
mod shared;
mod upload;
mod written;

use std::fmt;
use std::path::PathBuf;

use crate::log::counters::LogCounters;
use crate::log::error::LogError;
use crate::types::{BlobId, ContentHash};

pub use crate::cache::CacheStatus;
pub use background::{CompactionStatus, ScrubStatus, Worker};
pub use blob::Blob;
pub use compaction::compact;
pub use fetch::SMALL_PAYLOAD_MAX;
pub use identity::Missing;
pub use limits::{CompactionLimits, Limits};
pub use quarantine::{Ailment, Quarantined};
pub use reader::{BlobReader, Chunk, Pace, Sendable};
pub use scrub::{ScrubOptions, scrub};
pub use shard::Shard;
pub use shared::Store;
pub use upload::Upload;

/// The most bytes of one blob: 5 TiB.
pub const BLOB_SIZE_MAX: u64 = 5 << 40;
/// The most bytes of all labels of a blob, names and values together.
pub const LABELS_BYTES_MAX: usize = 2048;
/// The most labels of a blob.
pub const LABELS_MAX: usize = 64;

/// What the store needs to know to open.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Data directories, at least one; each exists and is locked by the caller.
    pub dirs: Vec<PathBuf>,
    pub cores: u16,
    /// Bytes of memory for the cache and for buffers, over all cores.
    pub memory_bytes: u64,
    /// Bytes of a segment; `None` picks by the size of the file system. Applies to new segments only.
    pub segment_size: Option<u64>,
    /// Change nothing on the disk: for inspection, and without uploads or deletes.
    pub read_only: bool,
    /// What a program leaves at its default.
    pub limits: Limits,
}

/// The least memory that a core keeps for uploads and for reads beside the cache, where there is twice as much of it.
const BUFFERS_PER_CORE_MIN: u64 = 16 << 20;

impl StoreOptions {
    /// Bytes of one core for uploads under way and for reads that do without the cache: a quarter of the memory, at least
    /// [`BUFFERS_PER_CORE_MIN`] and at most a half.
    fn buffers_per_core(&self) -> usize {
        let per_core = self.memory_bytes / u64::from(self.cores);
        (per_core / 4).max(BUFFERS_PER_CORE_MIN).min(per_core / 2) as usize
    }

    /// Bytes of the cache.
    fn cache_bytes(&self) -> usize {
        self.memory_bytes as usize - self.buffers_per_core() * usize::from(self.cores)
    }
}

/// What is known of a stored blob.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlobMeta {
    pub id: BlobId,
    pub hash: ContentHash,
    pub size: u64,
    /// Nanoseconds since 1970.
    pub created_at_ns: u64,
    /// The effective policy: 1 (`NONE`) on a standalone node.
    pub policy: u8,
    /// By name, ascending.
    pub labels: Vec<(String, String)>,
}

/// What comes with the content of an upload.
#[derive(Clone, Default, Debug)]
pub struct CommitOptions {
    pub policy: u8,
    /// Any order; names unique.
    pub labels: Vec<(String, String)>,
    /// The hash the client promised.
    pub expected_hash: Option<ContentHash>,
}

/// The answer to an upload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    pub id: BlobId,
    pub hash: ContentHash,
    pub size: u64,
    /// False when the content was stored already.
    pub created: bool,
}

/// One page of ids.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// Ascending.
    pub ids: Vec<BlobId>,
    pub has_more: bool,
}

/// The store in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoreStatus {
    pub blob_count: u64,
    /// Bytes in segments that hold live records, headers and padding included.
    pub used_bytes: u64,
    pub capacity_bytes: u64,
    /// Bytes that the file systems of the data directories have left.
    pub available_bytes: u64,
    /// What the logs of all cores did since the start.
    pub log: LogCounters,
    /// Records that wait for their commit.
    pub waiting_records: u64,
    pub segments: SegmentCounts,
    /// The number that the next segment will get.
    pub next_segment: u32,
    /// Files that are kept to become segments again.
    pub free_files: u64,
    /// Memory of frames in use for uploads and for reads beside the cache, of how much, and the tasks that wait for some; over all cores.
    pub frame_bytes: u64,
    pub frame_budget_bytes: u64,
    pub frame_waiters: u64,
    /// Bytes of memory the index takes, over all cores.
    pub index_bytes: u64,
    /// Places of the disk that recovery found damaged.
    pub damage_count: u64,
    /// Recovery could not read, or not trust, all that is on the disk: nothing is reclaimed until a start can.
    pub is_incomplete: bool,
    /// Data directories that take no more writes until a restart.
    pub failed_dirs: u64,
    /// Data directories that are missing while the others are served.
    pub missing_dirs: u64,
    /// Operations that were given up because a disk did not answer, and that the kernel still has.
    pub overdue_operations: u64,
    /// Blobs under quarantine.
    pub quarantined: u64,
    pub compaction: CompactionStatus,
    pub scrub: ScrubStatus,
    pub cache: CacheStatus,
}

/// Segments by their state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SegmentCounts {
    pub active: u64,
    pub sealed: u64,
    pub fenced: u64,
}

/// Why the store could not do it.
#[derive(Debug, Clone)]
pub enum StoreError {
    /// No space for more data; deletes and reads go on. `507`
    Full,
    /// The content has this hash, not the promised one. Nothing was stored. `422`
    HashMismatch { expected: ContentHash, actual: ContentHash },
    /// Another content with this id is stored. `409`
    Collision { id: BlobId },
    /// Longer than [`BLOB_SIZE_MAX`]. `413`
    TooLarge,
    /// What is on the disk fails its checksum. `500`, and never the wrong bytes.
    Damaged { id: BlobId },
    /// The scrub found it damaged: it is under quarantine until it is stored again or deleted. `500`
    Quarantined { id: BlobId, reason: String },
    /// The disk refused a write or a sync; nothing was acknowledged. `503`
    WriteFailed { reason: String },
    /// The disk refused a read; in the data directory with this index. `500`
    ReadFailed { id: BlobId, dir: usize, reason: String },
    /// The data directory with this index was taken out: its disk does not answer, or is away.
    /// `503`
    DirectoryOut { dir: usize, reason: String },
    /// So many data directories are missing, and it may lie there. `503`
    Degraded { missing: u32 },
    /// No buffer became free in time, or no descriptor is left. `503`
    Busy,
    /// The store is shutting down. `503`
    Closed,
}

/// Why the store could not be opened. The message names the directory and the remedy.
#[derive(Debug, Clone)]
pub struct OpenError(pub String);

impl fmt::Display for OpenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for OpenError {}

impl From<LogError> for StoreError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Full => StoreError::Full,
            LogError::InDoubt { full: true, .. } => StoreError::Full,
            LogError::Failed(reason) | LogError::InDoubt { reason, .. } => StoreError::WriteFailed { reason },
            LogError::Closed => StoreError::Closed,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Full => formatter.write_str("no space is left for more data"),
            StoreError::HashMismatch { expected, actual } => {
                write!(formatter, "the content's SHA-256 is {actual:?}, not {expected:?}")
            }
            StoreError::Collision { id } => write!(formatter, "another content is stored under {id}"),
            StoreError::TooLarge => write!(formatter, "a blob has at most {BLOB_SIZE_MAX} bytes"),
            StoreError::Damaged { id } => write!(formatter, "the stored bytes of {id} fail their checksum"),
            StoreError::Quarantined { id, reason } => write!(formatter, "{id} is under quarantine: {reason}"),
            StoreError::WriteFailed { reason } => formatter.write_str(reason),
            StoreError::ReadFailed { id, dir, reason } => {
                write!(formatter, "{id} could not be read from data directory {}: {reason}", dir + 1)
            }
            StoreError::Degraded { missing } => {
                write!(
                    formatter,
                    "the store is degraded: {missing} of its data directories are missing, and it may lie there"
                )
            }
            StoreError::DirectoryOut { dir, reason } => {
                write!(formatter, "data directory {} was taken out: {reason}", dir + 1)
            }
            StoreError::Busy => formatter.write_str("no buffer became free in time"),
            StoreError::Closed => formatter.write_str("the store is shutting down"),
        }
    }
}

impl std::error::Error for StoreError {}
