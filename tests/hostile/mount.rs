//! The fault disk as a file system of the kernel: FUSE with direct I/O, unmounted when dropped.
//!
//! The kernel caches nothing of it (no attribute, no name, no page), so that every operation of the
//! server comes to the rules. Some threads answer, so that an operation that is held up does not
//! hold up the others.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, Session, TimeOrNow,
    WriteFlags,
};
use tempfile::TempDir;

use crate::disk::{Disk, Number, Result};
use crate::fault::{Fault, Faults, Operation};
use crate::inode::{Inode, Survival};
use crate::support::content::Random;
use crate::support::server::directory;

/// Threads that answer the kernel: more than the server has operations in flight that a test holds
/// up and others that it does not.
const THREADS: usize = 24;
/// Operations that the kernel lets wait for an answer.
const BACKGROUND_MAX: u16 = 1024;
const BLOCK_SIZE: u32 = 4096;
const NOTHING_CACHED: Duration = Duration::ZERO;
/// The size of the disk unless a test wants another.
pub const CAPACITY: u64 = 1 << 30;

/// A mounted fault disk.
pub struct Mount {
    shared: Arc<Shared>,
    session: Option<BackgroundSession>,
    path: TempDir,
}

struct Shared {
    disk: Mutex<Disk>,
    faults: Faults,
    /// While set, everything fails: the power is off.
    off: AtomicBool,
}

impl Mount {
    /// An error says what this machine lacks.
    pub fn new(capacity: u64, seed: u64) -> std::result::Result<Self, String> {
        let shared =
            Arc::new(Shared { disk: Mutex::new(Disk::new(capacity)), faults: Faults::new(seed), off: false.into() });
        Self::of(shared)
    }

    fn of(shared: Arc<Shared>) -> std::result::Result<Self, String> {
        let path = directory();
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("nabu-fault-disk".to_owned()), MountOption::RW];
        config.n_threads = Some(THREADS);
        let session = Session::new(Answers(shared.clone()), path.path(), &config).and_then(Session::spawn);
        let session = session.map_err(|error| format!("a FUSE file system can't be mounted: {error}"))?;
        Ok(Self { shared, session: Some(session), path })
    }

    pub fn path(&self) -> &Path {
        self.path.path()
    }

    /// Where a server keeps its data on it.
    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    pub fn disk(&self) -> MutexGuard<'_, Disk> {
        self.shared.disk()
    }

    /// The power fails: everything fails from now on, and of what was not synced a random part is
    /// gone.
    pub fn cut_power(&self, random: &mut Random) {
        let survival = Survival::draw(random);
        self.cut_power_leaving(survival, random);
    }

    pub fn cut_power_leaving(&self, survival: Survival, random: &mut Random) {
        // Under the lock, so that no operation comes between the two.
        let mut disk = self.disk();
        self.shared.off.store(true, Ordering::Relaxed);
        disk.lose_power(survival, random);
    }

    pub fn restore_power(&self) {
        self.shared.off.store(false, Ordering::Relaxed);
    }

    /// The same disk plugged in again, after it vanished.
    pub fn again(&self) -> Self {
        Self::of(self.shared.clone()).expect("it was mounted before")
    }

    /// The disk vanishes under its users: the connection to the kernel is aborted.
    pub fn vanish(&self) {
        use std::os::unix::fs::MetadataExt;
        let connections = directory();
        let device = std::fs::metadata(self.path()).expect("it is mounted").dev();
        let control = connections.path().to_string_lossy().into_owned();
        crate::run("mount", &["-t", "fusectl", "fusectl", &control]).expect("FUSE connections can be controlled");
        let aborted = std::fs::write(connections.path().join(libc::minor(device).to_string()).join("abort"), "1");
        crate::run("umount", &["-l", &control]).expect("what was mounted can be unmounted");
        aborted.expect("a FUSE connection can be aborted");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily, so that the mount goes also where a process still holds it. An answer thread ends
        // with the last user.
        if let Err(error) = crate::run("umount", &["-l", &self.path().to_string_lossy()]) {
            eprintln!("{error}");
        }
        if let Some(session) = self.session.take() {
            drop(session);
        }
    }
}

impl Shared {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().expect("no holder panics")
    }

    /// What the rules say, before the operation is done.
    fn strike(&self, operation: Operation) -> Result<Option<Fault>> {
        match self.faults.strike(operation) {
            Some(Fault::Error(errno)) => Err(errno),
            fault => Ok(fault),
        }
    }

    /// The disk, while its power is on.
    fn powered(&self) -> Result<MutexGuard<'_, Disk>> {
        let disk = self.disk();
        if self.off.load(Ordering::Relaxed) { Err(libc::EIO) } else { Ok(disk) }
    }

    /// For names, attributes and the like.
    fn other<T>(&self, work: impl FnOnce(&mut Disk) -> Result<T>) -> Result<T> {
        self.strike(Operation::Other)?;
        work(&mut *self.powered()?)
    }

    fn read(&self, number: Number, offset: u64, size: usize) -> Result<Vec<u8>> {
        let fault = self.strike(Operation::Read)?;
        let mut bytes = self.powered()?.inode(number)?.read(offset, size);
        if fault == Some(Fault::FlipBit) && !bytes.is_empty() {
            let (place, bit) = self.faults.bit_of(bytes.len());
            bytes[place] ^= 1 << bit;
        }
        Ok(bytes)
    }

    fn write(&self, number: Number, offset: u64, bytes: &[u8]) -> Result<()> {
        let fault = self.strike(Operation::Write)?;
        let mut disk = self.powered()?;
        if fault != Some(Fault::Lie) {
            disk.require_space(number, offset + bytes.len() as u64)?;
            disk.inode_mut(number)?.write(offset, bytes);
        }
        outcome(fault)
    }

    fn sync(&self, number: Number) -> Result<()> {
        let fault = self.strike(Operation::Sync)?;
        let mut disk = self.powered()?;
        if fault != Some(Fault::Lie) {
            disk.inode_mut(number)?.sync();
        }
        outcome(fault)
    }

    fn allocate(&self, number: Number, size: u64) -> Result<()> {
        self.strike(Operation::Allocate)?;
        let mut disk = self.powered()?;
        disk.require_space(number, size)?;
        let inode = disk.inode_mut(number)?;
        inode.resize(size.max(inode.size()));
        Ok(())
    }
}

/// What an operation that was done reports.
fn outcome(fault: Option<Fault>) -> Result<()> {
    match fault {
        Some(Fault::DoneAndError(errno)) => Err(errno),
        _ => Ok(()),
    }
}

fn attributes(number: Number, inode: &Inode) -> FileAttr {
    let epoch = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: INodeNo(number),
        size: inode.size(),
        blocks: inode.size().div_ceil(512),
        atime: epoch,
        mtime: epoch,
        ctime: epoch,
        crtime: epoch,
        kind: kind(inode),
        perm: if inode.is_dir { 0o755 } else { 0o644 },
        nlink: if inode.is_dir { 2 } else { 1 },
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

fn kind(inode: &Inode) -> FileType {
    if inode.is_dir { FileType::Directory } else { FileType::RegularFile }
}

fn text(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

/// Direct I/O whatever flags a file is opened with, and writes to one file side by side.
fn opened() -> FopenFlags {
    FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES
}

/// What the kernel asks, answered.
struct Answers(Arc<Shared>);

impl Answers {
    fn entry(&self, result: Result<FileAttr>, reply: ReplyEntry) {
        match result {
            Ok(attributes) => reply.entry(&NOTHING_CACHED, &attributes, Generation(0)),
            Err(errno) => reply.error(Errno::from_i32(errno)),
        }
    }

    fn make(&self, dir: Number, name: &OsStr, inode: Inode) -> Result<FileAttr> {
        self.0.other(|disk| {
            let number = disk.create(dir, &text(name), inode)?;
            Ok(attributes(number, disk.inode(number)?))
        })
    }
}

fn empty(result: Result<()>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(Errno::from_i32(errno)),
    }
}

fn attr(result: Result<FileAttr>, reply: ReplyAttr) {
    match result {
        Ok(attributes) => reply.attr(&NOTHING_CACHED, &attributes),
        Err(errno) => reply.error(Errno::from_i32(errno)),
    }
}

impl Filesystem for Answers {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // As on a real disk, nobody who submits an operation waits for it.
        let unsupported = |_| std::io::Error::other("this kernel has no asynchronous direct I/O on FUSE");
        config.add_capabilities(InitFlags::FUSE_ASYNC_DIO).map_err(unsupported)?;
        config
            .set_max_background(BACKGROUND_MAX)
            .map(drop)
            .map_err(|_| std::io::Error::other("it takes no queue of this length"))
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.0.other(|disk| {
            let number = disk.lookup(parent.0, &text(name))?;
            Ok(attributes(number, disk.inode(number)?))
        });
        self.entry(found, reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        attr(self.0.other(|disk| Ok(attributes(ino.0, disk.inode(ino.0)?))), reply);
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = self.0.other(|disk| {
            if let Some(size) = size {
                disk.require_space(ino.0, size)?;
                disk.inode_mut(ino.0)?.resize(size);
            }
            Ok(attributes(ino.0, disk.inode(ino.0)?))
        });
        attr(set, reply);
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        self.entry(self.make(parent.0, name, Inode::directory()), reply);
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        match self.make(parent.0, name, Inode::default()) {
            Ok(attributes) => {
                reply.created(&NOTHING_CACHED, &attributes, Generation(0), FileHandle(0), opened());
            }
            Err(errno) => reply.error(Errno::from_i32(errno)),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.0.other(|disk| disk.remove(parent.0, &text(name))), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.0.other(|disk| disk.remove(parent.0, &text(name))), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = self.0.other(|disk| {
            if flags.contains(RenameFlags::RENAME_NOREPLACE) && disk.lookup(newparent.0, &text(newname)).is_ok() {
                return Err(libc::EEXIST);
            }
            disk.rename((parent.0, &text(name)), (newparent.0, &text(newname)))
        });
        empty(renamed, reply);
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.0.other(|disk| disk.inode(ino.0).map(drop)) {
            Ok(()) => reply.opened(FileHandle(0), opened()),
            Err(errno) => reply.error(Errno::from_i32(errno)),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.0.read(ino.0, offset, size as usize) {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(Errno::from_i32(errno)),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.0.write(ino.0, offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(errno) => reply.error(Errno::from_i32(errno)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(self.0.sync(ino.0), reply);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.0.other(|disk| {
            let entries = disk.list(ino.0).into_iter();
            Ok(entries.map(|(name, number)| (disk.inode(number).map(kind), name, number)).collect::<Vec<_>>())
        });
        let entries = match listed {
            Ok(entries) => entries,
            Err(errno) => return reply.error(Errno::from_i32(errno)),
        };
        for (index, (kind, name, number)) in entries.into_iter().enumerate().skip(offset as usize) {
            let kind = kind.unwrap_or(FileType::RegularFile);
            if reply.add(INodeNo(number), index as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let synced = self.0.other(|disk| {
            disk.sync_dir(ino.0);
            Ok(())
        });
        empty(synced, reply);
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        match self.0.other(|disk| Ok((disk.capacity(), disk.available()))) {
            Ok((capacity, available)) => {
                let block = u64::from(BLOCK_SIZE);
                let (total, free) = (capacity / block, available / block);
                reply.statfs(total, free, free, 1 << 20, 1 << 20, BLOCK_SIZE, 255, BLOCK_SIZE);
            }
            Err(errno) => reply.error(Errno::from_i32(errno)),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let allocated = if mode == 0 { self.0.allocate(ino.0, offset + length) } else { Err(libc::EOPNOTSUPP) };
        empty(allocated, reply);
    }
}
