//! One core: its ring, tasks, timers and deadlines, and the loop that runs them.
//!
//! A round runs the tasks that are ready (bounded), submits what they asked for and waits in the
//! same system call, settles the completions, and wakes tasks and timers. A core with nothing to do
//! and no deadline sleeps without a timeout.
//!
//! Invariant: no `RefCell` here is borrowed while a task runs or a waker is called.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

use super::deadlines::Deadlines;
use super::doorbell::Doorbell;
use super::load::{CoreLoad, Meter};
use super::pipes::Pipes;
use super::slab::Slab;
use super::steps::step;
use super::timers::Timers;
use super::turns::BulkTurns;
use crate::io::Instant;
use crate::ring::provided::Lease;
use crate::ring::{Ring, Wait};
use crate::types::CoreId;

/// Tasks of one round. What they submit goes to the kernel together, and nobody waits for more than
/// this.
const TASKS_PER_ROUND: usize = 256;
/// Rounds in which tasks that are being dropped may spawn or wake others.
const DROP_ROUNDS_MAX: usize = 1000;
/// Random numbers fetched from the kernel at once.
const RANDOM_BATCH: usize = 64;

pub(super) struct Core {
    pub ring: Ring,
    pub timers: RefCell<Timers>,
    pub deadlines: RefCell<Deadlines>,
    pub buffer_waiters: RefCell<BufferWaiters>,
    doorbell: Arc<Doorbell>,
    /// Those of all cores, by number.
    doorbells: Arc<[Arc<Doorbell>]>,
    meter: Meter,
    /// A waker of every task that has not ended, to drop them all at the end.
    tasks: RefCell<Slab<Waker>>,
    /// Tasks that let a round pass.
    yielded: RefCell<Vec<Waker>>,
    pub bulk: BulkTurns,
    pub pipes: Pipes,
    random: RefCell<Vec<u64>>,
    connections: Cell<usize>,
}

/// Receives that wait for a provided buffer, first come, first served.
#[derive(Default)]
pub(super) struct BufferWaiters {
    next: u64,
    waiting: BTreeMap<u64, Waker>,
}

impl BufferWaiters {
    pub fn add(&mut self, waker: Waker) -> u64 {
        self.next += 1;
        self.waiting.insert(self.next, waker);
        self.next
    }

    /// False if it was woken, or removed before.
    pub fn remove(&mut self, ticket: u64) -> bool {
        self.waiting.remove(&ticket).is_some()
    }

    fn pop(&mut self) -> Option<Waker> {
        self.waiting.pop_first().map(|(_, waker)| waker)
    }
}

impl Core {
    /// The core of the calling thread.
    pub fn new(id: CoreId, doorbells: &Arc<[Arc<Doorbell>]>) -> io::Result<Core> {
        let doorbell = doorbells[usize::from(id.0)].clone();
        let ring = Ring::new()?;
        ring.watch(doorbell.event());
        Ok(Core {
            ring,
            timers: RefCell::default(),
            deadlines: RefCell::default(),
            buffer_waiters: RefCell::default(),
            doorbell,
            doorbells: doorbells.clone(),
            meter: Meter::new(now()),
            tasks: RefCell::default(),
            yielded: RefCell::default(),
            bulk: BulkTurns::default(),
            pipes: Pipes::default(),
            random: RefCell::new(Vec::with_capacity(RANDOM_BATCH)),
            connections: Cell::new(0),
        })
    }

    /// Gives a provided buffer back and wakes a receive that waits for one.
    pub fn give_back(&self, lease: Lease) {
        self.ring.provided().give_back(lease);
        self.wake_buffer_waiter();
    }

    pub fn wake_buffer_waiter(&self) {
        let waiter = self.buffer_waiters.borrow_mut().pop();
        if let Some(waker) = waiter {
            waker.wake();
        }
    }

    /// Wakes the waker after the next look at the kernel, so that work in slices holds up nobody's
    /// I/O.
    pub fn wake_next_round(&self, waker: Waker) {
        self.yielded.borrow_mut().push(waker);
    }

    /// Whether a core has time to spare.
    pub fn is_idle(&self, core: CoreId) -> bool {
        self.doorbells[usize::from(core.0)].load.is_idle(now())
    }

    /// How busy this core is.
    pub fn load(&self) -> CoreLoad {
        self.doorbell.load.now()
    }

    /// Does work that does not count as this core's own.
    pub fn lend<T>(&self, work: impl FnOnce() -> T) -> T {
        let began = now();
        let result = work();
        self.meter.spared(now().since(began));
        result
    }

    pub fn connection_opened(&self) {
        self.connections.set(self.connections.get() + 1);
    }

    pub fn connection_closed(&self) {
        self.connections.set(self.connections.get() - 1);
    }

    pub fn connections(&self) -> usize {
        self.connections.get()
    }

    pub fn random_u64(&self) -> u64 {
        let mut batch = self.random.borrow_mut();
        if let Some(number) = batch.pop() {
            return number;
        }
        let mut bytes = [0; RANDOM_BATCH * 8];
        getrandom::fill(&mut bytes).expect("the kernel gives randomness once it has booted");
        batch.extend(bytes.chunks_exact(8).map(|chunk| u64::from_le_bytes(chunk.try_into().expect("8 bytes"))));
        batch.pop().expect("a batch is not empty")
    }

    fn next_deadline(&self) -> Option<Instant> {
        let timer = self.timers.borrow().first();
        let sweep = self.deadlines.borrow().next_sweep();
        timer.into_iter().chain(sweep).min()
    }
}

/// Runs a task on the core of this thread until it ends or the core does.
pub(super) fn spawn(core: &Rc<Core>, task: impl Future<Output = ()> + 'static) {
    struct Registration {
        core: Rc<Core>,
        index: Rc<Cell<Option<u32>>>,
    }
    impl Drop for Registration {
        fn drop(&mut self) {
            if let Some(index) = self.index.take() {
                let waker = self.core.tasks.borrow_mut().remove(index);
                drop(waker);
            }
        }
    }
    let index = Rc::new(Cell::new(None));
    let registration = Registration { core: core.clone(), index: index.clone() };
    let doorbell = core.doorbell.clone();
    let (runnable, task) = async_task::spawn_local(
        async move {
            let _registration = registration;
            task.await;
        },
        move |runnable| doorbell.schedule(runnable),
    );
    index.set(Some(core.tasks.borrow_mut().insert(runnable.waker())));
    task.detach();
    runnable.schedule();
}

/// The calling thread as a core. Dropping it drops the tasks, and the ring reaps what they had in
/// flight.
pub(super) struct CoreThread(Rc<Core>);

impl CoreThread {
    pub fn new(core: Core) -> Self {
        core.doorbell.adopt_thread();
        Self(Rc::new(core))
    }

    pub fn core(&self) -> Rc<Core> {
        self.0.clone()
    }

    /// Runs until `main` has ended, or another core asked to stop.
    pub fn run(&self, main: impl Future<Output = ()> + 'static) -> io::Result<()> {
        let core = &self.0;
        let ended = Rc::new(Cell::new(false));
        let told = ended.clone();
        spawn(core, async move {
            main.await;
            told.set(true);
        });
        let mut wakers = Vec::new();
        loop {
            for _ in 0..TASKS_PER_ROUND {
                let Some(runnable) = core.doorbell.pop_local() else { break };
                step(|| runnable.run());
            }
            if ended.get() || core.doorbell.is_stopped() {
                return Ok(());
            }
            self.enter()?;
            core.ring.reap(&mut wakers);
            if core.next_deadline().is_some() {
                let now = now();
                core.timers.borrow_mut().expire(now, &mut wakers);
                core.deadlines.borrow_mut().sweep(now);
            }
            core.bulk.begin_round();
            wakers.append(&mut core.yielded.borrow_mut());
            wakers.drain(..).for_each(Waker::wake);
            for _ in 0..TASKS_PER_ROUND {
                let Some(runnable) = core.doorbell.pop_remote() else { break };
                core.doorbell.schedule(runnable);
            }
        }
    }

    fn enter(&self) -> io::Result<()> {
        let core = &self.0;
        let busy = core.doorbell.has_local() || !core.yielded.borrow().is_empty() || core.bulk.has_waiting();
        let load = &core.doorbell.load;
        if busy || !core.doorbell.fall_asleep() {
            core.meter.round(load, now);
            return step(|| core.ring.enter(Wait::No));
        }
        let since = now();
        let wait = match core.next_deadline() {
            None => Wait::Forever,
            Some(deadline) => match deadline.since(since) {
                Duration::ZERO => Wait::No,
                duration => Wait::For(duration),
            },
        };
        core.meter.sleeps(load, since);
        let outcome = core.ring.enter(wait);
        core.doorbell.wake_up();
        core.meter.slept(load, since, now());
        outcome
    }
}

impl Drop for CoreThread {
    fn drop(&mut self) {
        let core = &self.0;
        for round in 0..DROP_ROUNDS_MAX {
            let wakers: Vec<Waker> = core.tasks.borrow().iter().cloned().collect();
            if wakers.is_empty() {
                break;
            }
            if round > 0 {
                // Another thread has woken a task and not queued it yet: let it.
                std::thread::yield_now();
            }
            // Waking brings the task into a queue, where dropping it is dropping its future.
            wakers.into_iter().for_each(Waker::wake);
            while let Some(runnable) = core.doorbell.pop_local().or_else(|| core.doorbell.pop_remote()) {
                drop(runnable);
            }
        }
        core.doorbell.leave_thread();
        let left = core.tasks.borrow().len();
        if left > 0 {
            tracing::error!(tasks = left, "tasks would not end with their core");
        }
    }
}

/// The monotonic clock, from one start for the whole process.
pub(crate) fn now() -> Instant {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    Instant(START.get_or_init(std::time::Instant::now).elapsed().as_nanos() as u64)
}
