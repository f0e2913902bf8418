//! One flipped bit in a segment that was not sealed: it costs one blob at most, nothing at all
//! where it hits a header, and never a wrong byte.

use nabu_engine::content::Pace;
use nabu_engine::io::BLOCK_SIZE;
use nabu_engine::log::header::DATA_START;
use nabu_engine::sim::{CrashMode, Random, Sim, SimOptions};
use nabu_engine::store::{CommitOptions, Limits, StoreOptions};

use super::client::read_range;
use super::content::Content;
use super::machine;

const STEPS_MAX: u64 = 1_000_000;

/// Runs the scenario of a seed; the violation if there is one.
pub fn run(seed: u64) -> Result<(), String> {
    let mut random = Random::new(seed ^ 0x0b17_0f10);
    let dirs = machine::dirs(1);
    let mut sim = Sim::new(seed, SimOptions { dirs: dirs.clone(), ..SimOptions::default() });
    let options = StoreOptions {
        dirs,
        cores: 1,
        memory_bytes: 16 << 20,
        segment_size: Some(256 << 10),
        read_only: false,
        callers_files: &[],
        limits: Limits::default(),
    };
    let contents: Vec<Content> = (0..3 + random.index(8))
        .map(|number| Content::new(seed.wrapping_mul(1000) + number as u64, 1 + random.index(8 << 10)))
        .collect();
    let ios = machine::ios(&sim, 1);
    let (opened, stored) = (options.clone(), &contents);
    // One after the other: each in a batch of its own, so that one damaged batch is one blob.
    let puts = async move {
        let shards = machine::open(ios, opened).await.map_err(|error| error.to_string())?;
        for content in stored {
            let mut upload =
                shards[0].upload(Some(content.bytes.len() as u64)).await.map_err(|error| error.to_string())?;
            upload.write(&content.bytes).await.map_err(|error| error.to_string())?;
            upload.commit(CommitOptions::default()).await.map_err(|error| error.to_string())?;
        }
        Ok::<(), String>(())
    };
    sim.run_steps(STEPS_MAX, puts).ok_or("the uploads hang")??;
    sim = sim.restart(if random.chance(0.5) { CrashMode::Power } else { CrashMode::Process });
    let cost_max = if flip(&sim, seed, &mut random) < DATA_START { 0 } else { 1 };
    let ios = machine::ios(&sim, 1);
    let shards = sim
        .run_steps(STEPS_MAX, machine::open(ios, options))
        .ok_or("recovery hangs")?
        .map_err(|error| format!("one flipped bit keeps the store from opening: {error}"))?;
    let mut lost = 0;
    for content in &contents {
        let (shard, size) = (shards[0].clone(), content.bytes.len() as u64);
        let read = async move { read_range(&shard, content.id, 0..size, Pace::Fast).await };
        match sim.run_steps(STEPS_MAX, read).ok_or("a read hangs")? {
            Ok(Some(found)) if found.size == size && content.matches(0..size, &found.bytes) => {}
            Ok(Some(_)) => return Err("wrong bytes after one flipped bit".into()),
            Ok(None) | Err(_) => lost += 1,
        }
    }
    if lost > cost_max {
        return Err(format!("one flipped bit cost {lost} blobs of {}, not {cost_max}", contents.len()));
    }
    Ok(())
}

/// Flips one bit of what was written, often in a header; returns where it lies in its file.
fn flip(sim: &Sim, seed: u64, random: &mut Random) -> u64 {
    // A stream of its own: a header is two blocks among many.
    let in_header = Random::new(seed ^ 0x4ead_e2b0).chance(0.3);
    let mut places = Vec::new();
    for path in machine::segment_files(sim) {
        let bytes = sim.read_file(&path).expect("just listed");
        let written = (0..).step_by(BLOCK_SIZE).zip(bytes.chunks(BLOCK_SIZE));
        let written =
            written.filter(|(at, block)| block.iter().any(|byte| *byte != 0) && (*at < DATA_START) == in_header);
        places.extend(written.map(|(at, _)| (path.clone(), at)));
    }
    let (path, at) = &places[random.index(places.len())];
    let at = at + random.below(BLOCK_SIZE as u64);
    let byte = sim.read_file(path).expect("just listed")[at as usize];
    sim.overwrite(path, at, &[byte ^ (1 << random.below(8))]).expect("within the file");
    at
}
