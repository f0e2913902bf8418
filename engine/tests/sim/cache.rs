//! What was read or written once stays in memory while the cache's budget has room.

use std::time::Duration;

use crate::support::content::Content;
use crate::support::machine::{self, put};
use nabu_engine::content::Pace;
use nabu_engine::io::Clock;
use nabu_engine::sim::{CrashMode, Sim, SimIo, SimOptions};
use nabu_engine::store::{Limits, Shard, StoreError, StoreOptions};

/// More than the warmer makes ready at a start, so that most of the memory has to be found on
/// demand.
const LARGE_COUNT: u64 = 28;
const LARGE_SIZE: usize = (5 << 20) + 12_345;
/// Beside their head, in memory of their own, and in two pieces.
const SMALL_SIZES: [usize; 4] = [10, 10_000, 40_000, 100_000];
const SMALL_COUNT: u64 = 40;
/// The cache gets three quarters of it.
const MEMORY_BYTES: u64 = 320 << 20;

fn contents(seed: u64) -> Vec<Content> {
    let large = (0..LARGE_COUNT).map(|number| Content::new(seed * 1000 + number, LARGE_SIZE));
    let small = (0..SMALL_COUNT).map(|number| {
        Content::new(seed * 1000 + 500 + number, SMALL_SIZES[number as usize % SMALL_SIZES.len()] + number as usize)
    });
    large.chain(small).collect()
}

fn options() -> StoreOptions {
    let segment_size = Some(64 << 20);
    StoreOptions {
        dirs: machine::dirs(1),
        cores: 1,
        memory_bytes: MEMORY_BYTES,
        segment_size,
        read_only: false,
        callers_files: &[],
        limits: Limits::default(),
    }
}

async fn get(shard: Shard<SimIo>, content: &Content) -> Result<bool, StoreError> {
    let blob = shard.open(content.id).await?.expect("stored");
    let mut reader = blob.reader(0..content.bytes.len() as u64);
    let mut at = 0;
    while let Some(chunk) = reader.next(Pace::Fast).await? {
        let bytes = chunk.bytes();
        if content.bytes.get(at..at + bytes.len()) != Some(bytes) {
            return Ok(false);
        }
        at += bytes.len();
    }
    Ok(at == content.bytes.len())
}

/// Bytes that reading all of it once takes from the disk.
fn bytes_read_by_a_pass(sim: &mut Sim, shard: &Shard<SimIo>, contents: &[Content]) -> u64 {
    // What a start leaves to do in the background reads, too.
    let io = shard.io().clone();
    sim.run(async move { io.sleep(Duration::from_secs(10)).await });
    let before = sim.stats().bytes_read;
    for content in contents {
        assert!(sim.run(get(shard.clone(), content)).expect("readable"), "other bytes came back");
    }
    sim.stats().bytes_read - before
}

#[test]
fn after_a_restart_a_second_pass_over_what_fits_in_memory_reads_nothing() {
    let contents = contents(1);
    let size: u64 = contents.iter().map(|content| content.bytes.len() as u64).sum();
    let mut sim = Sim::new(1, SimOptions { dirs: machine::dirs(1), capacity_bytes: 1 << 30, ..SimOptions::default() });
    let shards = sim.run(machine::open(machine::ios(&sim, 1), options())).expect("opens");
    for content in &contents {
        sim.run(put(shards[0].clone(), content)).expect("stored");
    }
    sim.run(machine::close(shards));
    let mut sim = sim.restart(CrashMode::Process);
    let shards = sim.run(machine::open(machine::ios(&sim, 1), options())).expect("opens");
    // As the server does; it may change how fast memory is found, and nothing else.
    let warmer = shards[0].store().warm_up();
    let first = bytes_read_by_a_pass(&mut sim, &shards[0], &contents);
    assert!((size..size + size / 20).contains(&first), "the first pass read {first} bytes of {size}");
    // Nothing at all, heads and lists of pieces included: every part of a record has a place in the
    // cache.
    assert_eq!(bytes_read_by_a_pass(&mut sim, &shards[0], &contents), 0);
    assert_eq!(shards[0].store().cache_status().evictions, 0);
    drop(warmer);
}

#[test]
fn uploads_are_read_from_memory_while_the_cache_has_room_for_them() {
    let contents = contents(2);
    let mut sim = Sim::new(2, SimOptions { dirs: machine::dirs(1), capacity_bytes: 1 << 30, ..SimOptions::default() });
    let shards = sim.run(machine::open(machine::ios(&sim, 1), options())).expect("opens");
    let warmer = shards[0].store().warm_up();
    for content in &contents {
        sim.run(put(shards[0].clone(), content)).expect("stored");
    }
    assert_eq!(bytes_read_by_a_pass(&mut sim, &shards[0], &contents), 0);
    assert_eq!(shards[0].store().cache_status().evictions, 0);
    drop(warmer);
}
