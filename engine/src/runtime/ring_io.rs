//! A core's handle: implements the seam [`crate::io::Io`] on the ring.

use std::fs::{self, File};
use std::future::{Future, poll_fn};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use super::blocking::block;
use super::core::{self, Core};
use super::file;
use super::load::CoreLoad;
use super::timers::TimerKey;
use crate::io::{AlignedBuf, Clock, DirEntry, Disk, Instant, OpenMode, Randomness, Space, Spawn, WithBuf};
use crate::ring::request::Request;
use crate::ring::{Ring, sys};
use crate::types::CoreId;

/// Only the user of the store reads and writes its files.
pub(crate) const FILE_MODE: u32 = 0o600;
pub(crate) const DIRECTORY_MODE: u32 = 0o700;

/// An open file, for direct I/O. It is the same for the cores and for the maintenance thread, which
/// share one store.
#[derive(Clone, Debug)]
pub struct RingFile(pub(crate) Arc<File>);

/// The handle of one core; cheap to clone, never leaves its thread.
#[derive(Clone)]
pub struct RingIo(Rc<Core>);

impl RingIo {
    pub(super) fn new(core: Rc<Core>) -> Self {
        Self(core)
    }

    pub(super) fn core(&self) -> &Core {
        &self.0
    }

    pub(super) fn ring(&self) -> &Ring {
        &self.0.ring
    }

    /// Streams of this core that are open.
    pub fn open_connections(&self) -> usize {
        self.0.connections()
    }

    /// Operations of this core that the kernel has.
    pub fn operations_in_flight(&self) -> usize {
        self.0.ring.in_flight()
    }

    /// How busy this core is.
    pub fn load(&self) -> CoreLoad {
        self.0.load()
    }
}

impl Disk for RingIo {
    type File = RingFile;

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<RingFile> {
        let flags = match mode {
            OpenMode::Read => libc::O_RDONLY,
            OpenMode::ReadWrite => libc::O_RDWR,
            OpenMode::Create => libc::O_RDWR | libc::O_CREAT | libc::O_EXCL,
        };
        open(self, path, flags | libc::O_DIRECT).await
    }

    async fn read_at(&self, file: &RingFile, buf: AlignedBuf, range: Range<usize>, offset: u64) -> WithBuf<usize> {
        file::read(self.ring(), &file.0, buf, range, offset).await
    }

    async fn write_at(&self, file: &RingFile, buf: AlignedBuf, range: Range<usize>, offset: u64) -> WithBuf<()> {
        file::write(self.ring(), &file.0, buf, range, offset).await
    }

    async fn sync(&self, file: &RingFile) -> io::Result<()> {
        // Not repeated, not even after an interruption: a second sync may report success for data
        // that the first one lost.
        self.ring().submit(Request::sync(&file.0, true)).await.value().map(drop)
    }

    async fn allocate(&self, file: &RingFile, size: u64) -> io::Result<()> {
        file::allocate(self.ring(), &file.0, size).await
    }

    async fn truncate(&self, file: &RingFile, size: u64) -> io::Result<()> {
        let file = file.0.clone();
        block(move || file.set_len(size)).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (sys::path_to_c(from)?, sys::path_to_c(to)?);
        self.ring().submit(Request::rename(from, to)).await.value().map(drop)
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let path = sys::path_to_c(path)?;
        self.ring().submit(Request::unlink(path)).await.value().map(drop)
    }

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        let path = sys::path_to_c(path)?;
        self.ring().submit(Request::create_dir(path, DIRECTORY_MODE)).await.value().map(drop)
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let directory = open(self, path, libc::O_RDONLY | libc::O_DIRECTORY).await?;
        self.ring().submit(Request::sync(&directory.0, false)).await.value().map(drop)
    }

    async fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let path = path.to_path_buf();
        block(move || list_dir(&path)).await
    }

    async fn file_size(&self, file: &RingFile) -> io::Result<u64> {
        let file = file.0.clone();
        block(move || Ok(file.metadata()?.len())).await
    }

    async fn space(&self, path: &Path) -> io::Result<Space> {
        let path = path.to_path_buf();
        block(move || sys::space(&path)).await
    }
}

impl Clock for RingIo {
    fn now(&self) -> Instant {
        core::now()
    }

    fn wall_clock_ns(&self) -> u64 {
        wall_clock_ns()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> {
        Sleep { io: self.clone(), deadline: self.now().after(duration), timer: None }
    }
}

impl Spawn for RingIo {
    async fn yield_now(&self) {
        let mut yielded = false;
        poll_fn(|context| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            self.0.wake_next_round(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    async fn bulk_turn(&self, bytes: usize) {
        self.core().bulk.take(bytes).await;
    }

    fn count_bulk(&self, bytes: usize) {
        self.core().bulk.count(bytes);
    }

    fn is_idle(&self, core: CoreId) -> bool {
        self.0.is_idle(core)
    }

    fn lend<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.lend(work)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        core::spawn(&self.0, task);
    }
}

impl Randomness for RingIo {
    fn random_u64(&self) -> u64 {
        self.0.random_u64()
    }
}

/// What [`Disk::list_dir`] lists.
pub(crate) fn list_dir(path: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // An entry may go while the directory is read; it is then as if it had gone before.
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let is_dir = metadata.is_dir();
        let name = entry.file_name().to_string_lossy().into_owned();
        entries.push(DirEntry { name, size: if is_dir { 0 } else { metadata.len() }, is_dir });
    }
    Ok(entries)
}

/// The time since the machine was started. Unlike [`Clock::now`] it keeps running while the machine
/// sleeps.
pub fn boot_time() -> Instant {
    Instant(sys::boot_time_ns())
}

/// What [`Clock::wall_clock_ns`] says.
pub(crate) fn wall_clock_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_nanos().min(u64::MAX as u128) as u64
}

async fn open(io: &RingIo, path: &Path, flags: i32) -> io::Result<RingFile> {
    let path = sys::path_to_c(path)?;
    let completion =
        file::repeat(io.ring(), || Request::open(path.clone(), flags | libc::O_CLOEXEC, FILE_MODE)).await?;
    let descriptor = completion.descriptor.expect("an open that succeeds has a descriptor");
    Ok(RingFile(Arc::new(File::from(descriptor))))
}

/// A timer; leaves the core's table when dropped.
struct Sleep {
    io: RingIo,
    deadline: Instant,
    timer: Option<TimerKey>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let io = self.io.clone();
        let mut timers = io.core().timers.borrow_mut();
        match self.timer {
            Some(timer) if timers.update(timer, context.waker()) => return Poll::Pending,
            Some(_) => {
                self.timer = None;
                return Poll::Ready(());
            }
            None if self.deadline <= core::now() => return Poll::Ready(()),
            None => self.timer = Some(timers.insert(self.deadline, context.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            self.io.core().timers.borrow_mut().remove(timer);
        }
    }
}
