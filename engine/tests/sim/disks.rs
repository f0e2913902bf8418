//! Two data directories, one of which dies, hangs or is missing: what does not need it goes on.

use std::path::PathBuf;
use std::time::Duration;

use crate::support::client::read_range;
use crate::support::content::Content;
use crate::support::machine::{self, Shards};
use nabu_engine::content::Pace;
use nabu_engine::io::{Clock, Spawn};
use nabu_engine::sim::{CrashMode, Faults, Sim, SimIo, SimOptions};
use nabu_engine::store::{CommitOptions, Limits, Missing, OpenError, Shard, StoreError, StoreOptions};
use nabu_engine::sync::promise;

const SEGMENT_SIZE: u64 = 1 << 20;
const DIRS: usize = 2;
/// Uploads that may fail before a directory is taken out: three in a row of each kind of operation,
/// and what was under way with them.
const FAILURES_MAX: usize = 40;

fn options(cores: u16) -> StoreOptions {
    StoreOptions {
        dirs: machine::dirs(DIRS),
        cores,
        memory_bytes: 256 << 20,
        segment_size: Some(SEGMENT_SIZE),
        read_only: false,
        callers_files: &[],
        limits: Limits::default(),
    }
}

fn simulation(seed: u64) -> Sim {
    let steps_max = 200_000_000;
    let dirs = machine::dirs(DIRS).into_iter().chain([fresh()]).collect();
    Sim::new(seed, SimOptions { dirs, capacity_bytes: 2 << 30, steps_max, ..SimOptions::default() })
}

/// A directory that is empty and belongs to nobody.
fn fresh() -> PathBuf {
    PathBuf::from(machine::ROOT).join("fresh")
}

/// The data directory that faults strike.
fn struck() -> PathBuf {
    machine::dirs(DIRS)[1].clone()
}

async fn put(shard: Shard<SimIo>, content: &Content) -> Result<bool, StoreError> {
    let mut upload = shard.upload(Some(content.bytes.len() as u64)).await?;
    upload.write(&content.bytes).await?;
    Ok(upload.commit(CommitOptions::default()).await?.created)
}

async fn get(shard: Shard<SimIo>, content: &Content) -> Result<bool, StoreError> {
    let size = content.bytes.len() as u64;
    let found = read_range(&shard, content.id, 0..size, Pace::Fast).await?;
    if let Some(found) = &found {
        assert!(found.bytes == content.bytes, "wrong bytes of {}", content.id);
    }
    Ok(found.is_some())
}

/// Contents of many sizes, in one piece and in several.
fn contents(from: u64, count: u64) -> Vec<Content> {
    const SIZES: [usize; 5] = [100, 5_000, 70_000, 300_000, 900_000];
    (from..from + count).map(|number| Content::new(number, SIZES[number as usize % SIZES.len()])).collect()
}

/// Faults of a disk.
type Kind = fn() -> Faults;
/// What a client does.
type Task = std::pin::Pin<Box<dyn Future<Output = Result<(), StoreError>>>>;

/// Runs a task for each item at the same time, and gives the outcomes in their order.
fn together<T: 'static, F: Future<Output = T> + 'static>(sim: &mut Sim, io: &SimIo, tasks: Vec<F>) -> Vec<T> {
    let io = io.clone();
    sim.run(async move {
        let mut waiting = Vec::new();
        for task in tasks {
            let (result, promised) = promise();
            io.spawn(async move { result.keep(task.await) });
            waiting.push(promised);
        }
        let mut outcomes = Vec::new();
        for promised in waiting {
            outcomes.push(promised.await.expect("a task runs to its end"));
        }
        outcomes
    })
}

/// The contents whose records lie in the sound directory: those that can be read without the other.
fn readable_without(seed: u64, cores: u16, all: &[Content]) -> (Sim, Shards, Vec<usize>) {
    let (mut sim, options) = (simulation(seed), options(cores));
    let shards = sim.run(machine::open(machine::ios(&sim, cores), options.clone())).expect("opens");
    for (number, content) in all.iter().enumerate() {
        sim.run(put(shards[number % usize::from(cores)].clone(), content)).expect("stored");
    }
    sim.run(machine::close(shards));
    // From the disk, not from the cache, and with the other directory failing every read.
    let shards = sim.run(machine::open(machine::ios(&sim, cores), options.clone())).expect("opens");
    sim.faults(|faults| *faults = Faults { read_error: 1.0, within: Some(struck()), ..Faults::default() });
    let sound = (0..all.len()).filter(|number| sim.run(get(shards[0].clone(), &all[*number])).is_ok()).collect();
    sim.faults(|faults| *faults = Faults::default());
    sim.run(machine::close(shards));
    let shards = sim.run(machine::open(machine::ios(&sim, cores), options)).expect("opens");
    (sim, shards, sound)
}

#[test]
fn a_directory_that_refuses_writes_is_taken_out_and_uploads_go_to_the_others_from_every_core() {
    let kinds: [(&str, Kind); 4] = [
        ("metadata", || Faults { metadata_error: 1.0, ..Faults::default() }),
        ("writes", || Faults { write_error: 1.0, ..Faults::default() }),
        ("syncs", || Faults { sync_error: 1.0, ..Faults::default() }),
        ("syncs of directories", || Faults { dir_sync_error: 1.0, ..Faults::default() }),
    ];
    for cores in [1, 2, 4] {
        for (kind, faults) in kinds {
            let stored = contents(0, 30);
            let (mut sim, shards, _) = readable_without(u64::from(cores), cores, &stored);
            sim.faults(|now| *now = Faults { within: Some(struck()), ..faults() });
            let mut failures = Vec::new();
            for round in 0..50 {
                let batch = contents(1000 + 8 * round, 8).into_iter().enumerate();
                let tasks = batch.map(|(number, content)| {
                    let shard = shards[(round as usize + number) % usize::from(cores)].clone();
                    async move { put(shard, &content).await }
                });
                let outcomes = together(&mut sim, shards[0].io(), tasks.collect());
                failures.extend(outcomes.into_iter().filter_map(|outcome| outcome.err()).map(|error| (round, error)));
                sim.run_for(Duration::from_millis(500));
            }
            assert!(failures.len() <= FAILURES_MAX, "{kind}, {cores} cores: {} failures {failures:?}", failures.len());
            let last = failures.last().map_or(0, |(round, _)| *round);
            assert!(last < 30, "{kind}, {cores} cores: uploads fail for ever: {failures:?}");
            let expected = |error: &StoreError| matches!(error, StoreError::WriteFailed { .. });
            assert!(failures.iter().all(|(_, error)| expected(error)), "{kind}, {cores} cores: {failures:?}");
            let status = {
                let shard = shards[0].clone();
                sim.run(async move { shard.status().await })
            };
            assert_eq!(status.failed_dirs, 1, "{kind}, {cores} cores");
            // Reads go on, in both.
            for content in &stored {
                assert_eq!(sim.run(get(shards[0].clone(), content)).map_err(|error| error.to_string()), Ok(true));
            }
            // A deletion needs the sound directory alone.
            for content in &stored[..10] {
                let (shard, id) = (shards[usize::from(cores) - 1].clone(), content.id);
                assert!(sim.run(async move { shard.delete(id).await }).expect("deleted"), "{kind}, {cores} cores");
            }
            sim.run(machine::close(shards));
            sim.faults(|faults| *faults = Faults::default());
            let shards = sim.run(machine::open(machine::ios(&sim, cores), options(cores))).expect("opens");
            for (number, content) in stored.iter().enumerate() {
                let found = sim.run(get(shards[0].clone(), content)).expect("readable");
                assert_eq!(found, number >= 10, "{kind}, {cores} cores, blob {number}");
            }
        }
    }
}

/// Ends within this, whatever a disk does: the time an operation may take, a look more, and what
/// the work itself takes.
const BOUND: Duration = Duration::from_secs(35);

#[test]
fn a_directory_that_hangs_is_taken_out_within_the_bound_and_nobody_waits_for_it_longer() {
    for cores in [1, 2, 4] {
        let stored = contents(0, 60);
        let (mut sim, shards, sound) = readable_without(10 + u64::from(cores), cores, &stored);
        machine::start_compaction(&shards, sim.io(cores));
        machine::start_scrub(&shards, sim.io(cores + 1), Default::default());
        sim.faults(|faults| *faults = Faults { stuck: 1.0, within: Some(struck()), ..Faults::default() });
        let io = shards[0].io().clone();
        let mut ends = Vec::new();
        for round in 0..12 {
            let began = io.now();
            let mut tasks: Vec<Task> = Vec::new();
            for (number, content) in contents(2000 + 8 * round, 8).into_iter().enumerate() {
                let shard = shards[number % usize::from(cores)].clone();
                tasks.push(Box::pin(async move { put(shard, &content).await.map(drop) }));
            }
            for number in (0..stored.len()).skip(round as usize).step_by(7) {
                let content = Content::new(number as u64, stored[number].bytes.len());
                let (shard, is_sound) = (shards[number % usize::from(cores)].clone(), sound.contains(&number));
                tasks.push(Box::pin(async move {
                    let began = shard.io().now();
                    match get(shard.clone(), &content).await {
                        Ok(true) => {}
                        Ok(false) => panic!("blob {number} is not there"),
                        // What lies in the sound directory is served as ever.
                        Err(error) => assert!(!is_sound, "blob {number}: {error}"),
                    }
                    let took = shard.io().now().since(began);
                    assert!(!is_sound || took < Duration::from_secs(1), "blob {number} took {took:?}");
                    Ok(())
                }));
            }
            let outcomes = together(&mut sim, &io, tasks);
            let took = io.now().since(began);
            assert!(took < BOUND, "{cores} cores, round {round}: {took:?}");
            ends.push((took, outcomes.iter().filter(|outcome| outcome.is_err()).count()));
        }
        // From the first time on that the bound has passed, everything is answered at once.
        let late = ends.iter().skip(2).filter(|(took, failed)| *took > Duration::from_secs(2) || *failed > 0).count();
        assert_eq!(late, 0, "{cores} cores: {ends:?}");
        assert!(ends[0].0 > Duration::from_secs(20), "nothing met the stuck disk: {ends:?}");
        let unsound = (0..stored.len()).find(|number| !sound.contains(number)).expect("some lie in either directory");
        let refused = sim.run(get(shards[0].clone(), &stored[unsound]));
        assert!(matches!(refused, Err(StoreError::DirectoryOut { dir: 1, .. })), "{refused:?}");
        let status = {
            let shard = shards[0].clone();
            sim.run(async move { shard.status().await })
        };
        assert_eq!(status.failed_dirs, 1);
        // What can't be read is stored anew where it can be.
        assert!(sim.run(put(shards[0].clone(), &stored[unsound])).expect("stored anew"));
        assert!(sim.run(get(shards[0].clone(), &stored[unsound])).expect("readable"));
        let began = io.now();
        sim.run(machine::close(shards));
        let took = io.now().since(began);
        assert!(took < BOUND, "{cores} cores: closing took {took:?}");
    }
}

#[test]
fn closing_ends_within_the_bound_although_a_disk_hangs_in_the_middle_of_it() {
    for seed in 0..20 {
        let cores = 1 + (seed % 3) as u16;
        let (mut sim, shards, _) = readable_without(100 + seed, cores, &contents(0, 20));
        machine::start_compaction(&shards, sim.io(cores));
        let io = shards[0].io().clone();
        for (number, content) in contents(3000, 12).into_iter().enumerate() {
            let shard = shards[number % shards.len()].clone();
            io.spawn(async move { drop(put(shard, &content).await) });
        }
        sim.run_for(Duration::from_micros(200 * seed));
        sim.faults(|faults| *faults = Faults { stuck: 1.0, ..Faults::default() });
        if seed % 2 == 0 {
            sim.faults(|faults| faults.within = Some(machine::dirs(DIRS)[(seed / 2 % 2) as usize].clone()));
        }
        let began = io.now();
        sim.run(machine::close(shards));
        let took = io.now().since(began);
        // Those after the first get little time.
        assert!(took < BOUND + Duration::from_secs(10), "seed {seed}: closing took {took:?}");
    }
}

#[test]
fn a_start_on_a_disk_that_hangs_is_refused_within_the_bound() {
    for hung in 0..DIRS {
        let (mut sim, shards, _) = readable_without(200, 2, &contents(0, 20));
        sim.run(machine::close(shards));
        let io = sim.io(0);
        let within = Some(machine::dirs(DIRS)[hung].clone());
        sim.faults(|faults| *faults = Faults { stuck: 1.0, within, ..Faults::default() });
        let began = io.now();
        let opened = sim.run(machine::open(machine::ios(&sim, 2), options(2)));
        let took = io.now().since(began);
        let error = opened.expect_err("it can't open").to_string();
        assert!(took < BOUND && error.contains(&format!("data{hung}")), "{took:?}: {error}");
    }
}

#[test]
fn memory_of_reads_that_a_disk_keeps_stays_charged_until_it_gives_them_back() {
    let stored: Vec<Content> = (0..8).map(|number| Content::new(number, 900_000)).collect();
    let (mut sim, shards, sound) = readable_without(300, 1, &stored);
    let unsound: Vec<usize> = (0..stored.len()).filter(|number| !sound.contains(number)).collect();
    let status = |sim: &mut Sim, shards: &Shards| {
        let shard = shards[0].clone();
        sim.run(async move { shard.status().await })
    };
    // What a start does in the background has let go of its memory.
    sim.run_for(Duration::from_secs(1));
    let before = status(&mut sim, &shards);
    sim.faults(|faults| *faults = Faults { stuck: 1.0, within: Some(struck()), ..Faults::default() });
    for number in &unsound {
        let refused = sim.run(get(shards[0].clone(), &stored[*number]));
        assert!(matches!(refused, Err(StoreError::DirectoryOut { .. })), "{refused:?}");
    }
    let held = status(&mut sim, &shards);
    let bytes = |status: &nabu_engine::store::StoreStatus| status.frame_bytes + status.cache.charged_bytes;
    assert!(!unsound.is_empty() && bytes(&held) > bytes(&before), "{before:?} {held:?}");
    assert!(shards[0].store().overdue_operations() > 0);
    sim.faults(|faults| *faults = Faults::default());
    sim.release_stuck();
    sim.run_for(Duration::from_secs(1));
    let after = status(&mut sim, &shards);
    assert_eq!(bytes(&after), bytes(&before));
    assert_eq!(shards[0].store().overdue_operations(), 0);
}

/// Opens the store with these directories, and what is to be done about those that are missing.
fn open_with(sim: &mut Sim, cores: u16, dirs: Vec<PathBuf>, on_missing: Missing) -> Result<Shards, OpenError> {
    let options = StoreOptions { dirs, ..options(cores) };
    sim.run(machine::open_with(machine::ios(sim, cores), options, on_missing))
}

fn refusal(opened: Result<Shards, OpenError>) -> String {
    opened.expect_err("it must not open").to_string()
}

#[test]
fn a_store_without_one_of_its_directories_serves_the_rest_when_told_so_and_has_everything_when_it_is_back() {
    for (missing, is_given) in [(0, false), (1, false), (0, true), (1, true)] {
        let stored = contents(0, 60);
        let (mut sim, shards, _) = readable_without(400, 2, &stored);
        let deleted: Vec<usize> = (0..6).collect();
        for number in &deleted {
            let (shard, id) = (shards[0].clone(), stored[*number].id);
            assert!(sim.run(async move { shard.delete(id).await }).expect("deleted"));
        }
        sim.run(machine::close(shards));
        let all = machine::dirs(DIRS);
        let lost = all[missing].clone();
        let left: Vec<PathBuf> = if is_given { all.clone() } else { vec![all[1 - missing].clone()] };
        if is_given {
            // The disk fails everything, or is not there.
            sim.faults(|faults| {
                *faults = Faults {
                    metadata_error: 1.0,
                    dir_sync_error: 1.0,
                    read_error: 1.0,
                    within: Some(lost.clone()),
                    ..Faults::default()
                };
            });
        }
        assert!(!refusal(open_with(&mut sim, 2, left.clone(), Missing::Refuse)).is_empty());
        let shards = open_with(&mut sim, 2, left.clone(), Missing::Serve).expect("degraded");
        machine::start_compaction(&shards, sim.io(2));
        machine::start_scrub(&shards, sim.io(3), Default::default());
        let (mut served, mut refused) = (0, 0);
        for (number, content) in stored.iter().enumerate().skip(deleted.len()) {
            match sim.run(get(shards[number % 2].clone(), content)) {
                Ok(true) => served += 1,
                Err(StoreError::Degraded { missing: 1 } | StoreError::DirectoryOut { .. }) => refused += 1,
                other => panic!("blob {number}: {other:?}"),
            }
        }
        assert!(served > 0 && refused > 0, "{served} served, {refused} refused");
        // What was never stored may lie there, for all that is known.
        let unknown = sim.run(get(shards[0].clone(), &Content::new(1 << 40, 10)));
        assert!(matches!(unknown, Err(StoreError::Degraded { missing: 1 })), "{unknown:?}");
        // Uploads of new content, and of all the old.
        let new = contents(5000, 60);
        for (number, content) in new.iter().chain(&stored[deleted.len()..30]).enumerate() {
            sim.run(put(shards[number % 2].clone(), content)).expect("stored");
            assert!(sim.run(get(shards[0].clone(), content)).expect("readable"));
        }
        let gone: Vec<usize> = (40..46).collect();
        for number in &gone {
            let (shard, id) = (shards[0].clone(), stored[*number].id);
            sim.run(async move { shard.delete(id).await }).expect("deleted");
        }
        sim.run_for(Duration::from_secs(20));
        let files = machine::segment_files(&sim);
        let there = |files: &[PathBuf]| files.iter().filter(|path| path.starts_with(&lost)).count();
        assert!(there(&files) > 0, "nothing of the missing directory is given up");
        // Another life without it, after a crash.
        let mut sim = sim.restart(CrashMode::Process);
        let shards = open_with(&mut sim, 2, left, Missing::Serve).expect("degraded");
        sim.run(put(shards[1].clone(), &Content::new(1 << 41, 100_000))).expect("stored");
        sim.run(machine::close(shards));
        sim.faults(|faults| *faults = Faults::default());
        let shards = open_with(&mut sim, 2, all, Missing::Refuse).expect("everything is there again");
        for (number, content) in stored.iter().enumerate() {
            let expected = !deleted.contains(&number) && !gone.contains(&number);
            let found = sim.run(get(shards[0].clone(), content)).expect("readable");
            assert_eq!(found, expected, "blob {number}, directory {missing} was missing");
        }
        for content in new.iter().chain([&Content::new(1 << 41, 100_000)]) {
            assert!(sim.run(get(shards[0].clone(), content)).expect("readable"));
        }
        let status = {
            let shard = shards[0].clone();
            sim.run(async move { shard.status().await })
        };
        assert!(!status.is_incomplete && status.missing_dirs == 0 && status.damage_count == 0, "{status:?}");
    }
}

#[test]
fn a_directory_that_is_lost_is_replaced_by_an_empty_one_and_only_what_lay_there_is_gone() {
    for seed in 0..12 {
        let lost = (seed % 2) as usize;
        // Large ones too, with pieces in both directories when they were written by either core.
        let mut stored = contents(0, 40);
        stored.extend((0..8).map(|number| Content::new(100 + number, 3 << 20)));
        let (mut sim, shards, _) = readable_without(500 + seed, 2, &stored);
        sim.run(machine::close(shards));
        let all = machine::dirs(DIRS);
        let fresh = fresh();
        let given = vec![fresh.clone(), all[1 - lost].clone()];
        let why = refusal(open_with(&mut sim, 2, given.clone(), Missing::Refuse));
        assert!(why.contains("--degraded") && why.contains("--forget-missing"), "{why}");
        // Cut off at every stage of it: it is refused until it is told again, or done.
        let mut crashes = 0;
        for steps in (seed..).step_by(97).map(|step| 50 + step * 40) {
            let options = StoreOptions { dirs: given.clone(), ..options(2) };
            let opening = machine::open_with(machine::ios(&sim, 2), options, Missing::Forget);
            let opened = sim.run_steps(steps, async move {
                let shards = opening.await.expect("opens");
                shards[0].io().sleep(Duration::from_secs(5)).await;
            });
            sim = sim.restart(if crashes % 2 == 0 { CrashMode::Power } else { CrashMode::Process });
            if opened.is_some() {
                break;
            }
            crashes += 1;
            if let Ok(shards) = open_with(&mut sim, 2, given.clone(), Missing::Refuse) {
                sim.run(machine::close(shards));
                break;
            }
        }
        assert!(crashes > 0, "nothing was cut off");
        let shards = open_with(&mut sim, 2, given.clone(), Missing::Refuse).expect("it is given up");
        machine::start_compaction(&shards, sim.io(2));
        let (mut served, mut absent) = (Vec::new(), Vec::new());
        for (number, content) in stored.iter().enumerate() {
            match sim.run(get(shards[number % 2].clone(), content)) {
                Ok(true) => served.push(number),
                Ok(false) => absent.push(number),
                Err(error) => panic!("seed {seed}, blob {number}: {error}"),
            }
        }
        assert!(!served.is_empty() && !absent.is_empty(), "{served:?} {absent:?}");
        for (number, content) in stored.iter().enumerate() {
            assert_eq!(sim.run(put(shards[0].clone(), content)).expect("stored"), absent.contains(&number), "{number}");
            assert!(sim.run(get(shards[1].clone(), content)).expect("readable"));
        }
        for number in [served[0], absent[0]] {
            let (shard, id) = (shards[0].clone(), stored[number].id);
            assert!(sim.run(async move { shard.delete(id).await }).expect("deleted"));
        }
        sim.run(machine::close(shards));
        // It is not taken back.
        let mut with_lost = given.clone();
        with_lost.push(all[lost].clone());
        let why = refusal(open_with(&mut sim, 2, with_lost, Missing::Refuse));
        assert!(why.contains("given up as lost"), "{why}");
        let shards = open_with(&mut sim, 2, given, Missing::Refuse).expect("opens");
        for (number, content) in stored.iter().enumerate() {
            let expected = number != served[0] && number != absent[0];
            assert_eq!(sim.run(get(shards[0].clone(), content)).expect("readable"), expected, "blob {number}");
        }
    }
}

/// The checkpoint lies in the first directory, and outlives a start that had to do without. What it
/// stands for must not be taken for what was stored in that life.
#[test]
fn a_start_that_gives_up_on_the_checkpoints_disk_stores_what_the_next_one_finds() {
    let first = machine::dirs(DIRS)[0].clone();
    let mut met = 0;
    for steps in (0..400).step_by(2) {
        let mut sim = simulation(steps);
        let shards = sim.run(machine::open(machine::ios(&sim, 1), options(1))).expect("opens");
        for content in contents(0, 10) {
            sim.run(put(shards[0].clone(), &content)).expect("stored");
            sim.run(shards[0].delete(content.id)).expect("deleted");
        }
        sim.run(machine::close(shards));
        // All space comes back, and the checkpoint alone knows of the operations.
        let mut sim = sim.restart(CrashMode::Process);
        let shards = sim.run(machine::open(machine::ios(&sim, 1), options(1))).expect("opens");
        sim.run_for(Duration::from_secs(5));
        sim.run(machine::close(shards));
        let mut sim = sim.restart(CrashMode::Process);
        let (result, mut promised) = promise();
        let opening = machine::open(machine::ios(&sim, 1), options(1));
        sim.io(0).spawn(async move { result.keep(opening.await) });
        let opened = sim.run_steps(steps, &mut promised);
        if opened.is_some() {
            break;
        }
        sim.faults(|faults| *faults = Faults { stuck: 1.0, within: Some(first.clone()), ..Faults::default() });
        let Some(Ok(shards)) = sim.run(promised) else { continue };
        let content = Content::new(1000 + steps, 5_000);
        let stored = sim.run(put(shards[0].clone(), &content));
        sim.run(machine::close(shards));
        sim.faults(|faults| *faults = Faults::default());
        sim.release_stuck();
        let mut sim = sim.restart(CrashMode::Process);
        let shards = sim.run(machine::open(machine::ios(&sim, 1), options(1))).expect("opens");
        if stored.is_ok() {
            met += 1;
            let found = sim.run(get(shards[0].clone(), &content)).expect("readable");
            assert!(found, "after {steps} steps: what was acknowledged is gone");
        }
    }
    assert!(met > 0, "no start was met in the midst of its checkpoint");
}
