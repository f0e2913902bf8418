//! What survives a crash, and what may not.

use crate::io::{Disk, Spawn};
use std::collections::BTreeSet;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;
use std::time::Duration;

use super::*;
use crate::sim::{CrashMode, Faults, Random, SECTOR_SIZE};

/// The first byte of each block of a file after a crash, `None` where its sectors differ.
fn blocks(sim: &Sim, name: &str) -> Vec<Option<u8>> {
    let content = sim.read_file(&path(name)).unwrap();
    let one = |block: &[u8]| block.iter().all(|byte| *byte == block[0]).then_some(block[0]);
    content.chunks(BLOCK_SIZE).map(one).collect()
}

/// Random writes and syncs on one file against a model: after a power failure each sector is one of
/// the versions that were written since the last one that a sync covered.
#[test]
fn what_was_synced_survives_and_the_rest_is_any_version_since() {
    const BLOCKS: usize = 8;
    for seed in 0..400 {
        let mut sim = sim(seed);
        let io = sim.io(0);
        let mut random = Random::new(seed ^ 0x5eed);
        let mut allowed: Vec<BTreeSet<u8>> = vec![BTreeSet::from([0]); BLOCKS];
        let mut newest = [0; BLOCKS];
        let file = sim.run(create_durable(&io, "file", BLOCKS));
        sim.run(async {
            for fill in 1..=random.below(40) as u8 {
                if random.chance(0.3) {
                    io.sync(&file).await.unwrap();
                    for (versions, newest) in allowed.iter_mut().zip(newest) {
                        *versions = BTreeSet::from([newest]);
                    }
                } else {
                    let first = random.index(BLOCKS);
                    let count = 1 + random.index(BLOCKS - first);
                    write(&io, &file, first, count, fill).await.unwrap();
                    for block in first..first + count {
                        allowed[block].insert(fill);
                        newest[block] = fill;
                    }
                }
            }
        });
        let sim = sim.restart(CrashMode::Power);
        let content = sim.read_file(&path("file")).unwrap();
        assert_eq!(content.len(), BLOCKS * BLOCK_SIZE, "seed {seed}");
        for (number, sector) in content.chunks(SECTOR_SIZE).enumerate() {
            let versions = &allowed[number * SECTOR_SIZE / BLOCK_SIZE];
            assert!(versions.contains(&sector[0]), "seed {seed}, sector {number}: {} of {versions:?}", sector[0]);
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is atomic");
        }
    }
}

#[test]
fn what_was_not_synced_may_survive_vanish_or_tear() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let mut sim = sim(seed);
        let io = sim.io(0);
        sim.run(async {
            let file = create_durable(&io, "file", 1).await;
            write(&io, &file, 0, 1, 1).await.unwrap();
        });
        let sim = sim.restart(CrashMode::Power);
        let found = blocks(&sim, "file")[0];
        assert_eq!(found.is_none(), sim.stats().torn_writes == 1);
        assert_eq!(found == Some(0), sim.stats().vanished_pages == 1);
        seen.insert(found);
    }
    assert_eq!(seen, BTreeSet::from([None, Some(0), Some(1)]));
}

#[test]
fn a_later_write_may_survive_an_earlier_one() {
    assert!(varies(|seed| {
        let mut sim = sim(seed);
        let io = sim.io(0);
        sim.run(async {
            let file = create_durable(&io, "file", 2).await;
            write(&io, &file, 0, 1, 1).await.unwrap();
            write(&io, &file, 1, 1, 2).await.unwrap();
        });
        blocks(&sim.restart(CrashMode::Power), "file") == [Some(0), Some(2)]
    }));
}

#[test]
fn a_write_in_flight_may_happen_tear_or_not_happen() {
    for mode in [CrashMode::Process, CrashMode::Power] {
        let mut seen = BTreeSet::new();
        for seed in SEEDS {
            let mut sim = sim(seed);
            let io = sim.io(0);
            let file = sim.run(create_durable(&io, "file", 1));
            sim.faults(|faults| faults.stuck = 1.0);
            let writer = io.clone();
            io.spawn(async move { write(&writer, &file, 0, 1, 1).await.unwrap() });
            sim.run_for(Duration::from_millis(1));
            seen.insert(blocks(&sim.restart(mode), "file")[0]);
        }
        assert_eq!(seen, BTreeSet::from([None, Some(0), Some(1)]), "{mode:?}");
    }
}

/// A machine whose process was killed with a write of eight blocks in flight, and which keeps late
/// writes for a millisecond at most.
fn killed_while_writing(seed: u64) -> Sim {
    let mut sim = Sim::new(seed, SimOptions { late_write_ns_max: 1_000_000, ..SimOptions::default() });
    let io = sim.io(0);
    let file = sim.run(create_durable(&io, "file", 8));
    sim.faults(|faults| faults.stuck = 1.0);
    let writer = io.clone();
    io.spawn(async move { write(&writer, &file, 0, 8, 1).await.unwrap() });
    sim.run_for(Duration::from_millis(1));
    sim.faults(|faults| faults.stuck = 0.0);
    sim.restart(CrashMode::Process)
}

#[test]
fn a_write_of_a_killed_process_may_land_while_the_next_one_runs() {
    let (mut whole, mut partial) = (0, 0);
    let comes_late = |seed| {
        let mut sim = killed_while_writing(seed);
        let before = blocks(&sim, "file");
        sim.run_for(Duration::from_millis(1));
        let after = blocks(&sim, "file");
        assert_eq!(before != after, sim.stats().late_writes > 0 && after != [Some(0); 8], "seed {seed}");
        if before != after {
            assert_eq!(before, [Some(0); 8], "seed {seed}: what comes late has not come before");
            *(if after == [Some(1); 8] { &mut whole } else { &mut partial }) += 1;
        }
        sim.run_for(Duration::from_secs(1));
        assert_eq!(blocks(&sim, "file"), after, "seed {seed}: the delay is bounded");
        before != after
    };
    assert!(varies(comes_late));
    assert!(whole > 0 && partial > 0, "{whole} whole, {partial} in part");
}

#[test]
fn what_reserves_space_or_cuts_a_file_waits_for_late_writes() {
    for cuts in [false, true] {
        let mut landed = 0;
        for seed in SEEDS {
            let mut sim = killed_while_writing(seed);
            let io = sim.io(0);
            let file = sim.run(io.open(&path("file"), OpenMode::ReadWrite)).unwrap();
            sim.run(async {
                let size = 8 * BLOCK_SIZE as u64;
                let done = if cuts { io.truncate(&file, size).await } else { io.allocate(&file, size).await };
                done.unwrap();
            });
            let after = blocks(&sim, "file");
            landed += sim.stats().late_writes;
            sim.run_for(Duration::from_secs(1));
            assert_eq!(blocks(&sim, "file"), after, "seed {seed}");
        }
        assert!(landed > 0);
    }
}

#[test]
fn a_late_write_survives_another_kill_and_its_file_stays_while_it_is_late() {
    let used = |sim: &mut Sim| {
        let io = sim.io(0);
        let space = sim.run(io.space(Path::new("/data"))).unwrap();
        space.total - space.available
    };
    let (mut landed, mut held) = (0, 0);
    for seed in SEEDS {
        let mut sim = killed_while_writing(seed);
        let io = sim.io(0);
        sim.run(async {
            io.remove(&path("file")).await.unwrap();
            io.sync_dir(Path::new("/data")).await.unwrap();
        });
        held += used(&mut sim);
        let mut sim = sim.restart(CrashMode::Process);
        sim.run_for(Duration::from_secs(1));
        landed += sim.stats().late_writes;
        assert_eq!(used(&mut sim), 0, "seed {seed}");
    }
    assert!(landed > 0 && held > 0);
}

#[test]
fn nothing_comes_late_after_a_power_failure() {
    for seed in SEEDS {
        let sim = killed_while_writing(seed);
        let mut sim = sim.restart(CrashMode::Power);
        let before = (blocks(&sim, "file"), sim.stats().late_writes);
        sim.run_for(Duration::from_secs(1));
        assert_eq!((blocks(&sim, "file"), sim.stats().late_writes), before, "seed {seed}");
    }
}

#[test]
fn a_crash_ends_what_is_stuck() {
    for mode in [CrashMode::Process, CrashMode::Power] {
        assert!(varies(|seed| {
            let mut sim = sim(seed);
            let io = sim.io(0);
            sim.faults(|faults| faults.stuck = 1.0);
            let task_io = io.clone();
            io.spawn(async move { task_io.create_dir(&path("dir")).await.unwrap() });
            sim.run_for(Duration::from_secs(60));
            assert_eq!(sim.stuck_count(), 1);
            sim.faults(|faults| faults.stuck = 0.0);
            let mut sim = sim.restart(mode);
            assert_eq!(sim.stuck_count(), 0);
            sim.release_stuck();
            let io = sim.io(0);
            let entries = sim.run(io.list_dir(Path::new("/data"))).unwrap();
            sim.run_for(Duration::from_secs(60));
            assert_eq!(sim.run(io.list_dir(Path::new("/data"))).unwrap(), entries, "nothing comes later");
            entries.len() == 1
        }));
    }
}

/// Calls a sync, then does something that completes while it is in flight; `None` where it did not.
fn during_the_sync<T>(
    sim: &mut Sim,
    sync: impl Future<Output = std::io::Result<()>>,
    act: impl Future<Output = T>,
) -> Option<T> {
    let mut sync = std::pin::pin!(sync);
    sim.run(async {
        std::future::poll_fn(|context| {
            assert!(sync.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        let acted = act.await;
        let is_in_flight =
            std::future::poll_fn(|context| Poll::Ready(sync.as_mut().poll(context).map(Result::unwrap).is_pending()));
        if is_in_flight.await {
            sync.await.unwrap();
            Some(acted)
        } else {
            None
        }
    })
}

#[test]
fn a_sync_covers_only_what_completed_before_it_was_called() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let mut sim = sim(seed);
        let io = sim.io(0);
        let file = sim.run(create_durable(&io, "file", 2));
        sim.run(write(&io, &file, 0, 1, 1)).unwrap();
        if during_the_sync(&mut sim, io.sync(&file), write(&io, &file, 1, 1, 2)).is_some() {
            let found = blocks(&sim.restart(CrashMode::Power), "file");
            assert_eq!(found[0], Some(1), "seed {seed}");
            seen.insert(found[1]);
        }
    }
    assert!(seen.contains(&Some(0)) && seen.contains(&Some(2)), "{seen:?}");
}

#[test]
fn a_sync_of_a_directory_covers_only_what_completed_before_it_was_called() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let mut sim = sim(seed);
        let io = sim.io(0);
        sim.run(create(&io, "first", 0));
        let create_second = async { io.open(&path("second"), OpenMode::Create).await.map(drop) };
        if during_the_sync(&mut sim, io.sync_dir(Path::new("/data")), create_second).is_some() {
            let files = sim.restart(CrashMode::Power).files();
            assert_eq!(files[0], path("first"), "seed {seed}");
            seen.insert(files.len());
        }
    }
    assert_eq!(seen, BTreeSet::from([1, 2]));
}

#[test]
fn after_a_failed_sync_a_retry_succeeds_and_the_data_may_be_gone() {
    assert!(varies(|seed| {
        let mut sim = sim(seed);
        let io = sim.io(0);
        let file = sim.run(create_durable(&io, "file", 2));
        sim.run(write(&io, &file, 0, 2, 1)).unwrap();
        sim.faults(|faults| faults.sync_error = 1.0);
        assert!(sim.run(io.sync(&file)).is_err());
        sim.faults(|faults| faults.sync_error = 0.0);
        sim.run(io.sync(&file)).unwrap();
        assert_eq!(sim.run(block(&io, &file, 0)), Some(1), "until the crash it looks well");
        // What is written again and synced is safe, whatever was given up before.
        sim.run(write(&io, &file, 1, 1, 2)).unwrap();
        sim.run(io.sync(&file)).unwrap();
        let found = blocks(&sim.restart(CrashMode::Power), "file");
        assert_eq!(found[1], Some(2), "seed {seed}");
        found[0] == Some(1)
    }));
}

#[test]
fn a_lying_sync_promises_nothing_and_an_honest_one_repairs_it() {
    assert!(varies(|seed| {
        let options = SimOptions { faults: Faults { sync_lie: 1.0, ..Faults::default() }, ..SimOptions::default() };
        let mut sim = Sim::new(seed, options);
        let io = sim.io(0);
        sim.faults(|faults| faults.sync_lie = 0.0);
        let file = sim.run(create_durable(&io, "file", 2));
        sim.faults(|faults| faults.sync_lie = 1.0);
        sim.run(write(&io, &file, 0, 1, 1)).unwrap();
        sim.run(io.sync(&file)).unwrap();
        assert_eq!(sim.stats().sync_lies, 1);
        let is_repaired = seed % 2 == 0;
        if is_repaired {
            sim.faults(|faults| faults.sync_lie = 0.0);
            sim.run(io.sync(&file)).unwrap();
        }
        let found = blocks(&sim.restart(CrashMode::Power), "file")[0];
        assert!(!is_repaired || found == Some(1), "seed {seed}");
        found == Some(1)
    }));
}

#[test]
fn a_killed_process_loses_nothing_that_completed_but_makes_nothing_durable() {
    assert!(varies(|seed| {
        let mut sim = sim(seed);
        let io = sim.io(0);
        let file = sim.run(create_durable(&io, "file", 1));
        sim.run(async {
            write(&io, &file, 0, 1, 1).await.unwrap();
            create(&io, "fresh", 1).await;
        });
        let sim = sim.restart(CrashMode::Process);
        assert_eq!(blocks(&sim, "file"), [Some(1)], "seed {seed}");
        assert_eq!(sim.files().len(), 2);
        blocks(&sim.restart(CrashMode::Power), "file") == [Some(1)]
    }));
}

#[test]
fn a_name_is_durable_only_after_its_directory_was_synced() {
    for is_synced in [false, true] {
        let survives = |seed: u64| {
            let mut sim = sim(seed);
            let io = sim.io(0);
            sim.run(async {
                let file = create(&io, "file", 1).await;
                write(&io, &file, 0, 1, 1).await.unwrap();
                io.sync(&file).await.unwrap();
                if is_synced {
                    io.sync_dir(Path::new("/data")).await.unwrap();
                }
            });
            let sim = sim.restart(CrashMode::Power);
            let survives = sim.files() == [path("file")];
            assert!(!survives || blocks(&sim, "file") == [Some(1)], "seed {seed}");
            survives
        };
        if is_synced { assert!(SEEDS.into_iter().all(survives)) } else { assert!(varies(survives)) }
    }
}

#[test]
fn a_size_is_durable_only_after_the_file_was_synced() {
    assert!(varies(|seed| {
        let mut sim = sim(seed);
        let io = sim.io(0);
        sim.run(async {
            let file = create_durable(&io, "file", 1).await;
            io.allocate(&file, 4 * BLOCK_SIZE as u64).await.unwrap();
            io.sync_dir(Path::new("/data")).await.unwrap();
        });
        let len = blocks(&sim.restart(CrashMode::Power), "file").len();
        assert!(len == 1 || len == 4, "seed {seed}");
        len == 4
    }));
}

#[test]
fn a_cut_is_undone_or_not_until_the_file_is_synced() {
    for is_synced in [false, true] {
        let cut = |seed| {
            let mut sim = sim(seed);
            let io = sim.io(0);
            sim.run(async {
                let file = create_durable(&io, "file", 4).await;
                write(&io, &file, 0, 4, 7).await.unwrap();
                io.sync(&file).await.unwrap();
                io.truncate(&file, BLOCK_SIZE as u64).await.unwrap();
                assert_eq!(io.file_size(&file).await.unwrap(), BLOCK_SIZE as u64);
                if is_synced {
                    io.sync(&file).await.unwrap();
                }
            });
            let kept = blocks(&sim.restart(CrashMode::Power), "file");
            assert!(kept == [Some(7)] || kept == [Some(7); 4], "seed {seed}: {kept:?}");
            kept.len() == 1
        };
        if is_synced {
            assert!(SEEDS.into_iter().all(cut));
        } else {
            assert!(varies(cut));
        }
    }
}

#[test]
fn a_rename_is_old_or_new_and_new_once_synced() {
    for is_synced in [false, true] {
        let is_new = |seed: u64| {
            let mut sim = sim(seed);
            let io = sim.io(0);
            sim.run(async {
                let old = create(&io, "current", 1).await;
                write(&io, &old, 0, 1, 1).await.unwrap();
                io.sync(&old).await.unwrap();
                io.sync_dir(Path::new("/data")).await.unwrap();
                let new = create(&io, "next", 1).await;
                write(&io, &new, 0, 1, 2).await.unwrap();
                io.sync(&new).await.unwrap();
                io.rename(&path("next"), &path("current")).await.unwrap();
                if is_synced {
                    io.sync_dir(Path::new("/data")).await.unwrap();
                }
            });
            let sim = sim.restart(CrashMode::Power);
            match blocks(&sim, "current")[0] {
                Some(1) => false,
                Some(2) => {
                    assert_eq!(sim.files(), [path("current")], "seed {seed}");
                    true
                }
                other => panic!("seed {seed}: {other:?}"),
            }
        };
        if is_synced { assert!(SEEDS.into_iter().all(is_new)) } else { assert!(varies(is_new)) }
    }
}

#[test]
fn a_rename_between_directories_is_pulled_in_by_either_sync() {
    for seed in SEEDS {
        for synced in ["/data", "/data/dir"] {
            let mut sim = sim(seed);
            let io = sim.io(0);
            sim.run(async {
                io.create_dir(&path("dir")).await.unwrap();
                io.sync_dir(Path::new("/data")).await.unwrap();
                create(&io, "file", 0).await;
                io.rename(&path("file"), &path("dir/file")).await.unwrap();
                io.sync_dir(Path::new(synced)).await.unwrap();
            });
            assert_eq!(sim.restart(CrashMode::Power).files(), [path("dir/file")], "seed {seed}, {synced}");
        }
    }
}

#[test]
fn a_removed_file_may_come_back_until_its_directory_is_synced() {
    assert!(varies(|seed| {
        let mut sim = sim(seed);
        let io = sim.io(0);
        sim.run(async {
            let file = create_durable(&io, "file", 1).await;
            write(&io, &file, 0, 1, 1).await.unwrap();
            io.sync(&file).await.unwrap();
            drop(file);
            io.remove(&path("file")).await.unwrap();
        });
        let mut sim = sim.restart(CrashMode::Power);
        let is_back = !sim.files().is_empty();
        if is_back {
            assert_eq!(blocks(&sim, "file"), [Some(1)], "seed {seed}");
            let io = sim.io(0);
            sim.run(async {
                io.remove(&path("file")).await.unwrap();
                io.sync_dir(Path::new("/data")).await.unwrap();
            });
            sim = sim.restart(CrashMode::Power);
            assert!(sim.files().is_empty());
        }
        let io = sim.io(0);
        let space = sim.run(io.space(Path::new("/data"))).unwrap();
        assert_eq!(space.available, space.total);
        is_back
    }));
}

#[test]
fn a_file_does_not_survive_the_directory_it_was_made_in() {
    assert!(varies(|seed| {
        let mut sim = sim(seed);
        let io = sim.io(0);
        sim.run(async {
            io.create_dir(&path("dir")).await.unwrap();
            create(&io, "dir/file", 1).await;
            io.sync_dir(&path("dir")).await.unwrap();
        });
        let mut sim = sim.restart(CrashMode::Power);
        let io = sim.io(0);
        let has_dir = !sim.run(io.list_dir(Path::new("/data"))).unwrap().is_empty();
        assert_eq!(sim.files().len(), usize::from(has_dir), "seed {seed}");
        has_dir
    }));
}

#[test]
fn a_file_kept_over_a_crash_is_found() {
    let mut sim = sim(1);
    let io = sim.io(0);
    let file = sim.run(create_durable(&io, "file", 1));
    let mut sim = sim.restart(CrashMode::Process);
    let io = sim.io(0);
    assert!(catch_unwind(AssertUnwindSafe(|| sim.run(block(&io, &file, 0)))).is_err());
}
