//! The seam on a simulated machine: [`SimIo`] is one core's [`crate::io::Io`].
//!
//! Every law of the seam that a caller could break is asserted here, so that a run in the
//! simulation finds what would be undefined on a ring: misaligned transfers, writes to a file
//! opened to read, files kept over a crash.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::blocking::{self, SimBlockingFile};
use super::event::EventId;
use super::net::link::SimLink;
use super::operation::{Operation, Outcome, SimFile, Transfer};
use super::schedule::SimCore;
use super::state::{Node, State};
use crate::io::{AlignedBuf, BLOCK_SIZE, Clock, DirEntry, Disk, Instant, OpenMode, Randomness, Space, Spawn, WithBuf};
use crate::types::CoreId;

/// Disk, clock and scheduler of one simulated core, for one life of its machine: after a crash
/// nothing begins through it and nothing ends. Clones are the same core.
#[derive(Clone)]
pub struct SimIo {
    pub(super) state: Rc<RefCell<State>>,
    pub(super) place: SimCore,
    pub(super) life: u64,
}

impl SimIo {
    /// Which core this is.
    pub fn core(&self) -> CoreId {
        self.place.core
    }

    /// Of which machine.
    pub fn node(&self) -> u16 {
        self.place.node
    }

    /// Opens a file for code that can't wait: [`SimBlockingFile`] has the rules. The name of a
    /// created file is durable after [`Disk::sync_dir`], as ever.
    pub fn open_blocking(&self, path: &Path, mode: OpenMode) -> io::Result<SimBlockingFile> {
        blocking::open(&self.state, self.place.node, self.life, path, mode)
    }

    /// The seam to the other machines.
    pub fn link(&self) -> SimLink {
        SimLink::new(self.state.clone(), self.place.node, self.life)
    }

    fn is_alive(&self) -> bool {
        self.state.borrow().is_alive(self.place.node, self.life)
    }

    fn submit(&self, make: impl FnOnce(&Node) -> Operation) -> OperationFuture {
        let id = self.is_alive().then(|| {
            let mut state = self.state.borrow_mut();
            let operation = make(state.node(self.place.node));
            state.submit(self.place.node, operation)
        });
        OperationFuture { state: self.state.clone(), id }
    }

    async fn done(&self, make: impl FnOnce(&Node) -> Operation) -> io::Result<()> {
        match self.submit(make).await {
            Outcome::Done(result) => result,
            _ => unreachable!("the operation has no other outcome"),
        }
    }

    fn transfer(&self, file: &SimFile, buf: AlignedBuf, range: Range<usize>, offset: u64) -> Transfer {
        self.check(file);
        let is_aligned = |position: usize| position.is_multiple_of(BLOCK_SIZE);
        assert!(range.start < range.end && range.end <= buf.len(), "range {range:?} of {} bytes", buf.len());
        assert!(is_aligned(range.start) && is_aligned(range.end), "range {range:?} is not in blocks");
        assert!(offset.is_multiple_of(BLOCK_SIZE as u64), "offset {offset} is not in blocks");
        Transfer { file: file.clone(), buf, range, offset }
    }

    fn check(&self, file: &SimFile) {
        assert!(file.node == self.place.node, "a file of another machine");
        assert!(!self.is_alive() || file.life == self.life, "a file was kept over a crash");
    }

    fn check_writable(&self, file: &SimFile) {
        self.check(file);
        assert!(file.is_writable, "a file opened to read is written to");
    }
}

impl Disk for SimIo {
    type File = SimFile;

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<SimFile> {
        match self.submit(|_| Operation::Open { path: path.into(), mode }).await {
            Outcome::File(result) => result,
            _ => unreachable!("the operation has no other outcome"),
        }
    }

    async fn read_at(&self, file: &SimFile, buf: AlignedBuf, range: Range<usize>, offset: u64) -> WithBuf<usize> {
        let transfer = self.transfer(file, buf, range, offset);
        match self.submit(|_| Operation::Read(transfer)).await {
            Outcome::Read(result, buf) => (result, buf),
            _ => unreachable!("the operation has no other outcome"),
        }
    }

    async fn write_at(&self, file: &SimFile, buf: AlignedBuf, range: Range<usize>, offset: u64) -> WithBuf<()> {
        self.check_writable(file);
        let transfer = self.transfer(file, buf, range, offset);
        match self.submit(|_| Operation::Write(transfer)).await {
            Outcome::Write(result, buf) => (result, buf),
            _ => unreachable!("the operation has no other outcome"),
        }
    }

    async fn sync(&self, file: &SimFile) -> io::Result<()> {
        self.check(file);
        self.done(|node| Operation::Sync { file: file.clone(), up_to: node.device.disk.sequence() }).await
    }

    async fn allocate(&self, file: &SimFile, size: u64) -> io::Result<()> {
        self.check_writable(file);
        self.done(|_| Operation::Allocate { file: file.clone(), size }).await
    }

    async fn truncate(&self, file: &SimFile, size: u64) -> io::Result<()> {
        self.check_writable(file);
        self.done(|_| Operation::Truncate { file: file.clone(), size }).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.done(|_| Operation::Rename { from: from.into(), to: to.into() }).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.done(|_| Operation::Remove { path: path.into() }).await
    }

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.done(|_| Operation::CreateDir { path: path.into() }).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.done(|node| Operation::SyncDir { path: path.into(), up_to: node.device.disk.sequence() }).await
    }

    async fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        match self.submit(|_| Operation::ListDir { path: path.into() }).await {
            Outcome::Entries(result) => result,
            _ => unreachable!("the operation has no other outcome"),
        }
    }

    async fn file_size(&self, file: &SimFile) -> io::Result<u64> {
        self.check(file);
        match self.submit(|_| Operation::FileSize { file: file.clone() }).await {
            Outcome::Size(result) => result,
            _ => unreachable!("the operation has no other outcome"),
        }
    }

    async fn space(&self, path: &Path) -> io::Result<Space> {
        match self.submit(|_| Operation::Space { path: path.into() }).await {
            Outcome::Space(result) => result,
            _ => unreachable!("the operation has no other outcome"),
        }
    }
}

impl Clock for SimIo {
    fn now(&self) -> Instant {
        let state = self.state.borrow();
        Instant(state.node(self.place.node).clock.local(state.now))
    }

    fn wall_clock_ns(&self) -> u64 {
        let state = self.state.borrow();
        state.node(self.place.node).clock.wall_clock(state.now)
    }

    async fn sleep(&self, duration: Duration) {
        if !self.is_alive() {
            return std::future::pending().await;
        }
        let until = self.now().after(duration).0;
        let id = self.state.borrow_mut().start_timer(self.place.node, until);
        let timer = Timer { state: self.state.clone(), id };
        poll_fn(|context| {
            // A timer that a crash took away never fires.
            let has_fired = timer.state.borrow_mut().poll_timer(timer.id, context.waker());
            if has_fired && self.is_alive() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await
    }
}

impl Spawn for SimIo {
    async fn yield_now(&self) {
        let mut has_yielded = false;
        poll_fn(|context| {
            if std::mem::replace(&mut has_yielded, true) {
                return Poll::Ready(());
            }
            self.state.borrow_mut().yielded.push_back(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    async fn bulk_turn(&self, _bytes: usize) {
        self.yield_now().await;
    }

    fn count_bulk(&self, _bytes: usize) {}

    fn is_idle(&self, _core: CoreId) -> bool {
        self.state.borrow_mut().random.chance(0.5)
    }

    fn lend<T>(&self, work: impl FnOnce() -> T) -> T {
        work()
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        if self.is_alive() {
            self.state.borrow_mut().spawn(self.place, Box::pin(task));
        }
    }
}

impl Randomness for SimIo {
    fn random_u64(&self) -> u64 {
        self.state.borrow_mut().random.next_u64()
    }
}

/// Waits for the outcome of an operation; dropped, it leaves the operation to end unobserved.
struct OperationFuture {
    state: Rc<RefCell<State>>,
    id: Option<EventId>,
}

impl Future for OperationFuture {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let Some(id) = self.id else { return Poll::Pending };
        let outcome = self.state.borrow_mut().poll_operation(id, context.waker());
        match outcome {
            Some(outcome) => {
                self.id = None;
                Poll::Ready(outcome)
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for OperationFuture {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let ended = self.state.borrow_mut().orphan(id);
            drop(ended);
        }
    }
}

struct Timer {
    state: Rc<RefCell<State>>,
    id: EventId,
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.state.borrow_mut().cancel_timer(self.id);
    }
}
