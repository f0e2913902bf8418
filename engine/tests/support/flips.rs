//! One flipped bit anywhere on the disk of a store that runs: the scrub finds it, no wrong byte is
//! served, and it costs what it hit alone, also over a stop.

use std::time::Duration;

use nabu_engine::content::Pace;
use nabu_engine::log::record::Kind;
use nabu_engine::sim::{Random, Sim, SimIo, SimOptions};
use nabu_engine::store::{CommitOptions, Limits, ScrubOptions, Shard, StoreError, StoreOptions, StoreStatus};

use super::anatomy::{self, Meaning, Part};
use super::client::read_range;
use super::content::Content;
use super::machine::{self, Shards};

const STEPS_MAX: u64 = 3_000_000;
/// Virtual time within which everything is found and put right.
const PATIENCE: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(20);

struct Run {
    seed: u64,
    sim: Sim,
    /// Whether the store is stopped between the finding and its cure.
    stops: bool,
    options: StoreOptions,
    shards: Shards,
    contents: Vec<Content>,
}

/// Runs the scenario of a seed; the violation if there is one.
pub fn run(seed: u64) -> Result<(), String> {
    let mut random = Random::new(seed ^ 0xf11b_b175);
    let dirs = machine::dirs(1 + random.index(2));
    let cores = 1 + random.below(2) as u16;
    let sim = Sim::new(seed, SimOptions { dirs: dirs.clone(), capacity_bytes: 256 << 20, ..SimOptions::default() });
    let segment_size = Some(256 << 10);
    let options = StoreOptions {
        dirs,
        cores,
        memory_bytes: 4 << 20,
        segment_size,
        read_only: false,
        callers_files: &[],
        limits: Limits::default(),
    };
    let mut size = || match random.below(8) {
        0 => 100_000 + random.index(300_000),
        1 | 2 => 4_000 + random.index(80_000),
        _ => random.index(6_000),
    };
    let contents: Vec<Content> =
        (0..4 + seed % 9).map(|number| Content::new(seed.wrapping_mul(1000) + number, size())).collect();
    // A stream of its own, so that old seeds stay what they were.
    let stops = Random::new(seed ^ 0x0005_7095).chance(0.4);
    let mut run = Run { seed, sim, stops, options, shards: Vec::new(), contents };
    run.open()?;
    for number in 0..run.contents.len() {
        run.put(number)?;
    }
    let deleted = random.index(run.contents.len());
    for content in run.contents.drain(..deleted).collect::<Vec<_>>() {
        let shard = run.shards[0].clone();
        run.steps("a delete", async move { shard.delete(content.id).await })?.map_err(|error| error.to_string())?;
    }
    run.close()?;
    run.open()?;
    run.start_scrub();
    if random.chance(0.3) {
        machine::start_compaction(&run.shards, run.sim.io(cores + 1));
    }
    let before = run.full_pass()?;
    if before.scrub.findings > 0 {
        return Err(format!("found what is not there: {:?}", before.scrub));
    }
    let parts = anatomy::parts(&run.sim);
    let part = parts[random.index(parts.len())].clone();
    let at = part.range.start + random.below(part.range.end - part.range.start);
    let byte = run.sim.read_file(&part.path).expect("just listed")[at as usize];
    let flipped = byte ^ (1 << random.below(8));
    run.sim.overwrite(&part.path, at, &[flipped]).expect("within the file");
    run.follow(&part, at, flipped)
        .map_err(|violation| format!("{violation}; {:?} at {at} of {}", part.meaning, part.path.display()))
}

impl Run {
    /// After the bit was flipped.
    fn follow(&mut self, part: &Part, at: u64, flipped: u8) -> Result<(), String> {
        let found = self.full_pass()?;
        // Retired, or replaced as a whole while it was flipped.
        let now = self.sim.read_file(&part.path).ok().and_then(|bytes| bytes.get(at as usize).copied());
        let is_gone = now != Some(flipped);
        if found.scrub.findings == 0 && !is_gone {
            return Err("a full scrub did not find it".into());
        }
        if self.stops {
            self.close()?;
            self.open()?;
        }
        let mut refused = Vec::new();
        for number in 0..self.contents.len() {
            match self.read(number)? {
                Ok(true) => {}
                Ok(false) => return Err(format!("blob {number} is gone, or its bytes are wrong")),
                Err(StoreError::Quarantined { .. }) => refused.push(number),
                Err(error) => return Err(format!("blob {number}: {error}")),
            }
        }
        let may_cost = matches!(part.meaning, Meaning::Head(kind) | Meaning::Payload(kind) if kind != Kind::Tombstone);
        if refused.len() > usize::from(may_cost) || refused.len() as u64 != found.quarantined {
            return Err(format!("{refused:?} are refused, {} under quarantine", found.quarantined));
        }
        for number in refused {
            if !self.put(number)? {
                return Err(format!("blob {number} is under quarantine, and an upload did not write it anew"));
            }
            if !matches!(self.read(number)?, Ok(true)) {
                return Err(format!("blob {number} was stored again, and can't be read"));
            }
        }
        if self.stops {
            self.start_scrub();
        }
        let left = self.full_pass()?.quarantined;
        if left > 0 { Err(format!("{left} blobs are under quarantine after all were stored again")) } else { Ok(()) }
    }

    fn steps<T>(&mut self, what: &str, future: impl Future<Output = T>) -> Result<T, String> {
        self.sim.run_steps(STEPS_MAX, future).ok_or_else(|| format!("{what} hangs, seed {}", self.seed))
    }

    fn start_scrub(&self) {
        let scrub = ScrubOptions { interval: Some(Duration::from_millis(50)), retry_pause: Duration::from_millis(2) };
        machine::start_scrub(&self.shards, self.sim.io(self.options.cores), scrub);
    }

    fn open(&mut self) -> Result<(), String> {
        let ios = machine::ios(&self.sim, self.options.cores);
        let opening = machine::open(ios, self.options.clone());
        self.shards = self.steps("opening", opening)?.map_err(|error| error.to_string())?;
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let shards = std::mem::take(&mut self.shards);
        self.steps("closing", machine::close(shards))
    }

    fn put(&mut self, number: usize) -> Result<bool, String> {
        let shard = self.shards[number % self.shards.len()].clone();
        let bytes = self.contents[number].bytes.clone();
        self.steps("an upload", put(shard, bytes))?.map_err(|error| error.to_string())
    }

    /// Whether a blob is what was stored.
    fn read(&mut self, number: usize) -> Result<Result<bool, StoreError>, String> {
        let shard = self.shards[number % self.shards.len()].clone();
        let (id, size) = (self.contents[number].id, self.contents[number].bytes.len() as u64);
        let found = self.steps("a read", async move { read_range(&shard, id, 0..size, Pace::Fast).await })?;
        let is_right = |bytes: &[u8]| bytes == self.contents[number].bytes;
        Ok(found.map(|found| found.is_some_and(|found| is_right(&found.bytes))))
    }

    fn status(&mut self) -> Result<StoreStatus, String> {
        let shard = self.shards[0].clone();
        self.steps("the status", async move { shard.status().await })
    }

    /// Waits until two more passes are complete: the second began after this moment.
    fn full_pass(&mut self) -> Result<StoreStatus, String> {
        let passes = self.status()?.scrub.passes;
        for _ in 0..PATIENCE.as_millis() / STEP.as_millis() {
            let status = self.status()?;
            if status.scrub.passes >= passes + 2 {
                return Ok(status);
            }
            self.sim.run_for(STEP);
        }
        Err(format!("a pass takes too long: {:?}", self.status()?.scrub))
    }
}

async fn put(shard: Shard<SimIo>, bytes: Vec<u8>) -> Result<bool, StoreError> {
    let mut upload = shard.upload(Some(bytes.len() as u64)).await?;
    upload.write(&bytes).await?;
    Ok(upload.commit(CommitOptions::default()).await?.created)
}
