//! The seam: everything the log, the index and the store may see of disk, clock and scheduler.
//!
//! [`crate::runtime::RingIo`] implements it on a core's ring, [`crate::sim::SimIo`] on a seeded
//! simulated disk and clock. Code above this line is generic over [`Io`] and runs unchanged on
//! both. Its parts are traits of their own, so that code that only sleeps takes a [`Clock`].
//!
//! Laws:
//! - Every offset, length and buffer range of a data read or write is a multiple of [`BLOCK_SIZE`]:
//!   files are opened for direct I/O. An implementation asserts it.
//! - Buffers are owned by the operation and come back with its result, also on errors.
//! - A future may be dropped: the operation then runs to its end unobserved (it may or may not
//!   happen), and its buffer is freed afterwards, never before.
//! - An error of a write or a sync says nothing of what reached the disk. It is the caller's to
//!   fence the file.

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

pub use crate::ring::buffer::{AlignedBuf, BLOCK_SIZE, Body, SharedBuf};
pub use crate::ring::sys::Space;
use crate::types::CoreId;

/// Nanoseconds of a monotonic clock with an arbitrary start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Instant(pub u64);

impl Instant {
    /// The time from `earlier` to `self`, zero if `earlier` is later.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The instant `duration` after this one.
    pub fn after(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_add(duration.as_nanos().min(u64::MAX as u128) as u64))
    }
}

/// How [`Disk::open`] opens a file. All modes are direct I/O.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write.
    ReadWrite,
    /// A file that must not exist yet (`EEXIST` otherwise), to read and write.
    Create,
}

/// What a directory holds, as [`Disk::list_dir`] tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirEntry {
    /// The name alone, without the directory.
    pub name: String,
    /// The size in bytes; 0 for a directory.
    pub size: u64,
    pub is_dir: bool,
}

/// The result of an operation that owned a buffer.
pub type WithBuf<T> = (io::Result<T>, AlignedBuf);

/// Disk, clock, tasks and randomness of one core: what the store needs. What needs a part asks for
/// the part.
pub trait Io: Disk + Clock + Spawn + Randomness + Clone + 'static {}

impl<T: Disk + Clock + Spawn + Randomness + Clone + 'static> Io for T {}

/// Files and directories, on disks that may fail and machines that may crash.
pub trait Disk {
    /// An open file. Any core may use it.
    type File: Clone + Send + Sync + fmt::Debug + 'static;

    fn open(&self, path: &Path, mode: OpenMode) -> impl Future<Output = io::Result<Self::File>>;

    /// Reads into `buf[range]` from `offset` until the range is full or the file ends; the count
    /// tells which. Never zero-fills.
    fn read_at(
        &self,
        file: &Self::File,
        buf: AlignedBuf,
        range: Range<usize>,
        offset: u64,
    ) -> impl Future<Output = WithBuf<usize>>;

    /// Writes the whole of `buf[range]` at `offset`, or fails. Success does not mean durable.
    fn write_at(
        &self,
        file: &Self::File,
        buf: AlignedBuf,
        range: Range<usize>,
        offset: u64,
    ) -> impl Future<Output = WithBuf<()>>;

    /// Makes every write that completed before this call durable, with the metadata needed to read
    /// it back (`fdatasync`).
    fn sync(&self, file: &Self::File) -> impl Future<Output = io::Result<()>>;

    /// Reserves space so that the file grows to `size` bytes (`fallocate`, which moves the end of
    /// file); unwritten parts read as zeros. `ENOSPC` when the disk is full, and then nothing is
    /// reserved.
    fn allocate(&self, file: &Self::File, size: u64) -> impl Future<Output = io::Result<()>>;

    /// Cuts a file to `size` bytes. Durable after [`Disk::sync`] of the file.
    fn truncate(&self, file: &Self::File, size: u64) -> impl Future<Output = io::Result<()>>;

    /// Replaces `to` by `from` atomically. Durable after [`Disk::sync_dir`] of the directory.
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>>;

    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>>;

    fn create_dir(&self, path: &Path) -> impl Future<Output = io::Result<()>>;

    /// Makes the entries of a directory durable: creations, renames and removals before this call.
    fn sync_dir(&self, path: &Path) -> impl Future<Output = io::Result<()>>;

    /// The entries of a directory, in any order. Used at start only; it may block.
    fn list_dir(&self, path: &Path) -> impl Future<Output = io::Result<Vec<DirEntry>>>;

    fn file_size(&self, file: &Self::File) -> impl Future<Output = io::Result<u64>>;

    fn space(&self, path: &Path) -> impl Future<Output = io::Result<Space>>;
}

/// The time, as one machine sees it.
pub trait Clock {
    fn now(&self) -> Instant;

    /// Nanoseconds since 1970, of the wall clock; may jump.
    fn wall_clock_ns(&self) -> u64;

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()>;
}

/// The tasks of one core, and their turns.
pub trait Spawn {
    /// Runs a task on this core until it ends. Tasks are never cancelled.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);

    /// Lets every other task that is ready run first.
    fn yield_now(&self) -> impl Future<Output = ()>;

    /// Waits for the turn to do bulk work (hashing, copying) on this many bytes, so that small
    /// requests are not kept waiting for it.
    fn bulk_turn(&self, bytes: usize) -> impl Future<Output = ()>;

    /// Counts bulk work that was done without a turn.
    fn count_bulk(&self, bytes: usize);

    /// Says whether the work in the background is pressing: if not, its thread lets others go
    /// first. Nothing where it has no thread of its own.
    fn set_pressing(&self, _is_pressing: bool) {}

    /// Whether a core has had time to spare lately, so that others may ask it for work. An
    /// estimate, by chance in a simulation.
    fn is_idle(&self, core: CoreId) -> bool;

    /// Does work for another core; it does not make this one less idle.
    fn lend<T>(&self, work: impl FnOnce() -> T) -> T;
}

/// Where nonces and chances come from.
pub trait Randomness {
    /// Randomness for nonces; from the seed in a simulation.
    fn random_u64(&self) -> u64;
}
