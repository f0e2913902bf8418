//! Which task runs next: by priorities, and with cores that pause.

use crate::io::{Clock, Spawn};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::sim::{CrashMode, Pauses, Schedule};

fn sim_with(seed: u64, schedule: Schedule, pauses: Pauses) -> Sim {
    Sim::new(seed, SimOptions { schedule, pauses, ..SimOptions::default() })
}

/// The order in which some tasks that yield after each step take their steps.
fn steps(sim: &mut Sim, tasks: u16, count: usize) -> Vec<u16> {
    let order = Rc::new(RefCell::new(Vec::new()));
    for task in 0..tasks {
        let (io, order) = (sim.io(task), order.clone());
        io.clone().spawn(async move {
            let file = create(&io, &format!("file{task}"), 1).await;
            for _ in 0..count {
                order.borrow_mut().push(task);
                write(&io, &file, 0, 1, 1).await.unwrap();
            }
        });
    }
    sim.run_for(Duration::from_secs(1));
    order.take()
}

#[test]
fn equal_seeds_are_equal_runs_whatever_the_schedule() {
    let pauses = Pauses { chance: 0.05, ns_max: 2_000_000 };
    for schedule in [Schedule::Uniform, Schedule::Priorities { changes: 0 }, Schedule::Priorities { changes: 500 }] {
        let run = |seed: u64| {
            let mut sim = sim_with(seed, schedule, pauses);
            let order = steps(&mut sim, 6, 20);
            let mut sim = sim.restart(CrashMode::Process);
            sim.run_for(Duration::from_millis(1));
            (order, sim.trace_hash(), sim.stats(), sim.priority_changes())
        };
        for seed in 0..20 {
            assert_eq!(run(seed), run(seed), "seed {seed}, {schedule:?}");
            assert_ne!(run(seed).1, run(seed + 1).1, "seed {seed}, {schedule:?}");
        }
    }
}

/// Tasks that are always ready: each wakes itself.
fn spinning(sim: &mut Sim, tasks: u16, polls: u64) -> Vec<u64> {
    let counts: Vec<Rc<Cell<u64>>> = (0..tasks).map(|_| Rc::default()).collect();
    for count in &counts {
        let count = count.clone();
        sim.io(0).spawn(std::future::poll_fn(move |context| {
            count.set(count.get() + 1);
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        }));
    }
    assert!(sim.run_steps(polls, std::future::pending::<()>()).is_none());
    counts.iter().map(|count| count.get()).collect()
}

#[test]
fn by_priorities_one_task_runs_on_until_it_falls_behind() {
    let most = |seed: u64, schedule| {
        let mut sim = sim_with(seed, schedule, Pauses::default());
        let counts = spinning(&mut sim, 5, 4_000);
        assert!(counts.iter().all(|count| *count > 0), "seed {seed}: nobody starves: {counts:?}");
        (counts.into_iter().max().unwrap(), sim.priority_changes())
    };
    let polls = |counts: Vec<u64>| counts.into_iter().max().unwrap();
    for seed in 0..20 {
        let mut uniform = sim_with(seed, Schedule::Uniform, Pauses::default());
        assert!(polls(spinning(&mut uniform, 5, 4_000)) < 1_200, "seed {seed}");
        let mut fixed = sim_with(seed, Schedule::Priorities { changes: 0 }, Pauses::default());
        assert!(polls(spinning(&mut fixed, 5, 4_000)) > 3_900, "seed {seed}");
        assert_eq!(fixed.priority_changes(), 0);
        let (most, changes) = most(seed, Schedule::Priorities { changes: 40 });
        assert!(most < 3_900 && (20..80).contains(&changes), "seed {seed}: {most} polls, {changes} changes");
    }
}

#[test]
fn the_schedule_of_a_seed_is_either() {
    let drawn: Vec<Schedule> = SEEDS.map(|seed| Schedule::draw(&mut crate::sim::Random::new(seed))).collect();
    let uniform = drawn.iter().filter(|schedule| **schedule == Schedule::Uniform).count();
    assert!((60..140).contains(&uniform), "{uniform}");
}

#[test]
fn a_core_that_pauses_runs_nothing_and_others_go_on() {
    for schedule in [Schedule::Uniform, Schedule::Priorities { changes: 10 }] {
        let mut sim = sim_with(1, schedule, Pauses::default());
        let ticks: Vec<Rc<Cell<u64>>> = (0..2).map(|_| Rc::default()).collect();
        for (core, ticks) in ticks.iter().enumerate() {
            let (io, ticks) = (sim.io(core as u16), ticks.clone());
            io.clone().spawn(async move {
                // A task that a task of the core spawns is the core's, too.
                let spawner = io.clone();
                spawner.spawn(async move {
                    loop {
                        io.sleep(Duration::from_millis(1)).await;
                        ticks.set(ticks.get() + 1);
                    }
                });
            });
        }
        let counts = |sim: &mut Sim| {
            sim.run_for(Duration::from_millis(100));
            (ticks[0].take(), ticks[1].take())
        };
        let (first, second) = counts(&mut sim);
        assert!(first > 90 && second > 90);
        sim.node(0).pause(1, Duration::from_millis(150));
        let (first, second) = counts(&mut sim);
        assert!(first > 90 && second == 0, "{first}, {second}");
        let (first, second) = counts(&mut sim);
        assert!(first > 90 && (40..60).contains(&second), "{first}, {second}");
        assert_eq!(sim.stats().pauses, 1);
    }
}

#[test]
fn a_machine_that_pauses_as_a_whole_goes_on_by_itself_and_a_crash_ends_the_pause() {
    let mut sim = sim_with(2, Schedule::Uniform, Pauses { chance: 1.0, ns_max: 1_000_000_000 });
    let start = sim.io(0).now();
    assert_eq!(steps(&mut sim, 1, 1).len(), 1, "a pause ends although nothing else happens");
    sim.set_pauses(Pauses::default());
    assert!(sim.stats().pauses > 0 && sim.io(0).now() > start);
    sim.node(0).pause(0, Duration::from_secs(1 << 30));
    let mut sim = sim.restart(CrashMode::Process);
    let ran = Rc::new(Cell::new(false));
    let flag = ran.clone();
    sim.io(0).spawn(async move { flag.set(true) });
    sim.run_for(Duration::from_secs(1));
    assert!(ran.get());
}
