//! Which of the ready tasks runs next.
//!
//! A task belongs to a core of a machine; the main one belongs to none. A core that pauses runs
//! nothing, as when its thread gets no CPU: what it waits for goes on and is found done later.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Wake;

use super::event::EventId;
use super::random::Random;
use crate::types::CoreId;

/// The task that [`super::Sim::run`] was given.
pub const MAIN_TASK: TaskId = TaskId(0);
/// The polls in which a schedule by priorities changes as many of them as it says.
const CHANGE_POLLS: u64 = 4_096;
/// Of so many polls one goes to any ready task, so that tasks that keep waking one another starve
/// nobody for ever.
const FAIR_POLLS: u64 = 512;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TaskId(pub u64);

/// A core of a machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SimCore {
    pub node: u16,
    pub core: CoreId,
}

/// How the next task is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Schedule {
    /// Any ready task, each as likely as the other: finds what needs many switches.
    #[default]
    Uniform,
    /// The ready task of the highest priority. Priorities are random, and at random moments the
    /// task that would run falls behind all others. Finds what needs few switches at the right
    /// moments, with a probability that does not fall with the number of tasks in between ("PCT":
    /// Burckhardt et al., *A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs*,
    /// ASPLOS 2010).
    Priorities {
        /// How many tasks fall behind in some 4,000 polls.
        changes: u32,
    },
}

impl Schedule {
    /// One for a seed: as often uniform as by priorities.
    pub fn draw(random: &mut Random) -> Self {
        if random.chance(0.5) { Self::Uniform } else { Self::Priorities { changes: 1 + random.below(30) as u32 } }
    }
}

/// Pauses of cores by chance.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pauses {
    /// The probability that a core pauses after a poll of one of its tasks.
    pub chance: f64,
    /// The longest pause.
    pub ns_max: u64,
}

/// Chooses.
pub struct Scheduler {
    schedule: Schedule,
    pub pauses: Pauses,
    /// What ends the pause of each core that pauses.
    paused: BTreeMap<SimCore, EventId>,
    /// The same of machines of which all cores pause.
    paused_nodes: BTreeMap<u16, EventId>,
    /// Of the tasks that live, with [`Schedule::Priorities`]; higher goes first.
    priorities: BTreeMap<TaskId, u64>,
    /// Given to the next task that falls behind: lower each time.
    lowest: u64,
    /// Polls until a task falls behind.
    until_change: u64,
    polls: u64,
    pub changes: u64,
}

/// A task that was woken.
#[derive(Clone, Copy)]
pub struct Ready {
    pub task: TaskId,
    /// `None` for the main task.
    pub place: Option<SimCore>,
}

/// The tasks that were woken. Shared with wakers, which may go anywhere.
#[derive(Default)]
pub struct ReadyQueue(Mutex<Vec<Ready>>);

pub struct TaskWaker {
    ready: Ready,
    is_queued: AtomicBool,
    queue: Arc<ReadyQueue>,
}

/// Half of the numbers, so that what falls behind is behind all that was drawn.
const PRIORITY_DRAWN_MIN: u64 = 1 << 63;

impl Scheduler {
    pub fn new(schedule: Schedule, pauses: Pauses) -> Self {
        Self {
            schedule,
            pauses,
            paused: BTreeMap::new(),
            paused_nodes: BTreeMap::new(),
            priorities: BTreeMap::new(),
            lowest: PRIORITY_DRAWN_MIN - 1,
            until_change: 0,
            polls: 0,
            changes: 0,
        }
    }

    /// Takes the task that runs next, if one is ready that may.
    pub fn take(&mut self, queue: &ReadyQueue, random: &mut Random) -> Option<Ready> {
        let mut ready = queue.0.lock().expect("no panic while locked");
        if ready.is_empty() {
            return None;
        }
        if self.schedule == Schedule::Uniform && self.paused.is_empty() && self.paused_nodes.is_empty() {
            let index = random.index(ready.len());
            return Some(ready.swap_remove(index));
        }
        let is_paused =
            |place: SimCore| self.paused.contains_key(&place) || self.paused_nodes.contains_key(&place.node);
        let may_run = |ready: &Ready| !ready.place.is_some_and(is_paused);
        let candidates: Vec<usize> = (0..ready.len()).filter(|index| may_run(&ready[*index])).collect();
        if candidates.is_empty() {
            return None;
        }
        let index = match self.schedule {
            Schedule::Uniform => candidates[random.index(candidates.len())],
            Schedule::Priorities { changes } => self.by_priority(&ready, &candidates, changes, random),
        };
        Some(ready.swap_remove(index))
    }

    fn by_priority(&mut self, ready: &[Ready], candidates: &[usize], changes: u32, random: &mut Random) -> usize {
        self.polls += 1;
        if self.polls.is_multiple_of(FAIR_POLLS) {
            return candidates[random.index(candidates.len())];
        }
        for index in candidates {
            let draw = || PRIORITY_DRAWN_MIN | random.next_u64();
            self.priorities.entry(ready[*index].task).or_insert_with(draw);
        }
        let priorities = &self.priorities;
        let highest = |index: &&usize| (priorities[&ready[**index].task], **index);
        let first = *candidates.iter().max_by_key(highest).expect("there are some");
        if changes == 0 {
            return first;
        }
        if self.until_change == 0 {
            self.until_change = 1 + random.below((2 * CHANGE_POLLS / u64::from(changes)).max(1));
        }
        self.until_change -= 1;
        if self.until_change > 0 {
            return first;
        }
        self.changes += 1;
        self.priorities.insert(ready[first].task, self.lowest);
        self.lowest -= 1;
        let priorities = &self.priorities;
        let highest = |index: &&usize| (priorities[&ready[**index].task], **index);
        *candidates.iter().max_by_key(highest).expect("there are some")
    }

    /// Forgets a task that is over.
    pub fn forget(&mut self, task: TaskId) {
        self.priorities.remove(&task);
    }

    /// A core pauses until the event; one that pauses already, until the later one.
    pub fn pause(&mut self, place: SimCore, until: EventId) {
        self.paused.insert(place, until);
    }

    /// The event ends the pause of a core, unless that was extended.
    pub fn resume(&mut self, place: SimCore, event: EventId) {
        if self.paused.get(&place) == Some(&event) {
            self.paused.remove(&place);
        }
    }

    /// All cores of a machine pause until the event, or until the later one.
    pub fn pause_node(&mut self, node: u16, until: EventId) {
        self.paused_nodes.insert(node, until);
    }

    /// The event ends the pause of all cores of a machine, unless that was extended.
    pub fn resume_all(&mut self, node: u16, event: EventId) {
        if self.paused_nodes.get(&node) == Some(&event) {
            self.paused_nodes.remove(&node);
        }
    }

    /// The cores of a machine that went down pause no more.
    pub fn resume_node(&mut self, node: u16) {
        self.paused_nodes.remove(&node);
        self.paused.retain(|place, _| place.node != node);
    }
}

impl ReadyQueue {
    /// Takes out what does not belong to a machine that is up.
    pub fn retain(&self, is_kept: impl FnMut(&Ready) -> bool) {
        self.0.lock().expect("no panic while locked").retain(is_kept);
    }
}

impl TaskWaker {
    pub fn new(task: TaskId, place: Option<SimCore>, queue: Arc<ReadyQueue>) -> Arc<Self> {
        Arc::new(Self { ready: Ready { task, place }, is_queued: AtomicBool::new(false), queue })
    }

    /// The task is gone: what still wakes it does nothing.
    pub fn retire(&self) {
        self.is_queued.store(true, Ordering::Release);
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
            self.queue.0.lock().expect("no panic while locked").push(self.ready);
        }
    }
}
