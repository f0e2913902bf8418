//! A write of a killed process that lands while the next one runs changes nothing of what that one
//! has seen.

use std::time::Duration;

use crate::support::client::read_range;
use crate::support::content::Content;
use crate::support::machine::{self, Shards};
use nabu_engine::content::Pace;
use nabu_engine::sim::{CrashMode, Random, Sim, SimIo, SimOptions};
use nabu_engine::store::{CommitOptions, Limits, Shard, StoreOptions};

const LATE_NS_MAX: u64 = 20_000_000;

fn options() -> StoreOptions {
    StoreOptions {
        dirs: machine::dirs(1),
        cores: 1,
        memory_bytes: 8 << 20,
        segment_size: Some(256 << 10),
        read_only: false,
        callers_files: &[],
        limits: Limits::default(),
    }
}

fn open(sim: &mut Sim) -> Shards {
    let ios = machine::ios(sim, 1);
    sim.run(machine::open(ios, options())).expect("nothing keeps it from opening")
}

async fn put(shard: Shard<SimIo>, content: &Content) {
    let mut upload = shard.upload(Some(content.bytes.len() as u64)).await.expect("there is memory");
    upload.write(&content.bytes).await.expect("there is room");
    upload.commit(CommitOptions::default()).await.expect("stored");
}

fn holds(sim: &mut Sim, shards: &Shards, content: &Content) -> bool {
    let (shard, size) = (shards[0].clone(), content.bytes.len() as u64);
    let read = async move { read_range(&shard, content.id, 0..size, Pace::Fast).await };
    sim.run(read).expect("readable").is_some_and(|found| found.bytes == content.bytes)
}

#[test]
fn what_a_start_has_seen_stays_though_writes_of_a_killed_process_come_late() {
    let mut late_writes = 0;
    for seed in 0..1500 {
        let mut random = Random::new(seed);
        let sim_options =
            SimOptions { dirs: machine::dirs(1), late_write_ns_max: LATE_NS_MAX, ..SimOptions::default() };
        let mut sim = Sim::new(seed, sim_options);
        let contents: Vec<Content> = (0..3).map(|number| Content::new(seed * 10 + number, 2_000)).collect();
        let shards = open(&mut sim);
        for content in &contents[..2] {
            sim.run(put(shards[0].clone(), content));
        }
        let (shard, id) = (shards[0].clone(), contents[0].id);
        let cut_off = async move {
            match seed % 2 {
                0 => drop(shard.delete(id).await),
                _ => put(shard, &contents[2]).await,
            }
        };
        let contents: Vec<Content> = (0..3).map(|number| Content::new(seed * 10 + number, 2_000)).collect();
        let steps = random.below(60);
        sim.run_steps(steps, cut_off);
        drop(shards);
        sim = sim.restart(CrashMode::Process);
        let shards = open(&mut sim);
        let seen: Vec<bool> = contents.iter().map(|content| holds(&mut sim, &shards, content)).collect();
        sim.run_for(Duration::from_nanos(2 * LATE_NS_MAX));
        late_writes += sim.stats().late_writes;
        drop(shards);
        sim = sim.restart(CrashMode::Power);
        let shards = open(&mut sim);
        let again: Vec<bool> = contents.iter().map(|content| holds(&mut sim, &shards, content)).collect();
        assert_eq!(again, seen, "seed {seed}: a later start finds something else");
    }
    assert!(late_writes > 50, "{late_writes} writes came late");
}
