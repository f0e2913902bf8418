//! Seeded disk, clock and scheduler behind the seam: one or more machines in one thread, and every
//! run of them from one number.
//!
//! [`Sim::io`] gives the [`crate::io::Io`] of each simulated core. [`Sim::run`] polls ready tasks
//! in random order ([`Schedule`]), completes disk operations after random delays, and lets virtual
//! time jump when nothing is ready. [`Sim::restart`] is a crash: it drops every task and returns
//! the machine with what the disk kept. Same seed, same calls: same run.
//!
//! The disk keeps its promises exactly and nothing more:
//! - A read sees every completed write. Only a sync makes durable what completed before it was
//!   called.
//! - A name is durable once its directory was synced. A file's size is, once the file was.
//! - A power failure keeps of the rest any part, by sectors and in any order; a killed process
//!   loses only what was in flight.
//! - What fails by injection, and how: [`Faults`].
//!
//! Machines share the queue of what happens next, the stream of chance and the network between them
//! ([`SimNetwork`]), and nothing else: each has its disk, tasks, clocks, faults and counters
//! ([`SimNode`]), and crashes alone. A test of one machine uses the methods of [`Sim`] itself,
//! which are those of machine 0.

mod agenda;
mod blocking;
mod clock;
mod crash;
mod device;
mod disk;
mod event;
mod event_log;
mod fault;
mod inode;
mod io;
mod late;
mod net;
mod node;
mod operation;
mod random;
mod schedule;
mod seeds;
mod state;
#[cfg(test)]
mod tests;
mod turn;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::io::Result;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub use blocking::SimBlockingFile;
pub use crash::CrashMode;
pub use fault::{Faults, FlippedBit, SLOW_FACTOR, Stats};
pub use inode::SECTOR_SIZE;
pub use io::SimIo;
pub use net::handle::SimNetwork;
pub use net::host::BACKLOG_MAX;
pub use net::link::{SimLink, SimReader, SimWriter};
pub use net::options::{NetOptions, NetStats};
pub use net::path::{Cut, CutId};
pub use node::SimNode;
pub use operation::SimFile;
pub use random::Random;
pub use schedule::{Pauses, Schedule};
pub use seeds::Seeds;

use clock::Clock;
use device::Device;
use disk::Disk;
use event::EventId;
use fault::FaultMap;
use late::LateWrites;
use net::network::Network;
use schedule::{MAIN_TASK, Scheduler, TaskId, TaskWaker};
use state::{Fired, Node, State};

/// A poll takes up to this much virtual time, so that time also passes on a busy machine.
const POLL_NS_MAX: u64 = 2_000;
/// A task that yielded waits for at most this many polls of others that keep waking one another.
const YIELD_POLLS_MAX: u64 = 1_000;
/// 2026-01-01, in nanoseconds since 1970.
const WALL_CLOCK_START_NS: u64 = 1_767_225_600_000_000_000;
/// The longest that machines take to come up after all went down.
const BOOT_NS_MAX: u64 = 1_000_000_000;

type Action = Box<dyn FnOnce(&Sim)>;

/// The machines that are simulated: equal ones, to begin with.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// How many machines there are.
    pub nodes: u16,
    /// Directories that exist, durably, from the start.
    pub dirs: Vec<PathBuf>,
    /// Bytes that all files of a machine together may take.
    pub capacity_bytes: u64,
    /// The longest a disk operation takes, unless it is slow or stuck.
    pub delay_ns_max: u64,
    pub faults: Faults,
    /// How long after a process was killed a write of it may still land while the next one runs; 0
    /// for never.
    pub late_write_ns_max: u64,
    /// How the next task is chosen.
    pub schedule: Schedule,
    pub pauses: Pauses,
    /// The network between the machines.
    pub network: NetOptions,
    /// Polls and events after which a run counts as a livelock.
    pub steps_max: u64,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self {
            nodes: 1,
            dirs: vec![PathBuf::from("/data")],
            capacity_bytes: 64 << 20,
            delay_ns_max: 200_000,
            faults: Faults::default(),
            late_write_ns_max: 0,
            schedule: Schedule::Uniform,
            pauses: Pauses::default(),
            network: NetOptions::default(),
            steps_max: 20_000_000,
        }
    }
}

/// One or more simulated machines.
pub struct Sim {
    seed: u64,
    steps_max: u64,
    state: Rc<RefCell<State>>,
    /// What is to be done later, by the events that say when.
    actions: RefCell<BTreeMap<EventId, Action>>,
}

impl Sim {
    pub fn new(seed: u64, options: SimOptions) -> Self {
        assert!(options.delay_ns_max > 0, "an operation takes some time");
        assert!(options.nodes > 0, "there is a machine");
        let node = |node| {
            let device = Device {
                node,
                disk: Disk::new(&options.dirs, options.capacity_bytes),
                faults: FaultMap { everywhere: options.faults.clone(), ..FaultMap::default() },
                stats: Stats::default(),
                life: 0,
                misread: BTreeSet::new(),
                late: LateWrites::default(),
            };
            Node::new(device, Clock::new(WALL_CLOCK_START_NS), options.delay_ns_max, options.late_write_ns_max)
        };
        let nodes = (0..options.nodes).map(node).collect();
        let scheduler = Scheduler::new(options.schedule, options.pauses);
        let network = Network::new(options.network, options.nodes);
        let state = State::new(Random::new(seed), nodes, network, scheduler);
        Self { seed, steps_max: options.steps_max, state: Rc::new(RefCell::new(state)), actions: RefCell::default() }
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A machine.
    ///
    /// # Panics
    /// When there are not so many, in what is asked of it.
    pub fn node(&self, node: u16) -> SimNode<'_> {
        SimNode { state: &self.state, node }
    }

    /// The network between the machines.
    pub fn network(&self) -> SimNetwork<'_> {
        SimNetwork { state: &self.state }
    }

    /// The seam of a core. Any number of cores exist.
    pub fn io(&self, core: u16) -> SimIo {
        self.node(0).io(core)
    }

    /// The seam of a core of a machine.
    pub fn io_of(&self, node: u16, core: u16) -> SimIo {
        self.node(node).io(core)
    }

    /// Runs until the future ends. Tasks that it spawned stay, and go on in the next run.
    ///
    /// # Panics
    /// With the seed: when nothing can ever happen again and the future has not ended, and when it
    /// takes too many steps.
    pub fn run<T>(&mut self, future: impl Future<Output = T>) -> T {
        let seed = self.seed;
        let steps_max = self.steps_max;
        self.run_steps(steps_max, future)
            .unwrap_or_else(|| panic!("livelock: no end after {steps_max} steps, seed {seed}"))
    }

    /// Runs until the future ends, at most so many polls and events; `None` when it was cut off
    /// there, for a crash at every step.
    ///
    /// # Panics
    /// With the seed: when nothing can ever happen again and the future has not ended.
    pub fn run_steps<T>(&mut self, steps: u64, future: impl Future<Output = T>) -> Option<T> {
        let mut main = pin!(future);
        let ready = self.state.borrow().ready.clone();
        let main_waker = TaskWaker::new(MAIN_TASK, None, ready.clone());
        Waker::from(main_waker.clone()).wake();
        let mut polls_since_yield = 0;
        for _ in 0..steps {
            self.state.borrow_mut().steps += 1;
            let fired = self.state.borrow_mut().fire();
            if let Some(fired) = fired {
                self.finish_event(fired);
                continue;
            }
            if polls_since_yield >= YIELD_POLLS_MAX {
                self.wake_yielded();
                polls_since_yield = 0;
            }
            let picked = {
                let State { scheduler, random, .. } = &mut *self.state.borrow_mut();
                scheduler.take(&ready, random)
            };
            match picked {
                Some(picked) if picked.task == MAIN_TASK => {
                    main_waker.begin();
                    self.begin_poll(MAIN_TASK);
                    let waker = Waker::from(main_waker.clone());
                    if let Poll::Ready(result) = main.as_mut().poll(&mut Context::from_waker(&waker)) {
                        self.state.borrow_mut().scheduler.forget(MAIN_TASK);
                        return Some(result);
                    }
                    polls_since_yield += 1;
                }
                Some(picked) => {
                    self.poll_task(picked.task);
                    polls_since_yield += 1;
                }
                None if self.wake_yielded() => polls_since_yield = 0,
                None => self.skip_time(),
            }
        }
        None
    }

    /// Runs nothing but what was spawned, for this much virtual time of machine 0, up or down.
    pub fn run_for(&mut self, duration: Duration) {
        let state = self.state.clone();
        let mut alarm = None;
        self.run(poll_fn(move |context| {
            let mut state = state.borrow_mut();
            let id = *alarm.get_or_insert_with(|| state.start_alarm(0, duration.as_nanos() as u64));
            if state.poll_alarm(id, context.waker()) { Poll::Ready(()) } else { Poll::Pending }
        }));
    }

    /// Does something after this much virtual time, while tasks run: a crash, a jump of a clock, a
    /// change of faults.
    pub fn after(&self, duration: Duration, act: impl FnOnce(&Sim) + 'static) {
        let event = self.state.borrow_mut().act_after(duration.as_nanos() as u64);
        self.actions.borrow_mut().insert(event, Box::new(act));
    }

    /// All machines go down and come up again, with what their disks kept. The random stream, the
    /// clocks, the faults and the counters go on.
    pub fn restart(self, mode: CrashMode) -> Sim {
        let nodes = self.state.borrow().nodes.len() as u16;
        (0..nodes).for_each(|node| self.node(node).end_life(mode));
        let mut state = self.state.borrow_mut();
        // What the test still holds of the life before may wake what is gone: that queue is read no
        // more.
        state.ready = Arc::default();
        state.yielded.clear();
        let boot = 1 + state.random.below(BOOT_NS_MAX);
        state.now += boot;
        (0..nodes).for_each(|node| state.schedule_late(node));
        drop(state);
        (0..nodes).for_each(|node| self.node(node).begin_life());
        self
    }

    /// One machine goes down, and is up again at once; see [`SimNode::crash`].
    pub fn crash(&self, node: u16, mode: CrashMode) {
        self.node(node).crash(mode);
    }

    /// Lets cores pause by chance, or not any more.
    pub fn set_pauses(&self, pauses: Pauses) {
        self.state.borrow_mut().scheduler.pauses = pauses;
    }

    /// How often a task has fallen behind the others; see [`Schedule::Priorities`].
    pub fn priority_changes(&self) -> u64 {
        self.state.borrow().scheduler.changes
    }

    /// Switches faults.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        self.node(0).faults(change);
    }

    /// Switches the faults of a directory and all in it, which has its own from then on: none
    /// before the first call, whatever [`Sim::faults`] says.
    pub fn faults_of(&self, dir: &Path, change: impl FnOnce(&mut Faults)) {
        self.node(0).faults_of(dir, change);
    }

    /// Faults of [`Sim::faults`] strike everywhere again.
    pub fn forget_faults_of_dirs(&self) {
        self.node(0).forget_faults_of_dirs();
    }

    /// Lets stuck operations continue.
    pub fn release_stuck(&self) {
        self.node(0).release_stuck();
    }

    /// How many operations are stuck now.
    pub fn stuck_count(&self) -> usize {
        self.node(0).stuck_count()
    }

    /// Changes the size of the disk. What is allocated stays, also over it.
    pub fn set_capacity(&self, bytes: u64) {
        self.node(0).set_capacity(bytes);
    }

    /// Makes a directory a file system of its own, with its own space, or changes its size. What is
    /// allocated stays, also over it.
    pub fn set_capacity_of(&self, dir: &Path, bytes: u64) {
        self.node(0).set_capacity_of(dir, bytes);
    }

    /// Moves the wall clock, and not the monotonic one.
    pub fn jump_wall_clock(&self, nanoseconds: i64) {
        self.node(0).jump_wall_clock(nanoseconds);
    }

    /// Flips random bits of what was written and is at rest; fewer than `count` only on a blank
    /// disk.
    pub fn flip_bits(&self, count: usize) -> Vec<FlippedBit> {
        self.node(0).flip_bits(count)
    }

    /// The files a process would see, in the order of their paths.
    pub fn files(&self) -> Vec<PathBuf> {
        self.node(0).files()
    }

    /// The whole content a process would see.
    pub fn read_file(&self, path: &Path) -> Result<Vec<u8>> {
        self.node(0).read_file(path)
    }

    /// Changes bytes of a file durably behind everyone's back.
    pub fn overwrite(&self, path: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
        self.node(0).overwrite(path, offset, bytes)
    }

    /// Cuts or extends a file durably behind everyone's back.
    pub fn truncate(&self, path: &Path, size: u64) -> Result<()> {
        self.node(0).truncate(path, size)
    }

    pub fn stats(&self) -> Stats {
        self.stats_of(0)
    }

    /// What a machine has counted.
    pub fn stats_of(&self, node: u16) -> Stats {
        self.node(node).stats()
    }

    /// Keeps a line for each event of machines and the network from now on.
    pub fn keep_log(&self) {
        self.state.borrow_mut().log.switch_on();
    }

    /// Adds a line of the test itself, if lines are kept.
    pub fn note(&self, line: impl FnOnce() -> String) {
        let State { log, now, .. } = &mut *self.state.borrow_mut();
        log.note(*now, line);
    }

    /// The lines that were kept, oldest first, such as `12.345678s n0 dials n2: refused`.
    pub fn log(&self) -> Vec<String> {
        self.state.borrow().log.lines()
    }

    /// A hash of everything that happened, in order: equal for equal runs.
    pub fn trace_hash(&self) -> u64 {
        self.state.borrow().trace_hash()
    }

    fn finish_event(&self, fired: Fired) {
        match fired {
            Fired::Wake(waker) => waker.into_iter().for_each(Waker::wake),
            Fired::WakeAll(wakers) => wakers.into_iter().for_each(Waker::wake),
            Fired::Unobserved(outcome) => drop(outcome),
            Fired::Action(event) => {
                let act = self.actions.borrow_mut().remove(&event);
                act.expect("it is done once")(self);
            }
        }
    }

    fn poll_task(&self, id: TaskId) {
        let taken = self.state.borrow_mut().tasks.get_mut(&id).map(|task| {
            (task.future.take().expect("a task is polled by one at a time"), task.waker.clone(), task.place)
        });
        // A waker may outlive its task.
        let Some((mut future, waker, place)) = taken else { return };
        waker.begin();
        self.begin_poll(id);
        let waker = Waker::from(waker);
        let is_over = future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let mut state = self.state.borrow_mut();
        state.pause_by_chance(place);
        if is_over {
            state.tasks.remove(&id);
            state.scheduler.forget(id);
        } else if let Some(task) = state.tasks.get_mut(&id) {
            task.future = Some(future);
            return;
        }
        drop(state);
        drop(future);
    }

    fn begin_poll(&self, task: TaskId) {
        let mut state = self.state.borrow_mut();
        let duration = state.random.below(POLL_NS_MAX);
        state.now += duration;
        state.trace(task.0 << 1 | 1);
    }

    /// Wakes the tasks that yielded; false when there are none.
    fn wake_yielded(&self) -> bool {
        let yielded = std::mem::take(&mut self.state.borrow_mut().yielded);
        let any = !yielded.is_empty();
        yielded.into_iter().for_each(Waker::wake);
        any
    }

    fn skip_time(&self) {
        let mut state = self.state.borrow_mut();
        match state.next_due() {
            Some(due) => state.now = due,
            None => {
                let nodes = state.nodes.len() as u16;
                let stuck: usize = (0..nodes).map(|node| state.stuck_count(node)).sum();
                let tasks = state.tasks.len();
                drop(state);
                panic!("deadlock: {tasks} tasks wait, {stuck} operations are stuck, seed {}", self.seed);
            }
        }
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the simulation's seed is {}", self.seed);
        }
        // Tasks hold the state that holds them.
        let nodes = self.state.borrow().nodes.len() as u16;
        for node in 0..nodes {
            self.node(node).stop();
        }
        let left = self.actions.take();
        drop(left);
        let key = self.state.borrow().blocking_key;
        key.into_iter().for_each(blocking::forget);
    }
}
