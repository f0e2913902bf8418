//! A whole run from one seed: a store that is used, crashes or is closed, starts again on other
//! cores, and is checked after each start.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use nabu_engine::io::{Clock, Disk, Spawn};
use nabu_engine::sim::{CrashMode, Faults, Pauses, Random, Sim, SimIo, SimOptions};
use nabu_engine::store::{Limits, OpenError, ScrubOptions, StoreError, StoreOptions};
use nabu_engine::sync::{Either, Promised, promise, race};

use super::client::{Alarm, Client, Habits, Shared, World};
use super::content;
use super::covers;
use super::draw;
use super::flips;
use super::liveness;
use super::machine::{self, Shards};
use super::model::{Demand, Model};
use super::names;
use super::pieces;
use super::rot;
use super::totals::Totals;

/// What goes wrong in a scenario.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Crashes only: torn writes, and what was not synced is lost. And [`super::pieces`],
    /// [`super::covers`] and [`super::names`].
    Crashes,
    /// `EIO` of writes, syncs and changes of names.
    WriteErrors,
    /// A disk that fills up, shrinks and grows.
    FullDisk,
    /// Reads that fail or are wrong once, also during recovery.
    ReadErrors,
    /// Flipped bits, lost and misdirected writes, syncs that lie.
    Corruption,
    /// Everything that is an error of the disk, and none of its lies.
    AllErrors,
    /// One flipped bit: see [`super::rot`] and [`super::flips`].
    BitRot,
    /// Operations that hang for a while, or are slow, and writes of a killed process that come
    /// late.
    Stalls,
}

impl Mode {
    pub const ALL: [Mode; 8] = [
        Mode::Crashes,
        Mode::WriteErrors,
        Mode::FullDisk,
        Mode::ReadErrors,
        Mode::Corruption,
        Mode::AllErrors,
        Mode::BitRot,
        Mode::Stalls,
    ];

    /// The mode of a seed.
    pub fn of(seed: u64) -> Mode {
        Self::ALL[(seed % Self::ALL.len() as u64) as usize]
    }
}

/// Polls and events after which a part of a scenario counts as hung.
const STEPS_MAX: u64 = 3_000_000;
/// How often a start is tried while the disk fails, before it is let in peace.
const OPENS_MAX: usize = 3;
/// The tombstones of the last deletes may lie in a segment of each core, and in each directory
/// where it had to write elsewhere.
const SEGMENTS_LEFT_MAX: usize = 4;
/// Time that passes at least every so often where everything may hang.
const TICK: Duration = Duration::from_millis(1);
/// Steps until something of the machine changes in the midst of the clients' work.
const TURN_STEPS_MAX: u64 = 2_000;
/// Steps between two looks whether a file was renamed.
const LOOK_STEPS: u64 = 20;
/// How late writes of a killed process come.
const LATE_NS_MAX: u64 = 50_000_000;
/// Ample space.
const CAPACITY: u64 = 256 << 20;

/// Deviations from what a seed says, for tests of the tests.
#[derive(Clone, Default, Debug)]
pub struct Twist {
    /// Faults on top of those of the mode, which the checker is not told of.
    pub undeclared: Option<Faults>,
    pub is_verbose: bool,
}

struct Scenario {
    seed: u64,
    mode: Mode,
    random: Random,
    /// What came to the scenarios later draws from here, so that old seeds stay what they were.
    later: Random,
    /// The machine goes down when so many files were renamed.
    renames_left: Option<u64>,
    sim: Option<Sim>,
    world: Shared,
    options: StoreOptions,
    faults: Faults,
    pauses: Pauses,
    habits: Habits,
    clients: usize,
    /// Whether compaction runs beside the clients.
    compacts: bool,
    twist: Twist,
}

/// What a scenario came to.
#[derive(Debug)]
pub struct Outcome {
    pub totals: Totals,
    /// Equal for equal runs.
    pub trace_hash: u64,
    pub violation: Option<String>,
}

/// The command that runs a scenario again and tells all that its clients did.
pub fn replay(seed: u64, mode: Mode) -> String {
    format!("NABU_SEED={seed} NABU_MODE={mode:?} cargo test -p nabu-engine --test sim one_seed -- --nocapture")
}

/// Runs the scenario of a seed.
pub fn run(seed: u64, mode: Mode, twist: Twist) -> Outcome {
    if mode == Mode::BitRot {
        let totals = Totals { seeds: 1, flipped_bits: 1, ..Totals::default() };
        // The seeds of one mode are all even or all odd.
        let is_stopped = (seed + seed / Mode::ALL.len() as u64).is_multiple_of(2);
        let violation = if is_stopped { rot::run(seed).err() } else { flips::run(seed).err() };
        return Outcome { totals, trace_hash: 0, violation };
    }
    let mut scenario = Scenario::new(seed, mode, twist);
    let result = scenario.run();
    let sim = scenario.sim.take().expect("the machine is up at the end");
    let world = &mut *scenario.world.borrow_mut();
    let mut totals = std::mem::take(&mut world.totals);
    totals.seeds = 1;
    totals.add_stats(&sim.stats());
    totals.priority_changes = sim.priority_changes();
    // Of a run that hung the operations have not ended.
    let violation = world.model.violation().or(result.err()).or_else(|| {
        world.model.check();
        world.model.violation()
    });
    let violation = violation.or_else(|| match mode {
        Mode::Crashes => {
            let pieces = pieces::run(seed, &mut totals);
            pieces.and_then(|()| covers::run(seed, &mut totals)).and_then(|()| names::run(seed, &mut totals)).err()
        }
        _ => None,
    });
    Outcome { totals, trace_hash: sim.trace_hash(), violation }
}

impl Scenario {
    fn new(seed: u64, mode: Mode, twist: Twist) -> Self {
        // Not the stream of the machine: what a scenario does must not shift when the store reads
        // once more.
        let mut random = Random::new(seed ^ 0x5ce_a210);
        let contents = content::pool(seed, &mut random);
        let dirs = machine::dirs(1 + random.index(3));
        let mut all_dirs = dirs.clone();
        all_dirs.push(machine::ROOT.into());
        let mut model = Model::new(contents.len());
        model.is_verbose = twist.is_verbose;
        let segment_size = (256 << 10) << if random.chance(0.8) { 0 } else { random.below(5) };
        // From next to no cache, so that reads go to the disk, to one that holds everything.
        let memory_bytes = [1 << 20, 1 << 20, 3 << 20, 64 << 20][random.index(4)];
        let mut faults = draw::faults(mode, &mut random);
        faults.read_flip = draw::read_flip(seed, mode, faults.read_error);
        faults.sync_slow = draw::sync_slow(seed);
        if let Some(undeclared) = &twist.undeclared {
            faults.clone_from(undeclared);
        }
        let capacity_bytes = if mode == Mode::FullDisk { segment_size * (4 + random.below(16)) } else { CAPACITY };
        let (schedule, pauses) = draw::schedule(seed);
        let options = SimOptions {
            dirs: all_dirs,
            capacity_bytes,
            delay_ns_max: 1 + random.below(400_000),
            faults: Faults::default(),
            late_write_ns_max: if mode == Mode::Stalls { random.below(LATE_NS_MAX) } else { 0 },
            schedule,
            steps_max: STEPS_MAX,
            ..SimOptions::default()
        };
        let sim = Sim::new(seed, options);
        let habits = draw::habits(seed, &mut random);
        let clients = 1 + random.index(6);
        let compacts = random.chance(0.75);
        let world = World { contents, model, totals: Totals::default(), alarm: None };
        Self {
            seed,
            mode,
            random,
            later: Random::new(seed ^ 0x1a7e_2000),
            renames_left: None,
            sim: Some(sim),
            world: Rc::new(RefCell::new(world)),
            options: StoreOptions {
                dirs,
                cores: 1,
                memory_bytes,
                segment_size: Some(segment_size),
                read_only: false,
                callers_files: &[],
                limits: draw::limits(seed, mode),
            },
            faults,
            pauses,
            habits,
            clients,
            compacts,
            twist,
        }
    }

    fn sim(&mut self) -> &mut Sim {
        self.sim.as_mut().expect("up")
    }

    fn note(&self, text: impl FnOnce() -> String) {
        self.world.borrow_mut().model.note(text);
    }

    fn count(&self, change: impl FnOnce(&mut Totals)) {
        change(&mut self.world.borrow_mut().totals);
    }

    /// A bit of the checkpoint flips while the store is down: the footers say the same, and nothing
    /// is promised less.
    fn break_checkpoint(&mut self) {
        let path = self.options.dirs[0].join("checkpoint");
        let Ok(bytes) = self.sim().read_file(&path) else { return };
        if !bytes.is_empty() {
            let at = self.later.index(bytes.len());
            let flipped = bytes[at] ^ 1 << self.later.below(8);
            self.sim().overwrite(&path, at as u64, &[flipped]).expect("within the file");
            self.note(|| format!("a bit of the checkpoint flips at {at}"));
            self.count(|totals| totals.checkpoints_broken += 1);
        }
    }

    /// Whether a disk is waited for however long it takes here.
    fn is_patient(&self) -> bool {
        self.options.limits.disk_timeout == Limits::default().disk_timeout
    }

    /// Whether a directory is taken out, or something could not be read.
    fn has_given_up(&mut self, shards: &Shards) -> Result<bool, String> {
        let shard = shards[0].clone();
        let status = self.sim().run_steps(STEPS_MAX, async move { shard.status().await }).ok_or("the status hangs")?;
        Ok(status.failed_dirs > 0 || status.is_incomplete)
    }

    fn is_violated(&self) -> bool {
        self.world.borrow().model.violation().is_some()
    }

    fn run(&mut self) -> Result<(), String> {
        let lives = 2 + self.random.below(4);
        for _ in 0..lives {
            let Some(shards) = self.open(true)? else { continue };
            self.verify(&shards)?;
            if self.is_violated() {
                return Ok(());
            }
            self.live(shards)?;
            if self.is_violated() {
                return Ok(());
            }
        }
        self.finish()
    }

    /// The machine goes down and comes up again, in whatever state it is.
    fn restart(&mut self, mode: CrashMode) {
        self.note(|| format!("---- {mode:?} ----"));
        let sim = self.sim.take().expect("up");
        sim.faults(|faults| *faults = Faults::default());
        self.count(|totals| match mode {
            CrashMode::Process => totals.crashes_process += 1,
            CrashMode::Power => totals.crashes_power += 1,
        });
        let sim = sim.restart(mode);
        self.sim = Some(sim);
        self.world.borrow_mut().model.crash();
    }

    /// Starts the store; `None` when a crash or the disk prevented it. Then the machine has been
    /// restarted.
    fn open(&mut self, with_faults: bool) -> Result<Option<Shards>, String> {
        self.options.cores = 1 + self.random.below(4) as u16;
        if with_faults && self.later.chance(0.1) {
            self.break_checkpoint();
        }
        for attempt in 0.. {
            let strike = with_faults && attempt < OPENS_MAX && self.random.chance(0.5);
            if strike {
                let faults = Faults { stuck: 0.0, ..self.faults.clone() };
                self.sim().faults(|now| *now = faults);
            }
            if with_faults {
                let pauses = self.pauses;
                self.sim().set_pauses(pauses);
            }
            let is_crashing = with_faults && self.random.chance(0.15);
            let steps = if is_crashing { self.random.below(400) } else { STEPS_MAX };
            let before = self.sim().stats();
            let (options, dirs) = (self.options.clone(), self.options.dirs.clone());
            let ios = machine::ios(self.sim(), options.cores);
            let made = self.sim().run_steps(steps, make_dirs(ios[0].clone(), dirs));
            if strike && !self.is_patient() {
                // Else a start waits for what hangs, however long.
                let stuck = self.faults.stuck;
                self.sim().faults(|faults| faults.stuck = stuck);
            }
            let left = steps.saturating_sub(self.sim().stats().steps - before.steps);
            let opened = match made {
                None => None,
                Some(Err(error)) => Some(Err(OpenError(format!("no directory: {error}")))),
                Some(Ok(())) => self.sim().run_steps(left, machine::open(ios, options)),
            };
            self.sim().faults(|faults| *faults = Faults::default());
            let after = self.sim().stats();
            self.sim().release_stuck();
            // Where a disk is given up soon, it may be so for want of CPU, too: the store says
            // whether it was.
            let timed_out = match &opened {
                Some(Ok(shards)) if !self.is_patient() => self.has_given_up(shards)?,
                _ => !self.is_patient(),
            };
            let failed_reads = timed_out || after.read_errors > before.read_errors;
            let failed_writes = timed_out
                || after.sync_errors > before.sync_errors
                || after.write_errors > before.write_errors
                || after.no_space > before.no_space;
            let failed_metadata = after.metadata_errors > before.metadata_errors;
            let any_fault =
                failed_reads || failed_writes || failed_metadata || after.dir_sync_errors > before.dir_sync_errors;
            match opened {
                None if is_crashing => {
                    self.count(|totals| totals.crashes_in_recovery += 1);
                    let mode = machine::either_crash(&mut self.random);
                    self.restart(mode);
                    return Ok(None);
                }
                None => return Err(format!("recovery takes more than {STEPS_MAX} steps")),
                Some(Ok(shards)) => {
                    let demand = match self.mode {
                        Mode::Corruption => Demand::BytesOnly,
                        // A start that could not wait for late writes trusts nothing that it
                        // scanned.
                        _ if failed_reads || failed_metadata => Demand::Incomplete,
                        _ => Demand::All,
                    };
                    if self.compacts {
                        let cores = self.options.cores;
                        machine::start_compaction(&shards, self.sim().io(cores));
                    }
                    let world = &mut *self.world.borrow_mut();
                    world.totals.lives += 1;
                    world.totals.recoveries_incomplete += u64::from(demand == Demand::Incomplete);
                    world.model.note(|| format!("opened on {} cores, {demand:?}", self.options.cores));
                    world.model.opened(demand, !failed_writes);
                    return Ok(Some(shards));
                }
                Some(Err(error)) => {
                    self.note(|| format!("refused: {error}"));
                    self.count(|totals| totals.opens_refused += 1);
                    if !any_fault && self.mode != Mode::Corruption {
                        return Err(format!("the store does not open on a healthy disk: {error}"));
                    }
                    self.restart(CrashMode::Process);
                    if attempt >= OPENS_MAX {
                        return Ok(None);
                    }
                }
            }
        }
        unreachable!("the attempts are counted")
    }

    /// Reads every blob and the list, and compares.
    fn verify(&mut self, shards: &Shards) -> Result<(), String> {
        let client =
            Client { shards: shards.clone(), world: self.world.clone(), random: Random::new(self.random.next_u64()) };
        self.sim().run_steps(STEPS_MAX, verify(client)).ok_or_else(|| "verification hangs".to_string())
    }

    /// Starts the scrub in a share of the lives, in a hurry.
    fn start_scrub(&mut self, shards: &Shards) {
        if self.random.chance(0.5) {
            let mut interval = Duration::from_millis(20 + self.random.below(200));
            if self.habits.comes_back {
                // A longer life has as many passes.
                interval *= 4;
            }
            let retry_pause = Duration::from_nanos(1 + self.random.below(1_000_000));
            let io = self.sim().io(shards.len() as u16 + 1);
            machine::start_scrub(shards, io, ScrubOptions { interval: Some(interval), retry_pause });
            self.count(|totals| totals.scrubbed_lives += 1);
            // Where reads fail, what is sound may be listed as unreadable, and is then written anew
            // by an upload.
            if self.faults.read_error > 0.0 {
                self.world.borrow_mut().model.may_mend = true;
            }
        }
    }

    /// Clients at work until they are done, or until the machine goes down.
    fn live(&mut self, shards: Shards) -> Result<(), String> {
        if self.random.chance(0.8) {
            let faults = self.faults.clone();
            self.sim().faults(|now| *now = faults);
        }
        // What lies in a directory that is taken out is written anew by an upload. One may be where
        // operations hang, and where a disk is given up soon also for want of CPU.
        if !self.is_patient() || self.faults.stuck > 0.0 {
            self.world.borrow_mut().model.may_mend = true;
        }
        let comes_to_rest = self.compacts && self.mode != Mode::Corruption && self.random.chance(0.12);
        if !comes_to_rest {
            self.start_scrub(&shards);
        }
        let is_crashing = self.random.chance(0.6);
        let budget = if self.random.chance(0.2) { 300 } else { 6_000 };
        let steps = if is_crashing { self.random.below(budget) } else { STEPS_MAX };
        if self.mode == Mode::FullDisk && self.random.chance(0.4) {
            self.shrink();
        }
        let alarm = if is_crashing && self.later.chance(0.4) { Some(self.set_alarm()) } else { None };
        let has_alarm = alarm.is_some();
        if is_crashing && !has_alarm {
            self.renames_left = self.draw_renames();
        }
        let steps = if has_alarm || self.renames_left.is_some() { STEPS_MAX } else { steps };
        let worked = self.work(&shards, steps, alarm);
        self.renames_left = None;
        if worked.is_some() && self.later.chance(0.08) {
            self.wipe(&shards)?;
        }
        if worked.is_none() && !is_crashing {
            return Err(format!("clients take more than {STEPS_MAX} steps"));
        }
        if worked.is_some() && self.compacts && self.random.chance(0.7) {
            // Time for what goes on in the background; a crash may come in its midst.
            let steps = if self.random.chance(0.4) { self.random.below(3_000) } else { STEPS_MAX };
            let io = self.sim().io(0);
            let pause = Duration::from_millis(100 + self.random.below(900));
            self.sim().run_steps(steps, async move { io.sleep(pause).await });
        }
        if self.mode == Mode::Corruption {
            let flips = self.random.index(4);
            self.sim().flip_bits(flips);
        }
        if worked.is_some() && self.mode != Mode::Corruption && self.random.chance(0.5) {
            self.verify(&shards)?;
        }
        if worked.is_some() && comes_to_rest {
            self.heal();
            self.come_to_rest(&shards)?;
        }
        let mut went_down_well = false;
        let stops_at_work = worked.is_none() && self.later.chance(0.2);
        if stops_at_work {
            self.count(|totals| totals.stops_at_work += 1);
        }
        if stops_at_work || (worked.is_some() && self.random.chance(0.7)) {
            let is_crashing = self.random.chance(0.3);
            let steps = if is_crashing { self.random.below(300) } else { STEPS_MAX };
            let closed = self.sim().run_steps(steps, machine::close(shards));
            match closed {
                Some(()) => self.count(|totals| totals.clean_closes += 1),
                None if is_crashing => self.count(|totals| totals.crashes_in_close += 1),
                None => return Err(format!("closing takes more than {STEPS_MAX} steps")),
            }
            went_down_well = closed.is_some();
        }
        self.note(|| format!("went down well: {went_down_well}"));
        let mut mode = machine::either_crash(&mut self.random);
        if has_alarm && worked.is_none() && self.later.chance(0.8) {
            mode = CrashMode::Power;
        }
        self.restart(mode);
        Ok(())
    }

    /// In some lives the machine goes down right after a file got its name: a checkpoint mostly, or
    /// a segment. From a stream of its own.
    fn draw_renames(&mut self) -> Option<u64> {
        let mut random = Random::new(self.seed ^ self.sim().stats().crashes << 40 ^ 0x00e4_a3e5);
        random.chance(0.4).then(|| 1 + random.below(20))
    }

    /// Runs the work of clients until files were renamed as often as was drawn, or it is done.
    fn run_to_rename(
        &mut self,
        renames: u64,
        steps: u64,
        mut working: Pin<&mut impl Future<Output = bool>>,
    ) -> Option<bool> {
        let end = self.sim().stats().renames + renames;
        for _ in 0..steps / LOOK_STEPS {
            let done = self.sim().run_steps(LOOK_STEPS, working.as_mut());
            if done.is_some() {
                return done;
            }
            if self.sim().stats().renames >= end {
                self.count(|totals| totals.cuts_at_renames += 1);
                return None;
            }
        }
        None
    }

    /// Rings when some upload is acknowledged, mostly a large one.
    fn set_alarm(&mut self) -> Promised<()> {
        let (promise, promised) = promise();
        let bytes_min = [0, 64 << 10, 128 << 10][self.later.index(3)];
        let acknowledgements = 1 + self.later.below(if bytes_min == 0 { 20 } else { 3 });
        self.world.borrow_mut().alarm = Some(Alarm { acknowledgements, bytes_min, promise });
        if bytes_min > 0 {
            // The sync of one segment may take long while that of the next is done.
            self.sim().faults(|faults| faults.slow = faults.slow.max(0.3));
        }
        promised
    }

    /// Everything is deleted, in half of the lives stored again, and in half of those deleted once
    /// more, while slow readers hold what is reclaimed and written over. Later lives may begin with
    /// next to no segments.
    fn wipe(&mut self, shards: &Shards) -> Result<(), String> {
        self.count(|totals| totals.wipes += 1);
        let random = Random::new(self.later.next_u64());
        let mut client = Client { shards: shards.clone(), world: self.world.clone(), random };
        let rounds = 1 + self.later.index(2) + self.later.index(2);
        let io = self.sim().io(0);
        let wiped = self.sim().run_steps(STEPS_MAX, async move {
            let count = client.world.borrow().contents.len();
            let mut reading = Vec::new();
            for blob in 0..count {
                let random = Random::new(client.random.next_u64());
                let mut reader = Client { shards: client.shards.clone(), world: client.world.clone(), random };
                let (done, promised) = promise();
                io.spawn(async move {
                    reader.read_as(blob, 1.0).await;
                    done.keep(());
                });
                reading.push(promised);
            }
            for round in 0..rounds {
                for blob in 0..count {
                    match round % 2 {
                        0 => client.delete(blob).await,
                        _ => client.put(blob).await,
                    }
                }
                io.sleep(Duration::from_millis(20)).await;
            }
            for promised in reading {
                promised.await.expect("a reader ends");
            }
        });
        wiped.ok_or("deleting hangs")?;
        let pause = Duration::from_millis(self.later.below(500));
        self.sim().run_for(pause);
        Ok(())
    }

    /// All clients until they are done or the alarm rings, at most so many steps. In their midst
    /// the wall clock may jump, and what hangs goes on.
    fn work(&mut self, shards: &Shards, steps: u64, alarm: Option<Promised<()>>) -> Option<()> {
        let mut clients = Vec::new();
        for _ in 0..self.clients {
            let random = Random::new(self.random.next_u64());
            clients.push(Client { shards: shards.clone(), world: self.world.clone(), random });
        }
        let habits = self.habits;
        let io = self.sim().io(0);
        let working = Box::pin(async move {
            let mut working = Vec::new();
            for client in clients {
                let (done, promised) = promise();
                io.spawn(async move {
                    client.work(habits).await;
                    done.keep(());
                });
                working.push(promised);
            }
            for promised in working {
                promised.await.expect("a client ends");
            }
        });
        // Whether they are done.
        let mut working = Box::pin(async move {
            match alarm {
                None => working.await,
                Some(alarm) => match race(working, alarm).await {
                    Either::First(()) => {}
                    Either::Second(_) => return false,
                },
            }
            true
        });
        let mut left = steps;
        let mut done = None;
        let ticking = Rc::new(Cell::new(true));
        if self.mode == Mode::Stalls {
            // Time goes on also when everything hangs.
            let (io, ticking) = (self.sim().io(0), ticking.clone());
            io.clone().spawn(async move {
                while ticking.get() {
                    io.sleep(TICK).await;
                }
            });
        }
        let turns = if self.mode == Mode::Stalls { 1 + self.random.index(4) } else { self.random.index(2) };
        for _ in 0..turns {
            let part = self.random.below(TURN_STEPS_MAX).min(left);
            done = self.sim().run_steps(part, working.as_mut());
            left -= part;
            if done.is_some() || left == 0 {
                break;
            }
            self.turn();
        }
        if done.is_some() || left > 0 {
            self.sim().faults(|faults| faults.stuck = 0.0);
            self.sim().release_stuck();
        }
        ticking.set(false);
        if done.is_none() && left > 0 {
            done = match self.renames_left {
                Some(renames) => self.run_to_rename(renames, left, working.as_mut()),
                None => self.sim().run_steps(left, working),
            };
        }
        self.world.borrow_mut().alarm = None;
        if done == Some(false) {
            self.count(|totals| totals.alarms += 1);
        }
        done.filter(|done| *done).map(drop)
    }

    /// The wall clock jumps, or what hangs goes on.
    fn turn(&mut self) {
        if self.random.chance(0.5) {
            let jump = draw::clock_jump_ns(&mut self.random);
            self.sim().jump_wall_clock(jump);
            self.note(|| format!("the wall clock jumps by {jump} ns"));
            self.count(|totals| totals.clock_jumps += 1);
        } else {
            self.sim().release_stuck();
        }
    }

    /// The disk becomes smaller, or each directory has another size.
    fn shrink(&mut self) {
        let segment_size = self.options.segment_size.expect("given");
        let bytes = |random: &mut Random| (2 + random.below(20)) * segment_size;
        if self.options.dirs.len() > 1 && self.random.chance(0.5) {
            for dir in self.options.dirs.clone() {
                let bytes = bytes(&mut self.random);
                self.sim().set_capacity_of(&dir, bytes);
            }
            self.count(|totals| totals.uneven_dirs += 1);
        } else {
            let bytes = bytes(&mut self.random);
            self.sim().set_capacity(bytes);
        }
    }

    /// Nothing goes wrong any more, and there is space.
    fn heal(&mut self) {
        self.sim().faults(|faults| *faults = Faults::default());
        self.sim().set_pauses(Pauses::default());
        self.sim().release_stuck();
        self.sim().set_capacity(CAPACITY);
        for dir in self.options.dirs.clone() {
            self.sim().set_capacity_of(&dir, CAPACITY);
        }
    }

    fn come_to_rest(&mut self, shards: &Shards) -> Result<(), String> {
        self.count(|totals| totals.rests += 1);
        let random = Random::new(self.random.next_u64());
        let client = Client { shards: shards.clone(), world: self.world.clone(), random };
        liveness::demand(self.sim.as_mut().expect("up"), shards, client, &self.options)
    }

    /// On a healthy disk with space everything is as it should be, everything can be deleted, and
    /// the space comes back.
    fn finish(&mut self) -> Result<(), String> {
        self.heal();
        let Some(shards) = self.open(false)? else { return Ok(()) };
        self.verify(&shards)?;
        if self.compacts && self.mode != Mode::Corruption && self.random.chance(0.25) {
            self.come_to_rest(&shards)?;
        }
        let world = self.world.clone();
        let deleted = self.sim().run_steps(STEPS_MAX, {
            let shards = shards.clone();
            async move {
                let ids: Vec<_> = world.borrow().contents.iter().map(|content| content.id).collect();
                for (number, id) in ids.iter().enumerate() {
                    let shard = &shards[number % shards.len()];
                    let result = shard.delete(*id).await;
                    if let Err(error) = result
                        && world.borrow().model.demand == Demand::All
                    {
                        world.borrow_mut().model.violate(format!("blob {number} can't be deleted: {error}"));
                    }
                }
            }
        });
        deleted.ok_or("deleting hangs")?;
        let emptied = liveness::demand_nothing(self.sim(), &shards)?;
        self.count(|totals| totals.emptied += u64::from(emptied));
        // Lives in which nobody asks for anything: what the store does by itself is cut off
        // anywhere.
        for _ in 0..self.later.below(4) {
            let steps = self.later.below(500);
            let io = self.sim().io(0);
            self.sim().run_steps(steps, async move { io.sleep(Duration::from_secs(1)).await });
            let mode = machine::either_crash(&mut self.later);
            self.restart(mode);
            self.count(|totals| totals.idle_lives += 1);
            if self.open(false)?.is_none() {
                return Ok(());
            }
        }
        for _ in 0..3 {
            self.sim().run_for(Duration::from_secs(1));
            let Some(shards) = self.reopen()? else { return Ok(()) };
            let shard = shards[0].clone();
            let listed = self.sim().run_steps(STEPS_MAX, async move { shard.list(None, 1000).await });
            let page: Result<_, StoreError> = listed.ok_or("listing hangs")?;
            if self.mode != Mode::Corruption && page.as_ref().map_or(true, |page| !page.ids.is_empty()) {
                return Err(format!("after everything was deleted the list is {page:?}"));
            }
            self.sim().run_for(Duration::from_secs(1));
            let closing = shards;
            self.sim().run_steps(STEPS_MAX, machine::close(closing)).ok_or("closing hangs")?;
        }
        let left = machine::segment_files(self.sim()).len();
        self.count(|totals| totals.segments_left += left as u64);
        if self.mode != Mode::Corruption && left > SEGMENTS_LEFT_MAX * self.options.dirs.len() {
            return Err(format!("{left} segments are left of a store without blobs"));
        }
        Ok(())
    }

    /// A power failure, and another start without faults.
    fn reopen(&mut self) -> Result<Option<Shards>, String> {
        self.restart(CrashMode::Power);
        self.open(false)
    }
}

/// The caller of the store makes the directories; they lie in one that is durable.
async fn make_dirs(io: SimIo, dirs: Vec<PathBuf>) -> std::io::Result<()> {
    for dir in &dirs {
        match io.create_dir(dir).await {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    io.sync_dir(Path::new(machine::ROOT)).await
}

async fn verify(mut client: Client) {
    let count = client.world.borrow().contents.len();
    for blob in 0..count {
        client.read(blob).await;
    }
    client.list_by(10_000).await;
}
