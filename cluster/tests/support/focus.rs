//! Troubles that are aimed at what chance hardly meets: elections of which several go on at once,
//! nodes that come back just when they are given up, messages of a process that outlive it, and the
//! loss of a majority. The other seeds mix everything at random (`scenario`).

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use nabu_cluster::control::member::{MemberState, StoreId};
use nabu_cluster::control::recover;
use nabu_cluster::control::store::Store;
use nabu_cluster::control::verdicts::SILENCE;
use nabu_engine::io::Spawn;
use nabu_engine::sim::{CrashMode, Cut, NetOptions, Random, Sim};

use super::backend::Backend;
use super::process::{self, World};
use super::scenario;

/// What a seed is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Focus {
    /// Everything, at random.
    Mixture,
    /// Several candidates in one term, and voters that are killed right after an election.
    Elections,
    /// Nodes that are silent for about as long as it takes to be given up.
    Silences,
    /// What a process sent arrives when its next start is there.
    Restarts,
    /// A majority of the voters is lost for good, and one node that is left goes on.
    LostMajority,
}

/// Until then a cluster has formed.
const FORMED: Duration = Duration::from_secs(12);
/// How often somebody looks whether there is a new leader.
const WATCH_EVERY: Duration = Duration::from_millis(10);

impl Focus {
    pub fn of(seed: u64) -> Self {
        match seed % 8 {
            4 => Self::Elections,
            5 => Self::Silences,
            6 => Self::Restarts,
            7 => Self::LostMajority,
            _ => Self::Mixture,
        }
    }

    /// How many machines there are; `None` if that is left to chance.
    pub fn machines(self) -> Option<u16> {
        match self {
            Self::Mixture => None,
            Self::Elections | Self::Silences | Self::Restarts => Some(3),
            Self::LostMajority => Some(4),
        }
    }

    /// How long things go wrong, in virtual time: no longer than it takes to meet what it is about.
    pub fn lasts(self) -> Duration {
        Duration::from_secs(match self {
            Self::Mixture | Self::Silences | Self::LostMajority => 60,
            Self::Elections => 45,
            Self::Restarts => 36,
        })
    }

    /// The network; `None` if that is left to chance.
    pub fn network(self, random: &mut Random) -> Option<NetOptions> {
        let slow = |random: &mut Random, most_ms: u64| NetOptions {
            delay_ns_min: 20_000_000,
            delay_ns_max: 30_000_000 + random.below(most_ms * 1_000_000),
            ..NetOptions::default()
        };
        match self {
            Self::Mixture => None,
            // So slow that candidates don't learn of one another in time.
            Self::Elections => Some(slow(random, 120)),
            Self::Silences => Some(slow(random, 150)),
            Self::Restarts | Self::LostMajority => Some(NetOptions::default()),
        }
    }

    /// Plans what goes wrong.
    pub fn trouble(self, sim: &Sim, world: &Rc<World>, random: &mut Random) {
        match self {
            Self::Mixture => {}
            Self::Elections => elections(sim, world, random),
            Self::Silences => silences(sim, world, random),
            Self::Restarts => restarts(sim, world, random),
            Self::LostMajority => lost_majority(sim, world, random),
        }
    }
}

/// Moments from the time on that a cluster has formed, so far apart.
fn moments(focus: Focus, random: &mut Random, apart_ms: std::ops::Range<u64>) -> Vec<Duration> {
    let mut moments = Vec::new();
    let mut at = FORMED;
    while at < focus.lasts() {
        moments.push(at);
        at += Duration::from_millis(apart_ms.start + random.below(apart_ms.end - apart_ms.start));
    }
    moments
}

/// Kills a process, and starts the next one at once.
fn kill(world: &Rc<World>, sim: &Sim, machine: u16, what: &'static str) {
    if sim.node(machine).is_down() {
        return;
    }
    world.oracle.borrow_mut().count(what);
    world.note(|| format!("n{machine} is killed: {what}"));
    sim.node(machine).crash(CrashMode::Process);
    world.stopped(machine.into());
    scenario::start(world, sim, machine);
}

/// The machine that leads, as far as it knows itself.
fn leader(world: &World) -> Option<u16> {
    let is_leader = |machine: &usize| {
        let process = world.process(*machine);
        process.is_some_and(|process| {
            process.running.control.borrow().group().is_some_and(nabu_cluster::control::group::Group::is_leader)
        })
    };
    (0..world.slots.len()).find(is_leader).map(|machine| machine as u16)
}

fn elections(sim: &Sim, world: &Rc<World>, random: &mut Random) {
    // Leaders fall, and two of three machines don't hear one another: both ask the third.
    for at in moments(Focus::Elections, random, 2_500..5_000) {
        let (hub, lasts) = (random.below(3) as u16, Duration::from_millis(random.below(3_000)));
        let world = world.clone();
        sim.after(at, move |sim| {
            let others: Vec<u16> = (0..3).filter(|other| *other != hub).collect();
            let cut = sim.network().cut(Cut::pairs(&[(others[0], others[1])]));
            sim.after(Duration::from_secs(2) + lasts, move |sim| sim.network().heal(cut));
            if let Some(leader) = leader(&world) {
                kill(&world, sim, leader, "leaders killed");
            }
        });
    }
    // Who voted is killed as soon as somebody has won, before it hears of the winner.
    let seed = random.next_u64();
    let known = Rc::new(Cell::new(0));
    let watches = ((Focus::Elections.lasts() - FORMED).as_millis() / WATCH_EVERY.as_millis()) as u32;
    for watch in 0..watches {
        let (world, known) = (world.clone(), known.clone());
        sim.after(FORMED + WATCH_EVERY * watch, move |sim| {
            let leaders = world.oracle.borrow().leaders_count();
            if known.replace(leaders) == leaders {
                return;
            }
            let Some(winner) = leader(&world) else { return };
            let mut random = Random::new(seed ^ leaders);
            let voter = (winner + 1 + random.below(2) as u16) % 3;
            if random.chance(0.8) {
                kill(&world, sim, voter, "voters killed");
            }
        });
    }
}

fn silences(sim: &Sim, world: &Rc<World>, random: &mut Random) {
    for at in moments(Focus::Silences, random, 11_500..14_000) {
        let machine = random.below(3) as u16;
        let lasts = SILENCE - Duration::from_millis(1_200) + Duration::from_millis(random.below(1_700));
        let world = world.clone();
        sim.after(at, move |sim| {
            world.oracle.borrow_mut().count("silences");
            world.note(|| format!("n{machine} is silent for {lasts:?}"));
            sim.node(machine).pause_all(lasts);
        });
    }
}

fn restarts(sim: &Sim, world: &Rc<World>, random: &mut Random) {
    for at in moments(Focus::Restarts, random, 2_000..4_000) {
        let machine = random.below(3) as u16;
        let (kill_after, heal_after) =
            (Duration::from_millis(random.below(900)), Duration::from_millis(random.below(300)));
        let world = world.clone();
        sim.after(at, move |sim| {
            let others: Vec<u16> = (0..3).filter(|other| *other != machine).collect();
            let cut = sim.network().cut(Cut::one_way(&[machine], &others));
            sim.after(kill_after, move |sim| {
                kill(&world, sim, machine, "kills while cut off");
                sim.after(heal_after, move |sim| sim.network().heal(cut));
            });
        });
    }
}

fn lost_majority(sim: &Sim, world: &Rc<World>, random: &mut Random) {
    let at = FORMED + Duration::from_millis(random.below(13_000));
    let choice = random.next_u64();
    let world = world.clone();
    sim.after(at, move |sim| lose_majority(&world, sim, &mut Random::new(choice)));
}

/// Takes a majority of the voters away with their disks, and lets somebody recover the cluster on a
/// node that is left.
fn lose_majority(world: &Rc<World>, sim: &Sim, random: &mut Random) {
    let machines = world.slots.len() as u16;
    let [voters, outgoing] = world.oracle.borrow().newest_voters();
    let node_of = |machine: u16| {
        let process = world.process(machine.into())?;
        let membership = process.running.control.borrow().membership();
        membership.map(|membership| membership.node)
    };
    let votes = |machine: &u16| node_of(*machine).is_some_and(|node| voters.contains(&node.0));
    let mut voting: Vec<u16> = (0..machines).filter(votes).collect();
    if voting.len() < 3 || voting.len() != voters.len() || !outgoing.is_empty() {
        return;
    }
    random.shuffle(&mut voting);
    let lost: Vec<u16> = voting[..voting.len() / 2 + 1].to_vec();
    let holds_data = |machine: &u16| {
        let oracle = world.oracle.borrow();
        let Some(node) = node_of(*machine) else { return false };
        let process = world.process((*machine).into()).expect("it has a membership");
        let control = process.running.control.borrow();
        let knows_itself = control.state().is_some_and(|state| state.is_seated(node));
        let member = oracle.newest().and_then(|state| state.members.get(&node));
        knows_itself && member.is_some_and(|member| member.state == MemberState::Active)
    };
    let left: Vec<u16> =
        (0..machines).filter(|machine| !lost.contains(machine)).filter(|machine| holds_data(machine)).collect();
    let Some(chosen) = (!left.is_empty()).then(|| left[random.index(left.len())]) else { return };
    world.oracle.borrow_mut().count("majorities lost");
    world.note(|| format!("{lost:?} are lost for good, and n{chosen} is to go on"));
    for machine in lost.clone() {
        sim.node(machine).go_down(CrashMode::Power);
        world.stopped(machine.into());
        scenario::empty_disk(world, sim, machine);
    }
    // Nobody can be sure that they are lost at once. And whoever recovers is told to wait: a voter
    // that is left may still hold a lease, and is no member any more after the recovery.
    let stopped_after = SILENCE + Duration::from_millis(random.below(10_000));
    let recovered_after = Duration::from_millis(500 + random.below(3_000));
    let world = world.clone();
    sim.after(stopped_after, move |sim| {
        sim.node(chosen).go_down(CrashMode::Process);
        world.stopped(chosen.into());
        sim.after(recovered_after, move |sim| {
            sim.node(chosen).come_up();
            run_recovery(&world, sim, chosen);
            // Other machines come in place of the lost ones.
            for machine in lost {
                let world = world.clone();
                sim.after(Duration::from_secs(10), move |sim| scenario::start(&world, sim, machine));
            }
        });
    });
}

fn run_recovery(world: &Rc<World>, sim: &Sim, machine: u16) {
    let io = sim.node(machine).io(0);
    let (world, task_io) = (world.clone(), io.clone());
    io.spawn(async move {
        let backend = Backend::open(&task_io).await.expect("the disk works");
        let (store, saved) = Store::open(backend, StoreId([0xff; 16])).expect("the file is sound");
        let recovered = recover(&store, saved).expect("it is a member that holds data");
        world.note(|| format!("n{machine}: {recovered:?}"));
        drop(store);
        let mut oracle = world.oracle.borrow_mut();
        oracle.count("recoveries");
        oracle.history.is_recovered = true;
        drop(oracle);
        process::start(&world, machine.into(), &task_io);
    });
}
