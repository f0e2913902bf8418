//! Whether an announced content can fit at all: a refusal costs nothing before its first byte was
//! sent, and a transfer after it.
//!
//! Only what is sure is refused. What compaction can give back counts as room, so an upload that is
//! let in here may still have to wait for it, or be refused when others were faster.

use std::sync::atomic::Ordering;

use crate::io::{Disk, Io};
use crate::store::shard::Shard;

/// Below this size nothing is asked: so little is written before the log says what is full.
const CHECKED_SIZE_MIN: u64 = 1 << 20;

impl<I: Io> Shard<I> {
    /// The bytes that a data directory could take at most, when that is less than `size`.
    pub(super) async fn lacks_room(&self, size: u64) -> Option<u64> {
        // What compaction saw when it last looked spares the question to the file system.
        if size < CHECKED_SIZE_MIN || self.shared().background.pressure.has_free(size) {
            return None;
        }
        let shared = self.shared();
        let free_files = shared.free.get()?;
        let mut most = None;
        for (index, dir) in shared.options.dirs.iter().enumerate() {
            if !shared.health.dir(index).takes_writes() {
                continue;
            }
            // Without the answer of the file system nothing is sure.
            let space = self.dir(index).space(dir).await.ok()?;
            let kept = free_files.count(index) as u64 * free_files.segment_size(index);
            most = most.max(Some(space.available + kept));
            if most >= Some(size) {
                return None;
            }
            let of_dir = shared.table.all().into_iter().filter(|segment| segment.dir == index);
            let dead = of_dir.map(|segment| {
                let live = segment.live_bytes.load(Ordering::Acquire).max(0) as u64;
                segment.file_bytes.load(Ordering::Acquire).saturating_sub(live)
            });
            most = most.map(|most| most + dead.sum::<u64>());
            if most >= Some(size) {
                return None;
            }
        }
        // With no directory that takes writes the log says what is wrong.
        most
    }
}
