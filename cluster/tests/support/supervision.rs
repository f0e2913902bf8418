//! Who looks after the processes of a simulated cluster, as a service manager and an administrator
//! do.

use std::rc::Rc;
use std::time::Duration;

use nabu_engine::sim::{CrashMode, Sim};

use super::process::World;
use super::scenario::{empty_disk, start};

/// Somebody looks after processes that ended, each second.
pub fn plan(sim: &Sim, world: &Rc<World>, machines: u16, time: Duration) {
    for second in 0..time.as_secs() {
        let world = world.clone();
        sim.after(Duration::from_secs(second), move |sim| supervise(&world, sim, machines));
    }
}

/// Starts processes anew that ended by themselves.
fn supervise(world: &Rc<World>, sim: &Sim, machines: u16) {
    for machine in 0..machines {
        let slot = &world.slots[usize::from(machine)];
        if slot.has_failed.get() && !sim.node(machine).is_down() {
            sim.node(machine).crash(CrashMode::Process);
            world.stopped(machine.into());
            start(world, sim, machine);
        }
        let stopped = world.process(machine.into()).and_then(|process| process.stopped.get());
        if let Some(is_agreed) = stopped {
            end_stopped(world, sim, machine, is_agreed);
        }
        let is_removed =
            world.process(machine.into()).is_some_and(|process| process.running.control.borrow().is_removed());
        if is_removed {
            // An administrator empties its disk, and it joins as another node.
            world.note(|| format!("n{machine} was removed, and its disk is emptied"));
            world.oracle.borrow_mut().count("removed nodes emptied");
            sim.node(machine).go_down(CrashMode::Power);
            world.stopped(machine.into());
            empty_disk(world, sim, machine);
            start(world, sim, machine);
        }
    }
}

/// Ends a process that said that it may end.
fn end_stopped(world: &Rc<World>, sim: &Sim, machine: u16, is_agreed: bool) {
    let process = world.process(machine.into()).expect("it said so");
    let mut oracle = world.oracle.borrow_mut();
    oracle.count("stops");
    let control = process.running.control.borrow();
    let membership = control.membership().filter(|_| is_agreed);
    if let (Some(membership), Some(newest)) = (membership, oracle.newest()) {
        let member = newest.members.get(&membership.node);
        let is_counted_on =
            member.is_some_and(|member| member.is_counted_on() && Some(member.incarnation) == control.incarnation());
        assert!(!is_counted_on, "n{machine} has stopped, and the others count on it, seed {}", sim.seed());
    }
    drop((control, oracle));
    world.note(|| format!("n{machine} has stopped; agreed: {is_agreed}"));
    process.peers.stop();
    sim.node(machine).go_down(CrashMode::Process);
    world.stopped(machine.into());
    let down = Duration::from_millis(machine as u64 * 3_700);
    let world = world.clone();
    sim.after(down, move |sim| start(&world, sim, machine));
}
