//! Readers of large blobs that must not be in one another's way, nor lose what they read.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::support::client::read_range;
use crate::support::content::Content;
use crate::support::machine::{self, Machine, put};
use nabu_engine::content::{Pace, Sendable};
use nabu_engine::io::{Clock, Spawn};
use nabu_engine::probe::{self, Event};
use nabu_engine::sim::{CrashMode, Sim, SimIo, SimOptions};
use nabu_engine::store::{Limits, Shard, StoreError, StoreOptions};

fn options(memory_bytes: u64, segment_size: u64) -> StoreOptions {
    let segment_size = Some(segment_size);
    StoreOptions {
        dirs: machine::dirs(1),
        cores: 1,
        memory_bytes,
        segment_size,
        read_only: false,
        callers_files: &[],
        limits: Limits::default(),
    }
}

fn simulation(seed: u64) -> Sim {
    Sim::new(seed, SimOptions { dirs: machine::dirs(1), capacity_bytes: 1 << 30, ..SimOptions::default() })
}

/// Reads as the server does: sends a chunk, gives it back, asks for the next.
async fn read_all(shard: Shard<SimIo>, content: &Content) -> Result<Vec<u8>, StoreError> {
    let blob = shard.open(content.id).await?.expect("stored");
    let mut reader = blob.reader(0..content.bytes.len() as u64);
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.next(Pace::Fast).await? {
        bytes.extend_from_slice(chunk.bytes());
        shard.io().sleep(Duration::from_millis(1)).await;
        if let Sendable::Large(body, _) = chunk.into_sendable() {
            reader.recycle(body);
        }
    }
    Ok(bytes)
}

#[test]
fn readers_for_whom_the_cache_has_no_room_do_not_hold_memory_while_they_wait_for_more() {
    const READERS: u64 = 6;
    for seed in 0..4 {
        let mut sim = simulation(seed);
        let contents: Rc<Vec<Content>> =
            Rc::new((0..READERS).map(|number| Content::new(seed * 100 + number, 4 << 20)).collect());
        let shards = sim.run(machine::open(machine::ios(&sim, 1), options(256 << 20, 64 << 20))).expect("opens");
        for content in contents.iter() {
            sim.run(put(shards[0].clone(), content)).expect("stored");
        }
        sim.run(machine::close(shards));
        let mut sim = sim.restart(CrashMode::Process);
        // Neither the cache nor the buffers hold a frame for each.
        let shards = sim.run(machine::open(machine::ios(&sim, 1), options(4 << 20, 64 << 20))).expect("opens");
        let ended: Rc<RefCell<Vec<(bool, Duration)>>> = Rc::default();
        for number in 0..contents.len() {
            let (shard, contents, ended) = (shards[0].clone(), contents.clone(), ended.clone());
            shards[0].io().clone().spawn(async move {
                let (io, content) = (shard.io().clone(), &contents[number]);
                let began = io.now();
                let whole = read_all(shard, content).await.is_ok_and(|bytes| bytes == content.bytes);
                ended.borrow_mut().push((whole, io.now().since(began)));
            });
        }
        sim.run_for(Duration::from_secs(120));
        let ended = ended.borrow();
        assert_eq!(ended.len() as u64, READERS, "seed {seed}");
        // In simulated time: far below the patience of those who wait for memory.
        let soon = |(whole, took): &(bool, Duration)| *whole && *took < Duration::from_secs(5);
        assert!(ended.iter().all(soon), "seed {seed}: {ended:?}");
    }
}

#[test]
fn a_blob_that_is_deleted_before_a_start_has_counted_it_stays_readable_for_its_readers() {
    for seed in 0..4 {
        let mut sim = simulation(seed);
        let options = options(32 << 20, 256 << 10);
        let shards = sim.run(machine::open(machine::ios(&sim, 1), options.clone())).expect("opens");
        // Counted last, as it has the highest id of many.
        let candidates = (0..200).map(|number| Content::new(1000 * (seed + 1) + number, 1_400_000));
        let victim = candidates.max_by_key(|content| content.id).expect("some");
        let before = (0..60).map(|number| Content::new(100_000 + 1000 * seed + number, 300_000));
        for content in before.collect::<Vec<_>>().iter().chain([&victim]) {
            sim.run(put(shards[0].clone(), content)).expect("stored");
        }
        // So that its segments are sealed.
        for number in 0..10 {
            let content = Content::new(200_000 + 1000 * seed + number, 300_000);
            sim.run(put(shards[0].clone(), &content)).expect("stored");
        }
        sim.run(machine::close(shards));
        let mut sim = sim.restart(CrashMode::Process);
        let shards = sim.run(machine::open(machine::ios(&sim, 1), options)).expect("opens");
        let shard = shards[0].clone();
        let (id, size) = (victim.id, victim.bytes.len() as u64);
        let read = sim.run(async move {
            let mut reader = shard.open(id).await?.expect("stored").reader(0..size);
            let mut bytes = reader.next(Pace::Slow).await?.expect("not empty").bytes().to_vec();
            assert!(shard.delete(id).await?);
            // All counting and reclaiming is over by then.
            shard.io().sleep(Duration::from_secs(10)).await;
            while let Some(chunk) = reader.next(Pace::Slow).await? {
                bytes.extend_from_slice(chunk.bytes());
            }
            Ok::<_, StoreError>(bytes)
        });
        assert!(read.expect("readable to the end") == victim.bytes, "seed {seed}");
    }
}

#[test]
fn a_blob_with_a_long_list_of_pieces_is_read_right_after_its_upload_and_after_a_start() {
    let mut sim = simulation(1);
    // Pieces of 64 KiB: the list takes more than what is kept beside a head, and shares its block
    // with other records.
    let options = options(32 << 20, 256 << 10);
    let content = Content::new(77, 46 << 20);
    let shards = sim.run(machine::open(machine::ios(&sim, 1), options.clone())).expect("opens");
    sim.run(put(shards[0].clone(), &Content::new(78, 1000))).expect("stored");
    sim.run(put(shards[0].clone(), &content)).expect("stored");
    let read = sim.run(read_all(shards[0].clone(), &content)).expect("sound");
    assert!(read == content.bytes, "after its upload");
    sim.run(machine::close(shards));
    let mut sim = sim.restart(CrashMode::Process);
    let shards = sim.run(machine::open(machine::ios(&sim, 1), options)).expect("opens");
    for turn in 0..2 {
        let read = sim.run(read_all(shards[0].clone(), &content)).expect("sound");
        assert!(read == content.bytes, "after a start, turn {turn}");
    }
}

#[test]
fn a_blob_stays_readable_while_it_is_read_also_when_it_is_deleted() {
    for seed in 0..20 {
        let mut machine = Machine::new(seed, 2, 1);
        let content = Content::new(seed, 2 << 20);
        let shards = machine.open();
        machine.put(&shards[0], &content).expect("stored");
        let before = probe::count(Event::SegmentRetired);
        let (shard, other, id) = (shards[0].clone(), shards[1].clone(), content.id);
        let bytes = machine.sim().run(async move {
            let blob = shard.open(id).await.expect("sound").expect("stored");
            assert!(other.delete(id).await.expect("deleted"));
            shard.io().sleep(Duration::from_secs(1)).await;
            let mut reader = blob.reader(0..2 << 20);
            let mut bytes = Vec::new();
            while let Some(chunk) = reader.next(Pace::Slow).await.expect("readable to the end") {
                bytes.extend_from_slice(chunk.bytes());
            }
            bytes
        });
        assert!(content.matches(0..2 << 20, &bytes), "seed {seed}");
        machine.sim().run_for(Duration::from_secs(1));
        assert!(probe::count(Event::SegmentRetired) > before, "and then its space comes back");
    }
}

#[test]
fn a_reader_that_met_an_error_passes_nothing_over() {
    let mut machine = Machine::new(3, 1, 1);
    let content = Content::new(3, 400_000);
    let shards = machine.open();
    machine.put(&shards[0], &content).expect("stored");
    machine.close(shards);
    // A new start, so that nothing of it is in memory.
    let shards = machine.open();
    let (shard, id) = (shards[0].clone(), content.id);
    let blob = machine.sim().run(async move { shard.open(id).await }).expect("sound").expect("stored");
    let mut reader = blob.reader(0..400_000);
    machine.sim().faults(|faults| faults.read_error = 1.0);
    let failed = machine.sim().run(reader.next(Pace::Fast));
    assert!(matches!(failed, Err(StoreError::ReadFailed { .. })), "{failed:?}");
    machine.heal();
    let again = machine.sim().run(reader.next(Pace::Fast));
    assert!(matches!(again, Err(StoreError::ReadFailed { .. })), "{again:?}");
}

/// With frames of 64 KiB a page of extents is full after 128 MiB: the smallest blob whose extents
/// are paged.
#[test]
fn a_blob_of_several_extent_pages_is_stored_read_and_given_back() {
    const SIZE: usize = (2 * 2048 + 3) * (64 << 10) + 17;
    let mut machine = Machine::new(1, 2, 1);
    let content = Content::new(1, SIZE);
    let shards = machine.open();
    machine.put(&shards[0], &content).expect("stored");
    assert!(probe::count(Event::ExtentPageWritten) >= 3);
    machine.restart(CrashMode::Power);
    machine.options.cores = 3;
    let shards = machine.open();
    let page = (2048 * 64) << 10;
    for range in [0..10, page - 5..page + 5, 2 * page - 1..2 * page + 100_000, SIZE as u64 - 9..SIZE as u64] {
        let (shard, wanted, id) = (shards[2].clone(), range.clone(), content.id);
        let found = machine.sim().run(async move { read_range(&shard, id, wanted, Pace::Fast).await });
        let found = found.expect("sound").expect("stored");
        assert!(content.matches(range.clone(), &found.bytes), "{range:?}");
    }
    assert!(probe::count(Event::ExtentPageRead) > 0);
    assert!(machine.holds(&shards[1], &content));
    assert!(!machine.put(&shards[1], &Content::new(1, SIZE)).expect("stored already").created);
    let full = machine.segments().len();
    assert!(machine.delete(&shards[0], content.id).expect("deleted"));
    machine.sim().run_for(Duration::from_secs(5));
    machine.close(shards);
    let left = machine.segments().len();
    assert!(left <= 6, "{left} segments of {full} are left");
}
