//! The seam to one data directory: [`DirIo`] is the [`Io`] of a core, watched.
//!
//! Every operation on a data directory goes through here, and through nothing else: so its failures
//! are counted ([`super::health`]), one that takes too long is found, and whoever waits for a disk
//! that does not answer is told so. Laws:
//! - What a directory no longer does is refused at once, without asking the disk.
//! - An operation that is given up goes on by itself with all that it owns. Its memory, and the
//!   charge for it, come free when the kernel gives them back, never before.
//! - The same holds for one whose future is dropped, so that it goes on being watched.
//!
//! There is no timer for an operation. While any is in flight a task looks at the oldest at most
//! once a second. It counts time by its own looks, so a process that was stopped for a while finds
//! no operation late that only waited for it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::io::{AlignedBuf, Clock, DirEntry, Disk, Instant, Io, OpenMode, Randomness, Space, Spawn, WithBuf};
use crate::log::health::{DirHealth, DirState, WriteKind};
use crate::memory::Frame;
use crate::types::CoreId;

/// The longest time between two looks at what is in flight.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks within the time that an operation may take, at least.
const LOOKS_MIN: u32 = 4;
/// From this age of an operation on, new records go to other directories where there are some.
const LAGGING: Duration = Duration::from_secs(2);

/// The handle of a core to one data directory; clones share what is in flight.
pub struct DirIo<I: Io> {
    io: I,
    health: Arc<DirHealth>,
    in_flight: Rc<InFlight>,
}

impl<I: Io> Clone for DirIo<I> {
    fn clone(&self) -> Self {
        Self { io: self.io.clone(), health: self.health.clone(), in_flight: self.in_flight.clone() }
    }
}

#[derive(Default)]
struct InFlight {
    /// By their numbers, which ascend: the first is the oldest.
    operations: RefCell<BTreeMap<u64, Entry>>,
    next: Cell<u64>,
    is_watched: Cell<bool>,
    /// Time passed while operations were watched, in nanoseconds.
    clock: Cell<u64>,
    /// The oldest operation is slow.
    is_lagging: Cell<bool>,
}

struct Entry {
    /// By the clock of the watch.
    began: u64,
    waker: Option<Waker>,
    is_overdue: bool,
}

impl<I: Io> DirIo<I> {
    pub fn new(io: I, health: Arc<DirHealth>) -> Self {
        Self { io, health, in_flight: Rc::default() }
    }

    pub fn health(&self) -> &DirHealth {
        &self.health
    }

    /// Whether operations take so long that new ones should go elsewhere.
    pub fn is_lagging(&self) -> bool {
        self.in_flight.is_lagging.get()
    }

    /// Reads into a frame, which is without its buffer if the directory is taken out meanwhile.
    pub async fn read_frame(
        &self,
        file: &I::File,
        frame: &mut Frame,
        range: Range<usize>,
        offset: u64,
    ) -> io::Result<usize> {
        let (result, back) = self.read_with(file, frame.move_out(), range, offset).await;
        if let Some(back) = back {
            *frame = back;
        }
        result
    }

    async fn read_with(
        &self,
        file: &I::File,
        mut frame: Frame,
        range: Range<usize>,
        offset: u64,
    ) -> (io::Result<usize>, Option<Frame>) {
        if self.health.is_gone() {
            return (Err(self.health.refusal()), Some(frame));
        }
        let (io, file, begun) = (self.io.clone(), file.clone(), self.health.begin());
        let read = self.watch(async move {
            let (result, buf) = io.read_at(&file, frame.lend(), range, offset).await;
            frame.put_back(buf);
            (result, frame)
        });
        match read.await {
            Some((result, frame)) => {
                self.health.read_ended(begun, &result);
                (result, Some(frame))
            }
            None => (Err(self.health.refusal()), None),
        }
    }

    /// Reads into a buffer that `owner` is charged for; both come back unless the directory is
    /// taken out meanwhile.
    pub async fn read_owned<T: 'static>(
        &self,
        file: &I::File,
        buf: AlignedBuf,
        owner: T,
        range: Range<usize>,
        offset: u64,
    ) -> (io::Result<usize>, Option<(AlignedBuf, T)>) {
        if self.health.is_gone() {
            return (Err(self.health.refusal()), Some((buf, owner)));
        }
        let (io, file, begun) = (self.io.clone(), file.clone(), self.health.begin());
        let read = self.watch(async move {
            let (result, buf) = io.read_at(&file, buf, range, offset).await;
            (result, (buf, owner))
        });
        match read.await {
            Some((result, back)) => {
                self.health.read_ended(begun, &result);
                (result, Some(back))
            }
            None => (Err(self.health.refusal()), None),
        }
    }

    /// Writes from a frame, which is without its buffer if the directory is taken out meanwhile.
    pub async fn write_frame(
        &self,
        file: &I::File,
        frame: &mut Frame,
        range: Range<usize>,
        offset: u64,
    ) -> io::Result<()> {
        let mut moved = frame.move_out();
        let (io, file) = (self.io.clone(), file.clone());
        if !self.health.takes_writes() {
            *frame = moved;
            return Err(self.health.refusal());
        }
        let begun = self.health.begin();
        let write = self.watch(async move {
            let (result, buf) = io.write_at(&file, moved.lend(), range, offset).await;
            moved.put_back(buf);
            (result, moved)
        });
        match write.await {
            Some((result, back)) => {
                *frame = back;
                self.health.write_ended(WriteKind::Write, begun, &result);
                result
            }
            None => Err(self.health.refusal()),
        }
    }

    /// An operation that changes the directory and owns nothing of the caller's.
    async fn change<T: 'static>(
        &self,
        kind: WriteKind,
        operation: impl Future<Output = io::Result<T>> + 'static,
    ) -> io::Result<T> {
        if !self.health.takes_writes() {
            return Err(self.health.refusal());
        }
        let begun = self.health.begin();
        let result = self.watch(operation).await.unwrap_or_else(|| Err(self.health.refusal()));
        self.health.write_ended(kind, begun, &result);
        result
    }

    /// One that only asks.
    async fn ask<T: 'static>(&self, operation: impl Future<Output = io::Result<T>> + 'static) -> io::Result<T> {
        if self.health.is_gone() {
            return Err(self.health.refusal());
        }
        self.watch(operation).await.unwrap_or_else(|| Err(self.health.refusal()))
    }

    /// Runs an operation; `None` when it is given up.
    fn watch<T: 'static>(&self, operation: impl Future<Output = T> + 'static) -> Watched<I, T> {
        let in_flight = &self.in_flight;
        let key = in_flight.next.get();
        in_flight.next.set(key + 1);
        let entry = Entry { began: in_flight.clock.get(), waker: None, is_overdue: false };
        in_flight.operations.borrow_mut().insert(key, entry);
        if !in_flight.is_watched.replace(true) {
            self.io.spawn(self.clone().look());
        }
        Watched { dir: self.clone(), key, operation: Some(Box::pin(operation)) }
    }

    fn ended(&self, key: u64) {
        let entry = self.in_flight.operations.borrow_mut().remove(&key);
        if entry.is_some_and(|entry| entry.is_overdue) {
            self.health.came_back();
        }
    }

    /// Looks at what is in flight until nothing is, or the directory is gone.
    async fn look(self) {
        let in_flight = &self.in_flight;
        loop {
            let timeout = self.health.timeout(self.io.now());
            let pause = (timeout / LOOKS_MIN).min(LOOK_EVERY).max(Duration::from_millis(1));
            self.io.sleep(pause).await;
            // Whatever really passed: an operation is late only if it was looked at meanwhile.
            in_flight.clock.set(in_flight.clock.get() + pause.as_nanos() as u64);
            let oldest = in_flight.operations.borrow().first_key_value().map(|(_, entry)| entry.began);
            let Some(began) = oldest else { break };
            let age = Duration::from_nanos(in_flight.clock.get() - began);
            in_flight.is_lagging.set(age > LAGGING.min(timeout / 2));
            // It began at some time before the first look that followed.
            if age > timeout {
                let reason = format!("an operation was not answered within {timeout:?}");
                self.health.take_out(DirState::Gone, reason);
            }
            if self.health.is_gone() {
                self.give_up();
                break;
            }
        }
        in_flight.is_lagging.set(false);
        in_flight.is_watched.set(false);
    }

    /// Tells everybody who waits that it is in vain.
    fn give_up(&self) {
        let mut wakers = Vec::new();
        let mut overdue = 0;
        for entry in self.in_flight.operations.borrow_mut().values_mut() {
            overdue += u32::from(!std::mem::replace(&mut entry.is_overdue, true));
            wakers.extend(entry.waker.take());
        }
        self.health.add_overdue(overdue);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// An operation in flight. `None`: it was given up, and goes on by itself.
struct Watched<I: Io, T: 'static> {
    dir: DirIo<I>,
    key: u64,
    operation: Option<Pin<Box<dyn Future<Output = T>>>>,
}

impl<I: Io, T: 'static> Watched<I, T> {
    /// Lets the operation run to its end with all that it owns.
    fn leave(&mut self) {
        if let Some(operation) = self.operation.take() {
            let (dir, key) = (self.dir.clone(), self.key);
            self.dir.io.spawn(async move {
                drop(operation.await);
                dir.ended(key);
            });
        }
    }
}

// Nothing in it is pinned but what lies in its box.
impl<I: Io, T: 'static> Unpin for Watched<I, T> {}

impl<I: Io, T: 'static> Future for Watched<I, T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let this = &mut *self;
        let operation = this.operation.as_mut().expect("not polled after its end");
        if let Poll::Ready(outcome) = operation.as_mut().poll(context) {
            this.operation = None;
            this.dir.ended(this.key);
            return Poll::Ready(Some(outcome));
        }
        if this.dir.health.is_gone() {
            this.leave();
            return Poll::Ready(None);
        }
        let mut operations = this.dir.in_flight.operations.borrow_mut();
        let waker = &mut operations.get_mut(&this.key).expect("it has not ended").waker;
        if waker.as_ref().is_none_or(|known| !known.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl<I: Io, T: 'static> Drop for Watched<I, T> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<I: Io> Disk for DirIo<I> {
    type File = I::File;

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<I::File> {
        let (io, path) = (self.io.clone(), path.to_path_buf());
        let open = async move { io.open(&path, mode).await };
        match mode {
            OpenMode::Create => self.change(WriteKind::Create, open).await,
            OpenMode::Read | OpenMode::ReadWrite => self.ask(open).await,
        }
    }

    /// A buffer that is not back when the directory is taken out is replaced by another one.
    async fn read_at(&self, file: &I::File, buf: AlignedBuf, range: Range<usize>, offset: u64) -> WithBuf<usize> {
        let capacity = buf.capacity();
        let (result, back) = self.read_owned(file, buf, (), range, offset).await;
        (result, back.map_or_else(|| AlignedBuf::zeroed(capacity), |(buf, ())| buf))
    }

    /// As [`DirIo::read_at`].
    async fn write_at(&self, file: &I::File, buf: AlignedBuf, range: Range<usize>, offset: u64) -> WithBuf<()> {
        if !self.health.takes_writes() {
            return (Err(self.health.refusal()), buf);
        }
        let capacity = buf.capacity();
        let (io, file, begun) = (self.io.clone(), file.clone(), self.health.begin());
        match self.watch(async move { io.write_at(&file, buf, range, offset).await }).await {
            Some((result, buf)) => {
                self.health.write_ended(WriteKind::Write, begun, &result);
                (result, buf)
            }
            None => (Err(self.health.refusal()), AlignedBuf::zeroed(capacity)),
        }
    }

    async fn sync(&self, file: &I::File) -> io::Result<()> {
        let (io, file) = (self.io.clone(), file.clone());
        self.change(WriteKind::Sync, async move { io.sync(&file).await }).await
    }

    async fn allocate(&self, file: &I::File, size: u64) -> io::Result<()> {
        let (io, file) = (self.io.clone(), file.clone());
        self.change(WriteKind::Allocate, async move { io.allocate(&file, size).await }).await
    }

    async fn truncate(&self, file: &I::File, size: u64) -> io::Result<()> {
        let (io, file) = (self.io.clone(), file.clone());
        self.change(WriteKind::Truncate, async move { io.truncate(&file, size).await }).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (io, from, to) = (self.io.clone(), from.to_path_buf(), to.to_path_buf());
        self.change(WriteKind::Rename, async move { io.rename(&from, &to).await }).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let (io, path) = (self.io.clone(), path.to_path_buf());
        self.change(WriteKind::Remove, async move { io.remove(&path).await }).await
    }

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        let (io, path) = (self.io.clone(), path.to_path_buf());
        self.change(WriteKind::Create, async move { io.create_dir(&path).await }).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let (io, path) = (self.io.clone(), path.to_path_buf());
        self.change(WriteKind::SyncDir, async move { io.sync_dir(&path).await }).await
    }

    async fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let (io, path) = (self.io.clone(), path.to_path_buf());
        self.ask(async move { io.list_dir(&path).await }).await
    }

    async fn file_size(&self, file: &I::File) -> io::Result<u64> {
        let (io, file) = (self.io.clone(), file.clone());
        self.ask(async move { io.file_size(&file).await }).await
    }

    async fn space(&self, path: &Path) -> io::Result<Space> {
        let (io, path) = (self.io.clone(), path.to_path_buf());
        self.ask(async move { io.space(&path).await }).await
    }
}

impl<I: Io> Clock for DirIo<I> {
    fn now(&self) -> Instant {
        self.io.now()
    }

    fn wall_clock_ns(&self) -> u64 {
        self.io.wall_clock_ns()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> {
        self.io.sleep(duration)
    }
}

impl<I: Io> Spawn for DirIo<I> {
    fn yield_now(&self) -> impl Future<Output = ()> {
        self.io.yield_now()
    }

    fn bulk_turn(&self, bytes: usize) -> impl Future<Output = ()> {
        self.io.bulk_turn(bytes)
    }

    fn count_bulk(&self, bytes: usize) {
        self.io.count_bulk(bytes);
    }

    fn set_pressing(&self, is_pressing: bool) {
        self.io.set_pressing(is_pressing);
    }

    fn is_idle(&self, core: CoreId) -> bool {
        self.io.is_idle(core)
    }

    fn lend<T>(&self, work: impl FnOnce() -> T) -> T {
        self.io.lend(work)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.io.spawn(task);
    }
}

impl<I: Io> Randomness for DirIo<I> {
    fn random_u64(&self) -> u64 {
        self.io.random_u64()
    }
}
