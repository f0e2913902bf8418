//! Tasks, time and order.

use crate::io::{Clock, Disk, Randomness, Spawn};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::mailbox::mailbox;
use crate::sim::CrashMode;

/// A few tasks on a few cores that write, sync and sleep; returns the order in which they ended.
fn busy(sim: &mut Sim) -> Vec<u64> {
    let ended = Rc::new(RefCell::new(Vec::new()));
    let io = sim.io(0);
    let (sender, mut receiver) = mailbox();
    let file = sim.run(create_durable(&io, "log", 32));
    for number in 0..16 {
        let (io, file, ended, sender) = (sim.io(number as u16 % 3), file.clone(), ended.clone(), sender.clone());
        let spawner = io.clone();
        spawner.spawn(async move {
            write(&io, &file, number as usize * 2, 2, number as u8).await.unwrap();
            io.sleep(Duration::from_nanos(io.random_u64() % 100_000)).await;
            io.sync(&file).await.unwrap();
            ended.borrow_mut().push(number);
            assert!(sender.send(number).is_ok());
        });
    }
    drop(sender);
    sim.run(async { while receiver.recv().await.is_some() {} });
    ended.take()
}

#[test]
fn a_seed_is_a_whole_run() {
    let hashes: Vec<u64> = (0..20)
        .map(|seed| {
            let run = || {
                let mut sim = sim(seed);
                let order = busy(&mut sim);
                let mut sim = sim.restart(CrashMode::Power);
                let bytes = sim.read_file(&path("log")).unwrap();
                sim.run_for(Duration::from_millis(1));
                (order, bytes, sim.trace_hash(), sim.stats())
            };
            let first = run();
            assert_eq!(first, run(), "seed {seed}");
            first.2
        })
        .collect();
    assert!(hashes.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn tasks_end_in_orders_that_depend_on_the_seed() {
    assert!(varies(|seed| {
        let order = busy(&mut sim(seed));
        assert_eq!(order.len(), 16);
        order[0] < 8
    }));
}

#[test]
fn time_jumps_when_nothing_is_ready_and_never_wakes_too_early() {
    let mut sim = sim(1);
    let io = sim.io(0);
    sim.run(async {
        let start = io.now();
        let wall_clock = io.wall_clock_ns();
        io.sleep(Duration::from_secs(3600)).await;
        let slept = io.now().since(start);
        assert!(slept >= Duration::from_secs(3600) && slept < Duration::from_secs(3601));
        assert!(io.wall_clock_ns() - wall_clock >= 3_600_000_000_000);
    });
    sim.jump_wall_clock(-7_200_000_000_000);
    assert!(io.wall_clock_ns() < super::super::WALL_CLOCK_START_NS);
}

#[test]
fn a_yield_lets_every_ready_task_run_first() {
    for seed in SEEDS {
        let mut sim = sim(seed);
        let io = sim.io(0);
        let ran = Rc::new(Cell::new(0));
        sim.run(async {
            for _ in 0..10 {
                let ran = ran.clone();
                io.spawn(async move { ran.set(ran.get() + 1) });
            }
            io.yield_now().await;
            assert_eq!(ran.get(), 10, "seed {seed}");
        });
    }
}

#[test]
fn a_task_that_polls_by_yielding_sees_operations_complete() {
    let mut sim = sim(3);
    let io = sim.io(0);
    let done = Rc::new(Cell::new(false));
    sim.run(async {
        let (task_io, task_done) = (io.clone(), done.clone());
        io.spawn(async move {
            create(&task_io, "file", 1).await;
            task_done.set(true);
        });
        while !done.get() {
            io.yield_now().await;
        }
    });
}

#[test]
fn waiting_for_what_cannot_come_is_found_and_names_the_seed() {
    let failure = catch_unwind(AssertUnwindSafe(|| sim(77).run(std::future::pending::<()>())));
    let message = *failure.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("deadlock") && message.contains("seed 77"), "{message}");
}

#[test]
fn running_for_ever_is_found_and_names_the_seed() {
    let failure = catch_unwind(AssertUnwindSafe(|| {
        let mut sim = Sim::new(78, SimOptions { steps_max: 10_000, ..SimOptions::default() });
        let io = sim.io(0);
        sim.run(async {
            loop {
                io.yield_now().await;
            }
        })
    }));
    let message = *failure.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("livelock") && message.contains("seed 78"), "{message}");
}

#[test]
fn a_run_can_be_cut_off_at_every_step() {
    let workload = |steps: u64| {
        let mut sim = sim(5);
        let io = sim.io(0);
        let is_over = sim
            .run_steps(steps, async {
                let file = create_durable(&io, "file", 1).await;
                write(&io, &file, 0, 1, 7).await.unwrap();
            })
            .is_some();
        let sim = sim.restart(CrashMode::Process);
        (is_over, sim.files().len())
    };
    let outcomes: Vec<(bool, usize)> = (0..60).map(workload).collect();
    assert_eq!(outcomes[0], (false, 0));
    assert_eq!(outcomes[59], (true, 1));
    let first_over = outcomes.iter().position(|(is_over, _)| *is_over).unwrap();
    assert!(outcomes[..first_over].iter().any(|(_, files)| *files == 1), "some crash is after the creation");
}

#[test]
fn a_crash_drops_tasks_whose_destructors_use_the_machine() {
    struct Noisy(SimIo, Rc<Cell<u32>>);
    impl Drop for Noisy {
        fn drop(&mut self) {
            self.1.set(self.1.get() + 1);
            let io = self.0.clone();
            let unpolled = Noisy2(self.1.clone());
            self.0.spawn(async move {
                let _unpolled = unpolled;
                io.sleep(Duration::from_secs(1)).await;
            });
        }
    }
    struct Noisy2(Rc<Cell<u32>>);
    impl Drop for Noisy2 {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 10);
        }
    }
    let mut sim = sim(6);
    let drops = Rc::new(Cell::new(0));
    let io = sim.io(0);
    let noisy = Noisy(io.clone(), drops.clone());
    io.spawn(async move {
        noisy.0.sleep(Duration::from_secs(1000)).await;
    });
    sim.run_for(Duration::from_secs(1));
    assert_eq!(drops.get(), 0);
    let mut sim = sim.restart(CrashMode::Process);
    assert_eq!(drops.get(), 11);
    sim.run_for(Duration::from_secs(10_000));
}

#[test]
fn time_goes_on_over_a_crash() {
    let mut sim = sim(7);
    sim.run_for(Duration::from_secs(5));
    let before = (sim.io(0).now(), sim.io(0).wall_clock_ns());
    let sim = sim.restart(CrashMode::Power);
    assert!(sim.io(0).now() > before.0 && sim.io(0).wall_clock_ns() > before.1);
}
