//! Space comes back from segments in which only a part is dead, and nobody notices but by the
//! space.

use std::time::Duration;

use crate::support::content::Content;
use crate::support::machine::{self, Shards};
use nabu_engine::content::Pace;
use nabu_engine::io::Clock;
use nabu_engine::probe::{self, Event};
use nabu_engine::sim::{CrashMode, Sim, SimIo, SimOptions};
use nabu_engine::store::{BlobReader, CommitOptions, Limits, Shard, StoreError, StoreOptions};

const SEGMENT_SIZE: u64 = 256 << 10;
/// What is written to at the moment, and the files that uploads leave alone.
const OPEN_SEGMENTS: u64 = 2;
/// Long enough for all that goes on in the background, at its slowest.
const A_WHILE: Duration = Duration::from_secs(120);

fn options(cores: u16) -> StoreOptions {
    StoreOptions {
        dirs: machine::dirs(1),
        cores,
        memory_bytes: 32 << 20,
        segment_size: Some(SEGMENT_SIZE),
        read_only: false,
        callers_files: &[],
        limits: Limits::default(),
    }
}

fn simulation(seed: u64, capacity_bytes: u64) -> Sim {
    Sim::new(seed, SimOptions { dirs: machine::dirs(1), capacity_bytes, ..SimOptions::default() })
}

fn open(sim: &mut Sim, options: &StoreOptions) -> Shards {
    let shards = sim.run(machine::open(machine::ios(sim, options.cores), options.clone())).expect("opens");
    machine::start_compaction(&shards, sim.io(options.cores));
    shards
}

async fn put(shard: Shard<SimIo>, content: &Content) -> Result<(), StoreError> {
    let mut upload = shard.upload(Some(content.bytes.len() as u64)).await?;
    upload.write(&content.bytes).await?;
    upload.commit(CommitOptions { labels: vec![("name".into(), "value".into())], ..CommitOptions::default() }).await?;
    Ok(())
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
    assert_eq!(blob.meta().labels, [("name".to_string(), "value".to_string())]);
    let size = blob.meta().size;
    rest_of(blob.reader(0..size)).await.expect("sound") == content.bytes
}

/// Bytes of all files that are segments.
fn disk_bytes(sim: &Sim) -> u64 {
    machine::segment_files(sim).iter().map(|path| sim.read_file(path).expect("listed").len() as u64).sum()
}

/// Stores blobs and deletes two thirds of them, here and there; returns those that stay.
fn punch(sim: &mut Sim, shards: &Shards, contents: Vec<Content>) -> Vec<Content> {
    for (number, content) in contents.iter().enumerate() {
        sim.run(put(shards[number % shards.len()].clone(), content)).expect("stored");
    }
    let mut kept = Vec::new();
    for (number, content) in contents.into_iter().enumerate() {
        if number % 3 == 0 {
            kept.push(content);
            continue;
        }
        let shard = shards[number % shards.len()].clone();
        assert!(sim.run(async move { shard.delete(content.id).await }).expect("deleted"));
    }
    kept
}

fn expect_all(sim: &mut Sim, shards: &Shards, kept: &[Content]) {
    for (number, content) in kept.iter().enumerate() {
        assert!(sim.run(holds(shards[number % shards.len()].clone(), content)), "blob {number}");
    }
}

#[test]
fn at_rest_the_disk_holds_at_most_a_quarter_more_than_what_is_live() {
    for seed in 0..6 {
        let cores = 1 + (seed % 3) as u16;
        // Large enough that heads and lists of pieces are a small part of what they stand for.
        let (mut sim, segment_size) = (simulation(seed, 1 << 30), 1 << 20);
        let options = StoreOptions { segment_size: Some(segment_size), ..options(cores) };
        let shards = open(&mut sim, &options);
        // Small ones, some that lie alone, and some in pieces.
        let sizes = [3_000, 40_000, 150_000, 1_000_000];
        let contents = (0..160).map(|number| Content::new(seed << 32 | number, sizes[number as usize % sizes.len()]));
        let kept = punch(&mut sim, &shards, contents.collect());
        sim.run_for(A_WHILE);
        let live: u64 = kept.iter().map(|content| content.bytes.len() as u64).sum();
        let allowed = live * 5 / 4 + OPEN_SEGMENTS * segment_size * u64::from(cores + 1);
        let bytes = disk_bytes(&sim);
        assert!(bytes <= allowed, "seed {seed}: {bytes} bytes of disk for {live} live ones");
        expect_all(&mut sim, &shards, &kept);
        sim.run(machine::close(shards));
        let mut sim = sim.restart(CrashMode::Power);
        let shards = open(&mut sim, &options);
        expect_all(&mut sim, &shards, &kept);
    }
}

#[test]
fn a_disk_that_is_full_of_dead_and_live_takes_writes_again_after_deletes() {
    for seed in 0..6 {
        let (mut sim, options) = (simulation(seed, 40 * SEGMENT_SIZE), options(1));
        let shards = open(&mut sim, &options);
        let mut stored = Vec::new();
        for number in 0.. {
            let content = Content::new(seed << 32 | number, 30_000);
            match sim.run(put(shards[0].clone(), &content)) {
                Ok(()) => stored.push(content),
                Err(StoreError::Full) => break,
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        // Every other one: no segment is dead as a whole.
        let (mut kept, mut freed) = (Vec::new(), 0);
        for (number, content) in stored.into_iter().enumerate() {
            if number % 2 == 0 {
                kept.push(content);
                continue;
            }
            freed += content.bytes.len() as u64;
            let shard = shards[0].clone();
            sim.run(async move { shard.delete(content.id).await }).expect("a full disk takes deletes");
        }
        sim.run_for(A_WHILE);
        let mut taken = 0;
        for number in 0.. {
            let content = Content::new(seed << 32 | 1 << 31 | number, 30_000);
            match sim.run(put(shards[0].clone(), &content)) {
                Ok(()) => {
                    taken += content.bytes.len() as u64;
                    kept.push(content);
                }
                Err(StoreError::Full) => break,
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        assert!(taken * 10 >= freed * 7, "seed {seed}: {taken} bytes fit where {freed} were deleted");
        expect_all(&mut sim, &shards, &kept);
    }
}

#[test]
fn pieces_that_move_while_they_are_read_are_read_to_the_end_and_then_given_back() {
    for seed in 0..6 {
        let (mut sim, options) = (simulation(seed, 1 << 30), options(2));
        let shards = open(&mut sim, &options);
        let (kept, gone) = (Content::new(seed, 3 << 20), Content::new(seed | 1 << 40, 3 << 20));
        sim.run(put_together(shards[0].clone(), &kept, &gone)).expect("stored");
        let before = probe::count(Event::PiecesMoved);
        let shard = shards[1].clone();
        let (id, size, other) = (kept.id, kept.bytes.len() as u64, gone.id);
        let reader = sim.run(async move {
            let mut reader = shard.open(id).await?.expect("stored").reader(0..size);
            let first = reader.next(Pace::Slow).await?.expect("not empty").bytes().to_vec();
            shard.delete(other).await?;
            Ok::<_, StoreError>((first, reader))
        });
        let (mut bytes, reader) = reader.expect("sound");
        sim.run_for(A_WHILE);
        assert!(probe::count(Event::PiecesMoved) > before, "seed {seed}: nothing moved");
        let held = disk_bytes(&sim);
        // Who comes now finds the new places.
        assert!(sim.run(holds(shards[0].clone(), &kept)), "seed {seed}");
        bytes.extend(sim.run(rest_of(reader)).expect("what is read stays where it is"));
        assert!(bytes == kept.bytes, "seed {seed}");
        sim.run_for(A_WHILE);
        let left = disk_bytes(&sim);
        assert!(left < held, "seed {seed}: {held} bytes while it was read, {left} after");
    }
}

/// Stores two blobs at the same time, so that their pieces lie among each other.
async fn put_together(shard: Shard<SimIo>, one: &Content, other: &Content) -> Result<(), StoreError> {
    const AT_ONCE: usize = 64 << 10;
    let labels = vec![("name".to_string(), "value".to_string())];
    let (mut first, mut second) = (shard.upload(None).await?, shard.upload(None).await?);
    for (some, others) in one.bytes.chunks(AT_ONCE).zip(other.bytes.chunks(AT_ONCE)) {
        first.write(some).await?;
        second.write(others).await?;
    }
    first.commit(CommitOptions { labels: labels.clone(), ..CommitOptions::default() }).await?;
    second.commit(CommitOptions { labels, ..CommitOptions::default() }).await?;
    Ok(())
}

#[test]
fn a_blob_whose_pieces_are_listed_in_pages_moves_too() {
    // Pieces of 64 KiB, and more of them than one list holds.
    let size = 2100 * (64 << 10);
    let (mut sim, options) = (simulation(3, 1 << 30), options(1));
    let shards = open(&mut sim, &options);
    let (kept, gone) = (Content::new(5, size), Content::new(6, size));
    sim.run(put_together(shards[0].clone(), &kept, &gone)).expect("stored");
    assert!(probe::count(Event::ExtentPageWritten) >= 2);
    let (shard, id) = (shards[0].clone(), gone.id);
    sim.run(async move { shard.delete(id).await }).expect("deleted");
    drop(gone);
    sim.run_for(A_WHILE);
    // In segments as small as these, to list pieces anew costs nearly as much as they take: the
    // half-dead ones alone are worth it.
    let bytes = disk_bytes(&sim);
    assert!(bytes <= size as u64 * 9 / 5, "{bytes} bytes of disk for {size} live ones");
    assert!(sim.run(holds(shards[0].clone(), &kept)));
    sim.run(machine::close(shards));
    let mut sim = sim.restart(CrashMode::Power);
    let shards = open(&mut sim, &options);
    assert!(sim.run(holds(shards[0].clone(), &kept)));
}

#[test]
fn what_compaction_was_at_when_the_machine_went_down_is_there_once() {
    for seed in 0..40 {
        let (mut sim, options) = (simulation(seed, 1 << 30), options(2));
        let shards = open(&mut sim, &options);
        let contents = (0..60).map(|number| Content::new(seed << 32 | number, 2_000 + 9_000 * (number as usize % 9)));
        let kept = punch(&mut sim, &shards, contents.collect());
        let io = shards[0].io().clone();
        // Somewhere on its way.
        sim.run_steps(30 * seed, async move { io.sleep(A_WHILE).await });
        let mode = if seed % 2 == 0 { CrashMode::Power } else { CrashMode::Process };
        let mut sim = sim.restart(mode);
        let shards = open(&mut sim, &options);
        let shard = shards[0].clone();
        let listed = sim.run(async move { shard.list(None, 1_000).await }).expect("listed");
        assert_eq!(listed.ids.len(), kept.len(), "seed {seed}");
        expect_all(&mut sim, &shards, &kept);
    }
}
