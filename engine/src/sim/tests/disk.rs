//! Files, names, space and faults of a disk that does not crash.

use crate::io::{Clock, Disk, Spawn};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::*;
use crate::sim::{Faults, SECTOR_SIZE};

const MIB: u64 = 1 << 20;

fn sim_with(seed: u64, faults: Faults) -> Sim {
    Sim::new(seed, SimOptions { faults, ..SimOptions::default() })
}

#[test]
fn reads_see_completed_writes_zeros_elsewhere_and_the_end() {
    let mut sim = sim(1);
    let io = sim.io(0);
    sim.run(async {
        let file = create(&io, "file", 4).await;
        write(&io, &file, 1, 2, 9).await.unwrap();
        assert_eq!(block(&io, &file, 0).await, Some(0));
        assert_eq!(block(&io, &file, 1).await, Some(9));
        assert_eq!(block(&io, &file, 2).await, Some(9));
        let mut buf = AlignedBuf::zeroed(3 * BLOCK_SIZE);
        buf.fill(0xee);
        let (count, buf) = io.read_at(&file, buf, 0..3 * BLOCK_SIZE, 2 * BLOCK_SIZE as u64).await;
        assert_eq!(count.unwrap(), 2 * BLOCK_SIZE);
        assert!(buf[..BLOCK_SIZE].iter().all(|byte| *byte == 9));
        assert!(buf[2 * BLOCK_SIZE..].iter().all(|byte| *byte == 0xee), "past the end nothing is filled");
        write(&io, &file, 4, 1, 3).await.unwrap();
        assert_eq!(io.file_size(&file).await.unwrap(), 5 * BLOCK_SIZE as u64);
        let again = io.open(&path("file"), OpenMode::Read).await.unwrap();
        assert_eq!(block(&io, &again, 4).await, Some(3));
    });
    assert_eq!(sim.read_file(&path("file")).unwrap().len(), 5 * BLOCK_SIZE);
}

#[test]
fn names_follow_the_rules_of_a_file_system() {
    let mut sim = sim(2);
    let io = sim.io(0);
    sim.run(async {
        let kind = |error: std::io::Error| error.kind();
        let file = create(&io, "a", 1).await;
        write(&io, &file, 0, 1, 1).await.unwrap();
        assert_eq!(kind(io.open(&path("a"), OpenMode::Create).await.unwrap_err()), ErrorKind::AlreadyExists);
        assert_eq!(kind(io.open(&path("b"), OpenMode::Read).await.unwrap_err()), ErrorKind::NotFound);
        assert_eq!(kind(io.open(&path("no/b"), OpenMode::Create).await.unwrap_err()), ErrorKind::NotFound);
        assert_eq!(kind(io.list_dir(&path("no")).await.unwrap_err()), ErrorKind::NotFound);
        io.create_dir(&path("dir")).await.unwrap();
        assert_eq!(kind(io.create_dir(&path("dir")).await.unwrap_err()), ErrorKind::AlreadyExists);
        assert_eq!(kind(io.remove(&path("dir")).await.unwrap_err()), ErrorKind::IsADirectory);
        let other = create(&io, "dir/b", 2).await;
        write(&io, &other, 0, 1, 2).await.unwrap();
        io.rename(&path("a"), &path("dir/b")).await.unwrap();
        assert_eq!(block(&io, &other, 0).await, Some(2), "a replaced file lives while it is open");
        let renamed = io.open(&path("dir/b"), OpenMode::Read).await.unwrap();
        assert_eq!(block(&io, &renamed, 0).await, Some(1));
        let names = |entries: Vec<crate::io::DirEntry>| -> Vec<(String, u64, bool)> {
            entries.into_iter().map(|entry| (entry.name, entry.size, entry.is_dir)).collect()
        };
        assert_eq!(names(io.list_dir(Path::new("/data")).await.unwrap()), [("dir".into(), 0, true)]);
        assert_eq!(names(io.list_dir(&path("dir")).await.unwrap()), [("b".into(), BLOCK_SIZE as u64, false)]);
    });
}

#[test]
fn a_full_disk_reserves_nothing_and_removal_frees_after_the_last_close() {
    let mut sim = Sim::new(3, SimOptions { capacity_bytes: 4 * MIB, ..SimOptions::default() });
    let io = sim.io(0);
    let available = async |io: &SimIo| io.space(Path::new("/data")).await.unwrap().available;
    let file = sim.run(async {
        let file = io.open(&path("a"), OpenMode::Create).await.unwrap();
        io.allocate(&file, 3 * MIB).await.unwrap();
        let other = io.open(&path("b"), OpenMode::Create).await.unwrap();
        assert_eq!(io.allocate(&other, 2 * MIB).await.unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(io.file_size(&other).await.unwrap(), 0);
        assert_eq!(available(&io).await, MIB);
        let blocks = (MIB / BLOCK_SIZE as u64) as usize;
        assert_eq!(write(&io, &other, 1, blocks, 1).await.unwrap_err().kind(), ErrorKind::StorageFull);
        io.remove(&path("a")).await.unwrap();
        assert_eq!(available(&io).await, MIB, "it is still open");
        file
    });
    drop(file);
    assert_eq!(sim.run(available(&io)), 4 * MIB);
    sim.set_capacity(MIB);
    assert_eq!(sim.run(available(&io)), MIB);
    assert_eq!(sim.stats().no_space, 2);
}

#[test]
fn a_directory_can_be_a_file_system_of_its_own() {
    let dirs = vec!["/data".into(), "/data/small".into()];
    let mut sim = Sim::new(3, SimOptions { dirs, capacity_bytes: 8 * MIB, ..SimOptions::default() });
    sim.set_capacity_of(&path("small"), 2 * MIB);
    let io = sim.io(0);
    let space = async |io: &SimIo, dir: &str| {
        let space = io.space(Path::new(dir)).await.unwrap();
        (space.total / MIB, space.available / MIB)
    };
    let file = sim.run(async {
        let file = io.open(&path("small/a"), OpenMode::Create).await.unwrap();
        assert_eq!(io.allocate(&file, 3 * MIB).await.unwrap_err().kind(), ErrorKind::StorageFull);
        io.allocate(&file, 2 * MIB).await.unwrap();
        assert_eq!(space(&io, "/data/small").await, (2, 0));
        assert_eq!(space(&io, "/data").await, (8, 8), "each has its own space");
        let other = io.open(&path("b"), OpenMode::Create).await.unwrap();
        io.allocate(&other, 7 * MIB).await.unwrap();
        assert_eq!(space(&io, "/data").await, (8, 1));
        let moved = io.rename(&path("b"), &path("small/b")).await.unwrap_err();
        assert_eq!(moved.raw_os_error(), Some(libc::EXDEV));
        io.remove(&path("small/a")).await.unwrap();
        assert_eq!(space(&io, "/data/small").await, (2, 0), "it is still open");
        file
    });
    drop(file);
    assert_eq!(sim.run(space(&io, "/data/small")), (2, 2));
    sim.set_capacity_of(&path("small"), MIB);
    sim.set_capacity(7 * MIB);
    let mut sim = sim.restart(crate::sim::CrashMode::Process);
    let io = sim.io(0);
    assert_eq!(sim.run(space(&io, "/data/small")), (1, 1));
    assert_eq!(sim.run(space(&io, "/data")), (7, 0));
}

#[test]
fn a_failed_write_leaves_any_part_of_its_sectors() {
    let mut partial = 0;
    for seed in SEEDS {
        let mut sim = sim_with(seed, Faults { write_error: 1.0, ..Faults::default() });
        let io = sim.io(0);
        sim.run(async {
            let file = create(&io, "file", 1).await;
            assert_eq!(write(&io, &file, 0, 1, 5).await.unwrap_err().raw_os_error(), Some(libc::EIO));
        });
        let content = sim.read_file(&path("file")).unwrap();
        assert!(content.chunks(SECTOR_SIZE).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        let written = content.chunks(SECTOR_SIZE).filter(|sector| sector[0] == 5).count();
        partial += u64::from((1..8).contains(&written));
        assert_eq!(sim.stats().write_errors, 1);
    }
    assert!(partial > 0);
}

#[test]
fn lost_and_misdirected_writes_report_success() {
    for seed in SEEDS {
        let mut sim = sim_with(seed, Faults { write_lost: 1.0, ..Faults::default() });
        let io = sim.io(0);
        let file = sim.run(create(&io, "file", 64));
        sim.run(write(&io, &file, 7, 1, 5)).unwrap();
        assert!(sim.read_file(&path("file")).unwrap().iter().all(|byte| *byte == 0));
        sim.faults(|faults| *faults = Faults { write_misdirected: 1.0, ..Faults::default() });
        sim.run(create(&io, "other", 64));
        sim.run(write(&io, &file, 7, 1, 5)).unwrap();
        assert_ne!(sim.run(block(&io, &file, 7)), Some(5), "seed {seed}");
        let hits = |name: &str| sim.read_file(&path(name)).unwrap().iter().filter(|byte| **byte == 5).count();
        let hits = hits("file") + hits("other");
        assert!(hits == BLOCK_SIZE || hits == 0, "seed {seed}");
        assert_eq!((sim.stats().lost_writes, sim.stats().misdirected_writes), (1, 1));
    }
}

#[test]
fn faults_of_reads_syncs_and_names_report_errors_and_are_counted() {
    let mut sim = sim(5);
    let io = sim.io(0);
    let file = sim.run(create_durable(&io, "file", 1));
    sim.faults(|faults| {
        *faults = Faults {
            read_error: 1.0,
            sync_error: 1.0,
            dir_sync_error: 1.0,
            metadata_error: 1.0,
            within: Some(path("elsewhere")),
            ..Faults::default()
        }
    });
    assert_eq!(sim.run(block(&io, &file, 0)), Some(0), "faults strike only where they are told to");
    sim.faults(|faults| faults.within = Some("/data".into()));
    sim.run(async {
        let (result, buf) = io.read_at(&file, AlignedBuf::zeroed(BLOCK_SIZE), 0..BLOCK_SIZE, 0).await;
        assert!(result.is_err());
        assert!(buf.iter().any(|byte| *byte != 0), "an error leaves anything in the buffer");
        assert!(io.sync(&file).await.is_err());
        assert!(io.sync_dir(Path::new("/data")).await.is_err());
        assert!(io.remove(&path("file")).await.is_err());
        assert!(io.allocate(&file, MIB).await.is_err());
    });
    let stats = sim.stats();
    assert_eq!((stats.read_errors, stats.sync_errors, stats.dir_sync_errors, stats.metadata_errors), (1, 1, 1, 2));
}

#[test]
fn a_stuck_operation_ends_when_it_is_released() {
    let mut sim = sim(6);
    let io = sim.io(0);
    let file = sim.run(create(&io, "file", 1));
    sim.faults(|faults| faults.stuck = 1.0);
    let task_io = io.clone();
    let task_file = file.clone();
    io.spawn(async move { write(&task_io, &task_file, 0, 1, 4).await.unwrap() });
    sim.run_for(Duration::from_secs(3600));
    assert_eq!(sim.read_file(&path("file")).unwrap()[0], 0);
    sim.faults(|faults| faults.stuck = 0.0);
    sim.release_stuck();
    sim.run_for(Duration::from_secs(1));
    assert_eq!(sim.read_file(&path("file")).unwrap()[0], 4);
    assert_eq!(sim.stats().stuck_operations, 1);
}

#[test]
fn a_directory_has_faults_of_its_own() {
    let mut sim = sim(12);
    let io = sim.io(0);
    let (sick, well) = sim.run(async {
        io.create_dir(&path("sick")).await.unwrap();
        (create_durable(&io, "sick/file", 1).await, create_durable(&io, "well", 1).await)
    });
    sim.faults(|faults| faults.sync_error = 1.0);
    sim.faults_of(&path("sick"), |faults| faults.stuck = 1.0);
    for _ in 0..2 {
        let (file, task_io) = (sick.clone(), io.clone());
        io.spawn(async move { write(&task_io, &file, 0, 1, 4).await.unwrap() });
    }
    sim.run_for(Duration::from_secs(60));
    assert_eq!((sim.stuck_count(), sim.stats().stuck_operations), (2, 2));
    assert!(sim.run(io.sync(&well)).is_err());
    assert_eq!(sim.run(block(&io, &well, 0)), Some(0), "what lies beside it is not stuck");
    sim.faults_of(&path("sick"), |faults| faults.stuck = 0.0);
    sim.run(io.sync(&sick)).unwrap();
    sim.release_stuck();
    sim.run_for(Duration::from_secs(1));
    assert_eq!((sim.stuck_count(), sim.run(block(&io, &sick, 0))), (0, Some(4)));
    sim.forget_faults_of_dirs();
    assert!(sim.run(io.sync(&sick)).is_err());
}

/// Reads some blocks of a file.
async fn read(io: &SimIo, file: &SimFile, first: usize, blocks: usize) -> Vec<u8> {
    let len = blocks * BLOCK_SIZE;
    let buf = AlignedBuf::zeroed(len);
    let (count, buf) = io.read_at(file, buf, 0..len, (first * BLOCK_SIZE) as u64).await;
    buf[..count.unwrap()].to_vec()
}

#[test]
fn a_bad_read_gives_one_wrong_block_and_the_next_one_is_right() {
    let (mut bits, mut zeros, mut others) = (0, 0, 0);
    for seed in SEEDS {
        let mut sim = sim(seed);
        let io = sim.io(0);
        let file = sim.run(create(&io, "file", 8));
        sim.run(write(&io, &file, 0, 8, 7)).unwrap();
        sim.faults(|faults| faults.read_flip = 1.0);
        let content = sim.run(read(&io, &file, 0, 4));
        let wrong: Vec<&[u8]> =
            content.chunks(BLOCK_SIZE).filter(|block| block.iter().any(|byte| *byte != 7)).collect();
        assert_eq!(wrong.len(), 1, "seed {seed}");
        match wrong[0].iter().map(|byte| (*byte ^ 7).count_ones()).sum() {
            1 => bits += 1,
            _ if wrong[0].iter().all(|byte| *byte == 0) => zeros += 1,
            _ => others += 1,
        }
        assert!(sim.read_file(&path("file")).unwrap().iter().all(|byte| *byte == 7), "the disk is right");
        for block in 0..4 {
            let again = sim.run(read(&io, &file, block, 1));
            assert!(again.iter().all(|byte| *byte == 7), "seed {seed}: block {block}");
        }
        assert_eq!(sim.stats().flipped_reads, 1);
        assert!(sim.run(read(&io, &file, 4, 4)).iter().any(|byte| *byte != 7), "others are not spared");
        let mut sim = sim.restart(crate::sim::CrashMode::Process);
        let io = sim.io(0);
        let file = sim.run(io.open(&path("file"), OpenMode::Read)).unwrap();
        assert!(sim.run(read(&io, &file, 0, 4)).iter().any(|byte| *byte != 7), "the next life meets it again");
        assert_eq!((sim.stats().flipped_reads, sim.stats().read_errors), (3, 0));
    }
    assert!(bits > zeros && zeros > 0 && others > 0, "{bits}, {zeros}, {others}");
}

#[test]
fn a_slow_operation_takes_longer_than_any_other() {
    assert!(varies(|seed| {
        let mut sim = sim_with(seed, Faults { slow: 0.5, ..Faults::default() });
        let io = sim.io(0);
        let start = io.now();
        sim.run(create(&io, "file", 1));
        let is_long = io.now().since(start) > Duration::from_micros(500);
        assert!(!is_long || sim.stats().slow_operations > 0);
        is_long
    }));
}

#[test]
fn flipped_bits_are_what_they_are_said_to_be() {
    let mut sim = sim(8);
    let io = sim.io(0);
    assert!(sim.flip_bits(1).is_empty(), "a blank disk has no bits");
    sim.run(async {
        let file = create_durable(&io, "file", 100).await;
        write(&io, &file, 50, 2, 0).await.unwrap();
        io.sync(&file).await.unwrap();
    });
    let flipped = sim.flip_bits(1);
    assert_eq!(sim.stats().flipped_bits, 1);
    let mut expected = vec![0; 100 * BLOCK_SIZE];
    expected[flipped[0].offset as usize] = 1 << flipped[0].bit;
    assert!((50 * BLOCK_SIZE..52 * BLOCK_SIZE).contains(&(flipped[0].offset as usize)), "unwritten space has no bits");
    assert!(sim.read_file(&flipped[0].path).unwrap() == expected);
}

#[test]
fn tampering_is_durable() {
    let mut sim = sim(9);
    let io = sim.io(0);
    let file = sim.run(create_durable(&io, "file", 4));
    sim.run(write(&io, &file, 0, 2, 1)).unwrap();
    sim.overwrite(&path("file"), BLOCK_SIZE as u64 - 1, &[7, 8]).unwrap();
    sim.truncate(&path("file"), 2 * BLOCK_SIZE as u64 + 100).unwrap();
    let sim = sim.restart(crate::sim::CrashMode::Power);
    let content = sim.read_file(&path("file")).unwrap();
    assert_eq!(content.len(), 2 * BLOCK_SIZE + 100);
    assert_eq!(content[BLOCK_SIZE - 2..BLOCK_SIZE + 2], [1, 7, 8, 1]);
}

#[test]
fn a_dropped_operation_runs_to_its_end() {
    let mut sim = sim(10);
    let io = sim.io(0);
    let file = sim.run(create(&io, "file", 1));
    let submitted = sim.run(async {
        let mut write = std::pin::pin!(write(&io, &file, 0, 1, 6));
        std::future::poll_fn(|context| std::task::Poll::Ready(write.as_mut().poll(context).is_pending())).await
    });
    assert!(submitted);
    assert_eq!(sim.read_file(&path("file")).unwrap()[0], 0);
    sim.run_for(Duration::from_secs(1));
    assert_eq!(sim.read_file(&path("file")).unwrap()[0], 6);
}

#[test]
fn breaking_the_laws_of_the_seam_is_found() {
    let breaks = |act: &dyn Fn(&mut Sim, &SimIo, SimFile)| {
        let mut sim = sim(11);
        let io = sim.io(0);
        let file = sim.run(create(&io, "file", 2));
        catch_unwind(AssertUnwindSafe(|| act(&mut sim, &io, file))).is_err()
    };
    let buf = || AlignedBuf::zeroed(BLOCK_SIZE);
    assert!(breaks(&|sim, io, file| drop(sim.run(io.write_at(&file, buf(), 0..BLOCK_SIZE, 512)))));
    assert!(breaks(&|sim, io, file| drop(sim.run(io.write_at(&file, buf(), 0..100, 0)))));
    assert!(breaks(&|sim, io, file| drop(sim.run(io.read_at(&file, buf(), 0..2 * BLOCK_SIZE, 0)))));
    assert!(breaks(&|sim, io, file| drop(sim.run(io.allocate(&file, 1)))), "fallocate does not shrink");
    assert!(breaks(&|sim, io, _| {
        let file = sim.run(io.open(&path("file"), OpenMode::Read)).unwrap();
        drop(sim.run(io.write_at(&file, buf(), 0..BLOCK_SIZE, 0)));
    }));
    assert!(!breaks(&|sim, io, file| drop(sim.run(io.write_at(&file, buf(), 0..BLOCK_SIZE, 0)))));
}
