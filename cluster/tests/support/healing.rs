//! The end of a scenario: nothing goes wrong any more, and the cluster has to be whole again
//! without help.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use nabu_cluster::control::member::MemberState;
use nabu_cluster::node::NodeNumber;
use nabu_engine::io::{Clock, Instant};
use nabu_engine::sim::Sim;

use super::clients::{read, set};
use super::process::World;
use super::scenario::start;
use super::supervision;

/// How long a healed cluster may take until it is whole. A machine that lost its disk while it was
/// joining is let in again once the cluster has given up what it was before: up to two minutes
/// after there is a leader.
const HEALING_MAX: Duration = Duration::from_secs(180);
/// What goes wrong last has begun and happened by then.
const LAST_TROUBLE: Duration = Duration::from_secs(2);

/// Ends all trouble.
pub fn heal(sim: &mut Sim, world: &Rc<World>, machines: u16) {
    world.note(|| "all is healed".into());
    sim.network().heal_all();
    sim.network().change(|options| {
        (options.slow, options.reset, options.reset_on_heal, options.clog) = (0.0, 0.0, 0.0, 0.0);
    });
    let io = sim.io_of(machines, 0);
    sim.run(async move { io.sleep(LAST_TROUBLE).await });
    // Whoever is down, for however long, comes up now.
    for machine in 0..machines {
        sim.node(machine).faults(|faults| *faults = nabu_engine::sim::Faults::default());
        start(world, sim, machine);
    }
    supervision::plan(sim, world, machines, HEALING_MAX);
}

/// Waits until the cluster is as it should be, all by itself.
pub fn wait_until_whole(sim: &mut Sim, world: &Rc<World>, machines: u16) {
    let io = sim.io_of(machines, 0);
    let (world, seed) = (world.clone(), sim.seed());
    sim.run(async move {
        let end = io.now().after(HEALING_MAX);
        loop {
            let missing = missing(&world, machines);
            let Some(missing) = missing else { return };
            assert!(io.now() < end, "after healing, {missing}, seed {seed}");
            io.sleep(Duration::from_millis(500)).await;
        }
    });
}

/// What is not yet as it should be.
fn missing(world: &World, machines: u16) -> Option<String> {
    let mut nodes = BTreeSet::new();
    let mut versions = BTreeSet::new();
    let mut leaders = BTreeSet::new();
    for machine in 0..machines {
        let Some(process) = world.process(machine.into()) else { return Some(format!("n{machine} is not there")) };
        let control = process.running.control.borrow();
        let now: Instant = process.running.io.now();
        let (Some(membership), Some(state)) = (control.membership(), control.state()) else {
            return Some(format!("n{machine} belongs to no cluster"));
        };
        nodes.insert(membership.node);
        versions.insert((state.ring_version, control.group().map(|group| group.applied())));
        leaders.insert(control.leader());
        let Some(member) = state.members.get(&membership.node) else {
            return Some(format!("n{machine} knows nothing of itself"));
        };
        if control.incarnation() != Some(member.incarnation) {
            return Some(format!("n{machine} has no incarnation"));
        }
        match member.state {
            MemberState::Active if control.is_in_contact(now) => {}
            MemberState::Active => return Some(format!("n{machine} is active and not in contact")),
            MemberState::Joining if state.is_full() => {}
            other => return Some(format!("n{machine} is {}", other.name())),
        }
    }
    let process = world.process(0)?;
    let control = process.running.control.borrow();
    let moving = control.state().and_then(|state| state.ring.as_ref()).map_or(0, |ring| ring.moving().count());
    if moving > 0 {
        return Some(format!("{moving} arcs move"));
    }
    drop(control);
    if versions.len() > 1 {
        return Some(format!("versions differ: {versions:?}"));
    }
    if leaders.len() > 1 || leaders.contains(&None) {
        return Some(format!("leaders differ: {leaders:?}"));
    }
    let process = world.process(0)?;
    let control = process.running.control.borrow();
    let conf = control.group()?.voters();
    let voters: BTreeSet<NodeNumber> = conf.voters.iter().copied().map(NodeNumber).collect();
    let expected = if nodes.len().is_multiple_of(2) { nodes.len() - 1 } else { nodes.len() };
    if !conf.voters_outgoing.is_empty() || voters.len() != expected || !voters.is_subset(&nodes) {
        return Some(format!("of {nodes:?} vote {conf:?}"));
    }
    None
}

/// Every machine can be used for everything.
pub fn use_all(sim: &mut Sim, world: &Rc<World>, machines: u16) {
    let (world, seed) = (world.clone(), sim.seed());
    sim.run(async move {
        for machine in 0..machines {
            let process = world.process(machine.into()).expect("all are there");
            let timeout = Duration::from_secs(10);
            let is_set = set(&world, &process, "name-0", vec![machine as u8], timeout).await;
            assert!(is_set, "n{machine} can't set, seed {seed}");
            assert!(read(&world, &process, "name-0", timeout).await, "n{machine} can't read, seed {seed}");
        }
    });
}
