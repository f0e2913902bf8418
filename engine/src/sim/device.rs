//! What becomes of an operation on a simulated disk, faults included.
//!
//! An operation takes effect at the instant it completes. Until then it is in flight, and a crash
//! decides whether it happened.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::crash::CrashMode;
use super::disk::{Disk, InodeId, errno};
use super::event::EventId;
use super::fault::{FaultMap, Faults, Stats};
use super::inode::{ALL_SECTORS, PAGE_SIZE, SectorMask, Survival};
use super::late::{self, LateWrites};
use super::operation::{Operation, Outcome, SimFile, Transfer};
use super::random::Random;
use crate::io::{BLOCK_SIZE, OpenMode};

/// A machine's disk and everything but chance that decides what it does.
pub struct Device {
    pub node: u16,
    pub disk: Disk,
    pub faults: FaultMap,
    pub stats: Stats,
    /// Counts the crashes, so that a file opened before one is recognised.
    pub life: u64,
    /// Pages of reads that gave wrong bytes in this life: they are not read wrongly again.
    pub misread: BTreeSet<(InodeId, u64)>,
    pub late: LateWrites,
}

impl Device {
    pub fn perform(&mut self, operation: Operation, random: &mut Random) -> Outcome {
        match operation {
            Operation::Open { path, mode } => Outcome::File(self.open(&path, mode, random)),
            Operation::Read(transfer) => self.read(transfer, random),
            Operation::Write(transfer) => self.write(transfer, random),
            Operation::Sync { file, up_to } => Outcome::Done(self.sync(&file, up_to, random)),
            Operation::Allocate { file, size } => {
                self.wait_for_late(file.inode, random);
                let path = self.disk.inode(file.inode).path.clone();
                let result = self.metadata(&path, random, |disk| disk.allocate(file.inode, size));
                self.stats.no_space += u64::from(result.as_ref().is_err_and(is_no_space));
                Outcome::Done(result)
            }
            Operation::Truncate { file, size } => {
                self.wait_for_late(file.inode, random);
                let path = self.disk.inode(file.inode).path.clone();
                Outcome::Done(self.metadata(&path, random, |disk| disk.cut(file.inode, size)))
            }
            Operation::Rename { from, to } => {
                let result = self.metadata(&from, random, |disk| disk.rename(&from, &to));
                self.stats.renames += u64::from(result.is_ok());
                Outcome::Done(result)
            }
            Operation::Remove { path } => Outcome::Done(self.metadata(&path, random, |disk| disk.remove(&path))),
            Operation::CreateDir { path } => Outcome::Done(self.metadata(&path, random, |disk| disk.create_dir(&path))),
            Operation::SyncDir { path, up_to } => Outcome::Done(self.sync_dir(&path, up_to, random)),
            Operation::ListDir { path } => Outcome::Entries(self.metadata(&path, random, |disk| disk.list(&path))),
            Operation::FileSize { file } => Outcome::Size(Ok(self.disk.inode(file.inode).size)),
            Operation::Space { path } => Outcome::Space(self.disk.space(&path)),
        }
    }

    /// A crash meets an operation in flight: it may have happened, and a write may have happened in
    /// part.
    pub fn abandon(&mut self, operation: Operation, random: &mut Random) {
        let survival = Survival::draw(random);
        match operation {
            Operation::Write(Transfer { file, buf, range, offset }) => {
                let mut is_torn = false;
                let mask = || {
                    let mask = survival.sectors(random);
                    is_torn |= mask != 0 && mask != ALL_SECTORS;
                    mask
                };
                // A write that would extend a full disk does not happen.
                let _ = self.disk.write(file.inode, offset, &buf[range], mask);
                self.stats.torn_writes += u64::from(is_torn);
            }
            operation if survival.keeps(random) => drop(self.perform(operation, random)),
            _ => {}
        }
    }

    /// What the end of a life does to the disk. What comes late is kept, without an event yet.
    pub fn end_life(&mut self, mode: CrashMode, held_back: Vec<Transfer>, random: &mut Random) {
        for transfer in held_back {
            self.late.add(late::parts(transfer, random));
        }
        self.misread.clear();
        match mode {
            CrashMode::Process => self.disk.lose_process(|disk| self.late.reopen(disk)),
            CrashMode::Power => {
                for write in self.late.take_all() {
                    late::land(write, &mut self.disk, random, &mut self.stats);
                }
                self.disk.lose_power(random, &mut self.stats);
            }
        }
    }

    /// The late write of an event lands, unless something has waited for it.
    pub fn land_late(&mut self, event: EventId, random: &mut Random) {
        if let Some(write) = self.late.take(event) {
            late::land(write, &mut self.disk, random, &mut self.stats);
        }
    }

    /// Late writes of the file land now at the latest.
    fn wait_for_late(&mut self, inode: InodeId, random: &mut Random) {
        for write in self.late.take_of(inode) {
            late::land(write, &mut self.disk, random, &mut self.stats);
        }
    }

    pub fn open(&mut self, path: &Path, mode: OpenMode, random: &mut Random) -> io::Result<SimFile> {
        let (inode, open) = match mode {
            // A disk that refuses changes alone can be read.
            OpenMode::Read if self.strikes_path(path, random, |faults| faults.read_error) => {
                self.stats.read_errors += 1;
                return Err(errno(libc::EIO));
            }
            OpenMode::Read => self.disk.open(path, mode)?,
            OpenMode::ReadWrite | OpenMode::Create => self.metadata(path, random, |disk| disk.open(path, mode))?,
        };
        Ok(SimFile { inode, is_writable: mode != OpenMode::Read, life: self.life, _open: open, node: self.node })
    }

    fn read(&mut self, transfer: Transfer, random: &mut Random) -> Outcome {
        let Transfer { file, mut buf, range, offset } = transfer;
        let result = self.read_bytes(file.inode, offset, &mut buf[range], random);
        Outcome::Read(result, buf)
    }

    /// Reads up to the end of the file; returns the count.
    pub fn read_bytes(
        &mut self,
        inode: InodeId,
        offset: u64,
        bytes: &mut [u8],
        random: &mut Random,
    ) -> io::Result<usize> {
        self.stats.reads += 1;
        if self.strikes(inode, random, |faults| faults.read_error) {
            self.stats.read_errors += 1;
            let scribbled = bytes.len().min(BLOCK_SIZE);
            random.fill(&mut bytes[..scribbled]);
            return Err(errno(libc::EIO));
        }
        let count = self.disk.inode(inode).read(offset, bytes);
        self.stats.bytes_read += count as u64;
        if count > 0 && self.strikes(inode, random, |faults| faults.read_flip) {
            self.misread(inode, offset, &mut bytes[..count], random);
        }
        Ok(count)
    }

    /// Gives one block of what was read wrongly, unless any of it was read wrongly before.
    fn misread(&mut self, inode: InodeId, offset: u64, bytes: &mut [u8], random: &mut Random) {
        let first = offset / PAGE_SIZE;
        let pages = first..(offset + bytes.len() as u64).div_ceil(PAGE_SIZE);
        if pages.clone().any(|page| self.misread.contains(&(inode, page))) {
            return;
        }
        self.misread.extend(pages.map(|page| (inode, page)));
        self.stats.flipped_reads += 1;
        let block = random.index(bytes.len().div_ceil(BLOCK_SIZE));
        let block = bytes.chunks_mut(BLOCK_SIZE).nth(block).expect("it is one of the blocks");
        match random.below(4) {
            0 => random.fill(block),
            1 if block.iter().any(|byte| *byte != 0) => block.fill(0),
            _ => block[random.index(block.len())] ^= 1 << random.below(8),
        }
    }

    fn write(&mut self, transfer: Transfer, random: &mut Random) -> Outcome {
        let Transfer { file, buf, range, offset } = transfer;
        let result = self.write_bytes(file.inode, offset, &buf[range], random);
        Outcome::Write(result, buf)
    }

    /// Writes all, of any alignment.
    pub fn write_bytes(&mut self, inode: InodeId, offset: u64, bytes: &[u8], random: &mut Random) -> io::Result<()> {
        self.stats.writes += 1;
        self.stats.bytes_written += bytes.len() as u64;
        if self.strikes(inode, random, |faults| faults.write_error) {
            self.stats.write_errors += 1;
            self.write_partly(inode, offset, bytes, random);
            Err(errno(libc::EIO))
        } else if self.strikes(inode, random, |faults| faults.write_no_space) {
            self.stats.no_space += 1;
            self.write_partly(inode, offset, bytes, random);
            Err(errno(libc::ENOSPC))
        } else if self.strikes(inode, random, |faults| faults.write_lost) {
            self.stats.lost_writes += 1;
            Ok(())
        } else if self.strikes(inode, random, |faults| faults.write_misdirected) {
            self.stats.misdirected_writes += 1;
            self.misdirect(inode, offset, bytes, random);
            Ok(())
        } else {
            let result = self.disk.write(inode, offset, bytes, || ALL_SECTORS);
            self.stats.no_space += u64::from(result.as_ref().is_err_and(is_no_space));
            result
        }
    }

    /// Sets the size of a file.
    pub fn set_len(&mut self, inode: InodeId, size: u64, random: &mut Random) -> io::Result<()> {
        self.wait_for_late(inode, random);
        let path = self.disk.inode(inode).path.clone();
        let result = self.metadata(&path, random, |disk| disk.set_len(inode, size));
        self.stats.no_space += u64::from(result.as_ref().is_err_and(is_no_space));
        result
    }

    fn write_partly(&mut self, inode: InodeId, offset: u64, bytes: &[u8], random: &mut Random) {
        let survival = Survival::draw(random);
        // The caller reports an error whatever comes of this.
        let _ = self.disk.write(inode, offset, bytes, || -> SectorMask { survival.sectors(random) });
    }

    /// Writes somewhere else: as often in the same file as in any. Nowhere, when no file is long
    /// enough.
    fn misdirect(&mut self, inode: InodeId, offset: u64, bytes: &[u8], random: &mut Random) {
        let fits = |id: InodeId| self.disk.inode(id).size >= bytes.len() as u64;
        let targets: Vec<InodeId> = self.disk.files().map(|(_, id)| id).filter(|id| fits(*id)).collect();
        let target = if fits(inode) && random.chance(0.5) {
            inode
        } else if !targets.is_empty() {
            targets[random.index(targets.len())]
        } else {
            return;
        };
        let blocks = (self.disk.inode(target).size - bytes.len() as u64) / BLOCK_SIZE as u64 + 1;
        let elsewhere = random.below(blocks) * BLOCK_SIZE as u64;
        if (target, elsewhere) != (inode, offset) {
            self.disk.write(target, elsewhere, bytes, || ALL_SECTORS).expect("it does not extend the file");
        }
    }

    pub fn sync(&mut self, file: &SimFile, up_to: u64, random: &mut Random) -> io::Result<()> {
        self.stats.syncs += 1;
        if self.strikes(file.inode, random, |faults| faults.sync_error) {
            self.stats.sync_errors += 1;
            self.disk.give_up(file.inode, up_to);
            return Err(errno(libc::EIO));
        }
        if self.strikes(file.inode, random, |faults| faults.sync_lie) {
            self.stats.sync_lies += 1;
            return Ok(());
        }
        self.disk.sync(file.inode, up_to);
        Ok(())
    }

    fn sync_dir(&mut self, path: &Path, up_to: u64, random: &mut Random) -> io::Result<()> {
        self.stats.dir_syncs += 1;
        self.disk.require_dir(path)?;
        if self.strikes_path(path, random, |faults| faults.dir_sync_error) {
            self.stats.dir_sync_errors += 1;
            return Err(errno(libc::EIO));
        }
        self.disk.sync_dir(path, up_to);
        Ok(())
    }

    fn metadata<T>(
        &mut self,
        path: &Path,
        random: &mut Random,
        act: impl FnOnce(&mut Disk) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.strikes_path(path, random, |faults| faults.metadata_error) {
            self.stats.metadata_errors += 1;
            return Err(errno(libc::EIO));
        }
        act(&mut self.disk)
    }

    fn strikes(&self, inode: InodeId, random: &mut Random, fault: impl FnOnce(&Faults) -> f64) -> bool {
        let rate = self.faults.rate(&self.disk.inode(inode).path, fault);
        random.chance(rate)
    }

    fn strikes_path(&self, path: &Path, random: &mut Random, fault: impl FnOnce(&Faults) -> f64) -> bool {
        let rate = self.faults.rate(path, fault);
        random.chance(rate)
    }
}

fn is_no_space(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOSPC)
}
