//! What compaction and scrub have done, and how far they are.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::types::SegmentId;

/// Compaction in numbers, since the start unless said otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CompactionStatus {
    /// Emptied segments.
    pub segments: u64,
    pub moved_bytes: u64,
    pub moved_records: u64,
    /// Bytes of emptied segments beyond what was moved out of them.
    pub freed_bytes: u64,
    /// Segments that could not be emptied because something failed.
    pub failures: u64,
    /// Bytes of segments now, and what of them emptying segments would give back; tombstones that
    /// are needed count in.
    pub segment_bytes: u64,
    pub dead_bytes: u64,
}

impl CompactionCounters {
    pub fn status(&self) -> CompactionStatus {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CompactionStatus {
            segments: get(&self.segments),
            moved_bytes: get(&self.moved_bytes),
            moved_records: get(&self.moved_records),
            freed_bytes: get(&self.freed_bytes),
            failures: get(&self.failures),
            segment_bytes: get(&self.sealed_bytes),
            dead_bytes: get(&self.dead_bytes),
        }
    }
}

/// What compaction did since the start.
#[derive(Default)]
pub(crate) struct CompactionCounters {
    pub segments: AtomicU64,
    pub moved_bytes: AtomicU64,
    pub moved_records: AtomicU64,
    /// Bytes of emptied segments beyond what was moved out of them.
    pub freed_bytes: AtomicU64,
    pub failures: AtomicU64,
    /// Dead bytes in sealed segments, as compaction last counted them.
    pub dead_bytes: AtomicU64,
    pub sealed_bytes: AtomicU64,
}

/// What the scrub did since the start.
#[derive(Default)]
pub(crate) struct ScrubCounters {
    pub passes: AtomicU64,
    pub bytes: AtomicU64,
    pub blobs: AtomicU64,
    pub segments: AtomicU64,
    /// Places that differed from what was written.
    pub findings: AtomicU64,
    /// Of those, what was put right.
    pub mended: AtomicU64,
    /// How far the present pass is, in millionths.
    pub progress_ppm: AtomicU32,
    /// When the last complete pass ended, in nanoseconds since 1970; 0: none did.
    pub last_pass_end_ns: AtomicU64,
}

impl ScrubCounters {
    pub fn status(&self) -> ScrubStatus {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ScrubStatus {
            passes: of(&self.passes),
            bytes: of(&self.bytes),
            blobs: of(&self.blobs),
            segments: of(&self.segments),
            findings: of(&self.findings),
            mended: of(&self.mended),
            progress_ppm: self.progress_ppm.load(Ordering::Relaxed),
            last_pass_end_ns: of(&self.last_pass_end_ns),
        }
    }
}

/// What the scrub did since the start, and how far it is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ScrubStatus {
    /// Passes that were completed.
    pub passes: u64,
    pub bytes: u64,
    /// Blobs whose content was compared with their hash.
    pub blobs: u64,
    pub segments: u64,
    /// Places that differed from what was written.
    pub findings: u64,
    /// Of those, what was put right: stored again, deleted, moved out of the way or rewritten.
    pub mended: u64,
    /// How far the present pass is, in millionths; 1,000,000 between two.
    pub progress_ppm: u32,
    /// When the last complete pass ended, in nanoseconds since 1970, also before the start; 0: none
    /// did.
    pub last_pass_end_ns: u64,
}

/// How far the scrub is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Position {
    /// When the pass began, in nanoseconds since 1970; 0: none has.
    pub began_ns: u64,
    /// Everything in segments before this one was looked at, if the pass is under way.
    pub segment: SegmentId,
    /// In this one everything, but the large blobs with records from this offset on; 0: nothing.
    pub offset_units: u32,
    /// The pass is complete.
    pub is_complete: bool,
    /// When the last complete pass ended, in nanoseconds since 1970; 0: none did.
    pub last_end_ns: u64,
}
