//! What may go wrong on the simulated disk, how likely it is, and how often it did.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The probability of each fault per operation, from 0 to 1. All 0 is a disk that only crashes.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// `EIO` of a read, and then the buffer is scribbled over; or of opening to read.
    pub read_error: f64,
    /// A read that reports success and gives one block wrongly: a flipped bit, zeros or anything.
    /// The disk holds the right bytes, and whoever reads any block of that read again in this life
    /// gets them.
    pub read_flip: f64,
    /// `EIO` of a write, after a random part of its sectors was written.
    pub write_error: f64,
    /// `ENOSPC` of a write, after a random part of its sectors was written.
    pub write_no_space: f64,
    /// A write that reports success and was never done.
    pub write_lost: f64,
    /// A write that reports success and was done at another offset or in another file.
    pub write_misdirected: f64,
    /// `EIO` of a sync. What it should have made durable counts as clean from then on: a sync that
    /// is tried again reports success and does nothing for it.
    pub sync_error: f64,
    /// A sync that reports success and was not done.
    pub sync_lie: f64,
    /// `EIO` of the sync of a directory; nothing becomes durable, a later one can succeed.
    pub dir_sync_error: f64,
    /// `EIO` of opening to write, allocating, renaming, removing, creating a directory, listing;
    /// nothing is done.
    pub metadata_error: f64,
    /// An operation that takes up to [`SLOW_FACTOR`] times the usual longest.
    pub slow: f64,
    /// The same of syncs of files alone: a write may be done long before the sync of another file.
    pub sync_slow: f64,
    /// An operation that does not end before [`super::Sim::release_stuck`]. A crash meets it in
    /// flight, like any other.
    pub stuck: f64,
    /// Where faults strike; everywhere if `None`. Different faults for different directories:
    /// [`super::Sim::faults_of`].
    pub within: Option<PathBuf>,
}

impl Faults {
    fn strike(&self, path: &Path) -> bool {
        self.within.as_ref().is_none_or(|within| path.starts_with(within))
    }
}

/// The faults of a machine: some for everything, and others for single directories.
#[derive(Clone, Debug, Default)]
pub struct FaultMap {
    pub everywhere: Faults,
    /// By the path of the directory; the innermost counts, and alone.
    pub of_dirs: BTreeMap<PathBuf, Faults>,
}

impl FaultMap {
    /// How likely a fault is to strike what lies at a path.
    pub fn rate(&self, path: &Path, fault: impl FnOnce(&Faults) -> f64) -> f64 {
        let of_dir = |dir| self.of_dirs.get(dir);
        let faults = if self.of_dirs.is_empty() { None } else { path.ancestors().find_map(of_dir) };
        let faults = faults.unwrap_or(&self.everywhere);
        if faults.strike(path) { fault(faults) } else { 0.0 }
    }
}

/// How many times the usual longest delay a slow operation may take.
pub const SLOW_FACTOR: u64 = 100;

/// What happened on a simulated machine since its start, over crashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Tasks polled and events fired, of all machines together.
    pub steps: u64,
    pub reads: u64,
    pub writes: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub syncs: u64,
    pub dir_syncs: u64,
    pub renames: u64,
    pub crashes: u64,
    /// Writes of which a crash kept some sectors and lost others.
    pub torn_writes: u64,
    /// Parts of writes of a killed process that reached the disk after the next one had started.
    pub late_writes: u64,
    /// Pages that a crash threw away although their write had been reported done.
    pub vanished_pages: u64,
    pub read_errors: u64,
    /// Reads that reported success and gave wrong bytes.
    pub flipped_reads: u64,
    pub write_errors: u64,
    /// Injected or for want of space.
    pub no_space: u64,
    pub lost_writes: u64,
    pub misdirected_writes: u64,
    pub sync_errors: u64,
    pub sync_lies: u64,
    pub dir_sync_errors: u64,
    pub metadata_errors: u64,
    pub slow_operations: u64,
    /// Operations that got stuck, released since or not.
    pub stuck_operations: u64,
    pub flipped_bits: u64,
    /// Pauses of cores.
    pub pauses: u64,
}

/// A bit that was flipped at rest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlippedBit {
    pub path: PathBuf,
    /// Of the byte, in the file.
    pub offset: u64,
    /// 0 is the least significant.
    pub bit: u8,
}
