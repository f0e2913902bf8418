//! How other threads reach a core: a queue of tasks to run, and a bell that is rung only when the
//! core sleeps.
//!
//! The protocol, free of lost wake-ups: a sleeper says that it sleeps and then looks at the queue
//! once more; a waker pushes and then looks whether the core sleeps. A full fence between the two
//! steps on both sides makes one of them see the other.
//!
//! The bell is an event descriptor that the ring polls, not a message from ring to ring: measured
//! on Linux 6.18 with two busy virtual CPUs (bench `wakeup`), a hop costs 19 to 33 µs of CPU by
//! event and 26 to 33 by message, nearly all of it the kernel waking a thread. A message saves
//! nothing then, and threads without a ring would need the event all the same.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use async_task::Runnable;

use super::load::Load;
use crate::atomics::{AtomicBool, Ordering, SegQueue, fence};
use crate::mutant::{Mutant, is_planted};
use crate::ring::sys;

pub(super) struct Doorbell {
    remote: SegQueue<Runnable>,
    sleeping: AtomicBool,
    stop: AtomicBool,
    event: OwnedFd,
    /// Stands for the kernel behind `event` in a model.
    #[cfg(feature = "loom")]
    kernel: loom::sync::Notify,
    /// How busy the core is.
    pub load: Load,
}

/// The tasks that are ready on this thread's core. Empty on threads that are no core.
struct LocalQueue {
    /// The address of the core's doorbell, 0 on a thread that is no core.
    owner: Cell<usize>,
    ready: RefCell<VecDeque<Runnable>>,
}

thread_local! {
    static LOCAL: LocalQueue = const { LocalQueue { owner: Cell::new(0), ready: RefCell::new(VecDeque::new()) } };
}

impl Doorbell {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            remote: SegQueue::new(),
            sleeping: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            event: sys::event()?,
            #[cfg(feature = "loom")]
            kernel: loom::sync::Notify::new(),
            load: Load::new(),
        })
    }

    /// What the core's ring watches.
    pub fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    /// Makes the calling thread the core that this bell belongs to.
    pub fn adopt_thread(&self) {
        LOCAL.with(|local| {
            assert!(local.owner.get() == 0, "this thread is a core already");
            local.owner.set(self.address());
        });
    }

    /// The calling thread is no core any more; what is still queued is dropped.
    pub fn leave_thread(&self) {
        while self.pop_local().is_some() {}
        while self.remote.pop().is_some() {}
        LOCAL.with(|local| local.owner.set(0));
    }

    /// Queues a task from any thread.
    pub fn schedule(&self, runnable: Runnable) {
        // A thread that is exiting has no local queue any more.
        let is_local = LOCAL.try_with(|local| local.owner.get() == self.address()).unwrap_or(false);
        if is_local {
            LOCAL.with(|local| local.ready.borrow_mut().push_back(runnable));
        } else {
            self.remote.push(runnable);
            self.ring();
        }
    }

    /// Ends the core's sleep, if it sleeps.
    fn ring(&self) {
        if !is_planted(Mutant::RaceRingUnfenced) {
            fence(Ordering::SeqCst);
        }
        // Of several that ring at once only one signals, and none if the core woke up meanwhile.
        if self.sleeping.load(Ordering::Relaxed)
            && self.sleeping.compare_exchange(true, false, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        {
            self.signal();
        }
    }

    #[cfg(not(feature = "loom"))]
    fn signal(&self) {
        sys::signal_event(self.event());
    }

    #[cfg(feature = "loom")]
    fn signal(&self) {
        self.kernel.notify();
    }

    /// What a core does in its ring.
    #[cfg(all(test, feature = "loom"))]
    pub(super) fn sleep_until_signalled(&self) {
        self.kernel.wait();
    }

    /// Asks the core to end as soon as it can.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.ring();
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Says that the core is about to sleep. False if there is something to do instead.
    pub fn fall_asleep(&self) -> bool {
        self.sleeping.store(true, Ordering::Relaxed);
        if !is_planted(Mutant::RaceSleepUnfenced) {
            fence(Ordering::SeqCst);
        }
        if self.remote.is_empty() && !self.is_stopped() {
            return true;
        }
        self.wake_up();
        false
    }

    pub fn wake_up(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// The next task that other threads queued.
    pub fn pop_remote(&self) -> Option<Runnable> {
        self.remote.pop()
    }

    /// The next ready task of this thread.
    pub fn pop_local(&self) -> Option<Runnable> {
        LOCAL.with(|local| local.ready.borrow_mut().pop_front())
    }

    /// Whether a task of this thread is ready.
    pub fn has_local(&self) -> bool {
        LOCAL.with(|local| !local.ready.borrow().is_empty())
    }
}
