//! What a start finds after this or that course of events, and what it must not conclude from it.

use std::path::PathBuf;
use std::time::Duration;

use crate::support::content::Content;
use crate::support::machine::{self, Machine, SEGMENT_SIZE, put};
use nabu_engine::io::{Disk, Spawn};
use nabu_engine::log::footer::footer_bytes;
use nabu_engine::probe::{self, Event};
use nabu_engine::sim::CrashMode;
use nabu_engine::store::StoreError;
use nabu_engine::sync::promise;

fn contents(count: u64, size: usize) -> Vec<Content> {
    (0..count).map(|number| Content::new(number, size)).collect()
}

#[test]
fn a_store_that_is_closed_before_everything_is_counted_reclaims_nothing() {
    for seed in 0..40 {
        let mut machine = Machine::new(seed, 2, 1);
        let contents = contents(20, 60_000);
        let shards = machine.open();
        for content in &contents {
            machine.put(&shards[0], content).expect("stored");
        }
        machine.close(shards);
        machine.restart(CrashMode::Process);
        let shards = machine.open();
        let late = Content::new(1 << 40, 10);
        machine.sim().run(async move {
            let (closed, closing) = promise();
            let first = shards[0].clone();
            shards[0].io().spawn(async move {
                first.close().await;
                closed.keep(());
            });
            // The other core has something to do yet, so that the reclaimer has time.
            put(shards[1].clone(), &late).await.expect("stored");
            shards[1].close().await;
            closing.await.expect("closed");
        });
        machine.restart(CrashMode::Power);
        let shards = machine.open();
        for content in &contents {
            assert!(machine.holds(&shards[0], content), "seed {seed}");
        }
    }
}

#[test]
fn a_first_start_that_crashes_anywhere_leaves_directories_that_open() {
    for steps in 0..120 {
        for mode in [CrashMode::Process, CrashMode::Power] {
            let mut machine = Machine::new(steps, 1, 3);
            let options = machine.options.clone();
            let ios = machine::ios(machine.sim(), 1);
            let _ = machine.sim().run_steps(steps, machine::open(ios, options));
            machine.restart(mode);
            let content = Content::new(steps, 100);
            let shards = machine.open();
            machine.put(&shards[0], &content).expect("stored");
            machine.restart(CrashMode::Power);
            let shards = machine.open();
            assert!(machine.holds(&shards[0], &content), "{steps} steps, {mode:?}");
        }
    }
}

#[test]
fn a_number_that_a_checkpoint_covers_is_not_given_to_another_segment() {
    for seed in 0..20 {
        let mut machine = Machine::new(seed, 1, 1);
        let contents = contents(3, 3_000);
        let shards = machine.open();
        for content in &contents {
            machine.put(&shards[0], content).expect("stored");
        }
        // The checkpoint covers what the next two lives reclaim.
        machine.close(shards);
        machine.restart(CrashMode::Power);
        let shards = machine.open();
        for content in &contents {
            machine.delete(&shards[0], content.id).expect("deleted");
        }
        machine.sim().run_for(Duration::from_secs(1));
        machine.restart(CrashMode::Power);
        drop(machine.open());
        machine.sim().run_for(Duration::from_secs(1));
        assert!(machine.segments().is_empty());
        machine.restart(CrashMode::Power);
        let shards = machine.open();
        for content in &contents {
            machine.put(&shards[0], content).expect("stored again");
        }
        machine.restart(CrashMode::Power);
        let shards = machine.open();
        for content in &contents {
            assert!(machine.holds(&shards[0], content), "seed {seed}");
        }
    }
}

/// A store that was closed, with three blobs in one segment: the file of that, and its bytes.
fn closed_store() -> (Machine, Vec<Content>, PathBuf, u64) {
    let mut machine = Machine::new(1, 1, 1);
    let contents = contents(3, 3_000);
    let shards = machine.open();
    for content in &contents {
        machine.put(&shards[0], content).expect("stored");
    }
    machine.close(shards);
    machine.restart(CrashMode::Power);
    let path = machine.segments().pop().expect("one segment");
    let size = machine.sim().read_file(&path).expect("a file").len() as u64;
    (machine, contents, path, size)
}

/// What the power leaves of a segment that was sealed by a process which died before its last sync,
/// and that a checkpoint covers: the footer may be gone, and the file be as long as before.
#[test]
fn a_sealed_segment_without_its_footer_or_its_cut_gives_its_space_back() {
    for (keeps_footer, is_cut) in [(true, false), (false, false), (false, true)] {
        let (mut machine, contents, path, size) = closed_store();
        let data_end = size - footer_bytes(contents.len());
        if !keeps_footer {
            machine.sim().truncate(&path, data_end).expect("a file");
        }
        machine.sim().truncate(&path, if is_cut { size } else { SEGMENT_SIZE }).expect("a file");
        let used = probe::count(Event::CheckpointUsed);
        let shards = machine.open();
        assert!(probe::count(Event::CheckpointUsed) > used);
        for content in &contents {
            assert!(machine.holds(&shards[0], content), "footer {keeps_footer}, cut {is_cut}");
            machine.delete(&shards[0], content.id).expect("deleted");
        }
        machine.sim().run_for(Duration::from_secs(1));
        machine.close(shards);
        assert!(!machine.segments().contains(&path), "footer {keeps_footer}, cut {is_cut}");
        machine.restart(CrashMode::Power);
        let shards = machine.open();
        for content in &contents {
            assert!(!machine.holds(&shards[0], content), "footer {keeps_footer}, cut {is_cut}");
        }
    }
}

/// But not when what is behind the last record may have been a record.
#[test]
fn a_sealed_segment_whose_end_is_damaged_is_kept() {
    let (mut machine, contents, path, size) = closed_store();
    machine.sim().truncate(&path, size - footer_bytes(contents.len())).expect("a file");
    machine.sim().truncate(&path, SEGMENT_SIZE).expect("a file");
    machine.sim().overwrite(&path, size - footer_bytes(contents.len()), &[1; 64]).expect("a file");
    let shards = machine.open();
    for content in &contents {
        machine.delete(&shards[0], content.id).expect("deleted");
    }
    machine.sim().run_for(Duration::from_secs(1));
    machine.close(shards);
    assert!(machine.segments().contains(&path));
}

#[test]
fn segments_that_can_not_be_read_for_once_are_missed_and_not_forgotten() {
    for seed in 0..40 {
        let mut machine = Machine::new(seed, 1, 1);
        let contents = contents(10, 50_000);
        let shards = machine.open();
        for content in &contents {
            machine.put(&shards[0], content).expect("stored");
        }
        machine.delete(&shards[0], contents[3].id).expect("deleted");
        drop(shards);
        machine.restart(CrashMode::Power);
        machine.sim().faults(|faults| {
            faults.read_error = 0.5;
            faults.within = Some(PathBuf::from(machine::ROOT).join("data0/segments"));
        });
        let shards = machine.open();
        assert!(machine.sim().stats().read_errors > 0);
        machine.heal();
        // Whatever is known of it, what is acknowledged now counts.
        machine.put(&shards[0], &contents[3]).expect("stored again");
        machine.delete(&shards[0], contents[5].id).expect("deleted");
        machine.sim().run_for(Duration::from_secs(1));
        machine.close(shards);
        machine.restart(CrashMode::Power);
        let shards = machine.open();
        for (number, content) in contents.iter().enumerate() {
            let held = machine.holds(&shards[0], content);
            assert_eq!(held, number != 5, "seed {seed}, blob {number}");
        }
    }
}

#[test]
fn restarts_without_end_leak_no_segments() {
    let mut machine = Machine::new(7, 3, 2);
    let mut most = 0;
    for round in 0..40u64 {
        machine.options.cores = 1 + (round % 4) as u16;
        let shards = machine.open();
        let content = Content::new(round, 5000);
        machine.put(&shards[0], &content).expect("stored");
        assert!(machine.delete(&shards[0], content.id).expect("deleted"));
        match round % 3 {
            0 => machine.close(shards),
            1 => machine.sim().run_for(Duration::from_secs(1)),
            _ => {}
        }
        machine.restart(if round % 2 == 0 { CrashMode::Power } else { CrashMode::Process });
        most = most.max(machine.segments().len());
    }
    assert!(most <= 12, "{most} segments for a store without blobs");
}

#[test]
fn a_full_disk_deletes_also_after_a_restart() {
    for seed in 0..10 {
        let mut machine = Machine::new(seed, 2, 1);
        machine.options.segment_size = Some(1 << 20);
        let contents = contents(4, 3_000);
        let shards = machine.open();
        for content in &contents {
            machine.put(&shards[0], content).expect("stored");
        }
        machine.restart(CrashMode::Process);
        let shards = machine.open();
        // Room for no segment of the usual size, and none is open.
        let io = machine.sim().io(0);
        let dir = machine.options.dirs[0].clone();
        let space = machine.sim().run(async move { io.space(&dir).await }).expect("there is a disk");
        machine.sim().set_capacity(space.total - space.available + (300 << 10));
        let full = machine.put(&shards[0], &Content::new(99, 3_000));
        assert!(matches!(full, Err(StoreError::Full)), "seed {seed}: {full:?}");
        for content in &contents {
            assert!(machine.delete(&shards[0], content.id).expect("deleted"), "seed {seed}");
        }
        machine.restart(CrashMode::Power);
        let shards = machine.open();
        for content in &contents {
            assert!(!machine.holds(&shards[0], content), "seed {seed}");
        }
    }
}
