//! A blob in pieces, beside small ones, when the power goes in the moment in which it is
//! acknowledged: every piece of it is durable, in whichever segment it lies.

mod support;

use nabu_engine::io::Spawn;
use nabu_engine::sim::{CrashMode, Sim, SimIo, SimOptions};
use nabu_engine::store::{CommitOptions, Limits, Pace, Shard, StoreOptions};
use support::client::read_range;
use support::content::Content;
use support::machine;

const SEEDS: u64 = 300;
/// The most bytes beyond 200 KiB: up to some ten pieces, in segments of three.
const LARGE: usize = 700 << 10;

async fn put(shard: &Shard<SimIo>, content: &Content) {
    let mut upload = shard.upload(Some(content.bytes.len() as u64)).await.expect("there is memory");
    upload.write(&content.bytes).await.expect("the disk takes it");
    upload.commit(CommitOptions::default()).await.expect("stored");
}

#[test]
fn a_blob_in_pieces_outlives_the_power_from_its_acknowledgement_on() {
    for seed in 0..SEEDS {
        let dirs = machine::dirs(1);
        let delay_ns_max = 1 + seed % 7 * 100_000;
        let sim = SimOptions { dirs: dirs.clone(), capacity_bytes: 1 << 30, delay_ns_max, ..SimOptions::default() };
        let mut sim = Sim::new(seed, sim);
        let options = StoreOptions {
            dirs,
            cores: 1,
            memory_bytes: 16 << 20,
            segment_size: Some(256 << 10),
            read_only: false,
            limits: Limits::default(),
        };
        let ios = machine::ios(&sim, 1);
        let shards = sim.run(machine::open(ios, options.clone())).expect("nothing keeps it from opening");
        let size = (200 << 10) + (seed as usize * 7919) % LARGE;
        let large = Content::new(seed * 100, size);
        // Their commits sync what was written so far, in the midst of the pieces.
        for client in 0..1 + seed % 4 {
            let (shard, first) = (shards[0].clone(), seed * 100 + 10 * (client + 1));
            sim.io(0).spawn(async move {
                for number in 0..10 {
                    put(&shard, &Content::new(first + number, 3_000)).await;
                }
            });
        }
        sim.run(put(&shards[0], &large));
        drop(shards);
        sim = sim.restart(CrashMode::Power);
        let ios = machine::ios(&sim, 1);
        let shards = sim.run(machine::open(ios, options)).expect("nothing keeps it from opening");
        let found = sim.run(read_range(&shards[0], large.id, 0..size as u64, Pace::Fast));
        let is_whole = found.is_ok_and(|found| found.is_some_and(|found| large.matches(0..size as u64, &found.bytes)));
        assert!(is_whole, "seed {seed}: the blob is not what was acknowledged");
    }
}
