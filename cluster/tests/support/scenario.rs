//! What a seed makes happen to a cluster: how many machines there are, what fails when, and what
//! clients and administrators want meanwhile. At its end everything heals, and the cluster has to
//! be whole again without help.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use nabu_cluster::control::command::Change;
use nabu_cluster::control::member::{ClusterId, MemberState, Profile};
use nabu_cluster::control::{Bootstrap, Patience, Request, Settings};
use nabu_cluster::node::NodeNumber;
use nabu_cluster::peer::Limits;
use nabu_cluster::probe::{self, Event};
use nabu_engine::io::Clock;
use nabu_engine::sim::{CrashMode, Cut, NetOptions, Random, Schedule, Sim, SimOptions};

use super::clients::client;
use super::focus::Focus;
use super::process::{self, World};
use super::{healing, supervision};

/// How often it is looked whether a machine was let in, and how many times.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const LOOKS_FOR_ADMISSION: u32 = 6_000;
const LOOK_EVERY_SECOND: Duration = Duration::from_secs(1);
const LOOKS_FOR_VERDICT: u32 = 30;
/// When a node goes down after the other one was told to leave, and for how long.
const DOWN_AFTER: Duration = Duration::from_millis(200);
const DOWN_FOR: Duration = Duration::from_secs(25);

/// What a seed draws.
struct Draw {
    machines: u16,
    random: Random,
    /// How long things go wrong.
    lasts: Duration,
    /// How rough it is, from 0 to 1.
    roughness: f64,
}

/// Runs a seed, and gives what happened.
///
/// # Panics
/// When something does not hold.
pub fn run(seed: u64, is_verbose: bool) -> BTreeMap<&'static str, u64> {
    let before: Vec<u64> = Event::ALL.iter().map(|event| probe::count_here(*event)).collect();
    let mut random = Random::new(seed ^ 0xc1a5_7e12);
    let focus = Focus::of(seed);
    let machines = focus.machines().unwrap_or([1, 2, 3, 3, 3, 4, 5, 5][random.index(8)]);
    let roughness = random.below(101) as f64 / 100.0;
    let schedule = if random.chance(0.3) { Schedule::draw(&mut random) } else { Schedule::Uniform };
    let options = SimOptions {
        nodes: machines + 1,
        schedule,
        delay_ns_max: 1 + random.below(5_000_000),
        steps_max: 50_000_000,
        network: focus.network(&mut random).unwrap_or_else(|| NetOptions::draw(&mut random)),
        ..SimOptions::default()
    };
    let mut sim = Sim::new(seed, options);
    let mut draw = Draw { machines, random, lasts: focus.lasts(), roughness };
    // A snapshot has one ring, of some 64 KiB: in some seeds it comes in many pieces.
    let limits = Limits { piece_bytes: 1 << (10 + draw.random.below(8)), ..Limits::DEFAULT };
    let world = World::new(draw.settings(), limits, is_verbose.then(|| sim.io_of(machines, 0)));
    for machine in 0..machines {
        // Some are there from the beginning, others come later.
        let at = if draw.random.chance(0.6) || focus != Focus::Mixture { 0 } else { draw.random.below(20_000) };
        let world = world.clone();
        sim.after(Duration::from_millis(at), move |sim| start(&world, sim, machine));
    }
    match focus {
        Focus::Mixture => draw.trouble(&mut sim, &world),
        _ => focus.trouble(&sim, &world, &mut draw.random),
    }
    supervision::plan(&sim, &world, machines, focus.lasts());
    let io = sim.io_of(machines, 0);
    // Where starts are short, clients are quick, so that each start has some commands.
    let pause_ms = if focus == Focus::Restarts { 200 } else { 1_000 };
    let client_seeds: Vec<u64> = (0..3).map(|_| draw.random.next_u64()).collect();
    let end = io.now().after(focus.lasts());
    let client_of = |seed| client(io.clone(), world.clone(), machines, seed, pause_ms, end);
    let clients = client_seeds.into_iter().map(client_of);
    sim.run(join_all(clients.collect()));
    healing::heal(&mut sim, &world, machines);
    healing::wait_until_whole(&mut sim, &world, machines);
    healing::use_all(&mut sim, &world, machines);
    let mut oracle = world.oracle.borrow_mut();
    let state = oracle.newest().expect("there is a cluster at the end").clone();
    for name in oracle.history.names().map(String::from).collect::<Vec<_>>() {
        oracle.history.end(&name, state.settings.get(&name).map_or(0, |setting| setting.version));
    }
    let mut counts = std::mem::take(&mut oracle.counts);
    counts.insert("sets", oracle.history.sets_acknowledged);
    counts.insert("sets in doubt", oracle.history.sets_in_doubt);
    counts.insert("reads", oracle.history.reads);
    counts.insert("reads failed", oracle.history.reads_failed);
    counts.insert("leaders", oracle.leaders_count());
    for (event, before) in Event::ALL.iter().zip(before) {
        counts.insert(name_of(*event), probe::count_here(*event) - before);
    }
    counts.retain(|_, count| *count > 0);
    counts
}

fn name_of(event: Event) -> &'static str {
    match event {
        Event::JoinedAnother => "answers for another disk",
        Event::MadeRoom => "rooms made",
        Event::Joined => "joins",
        Event::Started => "starts",
        Event::Returned => "returns",
        Event::ReportCounted => "reports",
        Event::CaughtUpLate => "caught up too late",
        Event::CommandDoubled => "commands doubled",
        Event::CommandGivenUp => "commands given up",
        Event::OldIncarnationRefused => "old incarnations refused",
        Event::SnapshotRestored => "snapshots",
        Event::SnapshotLost => "snapshots lost",
        Event::LogCut => "logs cut",
        Event::ReadRepeated => "reads repeated",
        Event::ConfirmationLost => "confirmations lost",
        Event::DoomedHeard => "doomed heard",
        Event::LeaderStalled => "leaders stalled",
        Event::VerdictProposed => "verdicts",
        Event::LeaversRelieved => "leavers relieved",
        Event::VotersJoint => "voters changed",
        Event::StopAgreed => "stops agreed",
        Event::StopUnagreed => "stops not agreed",
    }
}

fn address(machine: u16) -> String {
    format!("n{machine}:7070")
}

pub fn start(world: &Rc<World>, sim: &Sim, machine: u16) {
    if sim.node(machine).is_down() {
        sim.node(machine).come_up();
    }
    if world.is_idle(machine.into()) {
        let io = sim.node(machine).io(0);
        world.note(|| format!("n{machine} starts"));
        world.slots[usize::from(machine)].has_failed.set(false);
        process::start(world, machine.into(), &io);
    }
}

impl Draw {
    fn settings(&mut self) -> Vec<Settings> {
        let zones = 1 + self.random.below(3);
        // Any of them may be told to found the cluster, if each is told of the others.
        let all_alike = self.random.chance(0.3);
        let patience = Patience {
            out_after: Duration::from_secs(20 + self.random.below(40)),
            join_for: Duration::from_secs(60 + self.random.below(60)),
        };
        let settings = (0..self.machines).map(|machine| {
            let others: Vec<String> = (0..self.machines).filter(|other| *other != machine).map(address).collect();
            let is_founder = all_alike || machine == 0;
            let bootstrap = Bootstrap { expect: 1, cluster: ClusterId([machine as u8 + 1; 16]) };
            let seeds = match machine {
                _ if all_alike => (0..self.machines).map(address).collect(),
                0 if self.random.chance(0.5) => others,
                0 => Vec::new(),
                _ if self.random.chance(0.5) => others,
                _ => vec![address(0)],
            };
            Settings {
                node_id: format!("node-{machine}"),
                profile: Profile {
                    address: address(machine),
                    client_address: address(machine),
                    zone: format!("zone-{}", u64::from(machine) % zones),
                    capacity_bytes: 1 << 40,
                    version: "0.0.0".into(),
                    levels: (1, 1),
                },
                seeds,
                bootstrap: is_founder.then_some(bootstrap),
                patience,
                holds_blobs: false,
                nonce: 0,
            }
        });
        settings.collect()
    }

    /// When something happens.
    fn moment(&mut self) -> Duration {
        Duration::from_millis(self.random.below(self.lasts.as_millis() as u64))
    }

    fn many(&mut self, most: f64) -> u64 {
        self.random.below((most * self.roughness) as u64 + 1)
    }

    /// Plans what goes wrong.
    fn trouble(&mut self, sim: &mut Sim, world: &Rc<World>) {
        let machines = self.machines;
        for machine in 0..machines {
            // Clocks go up to a tenth faster or slower, which is worse than any that is sold.
            sim.node(machine).set_clock_rate(self.random.below(200_001) as i32 - 100_000);
            let jump = Duration::from_millis(self.random.below(10_000_000));
            sim.node(machine).advance_clock(jump);
        }
        for _ in 0..self.many(8.0) {
            self.plan_cut(sim, world);
        }
        for _ in 0..self.many(8.0) {
            self.plan_crash(sim, world);
        }
        for _ in 0..self.many(6.0) {
            let (at, machine) = (self.moment(), self.random.below(machines.into()) as u16);
            let duration = Duration::from_millis(1 + self.random.below(18_000));
            let world = world.clone();
            sim.after(at, move |sim| {
                world.note(|| format!("n{machine} pauses for {duration:?}"));
                world.oracle.borrow_mut().count("pauses");
                sim.node(machine).pause_all(duration);
            });
        }
        for _ in 0..self.many(6.0) {
            let (at, one, other) =
                (self.moment(), self.random.below(machines.into()), self.random.below(machines.into()));
            if one != other {
                sim.after(at, move |sim| {
                    sim.network().reset(one as u16, other as u16);
                });
            }
        }
        for _ in 0..self.many(4.0) {
            let (at, from, to) =
                (self.moment(), self.random.below(machines.into()), self.random.below(machines.into()));
            let duration = Duration::from_millis(self.random.below(15_000));
            sim.after(at, move |sim| sim.network().clog(from as u16, to as u16));
            sim.after(at + duration, move |sim| sim.network().unclog(from as u16, to as u16));
        }
        for _ in 0..self.many(4.0) {
            self.plan_stop(sim, world);
        }
        self.plan_lost_disk(sim, world);
        self.plan_administration(sim, world);
        if machines == 2 && self.random.chance(0.3) {
            let (at, machine) = (self.moment(), self.random.below(2) as u16);
            plan_leaver_left_alone(sim, world, at, machine);
        }
    }

    fn plan_cut(&mut self, sim: &mut Sim, world: &Rc<World>) {
        if self.machines < 2 {
            return;
        }
        let (at, cut) = (self.moment(), Cut::draw(&mut self.random, self.machines));
        let duration = Duration::from_millis(self.random.below(25_000));
        let world = world.clone();
        sim.after(at, move |sim| {
            world.oracle.borrow_mut().count("cuts");
            world.note(|| format!("cut {:?} for {duration:?}", cut.directions()));
            let cut = sim.network().cut(cut);
            sim.after(duration, move |sim| sim.network().heal(cut));
        });
    }

    fn plan_crash(&mut self, sim: &mut Sim, world: &Rc<World>) {
        let (at, machine) = (self.moment(), self.random.below(self.machines.into()) as u16);
        let down = if self.random.chance(0.5) { self.random.below(1_000) } else { self.random.below(40_000) };
        let down = Duration::from_millis(down);
        let mode = if self.random.chance(0.5) { CrashMode::Power } else { CrashMode::Process };
        // Often in the middle of a commit, wherever that is.
        let operations = self.random.chance(0.5).then(|| self.random.below(60));
        let what = match (mode, operations) {
            (_, Some(_)) => "crashes within a commit",
            (CrashMode::Power, None) => "crashes by power",
            (_, None) => "crashes by kill",
        };
        let world = world.clone();
        sim.after(at, move |sim| {
            if sim.node(machine).is_down() {
                return;
            }
            world.oracle.borrow_mut().count(what);
            if let Some(operations) = operations {
                sim.node(machine).cut_blocking_after(operations);
            }
            // Time for the operations until then.
            let delay = operations.map_or(Duration::ZERO, |_| Duration::from_millis(500));
            sim.after(delay, move |sim| {
                if sim.node(machine).is_down() {
                    return;
                }
                world.note(|| format!("n{machine} {what} ({mode:?}), down for {down:?}"));
                sim.node(machine).go_down(mode);
                world.stopped(machine.into());
                sim.after(down, move |sim| start(&world, sim, machine));
            });
        });
    }

    /// Somebody stops a node in good order, and starts it again later ([`supervision`] ends it).
    fn plan_stop(&mut self, sim: &mut Sim, world: &Rc<World>) {
        let (at, machine) = (self.moment(), self.random.index(self.machines.into()));
        let world = world.clone();
        sim.after(at, move |_| {
            let Some(process) = world.process(machine) else { return };
            world.note(|| format!("n{machine} is to stop"));
            process.stop();
        });
    }

    /// A machine loses its disk: the others have to make do, and it comes back as another node.
    fn plan_lost_disk(&mut self, sim: &mut Sim, world: &Rc<World>) {
        if self.machines < 3 || !self.random.chance(0.3) {
            return;
        }
        let machine = 1 + self.random.below(u64::from(self.machines) - 1) as u16;
        let world = world.clone();
        if self.random.chance(0.5) {
            let down = Duration::from_millis(self.random.below(300));
            plan_disk_lost_unadmitted(sim, &world, machine, down);
            return;
        }
        let (at, down) = (self.moment(), Duration::from_millis(self.random.below(20_000)));
        sim.after(at, move |sim| {
            if !sim.node(machine).is_down() && may_lose_disk(&world, machine) {
                lose_disk(&world, sim, machine, down);
            }
        });
    }

    /// Somebody removes nodes that are offline, announces some that don't exist, and so on.
    fn plan_administration(&mut self, sim: &mut Sim, world: &Rc<World>) {
        let machines = self.machines;
        for _ in 0..self.many(3.0) {
            let (at, at_machine) = (self.moment(), self.random.below(machines.into()) as u16);
            let kind = self.random.below(3);
            let which = self.random.next_u64();
            let world = world.clone();
            sim.after(at, move |_| {
                let Some(process) = world.process(at_machine.into()) else { return };
                let Some(change) = administration(&process.running.control.borrow(), kind, which) else { return };
                if matches!(change, Change::Remove { .. } | Change::Leave { .. }) {
                    world.oracle.borrow_mut().count("removals");
                }
                world.note(|| format!("n{at_machine} is asked for {change:?}"));
                drop(process.request(Request::Change { change, timeout: Duration::from_secs(10) }));
            });
        }
    }
}

/// One of two nodes is to leave, the other one is down meanwhile, and somebody removes it.
fn plan_leaver_left_alone(sim: &Sim, world: &Rc<World>, at: Duration, machine: u16) {
    let other = 1 - machine;
    let process = move |world: &World| world.process(machine.into());
    let (first, is_done) = (world.clone(), Rc::new(Cell::new(true)));
    let begun = is_done.clone();
    sim.after(at, move |sim| {
        let Some(process) = process(&first) else { return };
        let Some(membership) = process.running.control.borrow().membership() else { return };
        let change = Change::Leave { node: membership.node, is_empty: true };
        first.note(|| format!("n{machine} is asked for {change:?}, and n{other} is to go down"));
        drop(process.request(Request::Change { change, timeout: Duration::from_secs(10) }));
        begun.set(false);
        let world = first.clone();
        sim.after(DOWN_AFTER, move |sim| {
            if !sim.node(other).is_down() {
                sim.node(other).go_down(CrashMode::Power);
                world.stopped(other.into());
                sim.after(DOWN_FOR, move |sim| start(&world, sim, other));
            }
        });
    });
    for look in 0..LOOKS_FOR_VERDICT {
        let (world, is_done) = (world.clone(), is_done.clone());
        sim.after(at + LOOK_EVERY_SECOND * look, move |_| {
            let Some(process) = process(&world).filter(|_| !is_done.get()) else { return };
            let control = process.running.control.borrow();
            let Some(state) = control.state() else { return };
            let mut members = state.members.iter();
            let Some((node, _)) = members.find(|(_, member)| member.state == MemberState::Offline) else { return };
            let change = Change::Remove { node: *node, is_forced: true };
            world.note(|| format!("n{machine} is asked for {change:?}"));
            drop(control);
            drop(process.request(Request::Change { change, timeout: Duration::from_secs(10) }));
            is_done.set(true);
        });
    }
}

fn administration(control: &nabu_cluster::control::Control, kind: u64, which: u64) -> Option<Change> {
    let state = control.state()?;
    let nodes: Vec<NodeNumber> = state.members.keys().copied().collect();
    let node = *nodes.get(which as usize % nodes.len().max(1))?;
    Some(match kind {
        0 => Change::Leave { node, is_empty: true },
        1 => Change::Remove { node, is_forced: true },
        _ => {
            let profile = Profile { address: "nobody:7070".into(), ..state.members[&node].profile.clone() };
            Change::Join { node_id: "nobody".into(), store: None, profile }
        }
    })
}

/// Whether the others can do without what a machine has: it doesn't vote, or is one of three or
/// more that do.
fn may_lose_disk(world: &World, machine: u16) -> bool {
    let Some(process) = world.process(machine.into()) else { return false };
    let control = process.running.control.borrow();
    let (Some(membership), Some(group)) = (control.membership(), control.group()) else { return true };
    let oracle = world.oracle.borrow();
    let [voters, outgoing] = oracle.newest_voters();
    let is_needed = voters.len() < 3 || !outgoing.is_empty() || group.is_leader();
    !is_needed || !(voters.contains(&membership.node.0) || outgoing.contains(&membership.node.0))
}

fn lose_disk(world: &Rc<World>, sim: &Sim, machine: u16, down: Duration) {
    world.oracle.borrow_mut().count("disks lost");
    world.note(|| format!("n{machine} loses its disk, down for {down:?}"));
    sim.node(machine).go_down(CrashMode::Power);
    world.stopped(machine.into());
    empty_disk(world, sim, machine);
    let world = world.clone();
    sim.after(down, move |sim| start(&world, sim, machine));
}

/// A machine loses its disk when the others have let it in, and before it is told: the answer then
/// comes to another node.
fn plan_disk_lost_unadmitted(sim: &Sim, world: &Rc<World>, machine: u16, down: Duration) {
    let is_done = Rc::new(Cell::new(false));
    for look in 0..LOOKS_FOR_ADMISSION {
        let (world, is_done) = (world.clone(), is_done.clone());
        sim.after(LOOK_EVERY * look, move |sim| {
            let Some(process) = world.process(machine.into()).filter(|_| !is_done.get()) else { return };
            let is_told = process.running.control.borrow().membership().is_some();
            let name = format!("node-{machine}");
            let is_in = world.oracle.borrow().newest().is_some_and(|state| state.member_named(&name).is_some());
            if is_in && !is_told {
                is_done.set(true);
                lose_disk(&world, sim, machine, down);
            }
        });
    }
}

pub fn empty_disk(world: &World, sim: &Sim, machine: u16) {
    sim.node(machine).wipe();
    // A founder that was told of nobody would found another cluster.
    let mut settings = world.slots[usize::from(machine)].settings.borrow_mut();
    if settings.seeds.is_empty() {
        let others = (0..world.slots.len() as u16).filter(|other| *other != machine);
        settings.seeds = others.map(address).collect();
    }
}

async fn join_all(futures: Vec<impl Future<Output = ()>>) {
    let mut futures: Vec<_> = futures.into_iter().map(|future| Some(Box::pin(future))).collect();
    std::future::poll_fn(|context| {
        for slot in &mut futures {
            if slot.as_mut().is_some_and(|future| future.as_mut().poll(context).is_ready()) {
                *slot = None;
            }
        }
        if futures.iter().all(Option::is_none) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await
}
