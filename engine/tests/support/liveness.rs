//! What must come true once nothing goes wrong any more: all that was refused for want of space
//! works again, every work in the background comes to rest, and the space of what is dead comes
//! back. Without a restart, also after segments were fenced.

use std::time::Duration;

use nabu_engine::log::segment::parse_file_name;
use nabu_engine::sim::Sim;
use nabu_engine::store::{StoreError, StoreOptions, StoreStatus};

use super::client::Client;
use super::machine::{self, Shards};

/// After a log found no room it is passed over for a while (`FULL_FOR` in `log::writer`).
const FULL_FOR: Duration = Duration::from_secs(3);
/// So long nothing may happen, beyond the time for which compaction leaves a segment alone.
const WATCH: Duration = Duration::from_secs(5);
/// Within so many such times everything has come to rest.
const PATIENCE: u32 = 6;
const STEPS_MAX: u64 = 3_000_000;
/// Nobody promises less: live bytes may take this much of the disk, in percent, beside whole
/// segments.
const SPACE_PERCENT: u64 = 130;

/// What stands still when nothing happens.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Rest {
    moved_bytes: u64,
    failures: u64,
    writes: u64,
    syncs: u64,
    dir_syncs: u64,
    files: usize,
    highest_segment: u32,
}

/// The store is open, nothing is under way, and all faults have ended. Compaction runs, and the
/// scrub does not.
pub fn demand(sim: &mut Sim, shards: &Shards, mut client: Client, options: &StoreOptions) -> Result<(), String> {
    sim.run_for(FULL_FOR);
    let status = status(sim, shards)?;
    if status.failed_dirs == 0 {
        let stored = sim.run_steps(STEPS_MAX, async move {
            let count = client.world.borrow().contents.len();
            for blob in 0..count {
                match client.store(blob).await {
                    // A few kilobytes of memory for buffers are too little for the largest; that is
                    // no fault that ends.
                    Ok(()) | Err(StoreError::Busy) => {}
                    Err(error) => {
                        return Err(format!("blob {blob} can't be stored though nothing is wrong any more: {error}"));
                    }
                }
            }
            Ok::<(), String>(())
        });
        stored.ok_or("storing hangs though nothing is wrong any more")??;
    }
    let watch = options.limits.compaction.stuck_for * 2 + WATCH;
    let mut before = rest(sim, shards)?;
    for _ in 0..PATIENCE {
        sim.run_for(watch);
        let now = rest(sim, shards)?;
        if now == before {
            return space(sim, shards, options);
        }
        before = now;
    }
    sim.run_for(watch);
    Err(format!("the store does not come to rest: {before:?}, and {watch:?} later {:?}", rest(sim, shards)?))
}

/// Where no blob is left, nothing counts as live: without another start, also of those that were
/// damaged. Returns whether that is so; what lies in a directory that is taken out, or that a start
/// could not read, is not known.
pub fn demand_nothing(sim: &mut Sim, shards: &Shards) -> Result<bool, String> {
    sim.run_for(WATCH);
    let shard = shards[0].clone();
    let listed = sim.run_steps(STEPS_MAX, async move { shard.list(None, 1).await }).ok_or("listing hangs")?;
    let status = status(sim, shards)?;
    let is_known = !status.is_incomplete && status.failed_dirs == 0;
    if !is_known || listed.map_or(true, |page| !page.ids.is_empty()) {
        return Ok(false);
    }
    match status.used_bytes {
        0 => Ok(true),
        live => Err(format!("{live} bytes are live and no blob is stored")),
    }
}

fn status(sim: &mut Sim, shards: &Shards) -> Result<StoreStatus, String> {
    let shard = shards[0].clone();
    sim.run_steps(STEPS_MAX, async move { shard.status().await }).ok_or_else(|| "the status hangs".into())
}

fn rest(sim: &mut Sim, shards: &Shards) -> Result<Rest, String> {
    let compaction = status(sim, shards)?.compaction;
    let stats = sim.stats();
    let names = machine::segment_files(sim);
    let numbers = names.iter().filter_map(|path| parse_file_name(path.file_name()?.to_str()?));
    Ok(Rest {
        moved_bytes: compaction.moved_bytes,
        failures: compaction.failures,
        writes: stats.writes,
        syncs: stats.syncs,
        dir_syncs: stats.dir_syncs,
        highest_segment: numbers.map(|number| number.0).max().unwrap_or(0),
        files: sim.files().len(),
    })
}

/// The segments take little more than what is live in them.
fn space(sim: &mut Sim, shards: &Shards, options: &StoreOptions) -> Result<(), String> {
    let status = status(sim, shards)?;
    if status.is_incomplete || status.failed_dirs > 0 {
        // Nothing is reclaimed until a start can read everything; and what lies in a directory that
        // is taken out stays until then, with all that a piece in there keeps from being counted.
        return Ok(());
    }
    let size_of = |path| sim.read_file(path).map_or(0, |bytes| bytes.len() as u64);
    let sizes: Vec<u64> = machine::segment_files(sim).iter().map(|path| size_of(path)).collect();
    let taken: u64 = sizes.iter().sum();
    let counts = status.segments;
    let (dirs, cores) = (options.dirs.len() as u64, u64::from(options.cores));
    // Each log writes to one and has one ready, and each core has a log in every directory that it
    // turns to when its own are out or lag; compaction writes to one in each directory.
    let logs = dirs * cores;
    let limits = &options.limits.compaction;
    let segments = 2 * logs + dirs + limits.tombstone_segments + 2;
    let live = status.used_bytes * 100 / (100 - limits.dead_percent) * SPACE_PERCENT / 100;
    let bound = live + segments * options.segment_size.expect("given");
    if taken > bound {
        return Err(format!(
            "{} live bytes take {taken} in segments, more than {bound}: {counts:?}, {} directories failed, {:?}",
            status.used_bytes, status.failed_dirs, status.compaction
        ));
    }
    Ok(())
}
