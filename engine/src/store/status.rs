//! The store in numbers, as it tells them at one moment.

use crate::cache::CacheStatus;
use crate::log::counters::LogCounters;
use crate::store::progress::{CompactionStatus, ScrubStatus};

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
    /// Records waiting for their commit.
    pub waiting_records: u64,
    pub segments: SegmentCounts,
    /// The number that the next segment will get.
    pub next_segment: u32,
    /// Files that are kept to become segments again.
    pub free_files: u64,
    /// Memory of frames in use for uploads and for reads beside the cache, of how much, and the
    /// tasks that wait for some; over all cores.
    pub frame_bytes: u64,
    pub frame_budget_bytes: u64,
    pub frame_waiters: u64,
    /// Bytes of memory the index takes, over all cores.
    pub index_bytes: u64,
    /// Places of the disk that recovery found damaged.
    pub damage_count: u64,
    /// Recovery could not read, or not trust, all that is on the disk: nothing is reclaimed until a
    /// start can.
    pub is_incomplete: bool,
    /// Data directories that take no more writes until a restart.
    pub failed_dirs: u64,
    /// Data directories that are missing while the others are served.
    pub missing_dirs: u64,
    /// Operations abandoned because a disk did not answer; the kernel still holds them.
    pub overdue_operations: u64,
    /// Blobs under quarantine.
    pub quarantined: u64,
    pub compaction: CompactionStatus,
    pub scrub: ScrubStatus,
    pub cache: CacheStatus,
}

/// What is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Holdings {
    pub blob_count: u64,
    /// Bytes in segments that hold live records, headers and padding included.
    pub used_bytes: u64,
}

/// Segments by their state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SegmentCounts {
    pub active: u64,
    pub sealed: u64,
    pub fenced: u64,
}
