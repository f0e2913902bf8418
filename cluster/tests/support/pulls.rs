//! What stands in for a data plane: a node that is back, or has new seats, takes its time to pull
//! what it lacks, and then reports. What it has pulled is written down outside of it, so that the
//! oracle can tell whether the group counted what was never done.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use nabu_cluster::control::Input;
use nabu_cluster::control::member::Incarnation;
use nabu_cluster::node::NodeNumber;
use nabu_cluster::placement::{ARCS, ArcId};
use nabu_engine::io::{Clock, Randomness, Spawn};

use super::process::{Process, World};

/// The longest pull.
const PULL_MAX: Duration = Duration::from_secs(3);

/// All that was ever pulled.
#[derive(Default)]
pub struct Pulled {
    /// By the returns after which it was.
    pub returns: BTreeSet<(NodeNumber, Incarnation, u64)>,
    /// By the version that gave arcs their seats: which of them.
    pub arcs: BTreeMap<(NodeNumber, u64), Arcs>,
}

/// A set of arcs.
pub struct Arcs([u64; ARCS / 64]);

impl Default for Arcs {
    fn default() -> Self {
        Self([0; ARCS / 64])
    }
}

impl Arcs {
    /// Whether it is new.
    pub fn insert(&mut self, arc: ArcId) -> bool {
        let is_new = !self.has(arc);
        self.0[arc.index() / 64] |= 1 << (arc.index() % 64);
        is_new
    }

    pub fn has(&self, arc: ArcId) -> bool {
        self.0[arc.index() / 64] >> (arc.index() % 64) & 1 == 1
    }
}

/// What a process pulls, or has pulled.
#[derive(Default)]
pub struct Pulls {
    returned: Option<u64>,
    /// The table that was looked at last.
    ring: Option<u64>,
    arcs: BTreeMap<u64, Arcs>,
}

/// Begins to pull what the process lacks by the state as it knows it.
pub fn begin(world: &Rc<World>, process: &Rc<Process>) {
    let control = process.running.control.borrow();
    let (Some(membership), Some(incarnation), Some(state)) =
        (control.membership(), control.incarnation(), control.state())
    else {
        return;
    };
    let node = membership.node;
    let mut pulls = process.pulls.borrow_mut();
    if let Some(since) = control.returning_since().filter(|since| pulls.returned.replace(*since) != Some(*since)) {
        // All arcs of so small a cluster have the same seats.
        let arc = ArcId::all().next().expect("there are arcs");
        spawn(world, process, (arc, Sources::Seats), Input::CaughtUp { since }, move |pulled| {
            pulled.returns.insert((node, incarnation, since));
        });
    }
    let Some(ring) = state.ring.as_ref().filter(|ring| pulls.ring.replace(ring.version()) != Some(ring.version()))
    else {
        return;
    };
    let mut awaited: BTreeMap<u64, Vec<ArcId>> = BTreeMap::new();
    for arc in ring.moving().filter(|arc| ring.placement(*arc).awaits(node)) {
        let since = ring.placement(arc).since;
        if pulls.arcs.entry(since).or_default().insert(arc) {
            awaited.entry(since).or_default().push(arc);
        }
    }
    for (since, arcs) in awaited {
        let done = arcs.clone();
        spawn(world, process, (arcs[0], Sources::From), Input::Synced { since, arcs }, move |pulled| {
            let pulled = pulled.arcs.entry((node, since)).or_default();
            done.into_iter().for_each(|arc| _ = pulled.insert(arc));
        });
    }
}

/// From whom is pulled, by the ring as the process knows it.
#[derive(Clone, Copy)]
enum Sources {
    Seats,
    /// Nothing is left to pull where the arc moves no more.
    From,
}

/// Whether a majority of them run.
fn can_be_asked(world: &World, process: &Process, (arc, sources): (ArcId, Sources)) -> bool {
    let control = process.running.control.borrow();
    let Some(ring) = control.state().and_then(|state| state.ring.as_ref()) else { return false };
    let sources = match sources {
        Sources::Seats => ring.seats(arc).record_seats(),
        Sources::From => ring.from(arc).map_or(&[][..], |from| from.record_seats()),
    };
    let own = control.membership();
    let nodes = (0..world.slots.len()).filter_map(|machine| world.process(machine)).filter_map(|process| {
        let membership = process.running.control.borrow().membership();
        membership.filter(|membership| own.is_some_and(|own| own.cluster == membership.cluster))
    });
    let running: BTreeSet<NodeNumber> = nodes.map(|membership| membership.node).collect();
    let count = sources.iter().filter(|node| running.contains(node)).count();
    count * 2 > sources.len() || sources.is_empty()
}

/// Pulls from a majority of these.
fn spawn(
    world: &Rc<World>,
    process: &Rc<Process>,
    sources: (ArcId, Sources),
    report: Input,
    done: impl FnOnce(&mut Pulled) + 'static,
) {
    let (world, process, io) = (world.clone(), process.clone(), process.running.io.clone());
    let lasts = Duration::from_nanos(io.random_u64() % PULL_MAX.as_nanos() as u64);
    io.clone().spawn(async move {
        io.sleep(lasts).await;
        while !can_be_asked(&world, &process, sources) {
            io.sleep(PULL_MAX / 4).await;
        }
        done(&mut world.oracle.borrow_mut().pulled);
        process.report(report);
    });
}
