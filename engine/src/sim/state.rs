//! What the machines of a simulation share: the time, what is due, what is in flight and the tasks;
//! and what each has for itself.
//!
//! Nothing here polls a future or drops one, so that no code of a task ever runs while the state is
//! borrowed.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Waker;

use super::agenda::Agenda;
use super::clock::Clock;
use super::crash::CrashMode;
use super::device::Device;
use super::disk::errno;
use super::event::EventId;
use super::event_log::EventLog;
use super::fault::SLOW_FACTOR;
use super::late;
use super::net::network::Network;
use super::operation::{Operation, Outcome};
use super::random::Random;
use super::schedule::{MAIN_TASK, Pauses, ReadyQueue, Scheduler, SimCore, TaskId, TaskWaker};
use super::turn::Turn;

pub type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;

pub struct State {
    /// The one stream of everything that happens by chance.
    pub random: Random,
    /// Nanoseconds since the simulation began.
    pub now: u64,
    /// Tasks polled and events fired.
    pub steps: u64,
    pub nodes: Vec<Node>,
    pub scheduler: Scheduler,
    pub ready: Arc<ReadyQueue>,
    pub tasks: BTreeMap<TaskId, Task>,
    task_next: u64,
    /// Woken when nothing else is ready.
    pub yielded: VecDeque<Waker>,
    agenda: Agenda,
    pub network: Network,
    pub log: EventLog,
    /// Whom the network wants woken, once the state is not borrowed any more.
    woken: Vec<Waker>,
    /// What files that block know the simulation by.
    pub blocking_key: Option<u64>,
    operations: BTreeMap<EventId, InFlight>,
    timers: BTreeMap<EventId, Timer>,
    others: BTreeMap<EventId, Other>,
    trace_hash: u64,
}

/// One machine.
pub struct Node {
    pub device: Device,
    pub clock: Clock,
    delay_ns_max: u64,
    late_write_ns_max: u64,
    /// No life has begun since the last one ended.
    is_down: bool,
    /// Operations that blocked the machine, over all its lives.
    pub blocking_operations: u64,
    /// How many more of them do anything in this life.
    pub blocking_left: Option<u64>,
}

/// A task that runs beside the main one. Its future is away while it is polled.
pub struct Task {
    pub future: Option<TaskFuture>,
    pub waker: Arc<TaskWaker>,
    pub place: SimCore,
}

/// An operation from its submission until its outcome is taken.
pub struct InFlight {
    node: u16,
    /// `None` once it completed.
    operation: Option<Operation>,
    outcome: Option<Outcome>,
    waker: Option<Waker>,
    /// Nobody waits for the outcome any more.
    is_orphan: bool,
    is_stuck: bool,
}

struct Timer {
    node: u16,
    waker: Option<Waker>,
    /// By the machine's clock.
    until: u64,
    /// When that is. What is due for the timer at another time is void.
    at: u64,
}

/// What happens rarely.
enum Other {
    /// A late write of a machine lands.
    LateWrite(u16),
    /// A core's pause ends.
    Resume(SimCore),
    /// That of all cores of a machine ends.
    ResumeNode(u16),
    /// Something that the simulation was told to do.
    Action,
    /// A time is over for whoever runs the simulation.
    Alarm(Option<Waker>),
}

/// What an event leaves to do outside the borrow.
pub enum Fired {
    Wake(Option<Waker>),
    WakeAll(Vec<Waker>),
    /// To be dropped.
    Unobserved(Outcome),
    /// What the simulation was told to do then.
    Action(EventId),
}

impl Node {
    pub fn new(device: Device, clock: Clock, delay_ns_max: u64, late_write_ns_max: u64) -> Self {
        Self {
            device,
            clock,
            delay_ns_max,
            late_write_ns_max,
            is_down: false,
            blocking_operations: 0,
            blocking_left: None,
        }
    }
}

impl State {
    pub fn new(random: Random, nodes: Vec<Node>, network: Network, scheduler: Scheduler) -> Self {
        Self {
            random,
            now: 0,
            steps: 0,
            nodes,
            scheduler,
            ready: Arc::default(),
            tasks: BTreeMap::new(),
            task_next: MAIN_TASK.0 + 1,
            yielded: VecDeque::new(),
            agenda: Agenda::default(),
            network,
            log: EventLog::default(),
            woken: Vec::new(),
            blocking_key: None,
            operations: BTreeMap::new(),
            timers: BTreeMap::new(),
            others: BTreeMap::new(),
            trace_hash: 0,
        }
    }

    pub fn node(&self, node: u16) -> &Node {
        self.nodes.get(usize::from(node)).unwrap_or_else(|| panic!("there is no machine {node}"))
    }

    pub fn node_mut(&mut self, node: u16) -> &mut Node {
        self.nodes.get_mut(usize::from(node)).unwrap_or_else(|| panic!("there is no machine {node}"))
    }

    /// Whether a life of a machine is the one it lives now.
    pub fn is_alive(&self, node: u16, life: u64) -> bool {
        let node = self.node(node);
        node.device.life == life && !node.is_down
    }

    /// Does something on the network; returns whom to wake outside the borrow.
    pub fn on_network<T>(&mut self, act: impl FnOnce(&mut Network, &mut Turn<'_>) -> T) -> (T, Vec<Waker>) {
        let Self { random, now, agenda, network, log, woken, .. } = self;
        let result = act(network, &mut Turn { now: *now, random, agenda, log, woken });
        (result, std::mem::take(woken))
    }

    /// Takes a task in.
    pub fn spawn(&mut self, place: SimCore, future: TaskFuture) {
        let task = TaskId(self.task_next);
        self.task_next += 1;
        let waker = TaskWaker::new(task, Some(place), self.ready.clone());
        Waker::from(waker.clone()).wake();
        self.tasks.insert(task, Task { future: Some(future), waker, place });
    }

    /// Begins an operation of a machine's disk.
    pub fn submit(&mut self, node: u16, operation: Operation) -> EventId {
        let id = self.agenda.event_id();
        let (is_stuck, is_slow) = self.faults_of_time(node, &operation);
        let in_flight =
            InFlight { node, operation: Some(operation), outcome: None, waker: None, is_orphan: false, is_stuck };
        self.operations.insert(id, in_flight);
        if !is_stuck {
            let factor = if is_slow { SLOW_FACTOR } else { 1 };
            self.schedule_within(id, self.node(node).delay_ns_max * factor);
        }
        id
    }

    /// Does something with a machine's disk at once; returns how long that should have taken, too.
    pub fn perform_blocking<T>(
        &mut self,
        node: u16,
        path: &Path,
        act: impl FnOnce(&mut Device, &mut Random) -> io::Result<T>,
    ) -> (io::Result<T>, u64) {
        let Self { nodes, random, .. } = self;
        let node = &mut nodes[usize::from(node)];
        node.blocking_operations += 1;
        if let Some(left) = &mut node.blocking_left {
            let Some(fewer) = left.checked_sub(1) else { return (Err(errno(libc::EIO)), 0) };
            *left = fewer;
        }
        let is_slow = random.chance(node.device.faults.rate(path, |faults| faults.slow));
        node.device.stats.slow_operations += u64::from(is_slow);
        let delay = (1 + random.below(node.delay_ns_max)) * if is_slow { SLOW_FACTOR } else { 1 };
        let result = act(&mut node.device, random);
        self.trace(delay);
        (result, delay)
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

    /// Nobody waits for the operation any more: it runs to its end unobserved. Hands back what is
    /// to be dropped.
    pub fn orphan(&mut self, id: EventId) -> Option<InFlight> {
        let in_flight = self.operations.get_mut(&id)?;
        in_flight.is_orphan = true;
        in_flight.waker = None;
        if in_flight.operation.is_none() { self.operations.remove(&id) } else { None }
    }

    pub fn release_stuck(&mut self, node: u16) {
        let mut released = Vec::new();
        for (id, in_flight) in &mut self.operations {
            if in_flight.node == node && in_flight.is_stuck {
                in_flight.is_stuck = false;
                released.push(*id);
            }
        }
        for id in released {
            self.schedule_within(id, self.node(node).delay_ns_max);
        }
    }

    pub fn stuck_count(&self, node: u16) -> usize {
        self.operations.values().filter(|in_flight| in_flight.node == node && in_flight.is_stuck).count()
    }

    /// Starts a timer that fires when it is so late on the machine.
    pub fn start_timer(&mut self, node: u16, until: u64) -> EventId {
        let id = self.agenda.event_id();
        let at = self.node(node).clock.when(until);
        self.timers.insert(id, Timer { node, waker: None, until, at });
        self.schedule(id, at);
        id
    }

    /// Whether the timer has fired; until then the waker is kept.
    pub fn poll_timer(&mut self, id: EventId, waker: &Waker) -> bool {
        match self.timers.get_mut(&id) {
            Some(timer) => {
                timer.waker = Some(waker.clone());
                false
            }
            None => true,
        }
    }

    pub fn cancel_timer(&mut self, id: EventId) {
        self.timers.remove(&id);
    }

    /// Changes a machine's clock, and lets its timers fire by what it says from now on.
    pub fn change_clock(&mut self, node: u16, change: impl FnOnce(&mut Clock, u64)) {
        let now = self.now;
        change(&mut self.node_mut(node).clock, now);
        let clock = self.node(node).clock.clone();
        let mut moved = Vec::new();
        for (id, timer) in self.timers.iter_mut().filter(|(_, timer)| timer.node == node) {
            timer.at = clock.when(timer.until).max(now);
            moved.push((*id, timer.at));
        }
        moved.into_iter().for_each(|(id, at)| self.schedule(id, at));
    }

    /// Lets something happen after this time.
    pub fn act_after(&mut self, delay_ns: u64) -> EventId {
        self.add(Other::Action, delay_ns)
    }

    /// Starts an alarm that goes off when it is so much later on the machine, whatever becomes of
    /// it.
    pub fn start_alarm(&mut self, node: u16, duration_ns: u64) -> EventId {
        let clock = &self.node(node).clock;
        let at = clock.when(clock.local(self.now).saturating_add(duration_ns));
        self.add(Other::Alarm(None), at.saturating_sub(self.now))
    }

    /// Whether the alarm has gone off; until then the waker is kept.
    pub fn poll_alarm(&mut self, id: EventId, waker: &Waker) -> bool {
        match self.others.get_mut(&id) {
            Some(Other::Alarm(kept)) => {
                *kept = Some(waker.clone());
                false
            }
            _ => true,
        }
    }

    /// Lets a core run nothing for this time.
    pub fn pause(&mut self, place: SimCore, duration_ns: u64) {
        let event = self.add(Other::Resume(place), duration_ns);
        self.scheduler.pause(place, event);
        self.node_mut(place.node).device.stats.pauses += 1;
    }

    /// Lets all cores of a machine run nothing for this time.
    pub fn pause_node(&mut self, node: u16, duration_ns: u64) {
        let event = self.add(Other::ResumeNode(node), duration_ns);
        self.scheduler.pause_node(node, event);
        self.node_mut(node).device.stats.pauses += 1;
        self.log.note(self.now, || format!("n{node} pauses for {} ms", duration_ns / 1_000_000));
    }

    /// Lets a core pause, if chance wants it.
    pub fn pause_by_chance(&mut self, place: SimCore) {
        let Pauses { chance, ns_max } = self.scheduler.pauses;
        if self.random.chance(chance) {
            let duration = 1 + self.random.below(ns_max);
            self.pause(place, duration);
        }
    }

    /// Takes tasks out, to be dropped, with the wakers of those that yielded.
    pub fn take_tasks(&mut self, is_taken: impl Fn(SimCore) -> bool) -> Vec<Task> {
        let ids: Vec<TaskId> = self.tasks.iter().filter(|(_, task)| is_taken(task.place)).map(|(id, _)| *id).collect();
        self.ready.retain(|ready| ready.place.is_none_or(|place| !is_taken(place)));
        ids.into_iter()
            .filter_map(|id| {
                self.scheduler.forget(id);
                let task = self.tasks.remove(&id)?;
                task.waker.retire();
                Some(task)
            })
            .collect()
    }

    /// A machine's life ends: what was in flight happens, happens partly or does not, and so on
    /// with what was not durable. Its tasks must be gone. The machine is down then. Hands back what
    /// is to be dropped and whom to wake.
    pub fn end_life(&mut self, node: u16, mode: CrashMode) -> (Vec<InFlight>, Vec<Waker>) {
        self.log.note(self.now, || format!("n{node} goes down ({mode:?})"));
        self.timers.retain(|_, timer| timer.node != node);
        self.scheduler.resume_node(node);
        let ids: Vec<EventId> =
            self.operations.iter().filter(|(_, in_flight)| in_flight.node == node).map(|(id, _)| *id).collect();
        let mut ended: Vec<InFlight> = ids.iter().filter_map(|id| self.operations.remove(id)).collect();
        let mut operations: Vec<Operation> =
            ended.iter_mut().filter_map(|in_flight| in_flight.operation.take()).collect();
        let random = &mut self.random;
        random.shuffle(&mut operations);
        let Node { device, late_write_ns_max, .. } = &mut self.nodes[usize::from(node)];
        let late_write_ns_max = *late_write_ns_max;
        device.stats.crashes += 1;
        let held_back = match mode {
            CrashMode::Process if late_write_ns_max > 0 => late::hold_back(&mut operations, random),
            _ => Vec::new(),
        };
        let faults = std::mem::take(&mut device.faults);
        operations.into_iter().for_each(|operation| device.abandon(operation, random));
        device.faults = faults;
        device.end_life(mode, held_back, random);
        let ended_node = self.node_mut(node);
        (ended_node.is_down, ended_node.blocking_left) = (true, None);
        let ((), woken) = self.on_network(|network, turn| network.end_life(node, mode, turn));
        (ended, woken)
    }

    /// A machine that is down stays so for a while. Without power, nothing reaches it.
    pub fn stay_down(&mut self, node: u16, mode: CrashMode) {
        if mode == CrashMode::Power {
            self.network.fall_silent(node);
        }
    }

    /// A machine that is down is up again. Hands back whom to wake.
    pub fn come_up(&mut self, node: u16) -> Vec<Waker> {
        self.node_mut(node).is_down = false;
        // What paused while it was down was nobody.
        self.scheduler.resume_node(node);
        self.log.note(self.now, || format!("n{node} is up"));
        self.on_network(|network, turn| network.come_up(node, turn)).1
    }

    pub fn is_down(&self, node: u16) -> bool {
        self.node(node).is_down
    }

    /// Lets the late writes of a machine land while it lives again.
    pub fn schedule_late(&mut self, node: u16) {
        let Node { device, late_write_ns_max, .. } = self.node_mut(node);
        let late_write_ns_max = *late_write_ns_max;
        for part in device.late.take_all() {
            let delay = 1 + self.random.below(late_write_ns_max);
            let id = self.add(Other::LateWrite(node), delay);
            self.node_mut(node).device.late.insert(id, part);
        }
    }

    /// When the next event is due that anything depends on.
    pub fn next_due(&mut self) -> Option<u64> {
        loop {
            let (at, id) = self.agenda.first()?;
            let is_wanted = self.operations.contains_key(&id)
                || self.timers.get(&id).is_some_and(|timer| timer.at == at)
                || self.network.is_due(id)
                || self.others.contains_key(&id);
            if is_wanted {
                return Some(at);
            }
            self.agenda.pop();
        }
    }

    /// Lets the next event happen if it is due by now, and returns what is left to do outside the
    /// borrow.
    pub fn fire(&mut self) -> Option<Fired> {
        if self.next_due()? > self.now {
            return None;
        }
        let id = self.agenda.pop()?;
        self.trace(id.0 << 1);
        if let Some(timer) = self.timers.remove(&id) {
            return Some(Fired::Wake(timer.waker));
        }
        if self.network.is_due(id) {
            let (bytes, woken) = self.on_network(|network, turn| network.fire(id, turn));
            self.trace(bytes);
            return Some(Fired::WakeAll(woken));
        }
        if let Some(other) = self.others.remove(&id) {
            return Some(self.fire_other(id, other));
        }
        let in_flight = self.operations.get_mut(&id).expect("next_due found it");
        let operation = in_flight.operation.take().expect("an operation completes once");
        let device = &mut self.nodes[usize::from(in_flight.node)].device;
        let outcome = device.perform(operation, &mut self.random);
        if in_flight.is_orphan {
            self.operations.remove(&id);
            return Some(Fired::Unobserved(outcome));
        }
        in_flight.outcome = Some(outcome);
        Some(Fired::Wake(in_flight.waker.take()))
    }

    fn fire_other(&mut self, id: EventId, other: Other) -> Fired {
        match other {
            Other::LateWrite(node) => {
                self.nodes[usize::from(node)].device.land_late(id, &mut self.random);
                Fired::Wake(None)
            }
            Other::Resume(place) => {
                self.scheduler.resume(place, id);
                Fired::Wake(None)
            }
            Other::ResumeNode(node) => {
                self.scheduler.resume_all(node, id);
                Fired::Wake(None)
            }
            Other::Action => Fired::Action(id),
            Other::Alarm(waker) => Fired::Wake(waker),
        }
    }

    /// Mixes a step into the hash of the run.
    pub fn trace(&mut self, step: u64) {
        let mixed = (self.trace_hash ^ step).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.trace_hash = (mixed ^ (mixed >> 29)).wrapping_add(self.now);
    }

    pub fn trace_hash(&self) -> u64 {
        self.trace_hash
    }

    fn faults_of_time(&mut self, node: u16, operation: &Operation) -> (bool, bool) {
        let Device { disk, faults, stats, .. } = &mut self.nodes[usize::from(node)].device;
        let path = operation.path(disk);
        let is_stuck = self.random.chance(faults.rate(path, |faults| faults.stuck));
        let sync_slow = match operation {
            Operation::Sync { .. } => faults.rate(path, |faults| faults.sync_slow),
            _ => 0.0,
        };
        let is_slow = self.random.chance(faults.rate(path, |faults| faults.slow)) || self.random.chance(sync_slow);
        stats.stuck_operations += u64::from(is_stuck);
        stats.slow_operations += u64::from(is_slow);
        (is_stuck, is_slow)
    }

    fn add(&mut self, other: Other, delay_ns: u64) -> EventId {
        let id = self.agenda.event_id();
        self.others.insert(id, other);
        self.schedule(id, self.now.saturating_add(delay_ns));
        id
    }

    fn schedule_within(&mut self, id: EventId, delay_ns_max: u64) {
        let delay = 1 + self.random.below(delay_ns_max);
        self.schedule(id, self.now + delay);
    }

    fn schedule(&mut self, id: EventId, at: u64) {
        self.agenda.schedule(id, at, &mut self.random);
    }
}
