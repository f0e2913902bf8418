//! Several machines: what they share, and what they do not.

use crate::io::{Clock, Disk, Spawn};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::sim::{CrashMode, Stats};

fn sim_of(seed: u64, nodes: u16) -> Sim {
    Sim::new(seed, SimOptions { nodes, ..SimOptions::default() })
}

/// A task that writes and syncs a block after the other, and counts what is durable.
fn append(sim: &Sim, node: u16, blocks: usize) -> Rc<Cell<usize>> {
    let durable = Rc::new(Cell::new(0));
    let (io, count) = (sim.io_of(node, 0), durable.clone());
    io.clone().spawn(async move {
        let file = create_durable(&io, "log", blocks).await;
        for block in 0..blocks {
            write(&io, &file, block, 1, 1 + block as u8).await.unwrap();
            io.sync(&file).await.unwrap();
            count.set(block + 1);
        }
    });
    durable
}

fn written(content: &[u8]) -> usize {
    content
        .chunks(BLOCK_SIZE)
        .enumerate()
        .filter(|(block, bytes)| bytes.iter().all(|byte| *byte == 1 + *block as u8))
        .count()
}

#[test]
fn a_crash_takes_one_machine_and_the_other_goes_on() {
    const BLOCKS: usize = 40;
    for mode in [CrashMode::Process, CrashMode::Power] {
        for seed in 0..60 {
            let mut sim = sim_of(seed, 2);
            let (crashed, spared) = (append(&sim, 0, BLOCKS), append(&sim, 1, BLOCKS));
            sim.run_for(Duration::from_millis(2));
            let before = (crashed.get(), spared.get());
            assert!(before.0 < BLOCKS && before.1 < BLOCKS, "seed {seed}: {before:?}");
            sim.crash(0, mode);
            assert_eq!(Rc::strong_count(&crashed), 1, "its tasks are gone");
            sim.run_for(Duration::from_secs(1));
            assert_eq!((crashed.get(), spared.get()), (before.0, BLOCKS), "seed {seed}");
            assert_eq!(written(&sim.node(1).read_file(&path("log")).unwrap()), BLOCKS, "seed {seed}");
            // Its next life sees what was durable, and can go on.
            let io = sim.io_of(0, 0);
            sim.run(async {
                let file = match io.open(&path("log"), OpenMode::ReadWrite).await {
                    Ok(file) => file,
                    Err(_) => create_durable(&io, "log", BLOCKS).await,
                };
                for number in 0..before.0 {
                    assert_eq!(block(&io, &file, number).await, Some(1 + number as u8), "seed {seed}");
                }
                write(&io, &file, 0, 1, 99).await.unwrap();
            });
            assert_eq!((sim.stats_of(0).crashes, sim.stats_of(1).crashes), (1, 0));
        }
    }
}

#[test]
fn what_is_kept_of_a_life_does_nothing_in_the_next() {
    let mut sim = sim_of(2, 2);
    let old = sim.io_of(1, 0);
    let file = sim.run(create_durable(&old, "file", 1));
    sim.crash(1, CrashMode::Process);
    let ran = Rc::new(Cell::new(false));
    let (flag, io) = (ran.clone(), old.clone());
    old.spawn(async move { flag.set(true) });
    let new = sim.io_of(1, 0);
    let (flag, moved) = (ran.clone(), file.clone());
    new.spawn(async move {
        // Neither a timer nor an operation of the life before ends.
        io.sleep(Duration::from_millis(1)).await;
        write(&io, &moved, 0, 1, 7).await.unwrap();
        flag.set(true);
    });
    sim.run_for(Duration::from_secs(1));
    assert!(!ran.get());
    assert_eq!(sim.node(1).read_file(&path("file")).unwrap()[0], 0);
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sim.run(block(&new, &file, 0))));
    assert!(refused.is_err(), "its files are closed");
}

#[test]
fn what_wakes_a_task_of_a_life_before_changes_nothing() {
    let run = |wakes: bool, is_restarted: bool| {
        let mut sim = sim_of(8, 2);
        let kept = Rc::new(RefCell::new(None));
        let waker = kept.clone();
        sim.io_of(0, 0).spawn(std::future::poll_fn(move |context| {
            *waker.borrow_mut() = Some(context.waker().clone());
            std::task::Poll::Pending
        }));
        sim.run_for(Duration::from_millis(1));
        let mut sim = if is_restarted {
            sim.restart(CrashMode::Process)
        } else {
            sim.crash(0, CrashMode::Process);
            sim
        };
        let waker: std::task::Waker = kept.take().expect("it was polled");
        if wakes {
            waker.wake();
        }
        append(&sim, 0, 3);
        sim.run_for(Duration::from_millis(10));
        sim.trace_hash()
    };
    for is_restarted in [false, true] {
        assert_eq!(run(true, is_restarted), run(false, is_restarted));
    }
}

#[test]
fn faults_space_and_counts_are_of_one_machine() {
    let mut sim = sim_of(3, 3);
    sim.node(1).faults(|faults| faults.metadata_error = 1.0);
    sim.node(2).set_capacity(BLOCK_SIZE as u64);
    sim.run(create(&sim.io_of(0, 0), "file", 2));
    let open = |node: u16| {
        let io = sim.io_of(node, 0);
        async move {
            let file = io.open(&path("file"), OpenMode::Create).await?;
            io.allocate(&file, 2 * BLOCK_SIZE as u64).await
        }
    };
    let (broken, full) = (open(1), open(2));
    let (broken, full) = (sim.run(broken), sim.run(full));
    assert_eq!(broken.unwrap_err().raw_os_error(), Some(libc::EIO));
    assert_eq!(full.unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    let counts = |stats: Stats| (stats.metadata_errors, stats.no_space);
    let counts: Vec<_> = (0..3).map(|node| counts(sim.stats_of(node))).collect();
    assert_eq!(counts, [(0, 0), (1, 0), (0, 1)]);
    let files: Vec<usize> = (0..3).map(|node| sim.node(node).files().len()).collect();
    assert_eq!(files, [1, 0, 1]);
    assert_eq!(sim.stats_of(0).steps, sim.stats_of(2).steps, "steps are those of the simulation");
}

#[test]
fn a_file_of_another_machine_is_found() {
    let mut sim = sim_of(4, 2);
    let file = sim.run(create(&sim.io_of(0, 0), "file", 1));
    sim.run(create(&sim.io_of(1, 0), "file", 1));
    let io = sim.io_of(1, 0);
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sim.run(block(&io, &file, 0))));
    assert!(refused.is_err());
}

#[test]
fn a_timer_goes_by_the_clock_of_its_machine() {
    let mut sim = sim_of(5, 3);
    sim.node(1).set_clock_rate(100_000);
    sim.node(2).set_clock_rate(-100_000);
    let woken = Rc::new(RefCell::new(Vec::new()));
    for node in 0..3 {
        let (io, truth, woken) = (sim.io_of(node, 0), sim.io(0), woken.clone());
        io.clone().spawn(async move {
            let (start, true_start) = (io.now(), truth.now());
            io.sleep(Duration::from_secs(99)).await;
            assert!(io.now().since(start) >= Duration::from_secs(99), "never too early by its own clock");
            woken.borrow_mut().push((node, truth.now().since(true_start).as_secs()));
        });
    }
    sim.run_for(Duration::from_secs(200));
    assert_eq!(*woken.borrow(), [(1, 90), (0, 99), (2, 110)]);
}

#[test]
fn a_change_of_a_clock_moves_the_timers_that_wait_for_it() {
    let mut sim = sim_of(6, 2);
    let woken = Rc::new(RefCell::new(Vec::new()));
    for seconds in [10, 100] {
        let (io, truth, woken) = (sim.io_of(1, 0), sim.io(0), woken.clone());
        io.clone().spawn(async move {
            io.sleep(Duration::from_secs(seconds)).await;
            woken.borrow_mut().push((seconds, truth.now().0 / 1_000_000_000));
        });
    }
    let local = sim.io_of(1, 0).now();
    let wall = sim.io_of(1, 0).wall_clock_ns();
    // Whoever runs the test sees both clocks jump; the other machine does not.
    sim.after(Duration::from_secs(1), |sim| sim.node(1).advance_clock(Duration::from_secs(30)));
    sim.after(Duration::from_secs(11), |sim| sim.node(1).set_clock_rate(-500_000));
    sim.run_for(Duration::from_secs(10));
    assert_eq!(sim.io_of(1, 0).now().since(local).as_secs(), 40);
    assert_eq!((sim.io_of(1, 0).wall_clock_ns() - wall) / 1_000_000_000, 40);
    sim.run_for(Duration::from_secs(1000));
    // 41 s are over after 11 s, and the other 59 take twice as long.
    assert_eq!(*woken.borrow(), [(10, 1), (100, 129)]);
}

#[test]
fn what_is_to_happen_later_happens_while_tasks_run() {
    let mut sim = sim_of(7, 2);
    let durable = append(&sim, 1, 200);
    sim.after(Duration::from_millis(2), |sim| sim.crash(1, CrashMode::Power));
    let wall = sim.io_of(1, 0).wall_clock_ns();
    sim.after(Duration::from_millis(3), |sim| sim.node(1).jump_wall_clock(-3_600_000_000_000));
    sim.run_for(Duration::from_secs(1));
    assert!((1..200).contains(&durable.get()), "{}", durable.get());
    assert_eq!((sim.stats_of(0).crashes, sim.stats_of(1).crashes), (0, 1));
    assert!(sim.io_of(1, 0).wall_clock_ns() < wall);
    assert!(sim.io_of(0, 0).wall_clock_ns() > wall);
}

#[test]
fn a_seed_is_a_whole_run_of_several_machines() {
    let run = |seed: u64| {
        let mut sim = sim_of(seed, 3);
        let durable: Vec<_> = (0..3).map(|node| append(&sim, node, 20)).collect();
        sim.node(1).set_clock_rate(20_000);
        sim.after(Duration::from_millis(1), |sim| sim.crash(2, CrashMode::Process));
        sim.run_for(Duration::from_millis(3));
        let mut sim = sim.restart(CrashMode::Power);
        sim.run_for(Duration::from_millis(1));
        let durable: Vec<usize> = durable.iter().map(|count| count.get()).collect();
        (sim.trace_hash(), durable, sim.stats_of(0), sim.stats_of(1), sim.stats_of(2))
    };
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
        assert_ne!(run(seed).0, run(seed + 1).0, "seed {seed}");
    }
}
