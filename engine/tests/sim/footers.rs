//! Footers of more entries than are encoded, written or read at a time.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::support::content::Content;
use crate::support::machine::{self, Shards};
use nabu_engine::io::{BLOCK_SIZE, Spawn};
use nabu_engine::log::entries::PIECE_ENTRIES;
use nabu_engine::log::footer::Trailer;
use nabu_engine::sim::{CrashMode, Sim, SimOptions};
use nabu_engine::store::{CommitOptions, Limits, StoreOptions};
use nabu_engine::sync::Notify;
use nabu_engine::types::BlobId;

const BLOBS: usize = 2 * PIECE_ENTRIES + 500;
/// Clients at the same time, so that many share a sync.
const CLIENTS: usize = 64;
const LIST_MAX: usize = 2 * BLOBS;

fn options() -> StoreOptions {
    StoreOptions {
        dirs: machine::dirs(1),
        cores: 1,
        memory_bytes: 8 << 20,
        segment_size: Some(4 << 20),
        read_only: false,
        callers_files: &[],
        limits: Limits { open_files_max: 1, ..Limits::default() },
    }
}

fn open(sim: &mut Sim) -> Shards {
    let ios = machine::ios(sim, options().cores);
    sim.run(machine::open(ios, options())).expect("nothing keeps it from opening")
}

/// Does something for every content, some at a time.
fn for_each<F: Future<Output = ()> + 'static>(
    sim: &mut Sim,
    contents: &Rc<Vec<Content>>,
    work: impl Fn(Content) -> F + Clone + 'static,
) {
    let (next, left, ended) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(CLIENTS)), Rc::new(Notify::default()));
    let io = sim.io(0);
    for _ in 0..CLIENTS {
        let (contents, work) = (contents.clone(), work.clone());
        let (next, left, ended) = (next.clone(), left.clone(), ended.clone());
        io.spawn(async move {
            while let Some(content) = contents.get(next.replace(next.get() + 1)) {
                work(content.clone()).await;
            }
            left.set(left.get() - 1);
            ended.notify();
        });
    }
    sim.run(async move { ended.wait_for(|| (left.get() == 0).then_some(())).await });
}

fn machine() -> SimOptions {
    SimOptions { dirs: machine::dirs(1), capacity_bytes: 1 << 30, ..SimOptions::default() }
}

fn store_all(sim: &mut Sim, shards: &Shards, contents: &Rc<Vec<Content>>) {
    let shard = shards[0].clone();
    for_each(sim, contents, move |content| {
        let shard = shard.clone();
        async move {
            let mut upload = shard.upload(Some(content.bytes.len() as u64)).await.expect("there is memory");
            upload.write(&content.bytes).await.expect("the disk takes it");
            upload.commit(CommitOptions::default()).await.expect("stored");
        }
    });
}

fn delete_all(sim: &mut Sim, shards: &Shards, contents: &Rc<Vec<Content>>) {
    let shard = shards[0].clone();
    for_each(sim, contents, move |content| {
        let shard = shard.clone();
        async move { assert!(shard.delete(content.id).await.expect("deleted"), "it was there") }
    });
}

fn listed(sim: &mut Sim, shards: &Shards) -> Vec<BlobId> {
    let shard = shards[0].clone();
    sim.run(async move { shard.list(None, LIST_MAX).await }).expect("listed").ids
}

/// Entries of the longest footer there is.
fn entries_max(sim: &Sim) -> u32 {
    let count = |path| {
        let content = sim.read_file(path).expect("a file");
        let trailer = Trailer::decode_any(&content[content.len() - BLOCK_SIZE..], content.len() as u64);
        trailer.map_or(0, |trailer| trailer.count)
    };
    machine::segment_files(sim).iter().map(|path| count(path)).max().unwrap_or(0)
}

#[test]
fn a_footer_of_many_pieces_says_what_is_there_and_its_segment_goes_when_nothing_is() {
    let mut sim = Sim::new(1, machine());
    let contents: Rc<Vec<_>> = Rc::new((0..BLOBS as u64).map(|number| Content::new(number + 1, 8)).collect());
    let shards = open(&mut sim);
    store_all(&mut sim, &shards, &contents);
    let mut ids: Vec<BlobId> = contents.iter().map(|content| content.id).collect();
    ids.sort();
    // Killed: by a scan. Then by the footers that this start has written.
    drop(shards);
    for by_scan in [true, false] {
        sim = sim.restart(CrashMode::Power);
        if !by_scan {
            assert!(entries_max(&sim) as usize > 2 * PIECE_ENTRIES);
        }
        let shards = open(&mut sim);
        assert!(listed(&mut sim, &shards) == ids, "by a scan: {by_scan}");
    }
    sim = sim.restart(CrashMode::Power);
    let shards = open(&mut sim);
    let half: Rc<Vec<_>> = Rc::new(contents.iter().step_by(2).cloned().collect());
    delete_all(&mut sim, &shards, &half);
    drop(shards);
    sim = sim.restart(CrashMode::Power);
    let shards = open(&mut sim);
    let rest: Rc<Vec<_>> = Rc::new(contents.iter().skip(1).step_by(2).cloned().collect());
    assert_eq!(listed(&mut sim, &shards).len(), rest.len());
    delete_all(&mut sim, &shards, &rest);
    sim.run_for(Duration::from_secs(2));
    sim.run(machine::close(shards));
    sim = sim.restart(CrashMode::Power);
    let shards = open(&mut sim);
    sim.run_for(Duration::from_secs(2));
    assert!(listed(&mut sim, &shards).is_empty());
    assert!((entries_max(&sim) as usize) < PIECE_ENTRIES, "the segments of the blobs and their tombstones are gone");
}

/// The sealed segments with their whole content.
fn sealed(sim: &Sim) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let files = machine::segment_files(sim).into_iter().map(|path| {
        let content = sim.read_file(&path).expect("a file");
        (path, content)
    });
    let is_sealed =
        |content: &[u8]| Trailer::decode_any(&content[content.len() - BLOCK_SIZE..], content.len() as u64).is_some();
    files.filter(|(_, content)| is_sealed(content)).collect()
}

/// A process that dies between the footer and its sync leaves one that the next start believes, and
/// that a checkpoint may stand for from then on.
#[test]
fn a_footer_that_a_start_has_believed_outlives_the_power() {
    let mut found = 0;
    for steps in 0..400 {
        let mut sim = Sim::new(steps, machine());
        let shards = open(&mut sim);
        let contents: Rc<Vec<_>> = Rc::new((0..3).map(|number| Content::new(number + 1, 3_000)).collect());
        store_all(&mut sim, &shards, &contents);
        let _ = sim.run_steps(steps, machine::close(shards));
        sim = sim.restart(CrashMode::Process);
        let believed = sealed(&sim);
        let shards = open(&mut sim);
        drop(shards);
        sim = sim.restart(CrashMode::Power);
        for (path, content) in &believed {
            found += 1;
            assert!(
                sim.read_file(path).is_ok_and(|after| after == *content),
                "after {steps} steps: {}",
                path.display()
            );
        }
    }
    assert!(found > 20, "{found} footers");
}
