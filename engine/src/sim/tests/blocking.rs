//! Files that block: what they hold, what a crash keeps of it, and what fails.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::sim::{CrashMode, Random, SimBlockingFile};

/// What a file may hold, byte by byte.
#[derive(Default)]
struct Model {
    newest: Vec<u8>,
    /// Each size since the last sync, that of the sync first.
    sizes: Vec<usize>,
    /// Of each byte what it was at the last sync and since; zero before anything was there.
    possible: Vec<Vec<u8>>,
}

impl Model {
    fn resize(&mut self, size: usize) {
        // What is cut off may be zero when a crash undoes the cut.
        (size..self.newest.len()).for_each(|at| self.possible[at].push(0));
        self.newest.resize(size, 0);
        self.possible.resize(self.possible.len().max(size), vec![0]);
        self.sizes.push(size);
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        if offset + bytes.len() > self.newest.len() {
            self.resize(offset + bytes.len());
        }
        for (at, byte) in (offset..).zip(bytes) {
            self.newest[at] = *byte;
            self.possible[at].push(*byte);
        }
    }

    /// The file is what it is seen to be, and all of that is durable.
    fn settle(&mut self, content: Vec<u8>) {
        self.sizes = vec![content.len()];
        self.possible = content.iter().map(|byte| vec![*byte]).collect();
        self.newest = content;
    }

    fn allows(&self, content: &[u8]) -> bool {
        self.sizes.contains(&content.len())
            && content.iter().zip(&self.possible).all(|(byte, possible)| possible.contains(byte))
    }
}

fn content_of(file: &SimBlockingFile) -> Vec<u8> {
    let mut content = vec![0; file.len().unwrap() as usize];
    file.read(0, &mut content).unwrap();
    content
}

/// One operation of any kind and alignment, on the file and its model.
fn act(file: &SimBlockingFile, model: &mut Model, random: &mut Random) {
    let size = model.newest.len();
    match random.below(8) {
        0 => {
            file.sync().unwrap();
            model.settle(model.newest.clone());
        }
        1 => {
            let size = random.index(20_000);
            file.set_len(size as u64).unwrap();
            model.resize(size);
        }
        2 if size > 0 => {
            let offset = random.index(size);
            let mut out = vec![0; 1 + random.index(size - offset)];
            file.read(offset as u64, &mut out).unwrap();
            assert!(out == model.newest[offset..offset + out.len()]);
        }
        _ => {
            let aligned = random.chance(0.2);
            let (unit, count) = if aligned { (BLOCK_SIZE, 3) } else { (1, 9_000) };
            let mut bytes = vec![0; (1 + random.index(count)) * unit];
            random.fill(&mut bytes);
            let offset = random.index(16_000 / unit) * unit;
            file.write(offset as u64, &bytes).unwrap();
            model.write(offset, &bytes);
        }
    }
}

/// A new file whose name is durable.
fn create_blocking(sim: &mut Sim, name: &str) -> SimBlockingFile {
    let io = sim.io(0);
    let file = io.open_blocking(&path(name), OpenMode::Create).unwrap();
    sim.run(async move { io.sync_dir(Path::new("/data")).await.unwrap() });
    file
}

#[test]
fn a_power_cut_keeps_every_synced_byte_and_gives_nothing_that_was_never_written() {
    let (mut newest_kept, mut something_lost) = (0, 0);
    for seed in 0..400 {
        let mut sim = sim(seed);
        let mut random = Random::new(!seed);
        let mut file = create_blocking(&mut sim, "file");
        let mut model = Model { sizes: vec![0], ..Model::default() };
        for _ in 0..4 {
            (0..random.index(12)).for_each(|_| act(&file, &mut model, &mut random));
            assert!(content_of(&file) == model.newest, "seed {seed}");
            let mode = if random.chance(0.25) { CrashMode::Process } else { CrashMode::Power };
            sim.crash(0, mode);
            assert!(file.len().is_err() && file.write(0, &[1]).is_err(), "the machine has gone down since");
            file = sim.io(0).open_blocking(&path("file"), OpenMode::ReadWrite).unwrap();
            let content = content_of(&file);
            match mode {
                CrashMode::Process => assert!(content == model.newest, "seed {seed}"),
                CrashMode::Power => {
                    assert!(model.allows(&content), "seed {seed}");
                    let is_newest = content == model.newest;
                    (newest_kept, something_lost) = match is_newest {
                        true => (newest_kept + 1, something_lost),
                        false => (newest_kept, something_lost + 1),
                    };
                    model.settle(content);
                }
            }
        }
    }
    assert!(newest_kept > 100 && something_lost > 100, "{newest_kept} {something_lost}");
}

#[test]
fn a_created_name_is_durable_once_its_directory_is() {
    let survives = |seed: u64, is_synced: bool| {
        let mut sim = sim(seed);
        let file = match is_synced {
            true => create_blocking(&mut sim, "file"),
            false => sim.io(0).open_blocking(&path("file"), OpenMode::Create).unwrap(),
        };
        file.write(0, b"content").unwrap();
        file.sync().unwrap();
        sim.crash(0, CrashMode::Power);
        sim.io(0).open_blocking(&path("file"), OpenMode::ReadWrite).is_ok_and(|file| content_of(&file) == b"content")
    };
    assert!(SEEDS.clone().all(|seed| survives(seed, true)));
    assert!(varies(|seed| survives(seed, false)));
}

#[test]
fn a_file_that_blocks_is_the_file_that_others_wait_for() {
    let mut sim = sim(3);
    let blocking = create_blocking(&mut sim, "file");
    blocking.write(0, &[7; 2 * BLOCK_SIZE]).unwrap();
    let io = sim.io(0);
    sim.run(async {
        let file = io.open(&path("file"), OpenMode::ReadWrite).await.unwrap();
        assert_eq!(block(&io, &file, 1).await, Some(7));
        write(&io, &file, 0, 1, 9).await.unwrap();
    });
    assert_eq!(content_of(&blocking)[..BLOCK_SIZE], [9; BLOCK_SIZE]);
    let opened = io.open_blocking(&path("file"), OpenMode::Create);
    assert_eq!(opened.unwrap_err().raw_os_error(), Some(libc::EEXIST));
    let mut beyond = [0; 2];
    let read = blocking.read(2 * BLOCK_SIZE as u64 - 1, &mut beyond);
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}

#[test]
fn after_a_cut_nothing_more_is_done_until_the_machine_has_gone_down() {
    for count in 0..20u64 {
        let mut sim = sim(count);
        let file = create_blocking(&mut sim, "file");
        let before = sim.node(0).blocking_operations();
        sim.node(0).cut_blocking_after(count);
        let results: Vec<bool> = (0..20u8)
            .map(|number| match number {
                19 => file.set_len(1).is_ok(),
                _ => file.write(u64::from(number), &[number + 1]).is_ok(),
            })
            .collect();
        assert_eq!(results, (0..20).map(|number| number < count).collect::<Vec<_>>());
        assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(libc::EIO));
        assert_eq!(sim.node(0).blocking_operations(), before + 21);
        sim.crash(0, CrashMode::Process);
        let file = sim.io(0).open_blocking(&path("file"), OpenMode::ReadWrite).unwrap();
        let expected: Vec<u8> = (1..=count as u8).collect();
        assert_eq!(content_of(&file), expected, "the cut ended with the life");
    }
}

#[test]
fn faults_of_the_disk_strike_files_that_block() {
    let mut sim = sim(5);
    let file = create_blocking(&mut sim, "file");
    file.write(0, &[1; 10]).unwrap();
    let code = |result: std::io::Result<()>| result.unwrap_err().raw_os_error();
    sim.faults(|faults| faults.write_error = 1.0);
    assert_eq!(code(file.write(0, &[2; 5_000])), Some(libc::EIO));
    sim.faults(|faults| (faults.write_error, faults.write_no_space) = (0.0, 1.0));
    assert_eq!(code(file.write(0, &[2; 5_000])), Some(libc::ENOSPC));
    sim.faults(|faults| (faults.write_no_space, faults.read_error) = (0.0, 1.0));
    assert_eq!(code(file.read(0, &mut [0; 3])), Some(libc::EIO));
    sim.faults(|faults| (faults.read_error, faults.metadata_error) = (0.0, 1.0));
    assert_eq!(code(file.set_len(0)), Some(libc::EIO));
    sim.faults(|faults| (faults.metadata_error, faults.sync_error) = (0.0, 1.0));
    assert_eq!(code(file.sync()), Some(libc::EIO));
    sim.faults(|faults| faults.sync_error = 0.0);
    sim.set_capacity(1_000);
    assert_eq!(code(file.write(500_000, &[1])), Some(libc::ENOSPC));
    let stats = sim.stats();
    let counts = [stats.write_errors, stats.no_space, stats.read_errors, stats.metadata_errors, stats.sync_errors];
    assert_eq!(counts, [1, 2, 1, 1, 1]);
}

#[test]
fn every_page_of_a_read_that_gave_wrong_bytes_is_read_rightly_from_then_on() {
    for seed in 0..50 {
        let mut sim = sim(seed);
        let file = create_blocking(&mut sim, "file");
        file.write(0, &[7; 3 * BLOCK_SIZE]).unwrap();
        sim.faults(|faults| faults.read_flip = 1.0);
        let mut across = [0; 200];
        file.read(BLOCK_SIZE as u64 - 100, &mut across).unwrap();
        assert_ne!(across, [7; 200], "seed {seed}");
        for page in 0..2 {
            let mut again = [0; BLOCK_SIZE];
            file.read(page * BLOCK_SIZE as u64, &mut again).unwrap();
            assert_eq!(again, [7; BLOCK_SIZE], "seed {seed}, page {page}");
        }
        assert_eq!(sim.stats().flipped_reads, 1);
    }
}

#[test]
fn what_a_failed_sync_gave_up_is_not_made_durable_by_a_later_one() {
    assert!(varies(|seed| {
        let mut sim = sim(seed);
        let file = create_blocking(&mut sim, "file");
        file.write(0, &[1; 100]).unwrap();
        file.sync().unwrap();
        file.write(0, &[2; 100]).unwrap();
        sim.faults(|faults| faults.sync_error = 1.0);
        file.sync().unwrap_err();
        sim.faults(|faults| faults.sync_error = 0.0);
        file.sync().unwrap();
        sim.crash(0, CrashMode::Power);
        let content = sim.read_file(&path("file")).unwrap();
        assert!(content == [1; 100] || content == [2; 100], "seed {seed}");
        content[0] == 2
    }));
}

#[test]
fn operations_run_up_a_debt_of_time_that_is_taken_once() {
    let mut sim = sim(6);
    let file = create_blocking(&mut sim, "file");
    let longest = Duration::from_nanos(SimOptions::default().delay_ns_max);
    assert!(file.take_delay() > Duration::ZERO);
    let other = file.clone();
    (0..10).for_each(|number| file.write(number, &[1]).unwrap());
    let debt = other.take_delay();
    assert!(debt > longest && debt <= 10 * longest, "{debt:?}");
    assert_eq!(file.take_delay(), Duration::ZERO);
    sim.faults(|faults| faults.slow = 1.0);
    (0..10).for_each(|number| file.write(number, &[1]).unwrap());
    assert!(file.take_delay() > 20 * debt);
}

#[test]
fn a_file_outlives_its_simulation_and_goes_to_other_threads_without_doing_anything() {
    fn is_shared<T: Send + Sync + std::fmt::Debug + 'static>(_: &T) {}
    let mut sim = sim(7);
    let file = create_blocking(&mut sim, "file");
    is_shared(&file);
    let moved = file.clone();
    assert!(std::thread::spawn(move || moved.len().is_err()).join().unwrap());
    assert_eq!(file.len().unwrap(), 0);
    drop(sim);
    assert!(file.len().is_err());
}

#[test]
fn a_task_that_holds_a_file_can_drop_it_as_its_machine_goes_down() {
    struct WritesLate(SimBlockingFile, Rc<RefCell<Vec<bool>>>);
    impl Drop for WritesLate {
        fn drop(&mut self) {
            self.1.borrow_mut().push(self.0.write(0, &[9]).is_ok());
        }
    }
    let mut sim = sim(8);
    let file = create_blocking(&mut sim, "file");
    let done = Rc::new(RefCell::new(Vec::new()));
    let held = WritesLate(file, done.clone());
    crate::io::Spawn::spawn(&sim.io(0), async move {
        let _held = held;
        std::future::pending::<()>().await;
    });
    sim.run_for(Duration::from_millis(1));
    sim.crash(0, CrashMode::Process);
    assert_eq!(done.take(), [false], "a destructor of the life before does nothing");
    assert_eq!(sim.read_file(&path("file")).unwrap(), []);
}

#[test]
fn a_seed_is_a_whole_run_with_files_that_block() {
    let run = |seed: u64| {
        let mut sim = sim(seed);
        let mut random = Random::new(seed);
        let file = create_blocking(&mut sim, "file");
        let mut model = Model { sizes: vec![0], ..Model::default() };
        (0..30).for_each(|_| act(&file, &mut model, &mut random));
        let debt = file.take_delay();
        sim.crash(0, CrashMode::Power);
        sim.run_for(debt);
        (sim.trace_hash(), sim.read_file(&path("file")).unwrap())
    };
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
        assert_ne!(run(seed).0, run(seed + 1).0, "seed {seed}");
    }
}
