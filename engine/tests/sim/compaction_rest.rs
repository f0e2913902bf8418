//! Courses of events in which compaction does what nobody gains from, for ever.

use std::time::Duration;

use crate::support::content::Content;
use crate::support::machine::{self, Shards, put};
use nabu_engine::content::Pace;
use nabu_engine::io::Clock;
use nabu_engine::sim::{Sim, SimIo, SimOptions};
use nabu_engine::store::{BlobReader, Limits, Shard, StoreError, StoreOptions};

const SEGMENT_SIZE: u64 = 256 << 10;
const A_WHILE: Duration = Duration::from_secs(10);

fn options(cores: u16, segment_size: u64) -> StoreOptions {
    StoreOptions {
        dirs: machine::dirs(1),
        cores,
        memory_bytes: 64 << 20,
        segment_size: Some(segment_size),
        read_only: false,
        callers_files: &[],
        limits: Limits::default(),
    }
}

fn simulation(seed: u64, capacity_bytes: u64) -> Sim {
    let steps_max = 200_000_000;
    Sim::new(seed, SimOptions { dirs: machine::dirs(1), capacity_bytes, steps_max, ..SimOptions::default() })
}

fn open(sim: &mut Sim, options: &StoreOptions) -> Shards {
    let shards = sim.run(machine::open(machine::ios(sim, options.cores), options.clone())).expect("opens");
    machine::start_compaction(&shards, sim.io(options.cores));
    shards
}

async fn rest_of(mut reader: BlobReader<SimIo>) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.next(Pace::Slow).await? {
        bytes.extend_from_slice(chunk.bytes());
    }
    Ok(bytes)
}

async fn holds(shard: Shard<SimIo>, content: &Content) -> bool {
    let blob = shard.open(content.id).await.expect("sound").expect("stored");
    let size = blob.meta().size;
    rest_of(blob.reader(0..size)).await.expect("sound") == content.bytes
}

/// The highest number that a segment on the disk has.
fn youngest(sim: &Sim) -> u32 {
    let numbers = machine::segment_files(sim).into_iter().map(|path| {
        u32::from_str_radix(path.file_stem().expect("named").to_str().expect("ASCII"), 16).expect("a number")
    });
    numbers.max().expect("there are some")
}

fn disk_bytes(sim: &Sim) -> u64 {
    machine::segment_files(sim).iter().map(|path| sim.read_file(path).expect("listed").len() as u64).sum()
}

#[test]
fn tiny_blobs_of_which_none_is_deleted_come_to_rest() {
    let (mut sim, options) = (simulation(1, 1 << 30), options(1, SEGMENT_SIZE));
    let shards = open(&mut sim, &options);
    for number in 0..2_500 {
        let content = Content::new(number, 50);
        sim.run(put(shards[0].clone(), &content)).expect("stored");
    }
    sim.run_for(A_WHILE);
    let settled = youngest(&sim);
    sim.run_for(A_WHILE);
    let later = youngest(&sim);
    assert_eq!(settled, later, "segments are written again and again: {} files", machine::segment_files(&sim).len());
}

#[test]
fn a_disk_full_of_what_is_live_comes_to_rest() {
    let (mut sim, options) = (simulation(2, 32 << 20), options(1, SEGMENT_SIZE));
    let shards = open(&mut sim, &options);
    for number in 0.. {
        let content = Content::new(number, 70_000);
        match sim.run(put(shards[0].clone(), &content)) {
            Ok(_) => {}
            Err(StoreError::Full) => break,
            Err(error) => panic!("{error}"),
        }
    }
    sim.run_for(A_WHILE);
    let settled = youngest(&sim);
    sim.run_for(A_WHILE);
    let later = youngest(&sim);
    assert_eq!(settled, later, "segments are written again and again");
}

#[test]
fn a_disk_full_of_what_is_live_refuses_at_once() {
    let (mut sim, options) = (simulation(3, 32 << 20), options(1, SEGMENT_SIZE));
    let shards = open(&mut sim, &options);
    for number in 0.. {
        let content = Content::new(number, 70_000);
        match sim.run(put(shards[0].clone(), &content)) {
            Ok(_) => {}
            Err(StoreError::Full) => break,
            Err(error) => panic!("{error}"),
        }
    }
    sim.run_for(A_WHILE);
    let io = shards[0].io().clone();
    let began = io.now();
    let content = Content::new(1 << 40, 70_000);
    let outcome = sim.run(put(shards[0].clone(), &content));
    let took = io.now().since(began);
    assert!(took < Duration::from_secs(1), "{outcome:?} after {took:?}");
}

#[test]
fn pieces_from_larger_segments_move_into_smaller_ones() {
    let (mut sim, large) = (simulation(4, 1 << 30), options(1, 8 << 20));
    let shards = open(&mut sim, &large);
    let contents: Vec<Content> = (0..6).map(|number| Content::new(number, 3 << 20)).collect();
    for content in &contents {
        sim.run(put(shards[0].clone(), content)).expect("stored");
    }
    sim.run(machine::close(shards));
    let mut sim = sim.restart(nabu_engine::sim::CrashMode::Process);
    // The least that the configuration allows.
    let shards = open(&mut sim, &options(1, 1 << 20));
    for content in contents.iter().skip(1).step_by(2) {
        let (shard, id) = (shards[0].clone(), content.id);
        assert!(sim.run(async move { shard.delete(id).await }).expect("deleted"));
    }
    let before = youngest(&sim);
    let io = shards[0].io().clone();
    let ended = sim.run_steps(40_000, async move { io.sleep(Duration::from_secs(10)).await });
    let after = youngest(&sim);
    assert!(after < before + 40 && ended.is_some(), "{} segments were begun", after - before);
    for content in contents.iter().step_by(2) {
        assert!(sim.run(holds(shards[0].clone(), content)));
    }
}

/// Puts and deletes one small blob after another, and tells how many bytes of disk that leaves.
fn churn(sim: &mut Sim, shard: &Shard<SimIo>, from: u64, count: u64) -> u64 {
    let shard = shard.clone();
    sim.run(async move {
        for number in from..from + count {
            let content = Content::new(1 << 50 | number, 500);
            put(shard.clone(), &content).await.expect("stored");
            assert!(shard.delete(content.id).await.expect("deleted"));
        }
    });
    sim.run_for(A_WHILE);
    disk_bytes(sim)
}

#[test]
fn deletions_leave_nothing_behind_although_compaction_once_began_a_segment() {
    let mut grew = Vec::new();
    for compacted in [false, true] {
        let (mut sim, options) = (simulation(5, 1 << 30), options(1, SEGMENT_SIZE));
        let shards = open(&mut sim, &options);
        if compacted {
            let contents: Vec<Content> = (0..40).map(|number| Content::new(number, 30_000)).collect();
            for content in &contents {
                sim.run(put(shards[0].clone(), content)).expect("stored");
            }
            for content in &contents[1..] {
                let (shard, id) = (shards[0].clone(), content.id);
                assert!(sim.run(async move { shard.delete(id).await }).expect("deleted"));
            }
            sim.run_for(A_WHILE);
        }
        let sizes: Vec<u64> = (0..8).map(|round| churn(&mut sim, &shards[0], round * 3_000, 3_000)).collect();
        eprintln!("compacted {compacted}: {sizes:?}");
        grew.push(sizes[7] as i64 - sizes[0] as i64);
    }
    // What tombstones may add up to before something is done about them, and the one that is
    // written to.
    let most = 5 * SEGMENT_SIZE as i64;
    assert!(grew[0] < most && grew[1] < most, "twenty thousand deletions left {grew:?} bytes");
}
