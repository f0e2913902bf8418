//! Writes of a process that was killed, which the kernel still carries out while the next process
//! runs.
//!
//! A kernel that has a direct write in hand finishes it whatever becomes of the process, and lets
//! the process go before: its files count as open, and its locks may be free by then. So the next
//! process can read a block before such a write and after it. `fallocate` and `ftruncate` of the
//! file wait for direct I/O in flight (`inode_dio_wait` in ext4 and XFS); reads and syncs do not.
//!
//! Not here: what is in flight and does not come late. That is [`super::device`]'s.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::disk::{Disk, InodeId};
use super::event::EventId;
use super::fault::Stats;
use super::inode::{ALL_SECTORS, PAGE_SIZE, Survival};
use super::operation::{Operation, Transfer};
use super::random::Random;

/// The part of a write that comes late.
pub struct LateWrite {
    inode: InodeId,
    offset: u64,
    bytes: Vec<u8>,
    /// The kernel holds the file open for it.
    _open: Arc<()>,
}

/// The late writes of a machine.
#[derive(Default)]
pub struct LateWrites {
    /// By the events that let them land.
    scheduled: BTreeMap<EventId, LateWrite>,
    /// Of the life that just ended, in an order that chance has mixed.
    fresh: Vec<LateWrite>,
}

impl LateWrites {
    pub fn add(&mut self, parts: Vec<LateWrite>) {
        self.fresh.extend(parts);
    }

    pub fn insert(&mut self, id: EventId, write: LateWrite) {
        self.scheduled.insert(id, write);
    }

    pub fn take(&mut self, id: EventId) -> Option<LateWrite> {
        self.scheduled.remove(&id)
    }

    /// All of them. Their events find nothing any more.
    pub fn take_all(&mut self) -> Vec<LateWrite> {
        let scheduled = std::mem::take(&mut self.scheduled);
        scheduled.into_values().chain(std::mem::take(&mut self.fresh)).collect()
    }

    /// Those of one file, for an operation that waits for them.
    pub fn take_of(&mut self, inode: InodeId) -> Vec<LateWrite> {
        let ids: Vec<EventId> =
            self.scheduled.iter().filter(|(_, write)| write.inode == inode).map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| self.scheduled.remove(&id)).collect()
    }

    /// The kernel keeps their files open, though the process is gone.
    pub fn reopen(&mut self, disk: &Disk) {
        for write in self.scheduled.values_mut().chain(&mut self.fresh) {
            write._open = disk.inode(write.inode).open.clone();
        }
    }
}

/// Picks the writes that come late among what is in flight, and leaves the rest: in half of the
/// crashes none, else each with a share drawn for the crash.
pub fn hold_back(in_flight: &mut Vec<Operation>, random: &mut Random) -> Vec<Transfer> {
    let share = if random.chance(0.5) { random.below(101) as f64 / 100.0 } else { 0.0 };
    let mut held_back = Vec::new();
    for operation in std::mem::take(in_flight) {
        match operation {
            Operation::Write(transfer) if random.chance(share) => held_back.push(transfer),
            operation => in_flight.push(operation),
        }
    }
    held_back
}

/// A write as the parts that land on their own.
pub fn parts(transfer: Transfer, random: &mut Random) -> Vec<LateWrite> {
    let Transfer { file, buf, range, offset } = transfer;
    let bytes = &buf[range];
    let pages = bytes.len() as u64 / PAGE_SIZE;
    let cut = if random.chance(0.5) { random.below(pages) * PAGE_SIZE } else { 0 };
    let (first, second) = bytes.split_at(cut as usize);
    let part = |bytes: &[u8], offset: u64| LateWrite {
        inode: file.inode,
        offset,
        bytes: bytes.to_vec(),
        _open: file._open.clone(),
    };
    let parts = [part(first, offset), part(second, offset + cut)];
    parts.into_iter().filter(|part| !part.bytes.is_empty()).collect()
}

/// A late write lands: mostly as a whole, else any of its sectors.
pub fn land(write: LateWrite, disk: &mut Disk, random: &mut Random, stats: &mut Stats) {
    stats.late_writes += 1;
    let survival = if random.chance(0.75) { Survival::Everything } else { Survival::draw(random) };
    let mut is_torn = false;
    let mask = || {
        let mask = survival.sectors(random);
        is_torn |= mask != 0 && mask != ALL_SECTORS;
        mask
    };
    // Nobody is told whether there was room for it.
    let _ = disk.write(write.inode, write.offset, &write.bytes, mask);
    stats.torn_writes += u64::from(is_torn);
}
