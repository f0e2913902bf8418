//! How much of a thing makes the store do something about it: the numbers that a test may want
//! smaller than a disk of terabytes does.
//!
//! A program takes the defaults. The simulation draws them from its seed, so that a store of a few
//! hundred kilobytes goes through everything that a large one does: checkpoints under load, slices
//! that end in the middle, tombstones that add up. What the disk format fixes is not in here.

use std::time::Duration;

use crate::cache::SHARD_BYTES_MIN;
use crate::io::BLOCK_SIZE;
use crate::log::checkpoint::SLICE_ENTRIES_MAX;
use crate::log::committer::BATCH_BYTES_MAX;
use crate::log::health;
use crate::log::writer::RESERVE_BYTES_MAX;
use crate::log::{FRAME_SIZE, HEAD_ROOM, OPEN_FILES_MAX, PACKED_PAYLOAD_MAX};

/// The limits of a store; [`Default`] is what a program wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// A checkpoint is written when this many bytes were sealed since the last; 0: after each
    /// segment.
    pub checkpoint_bytes_min: u64,
    /// Or this many times the size of the last, so that checkpoints stay a small part of what is
    /// written; 0: whatever its size.
    pub checkpoint_ratio: u64,
    /// Entries of one slice of a checkpoint: what the owner copies without a pause for others. At
    /// least 1, at most the default.
    pub slice_entries_max: usize,
    /// Bytes of one batch. Bounds the memory of the committer and the time until the first of a
    /// batch is acknowledged. Whole blocks, from one packed record of the greatest length up to the
    /// default; never more than a third of a segment.
    pub batch_bytes_max: usize,
    /// Bytes of a segment that only tombstones may use. Whole blocks, at least one, at most the
    /// default; never more than a 32nd of a segment.
    pub tombstone_reserve_bytes_max: u64,
    /// Bytes of the cache for each lock of it. At least a frame.
    pub cache_shard_bytes_min: usize,
    /// A segment of tombstones is not retired while it would take more than one part in this many
    /// of its size to write them again. At least 1.
    pub carry_divisor: u64,
    /// Tombstones that are written again at the same time. At least 1.
    pub carried_at_once: usize,
    /// Entries of the index that are counted after a start before others get their turn. At least
    /// 1.
    pub counted_per_turn: usize,
    /// How long an operation of a disk may take before its data directory is taken out. More than
    /// 0.
    pub disk_timeout: Duration,
    /// Files of segments that are open beside those that are written to. At least 1.
    pub open_files_max: usize,
    pub compaction: CompactionLimits,
}

/// What packing itself wastes of the smallest segments, in percent: what a move can't win.
const PACKING_WASTE_PERCENT: u64 = 5;

/// When compaction does something, and how much at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CompactionLimits {
    /// It begins when more than this part of what is sealed is dead, in percent below 100. The
    /// promise is 1.25 bytes of disk for a live one, which is 20 %.
    pub dead_percent: u64,
    /// And a segment is worth emptying from this part on. At most `dead_percent`, or nothing might
    /// be when something should.
    pub worth_percent: u64,
    /// Where space is short, anything that gives this part of a segment is worth it. More than what
    /// packing itself wastes, at most `worth_percent`.
    pub worth_percent_urgent: u64,
    /// Tombstones that are kept may take this part of what is sealed, in percent below 100,
    pub tombstone_percent: u64,
    /// or so many segments. At least 1.
    pub tombstone_segments: u64,
    /// After something died or was sealed, it is waited so long for more of it before anything is
    /// decided. Less than `stuck_for`.
    pub gathering: Duration,
    /// A segment that could not be emptied is left alone for so long, and twice as long each time
    /// after that.
    pub stuck_for: Duration,
    /// Records locked at a time: their blobs can't be deleted until they are written. At least 1.
    pub records_at_once: usize,
    /// Ids asked for in one message. At least 1.
    pub ids_at_once: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            checkpoint_bytes_min: 1 << 30,
            checkpoint_ratio: 64,
            slice_entries_max: SLICE_ENTRIES_MAX,
            batch_bytes_max: BATCH_BYTES_MAX,
            tombstone_reserve_bytes_max: RESERVE_BYTES_MAX,
            cache_shard_bytes_min: SHARD_BYTES_MIN,
            carry_divisor: 4,
            carried_at_once: 64,
            counted_per_turn: 256,
            disk_timeout: health::TIMEOUT,
            open_files_max: OPEN_FILES_MAX,
            compaction: CompactionLimits::DEFAULT,
        }
    }
}

impl CompactionLimits {
    pub const DEFAULT: Self = Self {
        dead_percent: 12,
        worth_percent: 8,
        worth_percent_urgent: 5,
        tombstone_percent: 3,
        tombstone_segments: 4,
        gathering: Duration::from_millis(100),
        stuck_for: Duration::from_secs(60),
        records_at_once: 256,
        ids_at_once: 1024,
    };

    fn check(&self) {
        assert!(self.dead_percent < 100 && self.tombstone_percent < 100, "a part of what is sealed");
        assert!(self.worth_percent <= self.dead_percent, "when enough is dead, some segment is worth emptying");
        assert!(self.worth_percent_urgent <= self.worth_percent, "in need no less is done");
        assert!(self.worth_percent_urgent >= PACKING_WASTE_PERCENT, "moving what wastes as much again would never end");
        assert!(
            self.tombstone_segments > 0 && self.records_at_once > 0 && self.ids_at_once > 0,
            "nothing goes on with 0"
        );
        assert!(self.gathering < self.stuck_for, "what is stuck is left alone for longer than anything is waited for");
    }
}

impl Limits {
    /// # Panics
    /// If a limit is out of its bounds, or two of them contradict each other.
    pub fn check(&self) {
        let record_max = (PACKED_PAYLOAD_MAX + HEAD_ROOM).next_multiple_of(BLOCK_SIZE);
        assert!((1..=SLICE_ENTRIES_MAX).contains(&self.slice_entries_max), "a slice has entries, and fits a section");
        assert!((record_max..=BATCH_BYTES_MAX).contains(&self.batch_bytes_max), "a batch holds each packed record");
        assert!(self.batch_bytes_max.is_multiple_of(BLOCK_SIZE), "a batch is whole blocks");
        assert!(
            (BLOCK_SIZE as u64..=RESERVE_BYTES_MAX).contains(&self.tombstone_reserve_bytes_max),
            "a full segment has room for a tombstone"
        );
        assert!(self.tombstone_reserve_bytes_max.is_multiple_of(BLOCK_SIZE as u64), "the reserve is whole blocks");
        assert!(self.cache_shard_bytes_min >= FRAME_SIZE, "a shard has room for the largest entry");
        assert!(
            self.carry_divisor > 0 && self.carried_at_once > 0 && self.counted_per_turn > 0 && self.open_files_max > 0,
            "nothing goes on with 0"
        );
        assert!(!self.disk_timeout.is_zero(), "an operation takes some time");
        self.compaction.check();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_their_bounds() {
        Limits::default().check();
    }

    #[test]
    #[should_panic(expected = "some segment is worth emptying")]
    fn limits_that_contradict_each_other_are_refused() {
        let compaction = CompactionLimits { worth_percent: 13, ..CompactionLimits::DEFAULT };
        Limits { compaction, ..Limits::default() }.check();
    }
}
