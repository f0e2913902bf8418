//! Content that is stored again with other labels keeps those it had and gets the new ones, and no
//! crash in between loses any.

use crate::support::content::Content;
use crate::support::machine::{self, Shards};
use nabu_engine::content::Pace;
use nabu_engine::sim::{CrashMode, Sim, SimIo, SimOptions};
use nabu_engine::store::{CommitOptions, LABELS_MAX, Limits, Shard, StoreError, StoreOptions, Stored};

/// In one record; and in pieces, whose lists are replaced, too.
const SIZES: [usize; 2] = [3_000, 600_000];
/// Between two crashes: a number that shares no rhythm with what the store does.
const STEPS_BETWEEN: usize = 7;

type Labels = Vec<(String, String)>;

fn options() -> StoreOptions {
    StoreOptions {
        dirs: machine::dirs(1),
        cores: 2,
        memory_bytes: 32 << 20,
        segment_size: Some(256 << 10),
        read_only: false,
        callers_files: &[],
        limits: Limits::default(),
    }
}

fn machine(seed: u64) -> (Sim, Shards) {
    let mut sim = Sim::new(seed, SimOptions { dirs: machine::dirs(1), ..SimOptions::default() });
    let shards = open(&mut sim);
    (sim, shards)
}

fn open(sim: &mut Sim) -> Shards {
    sim.run(machine::open(machine::ios(sim, 2), options())).expect("opens")
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

async fn put(shard: Shard<SimIo>, content: &Content, labels: Labels) -> Result<Stored, StoreError> {
    let mut upload = shard.upload(Some(content.bytes.len() as u64)).await?;
    upload.write(&content.bytes).await?;
    upload.commit(CommitOptions { labels, ..CommitOptions::default() }).await
}

/// The labels of a blob whose content is as it was stored, and when it was first.
async fn found(shard: Shard<SimIo>, content: &Content) -> (Labels, u64) {
    let blob = shard.open(content.id).await.expect("sound").expect("stored");
    let (meta, mut bytes) = (blob.meta().clone(), Vec::new());
    let mut reader = blob.reader(0..meta.size);
    while let Some(chunk) = reader.next(Pace::Slow).await.expect("sound") {
        bytes.extend_from_slice(chunk.bytes());
    }
    assert!(bytes == content.bytes, "the content is another");
    (meta.labels, meta.created_at_ns)
}

#[test]
fn labels_of_content_that_is_stored_again_are_added() {
    for size in SIZES {
        let (mut sim, shards) = machine(size as u64);
        let content = Content::new(1, size);
        let stored = sim.run(put(shards[0].clone(), &content, labels(&[("a", "1"), ("b", "1")]))).expect("stored");
        assert!(stored.created);
        let (_, created_at) = sim.run(found(shards[1].clone(), &content));
        let merged = labels(&[("a", "1"), ("b", "2"), ("c", "2")]);
        for given in [labels(&[("c", "2"), ("b", "2")]), Labels::new(), labels(&[("a", "1")])] {
            let again = sim.run(put(shards[1].clone(), &content, given)).expect("stored");
            assert!(!again.created);
            assert_eq!(sim.run(found(shards[0].clone(), &content)), (merged.clone(), created_at), "{size} bytes");
        }
        let many = (0..LABELS_MAX).map(|number| (format!("n{number}"), String::new())).collect();
        let refused = sim.run(put(shards[0].clone(), &content, many));
        assert!(matches!(refused, Err(StoreError::TooManyLabels { .. })), "{refused:?}");
        let mut sim = sim.restart(CrashMode::Power);
        let shards = open(&mut sim);
        assert_eq!(sim.run(found(shards[0].clone(), &content)), (merged, created_at), "{size} bytes");
    }
}

#[test]
fn a_crash_at_any_step_leaves_the_labels_that_were_there_or_all_of_them() {
    let (before, given) = (labels(&[("a", "1"), ("b", "1")]), labels(&[("b", "2"), ("c", "2")]));
    let after = labels(&[("a", "1"), ("b", "2"), ("c", "2")]);
    for size in SIZES {
        for mode in [CrashMode::Process, CrashMode::Power] {
            let (mut kept, mut merged) = (0, 0);
            for steps in (1..).step_by(STEPS_BETWEEN) {
                let (mut sim, shards) = machine(steps);
                let content = Content::new(1, size);
                sim.run(put(shards[0].clone(), &content, before.clone())).expect("stored");
                let ended = sim.run_steps(steps, put(shards[1].clone(), &content, given.clone()));
                drop(shards);
                let mut sim = sim.restart(mode);
                let shards = open(&mut sim);
                let (labels, _) = sim.run(found(shards[0].clone(), &content));
                if labels == after {
                    merged += 1;
                } else {
                    assert_eq!(labels, before, "{size} bytes, {mode:?} after {steps} steps");
                    assert!(ended.is_none(), "{size} bytes, {mode:?}: acknowledged labels are gone");
                    kept += 1;
                }
                if ended.is_some() {
                    break;
                }
            }
            assert!(kept > 0 && merged > 0, "{size} bytes, {mode:?}: {kept} crashes before, {merged} after");
        }
    }
}
