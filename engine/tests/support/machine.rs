//! The simulated machine, its shards, and how they go up and down.

use std::path::{Path, PathBuf};

use nabu_engine::io::Spawn;
use nabu_engine::sim::{CrashMode, Sim, SimIo};
use nabu_engine::store::{Missing, OpenError, ScrubOptions, Shard, Store, StoreOptions, compact, scrub};
use nabu_engine::sync::promise;
use nabu_engine::types::CoreId;

pub type Shards = Vec<Shard<SimIo>>;

/// The directory of the disk; data directories lie in it.
pub const ROOT: &str = "/disk";

pub fn dirs(count: usize) -> Vec<PathBuf> {
    (0..count).map(|number| Path::new(ROOT).join(format!("data{number}"))).collect()
}

/// Opens the store on all cores together; the first error of a core is the outcome.
pub async fn open(ios: Vec<SimIo>, options: StoreOptions) -> Result<Shards, OpenError> {
    open_with(ios, options, Missing::Refuse).await
}

/// The same, and what is done when directories are missing.
pub async fn open_with(ios: Vec<SimIo>, options: StoreOptions, on_missing: Missing) -> Result<Shards, OpenError> {
    let store = Store::new(options);
    store.set_on_missing(on_missing);
    let mut opening = Vec::new();
    for (core, io) in ios.into_iter().enumerate() {
        let (result, promised) = promise();
        let (store, own) = (store.clone(), io.clone());
        io.spawn(async move { result.keep(store.open(CoreId(core as u16), own).await) });
        opening.push(promised);
    }
    let mut shards = Vec::new();
    let mut failure = None;
    for promised in opening {
        match promised.await.expect("opening ends") {
            Ok(shard) => shards.push(shard),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(shards),
    }
}

/// Starts the scrub of an open store, on a core of its own.
pub fn start_scrub(shards: &Shards, io: SimIo, options: ScrubOptions) {
    let store = shards[0].store().clone();
    io.clone().spawn(async move { scrub(&store, io, options).await });
}

/// Starts compaction of an open store, on a core of its own.
pub fn start_compaction(shards: &Shards, io: SimIo) {
    let store = shards[0].store().clone();
    io.clone().spawn(async move { compact(&store, io).await });
}

/// Closes the store on all cores together.
pub async fn close(shards: Shards) {
    let mut closing = Vec::new();
    for shard in shards {
        let (result, promised) = promise();
        shard.io().clone().spawn(async move {
            shard.close().await;
            result.keep(());
        });
        closing.push(promised);
    }
    for promised in closing {
        promised.await.expect("closing ends");
    }
}

pub fn ios(sim: &Sim, cores: u16) -> Vec<SimIo> {
    (0..cores).map(|core| sim.io(core)).collect()
}

/// The names of the segments on the disk.
pub fn segment_files(sim: &Sim) -> Vec<PathBuf> {
    sim.files().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "seg")).collect()
}

pub fn either_crash(random: &mut nabu_engine::sim::Random) -> CrashMode {
    if random.chance(0.5) { CrashMode::Power } else { CrashMode::Process }
}
