//! Blobs in pieces, and the power that goes in the moment in which one is acknowledged, or in which
//! compaction has moved one: every piece of it is durable by then, in whichever segment it lies.
//!
//! What makes that hard is a piece in one segment and the record in the next: the sync of the one
//! may take long while the other is written and synced. So syncs are slow by chance, and sizes are
//! such that pieces fill segments.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use nabu_engine::content::Pace;
use nabu_engine::io::{Clock, Spawn};
use nabu_engine::log::record::Kind;
use nabu_engine::sim::{CrashMode, Faults, Random, Sim, SimIo, SimOptions};
use nabu_engine::store::{CommitOptions, CompactionLimits, Limits, Shard, StoreOptions};
use nabu_engine::sync::promise;

use super::anatomy::{self, Meaning, Part};
use super::client::read_range;
use super::content::Content;
use super::liveness;
use super::machine::{self, Shards};
use super::totals::Totals;

const STEPS_MAX: u64 = 1_000_000;
/// Three or four pieces fill one, with much room left for a record or none.
const SEGMENT_SIZES: [u64; 4] = [256 << 10, 292 << 10, 296 << 10, 300 << 10];
/// The most bytes of a blob: some ten pieces.
const LARGE_MAX: usize = 800 << 10;
const LARGE_MIN: usize = 150 << 10;
/// Blobs that a client stores.
const PUTS_OF_ONE: u64 = 10;
/// The power goes when compaction has moved as many records, or fewer.
const MOVES_MAX: u64 = 6;
/// Where it moves nothing for this long, it has nothing more to do.
const AT_REST_AFTER: Duration = Duration::from_millis(100);

/// Runs the scenario of a seed; the violation if there is one.
pub fn run(seed: u64, totals: &mut Totals) -> Result<(), String> {
    let mut random = Random::new(seed ^ 0x91ec_e500);
    let dirs = machine::dirs(1);
    let sync_slow = [0.0, 0.3, 0.5, 0.7][random.index(4)];
    let slow = [0.0, 0.0, 0.1, 0.3][random.index(4)];
    let sim = SimOptions {
        dirs: dirs.clone(),
        capacity_bytes: 1 << 30,
        delay_ns_max: 1 + random.below(600_000),
        faults: Faults { slow, sync_slow, ..Faults::default() },
        ..SimOptions::default()
    };
    let compaction = CompactionLimits { gathering: Duration::from_millis(1), ..Limits::default().compaction };
    let options = StoreOptions {
        dirs,
        cores: 1,
        memory_bytes: 16 << 20,
        segment_size: Some(SEGMENT_SIZES[random.index(SEGMENT_SIZES.len())]),
        read_only: false,
        callers_files: &[],
        limits: Limits { compaction, ..Limits::default() },
    };
    let mut sim = Sim::new(seed, sim);
    let shards = machine::open_sound(&mut sim, &options)?;
    let kept = match random.chance(0.6) {
        true => {
            totals.pieces_stored += 1;
            store(&mut sim, &shards, seed, &mut random)?
        }
        false => compact(&mut sim, &shards, seed, &mut random, totals)?,
    };
    drop(shards);
    sim = sim.restart(CrashMode::Power);
    sim.faults(|faults| *faults = Faults::default());
    let shards = machine::open_sound(&mut sim, &options)?;
    for (number, content) in kept.iter().enumerate() {
        let (shard, size) = (shards[0].clone(), content.bytes.len() as u64);
        let read = async move { read_range(&shard, content.id, 0..size, Pace::Fast).await };
        let found = sim.run_steps(STEPS_MAX, read).ok_or("a read hangs")?;
        let is_whole = found.is_ok_and(|found| found.is_some_and(|found| content.matches(0..size, &found.bytes)));
        if !is_whole {
            return Err(format!("blob {number} in pieces is not what was acknowledged"));
        }
    }
    sim.run_steps(STEPS_MAX, machine::close(shards)).ok_or("closing hangs")?;
    delete_without_lists(sim.restart(CrashMode::Process), &options, &kept, &mut random, totals)
}

/// Deletes everything, in a life in which all was counted and some lists of pieces were damaged
/// after that: nothing counts as live then.
fn delete_without_lists(
    mut sim: Sim,
    options: &StoreOptions,
    kept: &[Content],
    random: &mut Random,
    totals: &mut Totals,
) -> Result<(), String> {
    let shards = machine::open_sound(&mut sim, options)?;
    sim.run_for(Duration::from_secs(1));
    let large: HashSet<_> = kept.iter().filter(|one| one.bytes.len() >= LARGE_MIN).map(|one| one.id).collect();
    let is_list =
        |part: &Part| part.meaning == Meaning::Payload(Kind::Blob) && part.id().is_some_and(|id| large.contains(&id));
    for list in anatomy::parts(&sim).into_iter().filter(is_list) {
        if random.chance(0.5) {
            machine::flip(&sim, &list.path, list.range.start);
            totals.lists_damaged += 1;
        }
    }
    let shard = shards[0].clone();
    let deleting = async {
        for id in shard.list(None, 1000).await.expect("open").ids {
            shard.delete(id).await.expect("the disk takes it");
        }
    };
    sim.run_steps(STEPS_MAX, deleting).ok_or("deleting hangs")?;
    match liveness::demand_nothing(&mut sim, &shards)? {
        true => Ok(()),
        false => Err("not all blobs could be deleted".into()),
    }
}

async fn put(shard: &Shard<SimIo>, content: &Content) {
    let mut upload = shard.upload(Some(content.bytes.len() as u64)).await.expect("there is memory");
    upload.write(&content.bytes).await.expect("the disk takes it");
    upload.commit(CommitOptions::default()).await.expect("stored");
}

fn large(key: u64, random: &mut Random) -> Content {
    Content::new(key, LARGE_MIN + random.index(LARGE_MAX - LARGE_MIN))
}

/// Clients that store blobs, large and small, whose commits sync what was written so far in the
/// midst of each other's pieces. Returns what is acknowledged when a large one has just been.
fn store(sim: &mut Sim, shards: &Shards, seed: u64, random: &mut Random) -> Result<Vec<Content>, String> {
    let acknowledged = Rc::new(RefCell::new(Vec::new()));
    let awaited = 1 + random.index(4);
    let (done, promised) = promise();
    let done = Rc::new(RefCell::new(Some(done)));
    let small_max = 1 + random.index(6_000);
    for client in 0..2 + random.below(3) {
        let (shard, mut random) = (shards[0].clone(), Random::new(random.next_u64()));
        let (acknowledged, done) = (acknowledged.clone(), done.clone());
        sim.io(0).spawn(async move {
            for number in 0..PUTS_OF_ONE {
                let key = seed << 16 | client << 8 | number;
                let is_large = random.chance(0.3) || number + 1 == PUTS_OF_ONE;
                let content = match is_large {
                    true => large(key, &mut random),
                    false => Content::new(key, 1 + random.index(small_max)),
                };
                put(&shard, &content).await;
                acknowledged.borrow_mut().push(content);
                if is_large
                    && acknowledged.borrow().len() >= awaited
                    && let Some(done) = done.take()
                {
                    done.keep(());
                }
            }
        });
    }
    sim.run_steps(STEPS_MAX, promised).ok_or("an upload hangs")?.expect("the last one is large");
    Ok(acknowledged.take())
}

/// Large blobs one after the other, of which some are deleted; compaction moves the others. Returns
/// those when it has moved some of them.
fn compact(
    sim: &mut Sim,
    shards: &Shards,
    seed: u64,
    random: &mut Random,
    totals: &mut Totals,
) -> Result<Vec<Content>, String> {
    let contents: Vec<Content> = (0..3 + random.below(6)).map(|number| large(seed << 16 | number, random)).collect();
    let moves = 1 + random.below(MOVES_MAX);
    let (shard, io, mover) = (shards[0].clone(), sim.io(0), sim.io(1));
    let (kept, deleted): (Vec<_>, Vec<_>) = contents.iter().cloned().partition(|_| random.chance(0.5));
    let has_moved = sim.run_steps(STEPS_MAX, async {
        for content in &contents {
            put(&shard, content).await;
        }
        for content in &deleted {
            shard.delete(content.id).await.expect("the disk takes it");
        }
        machine::start_compaction(shards, mover);
        let (mut moved, mut since) = (0, io.now());
        while moved < moves && io.now().since(since) < AT_REST_AFTER {
            let now = shard.status().await.compaction.moved_records;
            if now > moved {
                (moved, since) = (now, io.now());
            } else {
                io.sleep(Duration::from_micros(20)).await;
            }
        }
        moved > 0
    });
    totals.pieces_moved += u64::from(has_moved.ok_or("compaction hangs")?);
    Ok(kept)
}
