//! The health of each data directory, the same for all cores: when does a disk count as dead?
//!
//! A directory is taken out in two ways, and both last until the next start:
//! - *no writes*: the disk refused one kind of write [`WRITE_FAILURES_MAX`] times in a row. What
//!   lies
//!   there is still read.
//! - *gone*: an operation was not answered in time, the device itself is away, or reads failed at
//!   [`READ_FAILURES_MAX`] places in a row. Nothing is asked of it any more.
//!
//! What counts as a failure: everything but a want of space, of memory or of descriptors.
//! Operations that were under way together fail together, for one reason; so a failure counts only
//! if its operation began after the last one that was counted. Watching the operations in flight is
//! the business of [`super::dir_io`].

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::io::Instant;
use crate::probe::{self, Event};
use crate::types::SegmentId;

/// Failures of one kind of write in a row, after which a directory takes no more.
pub const WRITE_FAILURES_MAX: u32 = 3;
/// Places at which reads failed in a row, after which nothing is read any more. A bad block is one
/// place, however often it is read.
pub const READ_FAILURES_MAX: usize = 32;
/// Answers in a row that say that the device is away.
const AWAY_MAX: u32 = 3;
/// Bytes within which failed reads count as one place.
const PLACE_BYTES: u64 = 1 << 20;
/// How long an operation may take unless told otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// The part of it that an operation gets when the closing of the store has lasted that long
/// already.
const CLOSING_DIVISOR: u32 = 16;

/// What may still be done with a directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum DirState {
    Sound = 0,
    /// It is read and no longer written to.
    NoWrites = 1,
    /// Nothing is asked of it any more.
    Gone = 2,
}

/// A kind of operation whose failures are counted apart: success of one says nothing of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteKind {
    Create,
    Write,
    Sync,
    Allocate,
    Truncate,
    Rename,
    Remove,
    SyncDir,
}

impl WriteKind {
    const COUNT: usize = Self::SyncDir as usize + 1;

    fn name(self) -> &'static str {
        match self {
            Self::Create => "creating a file",
            Self::Write => "a write",
            Self::Sync => "a sync",
            Self::Allocate => "reserving space",
            Self::Truncate => "cutting a file",
            Self::Rename => "a rename",
            Self::Remove => "removing a file",
            Self::SyncDir => "the sync of a directory",
        }
    }
}

/// The health of all data directories.
pub struct Health {
    dirs: Vec<Arc<DirHealth>>,
    patience: Arc<Patience>,
}

/// How long a disk is waited for, the same for all directories.
struct Patience {
    timeout: Duration,
    /// When the store began to be closed, in nanoseconds; 0: it has not.
    closing_since: AtomicU64,
}

impl Health {
    /// `timeout`: how long an operation may take before its directory is taken out.
    pub fn new(dirs: &[PathBuf], timeout: Duration) -> Self {
        let patience = Arc::new(Patience::new(timeout));
        let dirs = dirs.iter().enumerate();
        let dirs = dirs.map(|(index, path)| Arc::new(DirHealth::new(index, path.clone(), patience.clone())));
        Self { dirs: dirs.collect(), patience }
    }

    pub fn dir(&self, index: usize) -> &Arc<DirHealth> {
        &self.dirs[index]
    }

    pub fn dirs(&self) -> impl Iterator<Item = &Arc<DirHealth>> {
        self.dirs.iter()
    }

    /// The store is being closed from `now` on: when that has taken as long as an operation may, no
    /// disk gets so long again.
    pub fn begin_closing(&self, now: Instant) {
        let since = &self.patience.closing_since;
        let _ = since.compare_exchange(0, now.0.max(1), Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Patience {
    fn new(timeout: Duration) -> Self {
        Self { timeout, closing_since: AtomicU64::new(0) }
    }

    fn timeout(&self, now: Instant) -> Duration {
        let timeout = self.timeout;
        match self.closing_since.load(Ordering::Relaxed) {
            0 => timeout,
            since if now.since(Instant(since)) < timeout => timeout,
            _ => timeout / CLOSING_DIVISOR,
        }
    }
}

/// The health of one data directory.
pub struct DirHealth {
    index: usize,
    path: PathBuf,
    state: AtomicU8,
    /// Why it was taken out, the first time.
    reason: OnceLock<String>,
    runs: [Run; WriteKind::COUNT],
    away: Run,
    /// Where reads have failed since the last one that succeeded.
    unread: Mutex<BTreeSet<(SegmentId, u64)>>,
    has_unread: AtomicBool,
    patience: Arc<Patience>,
    /// Operations that the kernel has had for too long and not given back.
    overdue: AtomicU32,
    /// Counts operations as they begin, to tell which began after a failure.
    begun: AtomicU64,
}

/// Failures in a row.
#[derive(Default)]
struct Run {
    failures: AtomicU32,
    /// Operations that had begun when the last of them was counted.
    counted_at: AtomicU64,
}

/// When an operation began, among all of its directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Begun(u64);

impl DirHealth {
    fn new(index: usize, path: PathBuf, patience: Arc<Patience>) -> Self {
        Self {
            index,
            path,
            state: AtomicU8::new(DirState::Sound as u8),
            reason: OnceLock::new(),
            runs: Default::default(),
            away: Run::default(),
            unread: Mutex::default(),
            has_unread: AtomicBool::new(false),
            patience,
            overdue: AtomicU32::new(0),
            begun: AtomicU64::new(1),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn index(&self) -> usize {
        self.index
    }

    pub fn state(&self) -> DirState {
        match self.state.load(Ordering::Acquire) {
            0 => DirState::Sound,
            1 => DirState::NoWrites,
            _ => DirState::Gone,
        }
    }

    pub fn takes_writes(&self) -> bool {
        self.state() == DirState::Sound
    }

    pub fn is_gone(&self) -> bool {
        self.state() == DirState::Gone
    }

    /// How long an operation may take.
    pub fn timeout(&self, now: Instant) -> Duration {
        self.patience.timeout(now)
    }

    /// Operations that were given up and that the kernel still has, with their memory.
    pub fn overdue(&self) -> u32 {
        self.overdue.load(Ordering::Relaxed)
    }

    /// The answer to who asks for what the directory no longer does.
    pub fn refusal(&self) -> io::Error {
        let reason = self.reason.get().map_or("it was taken out", String::as_str).to_owned();
        io::Error::other(TakenOut { dir: self.index, reason })
    }

    /// Takes the directory out, as far as `to`. Said once for each of the two ways.
    pub fn take_out(&self, to: DirState, reason: String) {
        let _ = self.reason.set(reason.clone());
        if self.state.fetch_max(to as u8, Ordering::AcqRel) >= to as u8 {
            return;
        }
        probe::hit(Event::DirectoryTakenOut);
        let (number, path) = (self.index + 1, self.path.display());
        match to {
            DirState::Sound => {}
            DirState::NoWrites => tracing::error!(
                directory = number,
                %path,
                reason,
                "a data directory is taken out: nothing is written to it until a restart, uploads go to the others, and what lies there is still \
                 read; repair or replace its disk, then restart"
            ),
            DirState::Gone => tracing::error!(
                directory = number,
                %path,
                reason,
                "a data directory is taken out: nothing is read from it or written to it until a restart, its blobs are answered with 503, and \
                 uploads go to the others; repair or replace its disk, then restart"
            ),
        }
    }

    pub(super) fn begin(&self) -> Begun {
        Begun(self.begun.fetch_add(1, Ordering::Relaxed))
    }

    /// Operations are given up, or come back after they were.
    pub(super) fn add_overdue(&self, count: u32) {
        self.overdue.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn came_back(&self) {
        self.overdue.fetch_sub(1, Ordering::Relaxed);
    }

    /// A write of this kind ended.
    pub(super) fn write_ended<T>(&self, kind: WriteKind, begun: Begun, result: &io::Result<T>) {
        let run = &self.runs[kind as usize];
        match result {
            Ok(_) => {
                run.succeeded();
                self.away.succeeded();
            }
            Err(error) if is_no_failure(kind, error) => {}
            Err(error) => {
                self.note_away(begun, error);
                if run.failed(begun, self) >= WRITE_FAILURES_MAX {
                    let reason = format!("{} failed {WRITE_FAILURES_MAX} times in a row: {error}", kind.name());
                    self.take_out(DirState::NoWrites, reason);
                }
            }
        }
    }

    /// A read ended; where it failed is told by [`DirHealth::read_failed`].
    pub(super) fn read_ended<T>(&self, begun: Begun, result: &io::Result<T>) {
        match result {
            Ok(_) => {
                self.away.succeeded();
                if self.has_unread.load(Ordering::Relaxed) {
                    self.lock_unread().clear();
                    self.has_unread.store(false, Ordering::Relaxed);
                }
            }
            Err(error) => self.note_away(begun, error),
        }
    }

    /// The disk refused to read at this offset of a segment.
    pub fn read_failed(&self, segment: SegmentId, offset: u64, error: &io::Error) {
        if taken_out(error).is_some() {
            return;
        }
        let mut unread = self.lock_unread();
        unread.insert((segment, offset / PLACE_BYTES));
        self.has_unread.store(true, Ordering::Relaxed);
        let count = unread.len();
        drop(unread);
        if count >= READ_FAILURES_MAX {
            let reason = format!("reads failed at {READ_FAILURES_MAX} places in a row: {error}");
            self.take_out(DirState::Gone, reason);
        }
    }

    fn note_away(&self, begun: Begun, error: &io::Error) {
        if is_away(error) && self.away.failed(begun, self) >= AWAY_MAX {
            self.take_out(DirState::Gone, format!("the device is away: {error}"));
        }
    }

    fn lock_unread(&self) -> std::sync::MutexGuard<'_, BTreeSet<(SegmentId, u64)>> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Run {
    fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Returns how many have failed in a row.
    fn failed(&self, begun: Begun, health: &DirHealth) -> u32 {
        if begun.0 < self.counted_at.load(Ordering::Relaxed) {
            return self.failures.load(Ordering::Relaxed);
        }
        self.counted_at.store(health.begun.load(Ordering::Relaxed), Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// What says nothing of the disk's health.
fn is_no_failure(kind: WriteKind, error: &io::Error) -> bool {
    if taken_out(error).is_some() {
        return true;
    }
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT | libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::EINTR | libc::EAGAIN) => {
            true
        }
        Some(libc::EEXIST) => kind == WriteKind::Create,
        Some(libc::ENOENT) => matches!(kind, WriteKind::Remove | WriteKind::Rename),
        _ => false,
    }
}

/// The device, or the way to it, is not there.
fn is_away(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ENODEV
                | libc::ENXIO
                | libc::ESHUTDOWN
                | libc::ENOTCONN
                | libc::ECONNABORTED
                | libc::ENOMEDIUM
                | libc::ESTALE
                | libc::EREMOTEIO
        )
    )
}

/// The directory was taken out: the operation was not done, or nobody knows whether it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TakenOut {
    /// Index of the data directory.
    pub dir: usize,
    pub reason: String,
}

impl fmt::Display for TakenOut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "data directory {} was taken out: {}", self.dir + 1, self.reason)
    }
}

impl std::error::Error for TakenOut {}

/// Which directory was taken out, if that is why an operation failed.
pub fn taken_out(error: &io::Error) -> Option<&TakenOut> {
    error.get_ref()?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> DirHealth {
        DirHealth::new(0, PathBuf::from("/data"), Arc::new(Patience::new(TIMEOUT)))
    }

    fn failed(errno: i32) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(errno))
    }

    fn write(health: &DirHealth, kind: WriteKind, result: io::Result<()>) {
        health.write_ended(kind, health.begin(), &result);
    }

    #[test]
    fn any_kind_of_write_that_fails_three_times_in_a_row_ends_the_writes_and_not_the_reads() {
        for kind in [WriteKind::Create, WriteKind::Write, WriteKind::Sync, WriteKind::Rename, WriteKind::SyncDir] {
            let health = health();
            for _ in 1..WRITE_FAILURES_MAX {
                write(&health, kind, failed(libc::EIO));
                // A success of something else says nothing of it.
                write(&health, WriteKind::Allocate, Ok(()));
            }
            assert!(health.takes_writes(), "{kind:?}");
            write(&health, kind, failed(libc::EROFS));
            assert_eq!(health.state(), DirState::NoWrites, "{kind:?}");
            assert!(taken_out(&health.refusal()).is_some_and(|out| out.dir == 0));
        }
    }

    #[test]
    fn a_success_between_and_a_want_of_space_are_no_failures_in_a_row() {
        let health = health();
        for _ in 0..10 {
            write(&health, WriteKind::Sync, failed(libc::EIO));
            write(&health, WriteKind::Sync, failed(libc::EIO));
            write(&health, WriteKind::Sync, Ok(()));
            write(&health, WriteKind::Allocate, failed(libc::ENOSPC));
            write(&health, WriteKind::Write, failed(libc::EDQUOT));
            write(&health, WriteKind::Create, failed(libc::EMFILE));
        }
        assert_eq!(health.state(), DirState::Sound);
    }

    #[test]
    fn operations_that_fail_together_are_one_failure() {
        let health = health();
        let together: Vec<Begun> = (0..20).map(|_| health.begin()).collect();
        for begun in together {
            health.write_ended(WriteKind::Write, begun, &failed(libc::EIO));
        }
        assert_eq!(health.state(), DirState::Sound);
    }

    #[test]
    fn one_bad_block_takes_no_directory_out_and_a_run_over_distinct_places_does() {
        let (health, error) = (health(), io::Error::from_raw_os_error(libc::EIO));
        for _ in 0..1000 {
            health.read_failed(SegmentId(1), 4096, &error);
        }
        for place in 0..READ_FAILURES_MAX as u64 - 2 {
            health.read_failed(SegmentId(2), place * PLACE_BYTES, &error);
        }
        assert_eq!(health.state(), DirState::Sound);
        // A read that succeeds ends the run.
        health.read_ended(health.begin(), &Ok(()));
        for segment in 0..READ_FAILURES_MAX as u32 {
            assert_eq!(health.state(), DirState::Sound);
            health.read_failed(SegmentId(segment), 0, &error);
        }
        assert_eq!(health.state(), DirState::Gone);
    }

    #[test]
    fn a_device_that_is_away_is_gone_after_three_answers_that_say_so() {
        let health = health();
        for _ in 0..AWAY_MAX {
            assert!(!health.is_gone());
            health.read_ended(health.begin(), &failed(libc::ENOTCONN));
        }
        assert!(health.is_gone());
    }
}
