//! The ring of one core: submit, wait, reap, cancel, tear down.
//!
//! Invariants:
//! - A submission that does not fit the queue, a cancel above all, goes to the backlog and from
//!   there, in order, to the queue.
//! - Submitting and waiting are one system call; with nothing to do and no timer it blocks without
//!   a timeout.
//! - Completions are copied out and their slots settled first; wakers run after the ring is
//!   released, so nothing recurses.
//! - The ring is closed only when the kernel has let go of every operation. If it will not, their
//!   memory is leaked.
//!
//! What an operation owns is the business of `slots`; what it says to the kernel, of
//! [`super::request`].

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use io_uring::{IoUring, squeue, types};

use super::probe::ProbeError;
use super::provided::ProvidedBuffers;
use super::request::{self, Request};
use super::setup::{self, QUEUE_SIZES};
use super::slots::{Completion, Key, Kind, Slots};
use super::sys::{self, Limit};

/// Completions of one round; the rest waits for the next.
pub const REAPED_PER_ROUND: usize = 4096;
/// How long a ring waits for the kernel to let go of what it cancelled, in rounds and time of each.
const TEARDOWN_ROUNDS: usize = 200;
const TEARDOWN_ROUND: Duration = Duration::from_millis(25);

/// How long an enter may wait for a completion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    No,
    For(Duration),
    Forever,
}

struct Driver {
    /// First, so that it closes before the memory below goes.
    uring: IoUring,
    slots: Slots,
    backlog: VecDeque<squeue::Entry>,
    provided: Rc<ProvidedBuffers>,
    /// Whether the event of [`Ring::watch`] must be armed again.
    watch: Option<(RawFd, bool)>,
    /// Cancels that completions asked for, kept for their allocation.
    cancels: Vec<Key>,
}

/// The ring of one core.
pub struct Ring {
    driver: RefCell<Driver>,
    provided: Rc<ProvidedBuffers>,
}

/// An operation in flight. Dropping it cancels the operation; what it owns stays until the kernel
/// lets go.
pub struct Op<'ring> {
    ring: &'ring Ring,
    key: Option<Key>,
}

impl Ring {
    /// The ring of the calling thread, which alone may use it. Its queues are smaller where memory
    /// is short, and the log says so.
    pub fn new() -> io::Result<Ring> {
        for (submissions, completions) in QUEUE_SIZES {
            match Self::with_sizes(submissions, completions) {
                Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
                    tracing::info!(
                        submissions,
                        completions,
                        "the kernel has no memory for queues of this size, most likely because of the limit on locked \
                         memory (`ulimit -l`)"
                    );
                }
                outcome => return outcome,
            }
        }
        let locked_memory_max = sys::raise_limit(Limit::LockedMemory)?;
        Err(io::Error::new(io::ErrorKind::OutOfMemory, ProbeError::OutOfMemory { locked_memory_max }))
    }

    /// As [`Ring::new`] with queues of other sizes, to test what happens when they are full.
    pub fn with_sizes(submissions: u32, completions: u32) -> io::Result<Ring> {
        let uring = setup::build(submissions, completions)?;
        setup::bound_workers(&uring);
        let provided = Rc::new(ProvidedBuffers::new());
        provided.register(&uring)?;
        let driver = Driver {
            uring,
            slots: Slots::default(),
            backlog: VecDeque::new(),
            provided: provided.clone(),
            watch: None,
            cancels: Vec::new(),
        };
        Ok(Ring { driver: RefCell::new(driver), provided })
    }

    /// Queues a request. It reaches the kernel with the next [`Ring::enter`], or earlier when the
    /// queue is full.
    pub fn submit(&self, request: Request) -> Op<'_> {
        Op { ring: self, key: Some(self.start(request)) }
    }

    /// As [`Ring::submit`], for callers that keep the key: they must end it with [`Ring::orphan`].
    pub fn start(&self, request: Request) -> Key {
        let mut driver = self.driver.borrow_mut();
        let (key, entry) = driver.slots.insert(request);
        driver.push(entry);
        key
    }

    /// The next connection of an accept; `None` when it ended and the key with it.
    pub fn poll_accept(&self, key: Key, context: &mut Context<'_>) -> Poll<Option<Completion>> {
        self.driver.borrow_mut().slots.poll_accept(key, context)
    }

    /// Gives up an operation: it is cancelled, and what it owns or yields is freed when the kernel
    /// lets go.
    pub fn orphan(&self, key: Key) {
        let driver = &mut *self.driver.borrow_mut();
        if driver.slots.orphan(key, &driver.provided) {
            driver.cancel(key);
        }
    }

    /// Submits what is queued and waits. Interruptions by signals, an expired timeout and a full
    /// completion queue are no errors.
    pub fn enter(&self, wait: Wait) -> io::Result<()> {
        self.driver.borrow_mut().enter(wait)
    }

    /// Settles completions, at most [`REAPED_PER_ROUND`], and puts the wakers of those who wait
    /// into `wakers`.
    pub fn reap(&self, wakers: &mut Vec<Waker>) -> usize {
        self.driver.borrow_mut().reap(wakers)
    }

    /// Makes signals on an event descriptor end a wait. The caller keeps the descriptor open as
    /// long as the ring.
    pub fn watch(&self, event: BorrowedFd<'_>) {
        self.driver.borrow_mut().watch = Some((event.as_raw_fd(), false));
    }

    /// Ends the wait of another ring by a message from this one. The event of [`Ring::watch`] is
    /// what the runtime uses; the bench `wakeup` compares the two.
    pub fn message(&self, target: RawFd) {
        let entry = request::message_ring(target, Key::BARE.user_data(Kind::Wake));
        self.driver.borrow_mut().push(entry.user_data(Key::BARE.user_data(Kind::Message)));
    }

    /// The buffers that receives pick from.
    pub fn provided(&self) -> &Rc<ProvidedBuffers> {
        &self.provided
    }

    /// Operations that the kernel has.
    pub fn in_flight(&self) -> usize {
        self.driver.borrow().slots.in_kernel()
    }

    /// Slots in use: operations in flight and results that nobody took yet.
    pub fn occupied(&self) -> usize {
        self.driver.borrow().slots.occupied()
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.driver.borrow().uring.as_raw_fd()
    }
}

impl Driver {
    fn push(&mut self, entry: squeue::Entry) {
        if !self.backlog.is_empty() || !self.try_push(&entry) {
            self.backlog.push_back(entry);
        }
    }

    /// False if the queue is full even after submitting it.
    fn try_push(&mut self, entry: &squeue::Entry) -> bool {
        for attempt in 0..2 {
            // SAFETY: the entry is of a `Request`, whose memory and descriptors its slot owns until
            // the last completion; or it names no memory (a cancel, a message, a poll of a
            // descriptor that outlives the ring).
            if unsafe { self.uring.submission().push(entry) }.is_ok() {
                return true;
            }
            if attempt == 0 && self.uring.submit().is_err() {
                return false;
            }
        }
        false
    }

    fn flush_backlog(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.try_push(&entry) {
                self.backlog.push_front(entry);
                return;
            }
        }
    }

    fn cancel(&mut self, key: Key) {
        let entry = request::cancel(key.user_data(Kind::Operation)).user_data(key.user_data(Kind::Cancel));
        self.push(entry);
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        if let Some((event, false)) = self.watch {
            // SAFETY: the caller of `watch` keeps the descriptor open as long as the ring.
            let event_borrowed = unsafe { BorrowedFd::borrow_raw(event) };
            self.watch = Some((event, true));
            self.push(request::watch_event(event_borrowed).user_data(Key::BARE.user_data(Kind::Wake)));
        }
        self.flush_backlog();
        let wait = if self.backlog.is_empty() { wait } else { Wait::No };
        let outcome = match wait {
            Wait::No => {
                let queue = self.uring.submission();
                let needed = !queue.is_empty() || queue.taskrun() || queue.cq_overflow();
                drop(queue);
                if needed { self.uring.submit_and_wait(0) } else { Ok(0) }
            }
            Wait::For(duration) => {
                let timeout = types::Timespec::from(duration);
                let arguments = types::SubmitArgs::new().timespec(&timeout);
                self.uring.submitter().submit_with_args(1, &arguments)
            }
            Wait::Forever => self.uring.submit_and_wait(1),
        };
        match outcome {
            Ok(_) => Ok(()),
            // A timeout, a signal, a completion queue to drain first, or memory that the kernel
            // lacks at this moment.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN | libc::ENOMEM)
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn reap(&mut self, wakers: &mut Vec<Waker>) -> usize {
        let mut count = 0;
        for entry in self.uring.completion().take(REAPED_PER_ROUND) {
            count += 1;
            let (key, kind) = Key::parse(entry.user_data());
            match kind {
                Kind::Operation => {
                    let effect = self.slots.complete(key, entry.result(), entry.flags(), &self.provided);
                    wakers.extend(effect.wake);
                    self.cancels.extend(effect.cancel);
                }
                // It failed: the operation had ended, or is beyond cancelling and will end by
                // itself.
                Kind::Cancel => {}
                Kind::Wake => {
                    // A message of a peer carries no flags either, so arming may be asked for once
                    // too often; the kernel then watches twice, which costs nothing but a
                    // completion.
                    if let Some((_, armed)) = &mut self.watch
                        && entry.result() != 0
                        && !request::has_more(entry.flags())
                    {
                        *armed = false;
                    }
                }
                Kind::Message => tracing::warn!(errno = -entry.result(), "a message to another ring was not delivered"),
            }
        }
        while let Some(key) = self.cancels.pop() {
            self.cancel(key);
        }
        count
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Leaked if anything below panics, and so are the slots, by their own drop.
        let provided = ManuallyDrop::new(self.provided.clone());
        for key in self.slots.orphan_all() {
            self.cancel(key);
        }
        let mut wakers = Vec::new();
        for _ in 0..TEARDOWN_ROUNDS {
            if self.slots.in_kernel() == 0 {
                break;
            }
            if let Err(error) = self.enter(Wait::For(TEARDOWN_ROUND)) {
                tracing::error!(%error, "the ring cannot be torn down");
                break;
            }
            self.reap(&mut wakers);
        }
        if self.slots.in_kernel() > 0 {
            tracing::error!(operations = self.slots.in_kernel(), "the kernel keeps operations; their memory is leaked");
        } else {
            drop(ManuallyDrop::into_inner(provided));
        }
    }
}

impl Future for Op<'_> {
    type Output = Completion;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Completion> {
        let key = self.key.expect("an operation is not polled after its end");
        let driver = &mut *self.ring.driver.borrow_mut();
        let completion = driver.slots.poll(key, context, &driver.provided);
        if completion.is_ready() {
            self.key = None;
        }
        completion
    }
}

impl Drop for Op<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.ring.orphan(key);
        }
    }
}
