//! A process that is killed right after a dead segment has lost its name, and the power that goes
//! in the life after it: what that life concludes from the names of files must be durable first.
//!
//! Otherwise it drops the tombstone of a blob, since the segment with its record seems to be gone,
//! and the power cut gives that segment its name back. Nearly all that a store does to a directory
//! syncs the names in it, so blobs lie in the directory of one core, and another core, with its
//! own, deletes them: nothing is written to the first directory any more.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use nabu_engine::content::Pace;
use nabu_engine::io::{Clock, Spawn};
use nabu_engine::sim::{CrashMode, Random, Schedule, Sim, SimOptions};
use nabu_engine::store::{CommitOptions, Limits, ScrubOptions, StoreOptions};

use super::client::read_range;
use super::content::Content;
use super::machine;
use super::totals::Totals;

const STEPS_MAX: u64 = 1_000_000;
/// The more, the seldomer all of their tombstones lie in the other directory.
const BLOBS_MAX: u64 = 2;
/// Steps between two looks whether the segment has its name yet: fewer than a directory takes to be
/// synced.
const LOOK_STEPS: u64 = 2;
const SIZE_MAX: usize = 1 << 10;
/// How long the life after the kill lasts: some passes of the scrub, which seals what it writes to.
const LIFE_NS_MAX: u64 = 200_000_000;
const A_SECOND: Duration = Duration::from_secs(1);

/// Runs the scenario of a seed; the violation if there is one.
pub fn run(seed: u64, totals: &mut Totals) -> Result<(), String> {
    let mut random = Random::new(seed ^ 0x6e61_6d65);
    let dirs = machine::dirs(2);
    let sim = SimOptions {
        dirs: dirs.clone(),
        capacity_bytes: 1 << 30,
        delay_ns_max: 1 + random.below(100_000),
        schedule: Schedule::draw(&mut random),
        ..SimOptions::default()
    };
    let limits = match random.index(2) {
        0 => Limits { checkpoint_bytes_min: 0, checkpoint_ratio: 0, ..Limits::default() },
        _ => Limits::default(),
    };
    let options = StoreOptions {
        dirs,
        cores: 2,
        memory_bytes: 32 << 20,
        segment_size: Some(256 << 10),
        read_only: false,
        callers_files: &[],
        limits,
    };
    let every = Duration::from_micros(500 + random.below(4_000));
    let mut sim = Sim::new(seed, sim);

    let shards = machine::open_sound(&mut sim, &options)?;
    let keys = (0..1 + random.below(BLOBS_MAX)).map(|number| seed << 16 | number);
    let contents: Vec<_> = keys.map(|key| Content::new(key, 1 + random.index(SIZE_MAX))).collect();
    let storing = async {
        for content in &contents {
            let mut upload = shards[1].upload(Some(content.bytes.len() as u64)).await.expect("there is memory");
            upload.write(&content.bytes).await.expect("the disk takes it");
            upload.commit(CommitOptions::default()).await.expect("stored");
        }
    };
    sim.run_steps(STEPS_MAX, storing).ok_or("an upload hangs")?;
    sim.run_steps(STEPS_MAX, machine::close(shards)).ok_or("closing hangs")?;
    sim = sim.restart(CrashMode::Process);

    let shards = machine::open_sound(&mut sim, &options)?;
    machine::start_compaction(&shards, sim.io(3));
    let deleted = Rc::new(RefCell::new(Vec::new()));
    sim.io(0).spawn({
        let (shard, contents, deleted) = (shards[0].clone(), contents.clone(), deleted.clone());
        async move {
            for content in &contents {
                assert!(shard.delete(content.id).await.expect("the disk takes it"), "it was stored");
                deleted.borrow_mut().push(content.id);
            }
        }
    });
    let elsewhere = options.dirs[1].clone();
    let has_name = |sim: &Sim| machine::segment_files(sim).iter().any(|path| path.starts_with(&elsewhere));
    let io = sim.io(0);
    let mut resting = Box::pin(io.sleep(A_SECOND));
    while has_name(&sim) && sim.run_steps(LOOK_STEPS, resting.as_mut()).is_none() {}
    totals.names_cut += u64::from(!has_name(&sim));
    drop(shards);
    sim = sim.restart(CrashMode::Process);

    let shards = machine::open_sound(&mut sim, &options)?;
    machine::start_scrub(&shards, sim.io(2), ScrubOptions { interval: Some(every), retry_pause: every });
    machine::start_compaction(&shards, sim.io(3));
    sim.run_for(Duration::from_nanos(random.below(LIFE_NS_MAX)));
    drop(shards);
    sim = sim.restart(CrashMode::Power);

    let shards = machine::open_sound(&mut sim, &options)?;
    for content in contents {
        let (shard, size) = (shards[0].clone(), content.bytes.len() as u64);
        let read = async move { read_range(&shard, content.id, 0..size, Pace::Fast).await };
        let found = sim.run_steps(STEPS_MAX, read).ok_or("a read hangs")?;
        let is_right = match found {
            Ok(None) => true,
            Ok(Some(found)) => !deleted.borrow().contains(&content.id) && content.matches(0..size, &found.bytes),
            Err(_) => false,
        };
        if !is_right {
            return Err(format!("blob {} is back after its segment has lost its name", content.id));
        }
    }
    Ok(())
}
