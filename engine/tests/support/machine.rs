//! The simulated machine, its shards, and how they go up and down.

use std::path::{Path, PathBuf};

use nabu_engine::content::Pace;
use nabu_engine::io::Spawn;
use nabu_engine::sim::{CrashMode, Faults, Sim, SimIo, SimOptions};
use nabu_engine::store::{
    CommitOptions, Limits, Missing, OpenError, ScrubOptions, Shard, Store, StoreError, StoreOptions, StoreStatus,
    Stored, compact, scrub,
};
use nabu_engine::sync::promise;
use nabu_engine::types::{BlobId, CoreId};

use super::client::read_range;
use super::content::Content;

pub type Shards = Vec<Shard<SimIo>>;

/// The directory of the disk; data directories lie in it.
pub const ROOT: &str = "/disk";

pub fn dirs(count: usize) -> Vec<PathBuf> {
    (0..count).map(|number| Path::new(ROOT).join(format!("data{number}"))).collect()
}

/// Steps after which a start counts as hung.
const STEPS_MAX: u64 = 1_000_000;
/// The usual size of a segment.
pub const SEGMENT_SIZE: u64 = 256 << 10;

/// A machine with one store, for tests that force a course of events: a call at a time.
pub struct Machine {
    /// `None` while it goes down.
    sim: Option<Sim>,
    pub options: StoreOptions,
}

impl Machine {
    pub fn new(seed: u64, cores: u16, dirs: usize) -> Self {
        let dirs = self::dirs(dirs);
        let steps_max = 200_000_000;
        let sim = SimOptions { dirs: dirs.clone(), capacity_bytes: 1 << 30, steps_max, ..SimOptions::default() };
        let options = StoreOptions {
            dirs,
            cores,
            memory_bytes: 32 << 20,
            segment_size: Some(SEGMENT_SIZE),
            read_only: false,
            callers_files: &[],
            limits: Limits::default(),
        };
        Self { sim: Some(Sim::new(seed, sim)), options }
    }

    pub fn sim(&mut self) -> &mut Sim {
        self.sim.as_mut().expect("up")
    }

    pub fn restart(&mut self, mode: CrashMode) {
        self.sim = self.sim.take().map(|sim| sim.restart(mode));
    }

    pub fn open(&mut self) -> Shards {
        let options = self.options.clone();
        let ios = ios(self.sim(), options.cores);
        self.sim().run(open(ios, options)).expect("nothing keeps it from opening")
    }

    /// The same, with compaction beside it.
    pub fn open_compacting(&mut self) -> Shards {
        let shards = self.open();
        let cores = self.options.cores;
        start_compaction(&shards, self.sim().io(cores));
        shards
    }

    pub fn close(&mut self, shards: Shards) {
        self.sim().run(close(shards));
    }

    pub fn put(&mut self, shard: &Shard<SimIo>, content: &Content) -> Result<Stored, StoreError> {
        self.sim().run(put(shard.clone(), content))
    }

    pub fn delete(&mut self, shard: &Shard<SimIo>, id: BlobId) -> Result<bool, StoreError> {
        let shard = shard.clone();
        self.sim().run(async move { shard.delete(id).await })
    }

    /// Whether a blob is there; then it has its bytes, or this panics.
    pub fn holds(&mut self, shard: &Shard<SimIo>, content: &Content) -> bool {
        let (shard, size) = (shard.clone(), content.bytes.len() as u64);
        let found = self.sim().run(async move { read_range(&shard, content.id, 0..size, Pace::Fast).await });
        let found = found.expect("nothing is damaged");
        assert!(found.as_ref().is_none_or(|found| content.matches(0..size, &found.bytes)), "other bytes");
        found.is_some()
    }

    pub fn status(&mut self, shards: &Shards) -> StoreStatus {
        let shard = shards[0].clone();
        self.sim().run(async move { shard.status().await })
    }

    pub fn segments(&mut self) -> Vec<PathBuf> {
        segment_files(self.sim())
    }

    pub fn heal(&mut self) {
        self.sim().faults(|faults| *faults = Faults::default());
    }

    pub fn flip(&mut self, path: &Path, at: u64) {
        flip(self.sim(), path, at);
    }
}

/// Flips one bit of this byte of a file.
pub fn flip(sim: &Sim, path: &Path, at: u64) {
    let byte = sim.read_file(path).expect("a file")[at as usize];
    sim.overwrite(path, at, &[byte ^ 4]).expect("within the file");
}

/// Stores a blob through a shard.
pub async fn put(shard: Shard<SimIo>, content: &Content) -> Result<Stored, StoreError> {
    let mut upload = shard.upload(Some(content.bytes.len() as u64)).await?;
    upload.write(&content.bytes).await?;
    upload.commit(CommitOptions::default()).await
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

/// Opens the store where nothing may keep it from that.
pub fn open_sound(sim: &mut Sim, options: &StoreOptions) -> Result<Shards, String> {
    let opening = open(ios(sim, options.cores), options.clone());
    sim.run_steps(STEPS_MAX, opening)
        .ok_or("the start hangs")?
        .map_err(|error| format!("the store does not open on a healthy disk: {error}"))
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
