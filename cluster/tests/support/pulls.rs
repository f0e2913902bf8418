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
        spawn(world, process, Input::CaughtUp { since }, move |pulled| {
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
        spawn(world, process, Input::Synced { since, arcs }, move |pulled| {
            let pulled = pulled.arcs.entry((node, since)).or_default();
            done.into_iter().for_each(|arc| _ = pulled.insert(arc));
        });
    }
}

fn spawn(world: &Rc<World>, process: &Rc<Process>, report: Input, done: impl FnOnce(&mut Pulled) + 'static) {
    let (world, process, io) = (world.clone(), process.clone(), process.running.io.clone());
    let lasts = Duration::from_nanos(io.random_u64() % PULL_MAX.as_nanos() as u64);
    io.clone().spawn(async move {
        io.sleep(lasts).await;
        done(&mut world.oracle.borrow_mut().pulled);
        process.report(report);
    });
}
