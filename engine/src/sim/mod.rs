//! Seeded disk, clock and scheduler behind the seam: a whole machine in one thread, and every run of it from one number.
//!
//! [`Sim::io`] gives the [`crate::io::Io`] of each simulated core. [`Sim::run`] polls ready tasks in random order, completes disk operations after
//! random delays, and lets virtual time jump when nothing is ready. [`Sim::restart`] is a crash: it drops every task and
//! returns the machine with what the disk kept. Same seed, same calls: same run.
//!
//! The disk keeps its promises exactly and nothing more:
//! - A read sees every completed write. Only a sync makes durable what completed before it was called.
//! - A name is durable once its directory was synced. A file's size is, once the file was.
//! - A power failure keeps of the rest any part, by sectors and in any order; a killed process loses only what was in flight.
//! - What fails by injection, and how: [`Faults`].

mod disk;
mod fault;
mod inode;
mod io;
mod late;
mod operation;
mod random;
mod state;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::Future;
use std::io::Result;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub use fault::{Faults, FlippedBit, SLOW_FACTOR, Stats};
pub use inode::SECTOR_SIZE;
pub use io::SimIo;
pub use operation::SimFile;
pub use random::Random;

use crate::types::CoreId;
use disk::Disk;
use fault::FaultMap;
use late::LateWrites;
use operation::Device;
use state::{MAIN_TASK, State, TaskWaker};

/// A poll takes up to this much virtual time, so that time also passes on a busy machine.
const POLL_NS_MAX: u64 = 2_000;
/// A task that yielded waits for at most this many polls of others that keep waking one another.
const YIELD_POLLS_MAX: u64 = 1_000;
/// 2026-01-01, in nanoseconds since 1970.
const WALL_CLOCK_START_NS: u64 = 1_767_225_600_000_000_000;

/// The machine that is simulated.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// Directories that exist, durably, from the start.
    pub dirs: Vec<PathBuf>,
    /// Bytes that all files together may take.
    pub capacity_bytes: u64,
    /// The longest a disk operation takes, unless it is slow or stuck.
    pub delay_ns_max: u64,
    pub faults: Faults,
    /// How long after the start of the next process a write of a killed one may still land; 0 for
    /// never.
    pub late_write_ns_max: u64,
    /// Polls and events after which a run counts as a livelock.
    pub steps_max: u64,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self {
            dirs: vec![PathBuf::from("/data")],
            capacity_bytes: 64 << 20,
            delay_ns_max: 200_000,
            faults: Faults::default(),
            late_write_ns_max: 0,
            steps_max: 20_000_000,
        }
    }
}

/// How the machine goes down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CrashMode {
    /// The process is killed: what completed stays, durable or not; what was in flight happens, partly happens, or does not. Writes
    /// may happen while the next process runs already: [`SimOptions::late_write_ns_max`].
    Process,
    /// The power fails: as above, and what was not durable survives by chance.
    Power,
}

/// A simulated machine.
pub struct Sim {
    seed: u64,
    steps_max: u64,
    late_write_ns_max: u64,
    state: Rc<RefCell<State>>,
}

impl Sim {
    pub fn new(seed: u64, options: SimOptions) -> Self {
        assert!(options.delay_ns_max > 0, "an operation takes some time");
        let device = Device {
            disk: Disk::new(&options.dirs, options.capacity_bytes),
            random: Random::new(seed),
            faults: FaultMap { everywhere: options.faults, ..FaultMap::default() },
            stats: Stats::default(),
            life: 0,
            misread: BTreeSet::new(),
            late: LateWrites::default(),
        };
        let state = State::new(device, 0, WALL_CLOCK_START_NS, options.delay_ns_max);
        Self {
            seed,
            steps_max: options.steps_max,
            late_write_ns_max: options.late_write_ns_max,
            state: Rc::new(RefCell::new(state)),
        }
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The seam of a core. Any number of cores exist.
    pub fn io(&self, core: u16) -> SimIo {
        SimIo { state: self.state.clone(), core: CoreId(core) }
    }

    /// Runs until the future ends. Tasks that it spawned stay, and go on in the next run.
    ///
    /// # Panics
    /// With the seed: when nothing can ever happen again and the future has not ended, and when it takes too many steps.
    pub fn run<T>(&mut self, future: impl Future<Output = T>) -> T {
        let seed = self.seed;
        let steps_max = self.steps_max;
        self.run_steps(steps_max, future)
            .unwrap_or_else(|| panic!("livelock: no end after {steps_max} steps, seed {seed}"))
    }

    /// Runs until the future ends, at most so many polls and events; `None` when it was cut off there, for a crash at every step.
    ///
    /// # Panics
    /// With the seed: when nothing can ever happen again and the future has not ended.
    pub fn run_steps<T>(&mut self, steps: u64, future: impl Future<Output = T>) -> Option<T> {
        let mut main = pin!(future);
        let ready = self.state.borrow().ready.clone();
        let main_waker = TaskWaker::new(MAIN_TASK, ready.clone());
        Waker::from(main_waker.clone()).wake();
        let mut polls_since_yield = 0;
        for _ in 0..steps {
            self.state.borrow_mut().device.stats.steps += 1;
            let fired = self.state.borrow_mut().fire();
            if let Some((waker, unobserved)) = fired {
                drop(unobserved);
                waker.into_iter().for_each(Waker::wake);
                continue;
            }
            if polls_since_yield >= YIELD_POLLS_MAX {
                self.wake_yielded();
                polls_since_yield = 0;
            }
            let picked = {
                let random = &mut self.state.borrow_mut().device.random;
                ready.take(|count| random.index(count))
            };
            match picked {
                Some(MAIN_TASK) => {
                    main_waker.begin();
                    self.begin_poll(MAIN_TASK);
                    let waker = Waker::from(main_waker.clone());
                    if let Poll::Ready(result) = main.as_mut().poll(&mut Context::from_waker(&waker)) {
                        return Some(result);
                    }
                    polls_since_yield += 1;
                }
                Some(task) => {
                    self.poll_task(task);
                    polls_since_yield += 1;
                }
                None if self.wake_yielded() => polls_since_yield = 0,
                None => self.skip_time(),
            }
        }
        None
    }

    /// Runs nothing but what was spawned, for this much virtual time.
    pub fn run_for(&mut self, duration: Duration) {
        let io = self.io(0);
        self.run(async move { crate::io::Io::sleep(&io, duration).await });
    }

    /// The machine goes down and comes up again, with what its disk kept. The random stream, the clock, the faults and the counters go on.
    pub fn restart(self, mode: CrashMode) -> Sim {
        self.drop_tasks();
        let blank = Device {
            disk: Disk::default(),
            random: Random::new(self.seed),
            faults: FaultMap::default(),
            stats: Stats::default(),
            life: 0,
            misread: BTreeSet::new(),
            late: LateWrites::default(),
        };
        let (mut device, operations, mut next) = {
            let mut old = self.state.borrow_mut();
            let device = std::mem::replace(&mut old.device, blank);
            let operations = std::mem::take(&mut old.operations);
            (device, operations, (old.now, old.wall_clock_offset, old.delay_ns_max, old.trace_hash()))
        };
        device.stats.crashes += 1;
        let mut in_flight: Vec<_> = operations.into_values().filter_map(|operation| operation.operation).collect();
        device.random.shuffle(&mut in_flight);
        let held_back = match mode {
            CrashMode::Process if self.late_write_ns_max > 0 => late::hold_back(&mut in_flight, &mut device.random),
            _ => Vec::new(),
        };
        let faults = std::mem::take(&mut device.faults);
        in_flight.into_iter().for_each(|operation| device.abandon(operation));
        device.faults = faults;
        device.misread.clear();
        device.life += 1;
        let late = device.end_life(mode, held_back);
        next.0 += 1 + device.random.below(1_000_000_000);
        let mut state = State::new(device, next.0, next.1, next.2);
        state.set_trace_hash(next.3);
        late.into_iter().for_each(|part| state.write_late(part, self.late_write_ns_max));
        Sim {
            seed: self.seed,
            steps_max: self.steps_max,
            late_write_ns_max: self.late_write_ns_max,
            state: Rc::new(RefCell::new(state)),
        }
    }

    /// Switches faults.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state.borrow_mut().device.faults.everywhere);
    }

    /// Switches the faults of a directory and all in it, which has its own from then on: none
    /// before the first call, whatever [`Sim::faults`] says.
    pub fn faults_of(&self, dir: &Path, change: impl FnOnce(&mut Faults)) {
        let faults = &mut self.state.borrow_mut().device.faults;
        change(faults.of_dirs.entry(dir.into()).or_default());
    }

    /// Faults of [`Sim::faults`] strike everywhere again.
    pub fn forget_faults_of_dirs(&self) {
        self.state.borrow_mut().device.faults.of_dirs.clear();
    }

    /// Lets stuck operations go on.
    pub fn release_stuck(&self) {
        self.state.borrow_mut().release_stuck();
    }

    /// How many operations are stuck now.
    pub fn stuck_count(&self) -> usize {
        self.state.borrow().stuck_count()
    }

    /// Changes the size of the disk. What is allocated stays, also over it.
    pub fn set_capacity(&self, bytes: u64) {
        self.state.borrow_mut().device.disk.capacity = bytes;
    }

    /// Makes a directory a file system of its own, with its own space, or changes its size. What is
    /// allocated stays, also over it.
    pub fn set_capacity_of(&self, dir: &Path, bytes: u64) {
        self.state.borrow_mut().device.disk.set_capacity_of(dir, bytes);
    }

    /// Moves the wall clock, and not the monotonic one.
    pub fn jump_wall_clock(&self, nanoseconds: i64) {
        let mut state = self.state.borrow_mut();
        state.wall_clock_offset = state.wall_clock_offset.wrapping_add_signed(nanoseconds);
    }

    /// Flips random bits of what was written and is at rest; fewer than `count` only on a blank disk.
    pub fn flip_bits(&self, count: usize) -> Vec<FlippedBit> {
        let device = &mut self.state.borrow_mut().device;
        let flipped: Vec<FlippedBit> = (0..count).map_while(|_| device.disk.flip_bit(&mut device.random)).collect();
        device.stats.flipped_bits += flipped.len() as u64;
        flipped
    }

    /// The files a process would see, in the order of their paths.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state.borrow().device.disk.files().map(|(path, _)| path.into()).collect()
    }

    /// The whole content a process would see.
    pub fn read_file(&self, path: &Path) -> Result<Vec<u8>> {
        let disk = &self.state.borrow().device.disk;
        let inode = disk.inode(disk.file(path)?);
        let mut content = vec![0; inode.size as usize];
        inode.read(0, &mut content);
        Ok(content)
    }

    /// Changes bytes of a file durably behind everyone's back.
    pub fn overwrite(&self, path: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
        let disk = &mut self.state.borrow_mut().device.disk;
        (offset..).zip(bytes).try_for_each(|(offset, new)| disk.tamper(path, offset, |byte| *byte = *new))
    }

    /// Cuts or extends a file durably behind everyone's back.
    pub fn truncate(&self, path: &Path, size: u64) -> Result<()> {
        self.state.borrow_mut().device.disk.truncate(path, size)
    }

    pub fn stats(&self) -> Stats {
        self.state.borrow().device.stats
    }

    /// A hash of everything that happened, in order: equal for equal runs.
    pub fn trace_hash(&self) -> u64 {
        self.state.borrow().trace_hash()
    }

    fn poll_task(&mut self, id: u64) {
        let taken = self.state.borrow_mut().tasks.get_mut(&id).map(|task| (task.future.take(), task.waker.clone()));
        // A waker may outlive its task.
        let Some((future, waker)) = taken else { return };
        let mut future = future.expect("a task is polled by one at a time");
        waker.begin();
        self.begin_poll(id);
        let waker = Waker::from(waker);
        let is_over = future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let mut state = self.state.borrow_mut();
        if is_over {
            state.tasks.remove(&id);
        } else if let Some(task) = state.tasks.get_mut(&id) {
            task.future = Some(future);
            return;
        }
        drop(state);
        drop(future);
    }

    fn begin_poll(&self, task: u64) {
        let mut state = self.state.borrow_mut();
        let duration = state.device.random.below(POLL_NS_MAX);
        state.now += duration;
        state.trace(task << 1 | 1);
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
                let (tasks, stuck) = (state.tasks.len(), state.stuck_count());
                drop(state);
                panic!("deadlock: {tasks} tasks wait, {stuck} operations are stuck, seed {}", self.seed);
            }
        }
    }

    /// Drops every task, and what their destructors would still start.
    fn drop_tasks(&self) {
        self.state.borrow_mut().is_dead = true;
        let tasks = std::mem::take(&mut self.state.borrow_mut().tasks);
        let yielded = std::mem::take(&mut self.state.borrow_mut().yielded);
        drop((tasks, yielded));
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the simulation's seed is {}", self.seed);
        }
        // Tasks hold the state that holds them.
        self.drop_tasks();
    }
}
