//! Checkpoints beside uploads, and the power that goes right after a file got its name: what a
//! checkpoint stands for is in it, also where a segment was sealed before what happened in it was
//! in the index.
//!
//! So the scrub has cores seal what they write to every few milliseconds, a checkpoint is written
//! after each seal, cores pause, and most runs end with the first checkpoint that had to refuse a
//! segment.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use nabu_engine::content::Pace;
use nabu_engine::io::{Clock, Spawn};
use nabu_engine::probe::{self, Event};
use nabu_engine::sim::{CrashMode, Pauses, Random, Schedule, Sim, SimOptions};
use nabu_engine::store::{CommitOptions, Limits, ScrubOptions, StoreOptions};

use super::client::read_range;
use super::content::Content;
use super::machine;
use super::totals::Totals;

const STEPS_MAX: u64 = 1_000_000;
/// Steps between two looks whether a file was renamed.
const LOOK_STEPS: u64 = 10;
/// Clients of each core, and the blobs that each of them stores.
const CLIENTS: u64 = 3;
const PUTS_OF_ONE: u64 = 20;
const SIZE_MAX: usize = 1 << 10;
const RENAMES_MAX: u64 = 100;
const A_SECOND: Duration = Duration::from_secs(1);

/// Runs the scenario of a seed; the violation if there is one.
pub fn run(seed: u64, totals: &mut Totals) -> Result<(), String> {
    let mut random = Random::new(seed ^ 0xc0fe_2500);
    let (dirs, cores) = (machine::dirs(1), 2 + random.index(2) as u16);
    let sim = SimOptions {
        dirs: dirs.clone(),
        capacity_bytes: 1 << 30,
        delay_ns_max: 1 + random.below(100_000),
        schedule: Schedule::draw(&mut random),
        pauses: Pauses { chance: [0.5, 0.05, 0.01][random.index(3)], ns_max: [100_000, 10_000_000][random.index(2)] },
        ..SimOptions::default()
    };
    let limits = Limits { checkpoint_bytes_min: 0, checkpoint_ratio: 0, ..Limits::default() };
    let options = StoreOptions {
        dirs,
        cores,
        memory_bytes: 32 << 20,
        segment_size: Some(256 << 10),
        read_only: false,
        callers_files: &[],
        limits,
    };
    let mut sim = Sim::new(seed, sim);
    let shards = machine::open_sound(&mut sim, &options)?;
    let every = Duration::from_micros(500 + random.below(4_000));
    machine::start_scrub(&shards, sim.io(cores), ScrubOptions { interval: Some(every), retry_pause: every });
    let acknowledged = Rc::new(RefCell::new(Vec::new()));
    for client in 0..CLIENTS * u64::from(cores) {
        let (core, mut random) = ((client % u64::from(cores)) as u16, Random::new(random.next_u64()));
        let (shard, acknowledged) = (shards[usize::from(core)].clone(), acknowledged.clone());
        sim.io(core).spawn(async move {
            for number in 0..PUTS_OF_ONE {
                let content = Content::new(seed << 16 | client << 8 | number, 1 + random.index(SIZE_MAX));
                let mut upload = shard.upload(Some(content.bytes.len() as u64)).await.expect("there is memory");
                upload.write(&content.bytes).await.expect("the disk takes it");
                upload.commit(CommitOptions::default()).await.expect("stored");
                acknowledged.borrow_mut().push(content);
            }
        });
    }
    let mut end = sim.stats().renames + 1 + random.below(RENAMES_MAX);
    let refused = probe::count_here(Event::CoverRefused);
    // In most runs the first checkpoint that might stand for too much is the last one.
    let mut is_watching = random.chance(0.8);
    let io = sim.io(0);
    for _ in 0..STEPS_MAX / LOOK_STEPS {
        let is_at_rest = sim.run_steps(LOOK_STEPS, io.sleep(A_SECOND)).is_some();
        if is_watching && probe::count_here(Event::CoverRefused) > refused {
            (is_watching, end) = (false, sim.stats().renames + 1);
        }
        if is_at_rest || sim.stats().renames >= end {
            break;
        }
    }
    // What waited for the checkpoint, or for nothing, goes on for a bit.
    sim.run_steps(random.below(50), io.sleep(A_SECOND));
    totals.covers_cut += 1;
    drop(shards);
    sim = sim.restart(CrashMode::Power);
    sim.set_pauses(Pauses::default());
    let shards = machine::open_sound(&mut sim, &options)?;
    for content in acknowledged.take() {
        let (shard, size) = (shards[0].clone(), content.bytes.len() as u64);
        let read = async move { read_range(&shard, content.id, 0..size, Pace::Fast).await };
        let found = sim.run_steps(STEPS_MAX, read).ok_or("a read hangs")?;
        if !found.is_ok_and(|found| found.is_some_and(|found| content.matches(0..size, &found.bytes))) {
            return Err(format!("blob {} beside a checkpoint is not what was acknowledged", content.id));
        }
    }
    Ok(())
}
