//! What the cores of a simulation share: the clock, what is due, what is in flight and the tasks.
//!
//! Nothing here polls a future or drops one, so that no code of a task ever runs while the state is borrowed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};

use super::fault::SLOW_FACTOR;
use super::late::{self, LateWrite};
use super::operation::{Device, Operation, Outcome};

pub type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;

/// The task that [`super::Sim::run`] was given.
pub const MAIN_TASK: u64 = 0;

pub struct State {
    pub device: Device,
    /// Nanoseconds since the start of the first life.
    pub now: u64,
    /// Nanoseconds to add for the time of the wall clock.
    pub wall_clock_offset: u64,
    pub delay_ns_max: u64,
    /// The machine is gone: nothing is begun any more.
    pub is_dead: bool,
    pub ready: Arc<ReadyQueue>,
    pub tasks: BTreeMap<u64, Task>,
    task_next: u64,
    /// Woken when nothing else is ready.
    pub yielded: VecDeque<Waker>,
    due: BinaryHeap<Reverse<(u64, u64, EventId)>>,
    event_next: u64,
    pub operations: BTreeMap<EventId, InFlight>,
    timers: BTreeMap<EventId, Option<Waker>>,
    trace_hash: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct EventId(u64);

/// A task that runs beside the main one. Its future is away while it is polled.
pub struct Task {
    pub future: Option<TaskFuture>,
    pub waker: Arc<TaskWaker>,
}

/// An operation from its submission until its outcome is taken.
pub struct InFlight {
    /// `None` once it completed.
    pub operation: Option<Operation>,
    outcome: Option<Outcome>,
    waker: Option<Waker>,
    /// Nobody waits for the outcome any more.
    is_orphan: bool,
    is_stuck: bool,
}

/// The tasks that were woken. Shared with wakers, which may go anywhere.
#[derive(Default)]
pub struct ReadyQueue(Mutex<Vec<u64>>);

pub struct TaskWaker {
    task: u64,
    is_queued: AtomicBool,
    ready: Arc<ReadyQueue>,
}

impl ReadyQueue {
    /// Takes the task at the index that `pick` chooses among a count.
    pub fn take(&self, pick: impl FnOnce(usize) -> usize) -> Option<u64> {
        let mut tasks = self.0.lock().expect("no panic while locked");
        if tasks.is_empty() {
            return None;
        }
        let index = pick(tasks.len());
        Some(tasks.swap_remove(index))
    }
}

impl TaskWaker {
    pub fn new(task: u64, ready: Arc<ReadyQueue>) -> Arc<Self> {
        Arc::new(Self { task, is_queued: AtomicBool::new(false), ready })
    }

    /// The task is about to be polled: what wakes it from here on queues it again.
    pub fn begin(&self) {
        self.is_queued.store(false, Ordering::Release);
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::AcqRel) {
            self.ready.0.lock().expect("no panic while locked").push(self.task);
        }
    }
}

impl State {
    pub fn new(device: Device, now: u64, wall_clock_offset: u64, delay_ns_max: u64) -> Self {
        Self {
            device,
            now,
            wall_clock_offset,
            delay_ns_max,
            is_dead: false,
            ready: Arc::default(),
            tasks: BTreeMap::new(),
            task_next: MAIN_TASK + 1,
            yielded: VecDeque::new(),
            due: BinaryHeap::new(),
            event_next: 0,
            operations: BTreeMap::new(),
            timers: BTreeMap::new(),
            trace_hash: 0,
        }
    }

    /// Takes a task in; hands the future back when the machine is gone.
    pub fn spawn(&mut self, future: TaskFuture) -> Option<TaskFuture> {
        if self.is_dead {
            return Some(future);
        }
        let task = self.task_next;
        self.task_next += 1;
        let waker = TaskWaker::new(task, self.ready.clone());
        waker.wake_by_ref();
        self.tasks.insert(task, Task { future: Some(future), waker });
        None
    }

    /// Begins an operation of the disk.
    pub fn submit(&mut self, operation: Operation) -> EventId {
        let id = self.event_id();
        let (is_stuck, is_slow) = self.faults_of_time(&operation);
        let in_flight = InFlight { operation: Some(operation), outcome: None, waker: None, is_orphan: false, is_stuck };
        self.operations.insert(id, in_flight);
        if !is_stuck {
            let factor = if is_slow { SLOW_FACTOR } else { 1 };
            let delay = 1 + self.device.random.below(self.delay_ns_max * factor);
            self.schedule(id, self.now + delay);
        }
        id
    }

    /// The outcome, once there; until then the waker is kept.
    pub fn poll_operation(&mut self, id: EventId, waker: &Waker) -> Option<Outcome> {
        let in_flight = self.operations.get_mut(&id)?;
        match in_flight.outcome.take() {
            Some(outcome) => {
                self.operations.remove(&id);
                Some(outcome)
            }
            None => {
                in_flight.waker = Some(waker.clone());
                None
            }
        }
    }

    /// Nobody waits for the operation any more: it runs to its end unobserved. Hands back what is to be dropped.
    pub fn orphan(&mut self, id: EventId) -> Option<InFlight> {
        let in_flight = self.operations.get_mut(&id)?;
        in_flight.is_orphan = true;
        in_flight.waker = None;
        if in_flight.operation.is_none() { self.operations.remove(&id) } else { None }
    }

    pub fn release_stuck(&mut self) {
        let stuck = self.operations.iter_mut().filter(|(_, in_flight)| in_flight.is_stuck);
        let released: Vec<EventId> = stuck
            .map(|(id, in_flight)| {
                in_flight.is_stuck = false;
                *id
            })
            .collect();
        for id in released {
            let delay = 1 + self.device.random.below(self.delay_ns_max);
            self.schedule(id, self.now + delay);
        }
    }

    pub fn stuck_count(&self) -> usize {
        self.operations.values().filter(|in_flight| in_flight.is_stuck).count()
    }

    /// Lets a write of a life before land within this time.
    pub fn write_late(&mut self, part: LateWrite, delay_ns_max: u64) {
        let id = self.event_id();
        let delay = 1 + self.device.random.below(delay_ns_max);
        self.device.late.insert(id, part);
        self.schedule(id, self.now + delay);
    }

    pub fn start_timer(&mut self, at: u64) -> EventId {
        let id = self.event_id();
        self.timers.insert(id, None);
        self.schedule(id, at);
        id
    }

    /// Whether the timer has fired; until then the waker is kept.
    pub fn poll_timer(&mut self, id: EventId, waker: &Waker) -> bool {
        match self.timers.get_mut(&id) {
            Some(slot) => {
                *slot = Some(waker.clone());
                false
            }
            None => !self.is_dead,
        }
    }

    pub fn cancel_timer(&mut self, id: EventId) {
        self.timers.remove(&id);
    }

    /// When the next event is due that anything depends on.
    pub fn next_due(&mut self) -> Option<u64> {
        loop {
            let Reverse((at, _, id)) = self.due.peek()?;
            let is_wanted =
                self.timers.contains_key(id) || self.operations.contains_key(id) || self.device.late.contains(*id);
            if is_wanted {
                return Some(*at);
            }
            self.due.pop();
        }
    }

    /// Lets the next event happen if it is due by now, and returns whom to wake, and what to drop, outside the borrow.
    pub fn fire(&mut self) -> Option<(Option<Waker>, Option<Outcome>)> {
        if self.next_due()? > self.now {
            return None;
        }
        let Reverse((_, _, id)) = self.due.pop()?;
        self.trace(id.0 << 1);
        if let Some(waker) = self.timers.remove(&id) {
            return Some((waker, None));
        }
        if let Some(write) = self.device.late.take(id) {
            let Device { disk, random, stats, .. } = &mut self.device;
            late::land(write, disk, random, stats);
            return Some((None, None));
        }
        let in_flight = self.operations.get_mut(&id).expect("next_due found it");
        let operation = in_flight.operation.take().expect("an operation completes once");
        let outcome = self.device.perform(operation);
        let in_flight = self.operations.get_mut(&id).expect("performing removes nothing");
        if in_flight.is_orphan {
            self.operations.remove(&id);
            return Some((None, Some(outcome)));
        }
        in_flight.outcome = Some(outcome);
        Some((in_flight.waker.take(), None))
    }

    /// Mixes a step into the hash of the run.
    pub fn trace(&mut self, step: u64) {
        let mixed = (self.trace_hash ^ step).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.trace_hash = (mixed ^ (mixed >> 29)).wrapping_add(self.now);
    }

    pub fn trace_hash(&self) -> u64 {
        self.trace_hash
    }

    pub fn set_trace_hash(&mut self, hash: u64) {
        self.trace_hash = hash;
    }

    fn faults_of_time(&mut self, operation: &Operation) -> (bool, bool) {
        let device = &mut self.device;
        let path = operation.path(&device.disk);
        let stuck = device.faults.rate(path, |faults| faults.stuck);
        let slow = device.faults.rate(path, |faults| faults.slow);
        let is_stuck = device.random.chance(stuck);
        let is_slow = device.random.chance(slow);
        device.stats.stuck_operations += u64::from(is_stuck);
        device.stats.slow_operations += u64::from(is_slow);
        (is_stuck, is_slow)
    }

    fn event_id(&mut self) -> EventId {
        self.event_next += 1;
        EventId(self.event_next)
    }

    /// Events of one instant happen in random order.
    fn schedule(&mut self, id: EventId, at: u64) {
        let tie = self.device.random.next_u64();
        self.due.push(Reverse((at, tie, id)));
    }
}
