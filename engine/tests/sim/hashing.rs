//! Uploads that several cores hash: which core takes which frame is up to the seed.

use std::rc::Rc;

use crate::support::client::read_range;
use crate::support::content::Content;
use crate::support::machine;
use nabu_engine::content::Pace;
use nabu_engine::io::Spawn;
use nabu_engine::probe::{self, Event};
use nabu_engine::sim::{Sim, SimIo, SimOptions};
use nabu_engine::store::{CommitOptions, Limits, Shard, StoreOptions};
use nabu_engine::sync::promise;

/// Frames have 64 KiB with segments of this size.
const SEGMENT_SIZE: u64 = 256 << 10;
const UPLOADS: u64 = 6;
const SEEDS: u64 = 60;

async fn upload(shard: &Shard<SimIo>, content: &Content, is_kept: bool) {
    let mut upload = shard.upload(None).await.expect("memory");
    for piece in content.bytes.chunks(50_000) {
        upload.write(piece).await.expect("the disk takes it");
    }
    if is_kept {
        let stored = upload.commit(CommitOptions::default()).await.expect("stored");
        assert!(stored.created && stored.id == content.id && stored.size == content.bytes.len() as u64);
    }
}

#[test]
fn an_upload_has_its_hash_and_its_bytes_whichever_cores_hash_it() {
    let before = probe::count(Event::HashedElsewhere);
    for seed in 0..SEEDS {
        let dirs = machine::dirs(1);
        let mut sim = Sim::new(seed, SimOptions { dirs: dirs.clone(), ..SimOptions::default() });
        let cores = 2 + (seed % 3) as u16;
        let options = StoreOptions {
            dirs,
            cores,
            memory_bytes: 32 << 20,
            segment_size: Some(SEGMENT_SIZE),
            read_only: false,
            callers_files: &[],
            limits: Limits::default(),
        };
        let ios = machine::ios(&sim, cores);
        let shards = sim.run(machine::open(ios, options)).expect("it opens");
        sim.run(async move {
            let contents: Vec<Rc<Content>> = (0..UPLOADS)
                .map(|number| Rc::new(Content::new(seed * UPLOADS + number, 700_000 + number as usize * 65_536)))
                .collect();
            let mut ends = Vec::new();
            for (number, content) in contents.iter().enumerate() {
                let (ended, end) = promise();
                let shard = shards[number % usize::from(cores)].clone();
                let content = content.clone();
                shard.io().clone().spawn(async move {
                    // Every third one is given up while its frames may be with another core.
                    upload(&shard, &content, number % 3 != 2).await;
                    ended.keep(());
                });
                ends.push(end);
            }
            for end in ends {
                end.await.expect("no upload panics");
            }
            for (number, content) in contents.iter().enumerate() {
                let whole = 0..content.bytes.len() as u64;
                let found = read_range(&shards[0], content.id, whole.clone(), Pace::Fast).await.expect("sound");
                let is_there = found.is_some_and(|found| content.matches(whole, &found.bytes));
                assert_eq!(is_there, number % 3 != 2, "seed {seed}");
            }
            machine::close(shards).await;
        });
    }
    let elsewhere = probe::count(Event::HashedElsewhere) - before;
    assert!(elsewhere > SEEDS, "{elsewhere} frames were hashed by another core");
}
