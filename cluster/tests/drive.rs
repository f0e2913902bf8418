//! Operations on one id, driven over a network that loses and delays, while seats go down, are
//! declared offline and come back. What clients are told must be linearizable, and once nothing goes
//! wrong any more everybody is told something.

#[allow(dead_code, reason = "`register` uses the rest")]
#[path = "register/history.rs"]
mod history;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use history::{History, OPERATIONS_MAX};
use nabu_cluster::node::NodeNumber;
use nabu_cluster::register::ask::{Answer, Ask};
use nabu_cluster::register::delete::Deleted;
use nabu_cluster::register::drive::{InDoubt, Seats, drive};
use nabu_cluster::register::get::Found;
use nabu_cluster::register::{Cell, Delete, Electorate, Get, Mark, Put, Standing, Version};
use nabu_engine::io::{Clock, Randomness, Spawn};
use nabu_engine::sim::{Random, Sim, SimIo, SimOptions};

/// How long things go wrong.
const TROUBLE: Duration = Duration::from_secs(6);
/// When an answer is given up.
const ANSWER_WITHIN: Duration = Duration::from_millis(200);

/// What must have happened over all seeds.
const EXPECTED: &[&str] = &[
    "uploads stored",
    "blobs deleted",
    "deletes of nothing",
    "blobs read",
    "absences read",
    "requests lost",
    "answers lost",
    "requests to a seat that is down",
    "requests by an old ring",
    "pulls",
    "verdicts",
    "returns",
    "ended in doubt",
];

struct Seat {
    cell: Cell,
    is_up: bool,
    is_offline: bool,
}

struct World {
    ring: u64,
    seats: Vec<Seat>,
    electorate: Rc<Electorate>,
    settled: BTreeSet<Standing>,
    history: History,
    in_doubt: BTreeSet<usize>,
    loss: f64,
    counts: BTreeMap<&'static str, u64>,
}

impl World {
    fn count(&mut self, what: &'static str) {
        assert!(EXPECTED.contains(&what), "{what} is not expected");
        *self.counts.entry(what).or_default() += 1;
    }

    /// The group has agreed on something.
    fn renew(&mut self) {
        self.ring += 1;
        let nodes: Vec<NodeNumber> = (0..self.seats.len() as u64).map(NodeNumber).collect();
        let is_offline = |node: NodeNumber| self.seats[node.0 as usize].is_offline;
        self.electorate = Rc::new(Electorate::new(&nodes, None, is_offline));
    }
}

#[derive(Clone)]
struct Network {
    io: SimIo,
    world: Rc<RefCell<World>>,
}

impl Network {
    fn chance(&self, of: f64) -> bool {
        (self.io.random_u64() >> 11) as f64 / ((1u64 << 53) as f64) < of
    }

    async fn travel(&self) {
        let slow = if self.chance(0.05) { 150 } else { 30 };
        self.io.sleep(Duration::from_micros(self.io.random_u64() % (slow * 1_000))).await;
    }

    fn is_lost(&self, what: &'static str) -> bool {
        let loss = self.world.borrow().loss;
        let is_lost = self.chance(loss);
        if is_lost {
            self.world.borrow_mut().count(what);
        }
        is_lost
    }

    /// What a seat does with what it is asked; `None` if it isn't there, or goes by another ring.
    async fn arrive(&self, ring: u64, seat: usize, ask: Ask) -> Option<Answer> {
        {
            let mut world = self.world.borrow_mut();
            if !world.seats[seat].is_up {
                world.count("requests to a seat that is down");
                return None;
            }
            if world.ring != ring {
                world.count("requests by an old ring");
                return None;
            }
        }
        if let Ask::Pull { from, .. } = ask {
            self.travel().await;
            let held = {
                let world = self.world.borrow();
                let other = &world.seats[from.0 as usize];
                other.is_up.then_some(other.cell.standing)?
            };
            self.travel().await;
            let mut world = self.world.borrow_mut();
            // It was another ring when it asked.
            if world.ring != ring || !world.seats[seat].is_up {
                return None;
            }
            world.count("pulls");
            world.seats[seat].cell.pull(held);
        }
        let mut world = self.world.borrow_mut();
        let settled = world.settled.clone();
        let cell = &mut world.seats[seat].cell;
        let floor = Version::ABSENT;
        Some(match ask {
            Ask::Version => Answer::Version(cell.upload_version(floor)),
            Ask::Offer(standing) => Answer::Offered(cell.offer(floor, standing)),
            Ask::Promise(tombstone) => Answer::Promised(cell.promise(floor, tombstone)),
            Ask::Bury(tombstone) => {
                cell.bury(tombstone);
                Answer::Buried
            }
            Ask::Standing | Ask::Pull { .. } => {
                Answer::Standing { holds: cell.standing, is_settled: settled.contains(&cell.standing) }
            }
        })
    }
}

impl Seats for Network {
    fn electorate(&self) -> (u64, Rc<Electorate>) {
        let world = self.world.borrow();
        (world.ring, world.electorate.clone())
    }

    async fn ask(&self, ring: u64, seat: NodeNumber, ask: Ask) -> Option<Answer> {
        self.travel().await;
        let answer = match self.is_lost("requests lost") {
            true => None,
            false => self.arrive(ring, seat.0 as usize, ask).await,
        };
        if answer.is_none() || self.is_lost("answers lost") {
            self.io.sleep(ANSWER_WITHIN).await;
            return None;
        }
        self.travel().await;
        answer
    }
}

async fn upload(network: Rc<Network>, number: usize, mark: Mark, is_guessing: bool, within: Duration) {
    let io = network.io.clone();
    begin(&network, number, true);
    let put = if is_guessing { Put::guessing(mark, Version::ABSENT) } else { Put::asking(mark) };
    let ended = drive(&io, &network, put, io.now().after(within)).await;
    let mut world = network.world.borrow_mut();
    match ended {
        Ok(version) => {
            world.count("uploads stored");
            world.settled.insert(Standing::blob(version, mark));
            world.history.acknowledge(number, true).expect("linearizable");
        }
        Err(InDoubt) => end_in_doubt(&mut world, number),
    }
}

async fn delete(network: Rc<Network>, number: usize, within: Duration) {
    let io = network.io.clone();
    begin(&network, number, false);
    let ended = drive(&io, &network, Delete::default(), io.now().after(within)).await;
    let mut world = network.world.borrow_mut();
    match ended {
        Ok(deleted) => {
            world.count(if deleted == Deleted::Gone { "blobs deleted" } else { "deletes of nothing" });
            world.history.acknowledge(number, deleted == Deleted::Gone).expect("linearizable");
        }
        Err(InDoubt) => end_in_doubt(&mut world, number),
    }
}

fn begin(network: &Network, number: usize, leaves: bool) {
    let mut world = network.world.borrow_mut();
    let in_doubt = world.in_doubt.clone();
    world.history.begin(number, leaves, in_doubt.into_iter());
}

fn end_in_doubt(world: &mut World, number: usize) {
    world.count("ended in doubt");
    world.in_doubt.insert(number);
}

/// Reads once; whether it was told something.
async fn read(network: &Rc<Network>, within: Duration) -> bool {
    let io = network.io.clone();
    network.world.borrow_mut().history.begin_read();
    let ended = drive(&io, network, Get::default(), io.now().after(within)).await;
    let mut world = network.world.borrow_mut();
    match ended {
        Ok(found) => {
            let is_there = found != Found::Absent;
            world.count(if is_there { "blobs read" } else { "absences read" });
            world.history.end_read(is_there).expect("linearizable");
            true
        }
        Err(InDoubt) => {
            world.history.drop_read();
            false
        }
    }
}

/// A seat goes down; after a while the group says so; it comes back.
async fn trouble(network: Rc<Network>, seat: usize, at: Duration, down_for: Duration, verdict_after: Duration) {
    let io = network.io.clone();
    io.sleep(at).await;
    network.world.borrow_mut().seats[seat].is_up = false;
    if verdict_after < down_for {
        io.sleep(verdict_after).await;
        let mut world = network.world.borrow_mut();
        world.seats[seat].is_offline = true;
        world.renew();
        world.count("verdicts");
    }
    io.sleep(down_for.saturating_sub(verdict_after)).await;
    let mut world = network.world.borrow_mut();
    world.seats[seat].is_up = true;
    if std::mem::take(&mut world.seats[seat].is_offline) {
        world.renew();
        world.count("returns");
    }
}

fn run(seed: u64, totals: &mut BTreeMap<&'static str, u64>) {
    let mut random = Random::new(seed);
    let mut sim = Sim::new(seed, SimOptions::default());
    let seats = if random.chance(0.7) { 3 } else { 5 };
    let mut world = World {
        ring: 0,
        seats: (0..seats).map(|_| Seat { cell: Cell::default(), is_up: true, is_offline: false }).collect(),
        electorate: Rc::new(Electorate::new(&[NodeNumber(0)], None, |_| false)),
        settled: BTreeSet::new(),
        history: History::new(),
        in_doubt: BTreeSet::new(),
        loss: if random.chance(0.5) { 0.0 } else { random.below(100) as f64 / 400.0 },
        counts: BTreeMap::new(),
    };
    world.renew();
    let io = sim.io(0);
    let network = Rc::new(Network { io: io.clone(), world: Rc::new(RefCell::new(world)) });
    let millis = |random: &mut Random, most: u64| Duration::from_millis(random.below(most));
    for number in 0..OPERATIONS_MAX {
        let (network, task_io, at) = (network.clone(), io.clone(), millis(&mut random, 3_000));
        // Often all at once.
        let at = if random.chance(0.5) { Duration::from_secs(1) + at / 100 } else { at };
        let within = Duration::from_millis(100) + millis(&mut random, 4_000);
        let (is_upload, is_guessing) = (random.chance(0.55), random.chance(0.5));
        let mark = Mark { policy: random.below(2) as u8, node: NodeNumber(random.below(3)), upload: number as u64 };
        io.spawn(async move {
            task_io.sleep(at).await;
            match is_upload {
                true => upload(network, number, mark, is_guessing, within).await,
                false => delete(network, number, within).await,
            }
        });
    }
    if random.chance(0.6) {
        let seat = random.index(seats);
        let (at, down_for) = (millis(&mut random, 2_000), millis(&mut random, 3_000));
        let verdict_after = Duration::from_millis(100) + millis(&mut random, 1_500);
        io.spawn(trouble(network.clone(), seat, at, down_for, verdict_after));
    }
    let reader = network.clone();
    sim.run(async move {
        let io = reader.io.clone();
        let end = io.now().after(TROUBLE);
        while io.now() < end {
            read(&reader, Duration::from_millis(1_500)).await;
        }
        reader.world.borrow_mut().loss = 0.0;
        assert!(read(&reader, Duration::from_secs(5)).await, "nothing goes wrong, and nobody is told, seed {seed}");
    });
    for (what, count) in &network.world.borrow().counts {
        *totals.entry(what).or_default() += count;
    }
}

#[test]
fn what_clients_are_told_is_linearizable_and_in_the_end_they_are_told_something() {
    let seeds = std::env::var("NABU_SEEDS").map_or(1_000, |seeds| seeds.parse().expect("NABU_SEEDS is a number"));
    let mut totals = BTreeMap::new();
    for seed in 0..seeds {
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, &mut totals)));
        assert!(run.is_ok(), "seed {seed}");
    }
    println!("{totals:?}");
    let never: Vec<_> = EXPECTED.iter().filter(|what| !totals.contains_key(**what)).collect();
    assert!(never.is_empty(), "it never happened: {never:?}");
}
