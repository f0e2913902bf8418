//! One bad block, and one bad read, decide over nothing more than themselves.

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use nabu_engine::content::Pace;
use nabu_engine::io::BLOCK_SIZE;
use nabu_engine::log::codec::crc32c;
use nabu_engine::log::footer::{ENTRY_SIZE, Trailer};
use nabu_engine::log::header::DATA_START;
use nabu_engine::log::record::Kind;
use nabu_engine::probe::{self, Event};
use nabu_engine::sim::{CrashMode, Faults, Random, Sim, SimIo, SimOptions};
use nabu_engine::store::{CommitOptions, Limits, Shard, StoreError, StoreOptions, StoreStatus};
use support::anatomy;
use support::client::read_range;
use support::content::Content;
use support::machine::{self, Shards};

const SEGMENT_SIZE: u64 = 256 << 10;

struct Machine {
    sim: Option<Sim>,
    options: StoreOptions,
}

impl Machine {
    fn new(seed: u64) -> Self {
        let dirs = machine::dirs(1);
        let sim = SimOptions { dirs: dirs.clone(), capacity_bytes: 1 << 30, ..SimOptions::default() };
        let options = StoreOptions {
            dirs,
            cores: 1 + (seed % 2) as u16,
            memory_bytes: 8 << 20,
            segment_size: Some(SEGMENT_SIZE),
            read_only: false,
            callers_files: &[],
            limits: Limits::default(),
        };
        Self { sim: Some(Sim::new(seed, sim)), options }
    }

    fn sim(&mut self) -> &mut Sim {
        self.sim.as_mut().expect("up")
    }

    fn restart(&mut self, mode: CrashMode) {
        self.sim = self.sim.take().map(|sim| sim.restart(mode));
    }

    fn open(&mut self) -> Shards {
        let options = self.options.clone();
        let ios = machine::ios(self.sim(), options.cores);
        self.sim().run(machine::open(ios, options)).expect("nothing keeps it from opening")
    }

    fn put(&mut self, shards: &Shards, content: &Content) {
        let (shard, bytes) = (shards[0].clone(), content.bytes.clone());
        let put = async move {
            let mut upload = shard.upload(Some(bytes.len() as u64)).await?;
            upload.write(&bytes).await?;
            upload.commit(CommitOptions::default()).await
        };
        self.sim().run(put).expect("stored");
    }

    fn delete(&mut self, shards: &Shards, content: &Content) {
        let (shard, id) = (shards[0].clone(), content.id);
        assert!(self.sim().run(async move { shard.delete(id).await }).expect("deleted"), "it was there");
    }

    fn holds(&mut self, shards: &Shards, content: &Content) -> bool {
        let found = self.sim().run(read(shards[0].clone(), content));
        found.expect("it is there or not").is_some_and(|bytes| bytes == content.bytes)
    }

    fn status(&mut self, shards: &Shards) -> StoreStatus {
        let shard = shards[0].clone();
        self.sim().run(async move { shard.status().await })
    }

    /// Time for the background, then a clean stop.
    fn rest_and_close(&mut self, shards: Shards) {
        self.sim().run_for(Duration::from_secs(2));
        self.sim().run(machine::close(shards));
    }

    /// So that the headers of the segments that it covers are read.
    fn break_checkpoint(&mut self) {
        let checkpoint = self.options.dirs[0].join("checkpoint");
        self.flip(&checkpoint, 20);
    }

    fn flip(&mut self, path: &Path, at: u64) {
        let byte = self.sim().read_file(path).expect("a file")[at as usize];
        self.sim().overwrite(path, at, &[byte ^ 4]).expect("within the file");
    }
}

async fn read(shard: Shard<SimIo>, content: &Content) -> Result<Option<Vec<u8>>, StoreError> {
    let size = content.bytes.len() as u64;
    Ok(read_range(&shard, content.id, 0..size, Pace::Fast).await?.map(|found| found.bytes))
}

fn contents(count: u64, size: usize) -> Vec<Content> {
    (0..count).map(|number| Content::new(number + 1, size)).collect()
}

/// A store with blobs in one segment, whose deletes lie in a later one; closed, or killed.
fn filled(seed: u64, is_closed: bool) -> (Machine, Vec<Content>, PathBuf) {
    let mut machine = Machine::new(seed);
    let contents = contents(6, 3_000);
    let shards = machine.open();
    contents.iter().for_each(|content| machine.put(&shards, content));
    machine.rest_and_close(shards);
    machine.restart(CrashMode::Power);
    let path = machine::segment_files(machine.sim()).pop().expect("one segment");
    let shards = machine.open();
    machine.delete(&shards, &contents[0]);
    match is_closed {
        true => machine.rest_and_close(shards),
        false => drop(shards),
    }
    machine.restart(CrashMode::Power);
    (machine, contents, path)
}

/// The life in which the header is damaged, and the one after it, in which it is not.
fn survives(mut machine: Machine, contents: &[Content], path: &Path, flips: &[u64], what: &str) -> StoreStatus {
    flips.iter().for_each(|at| machine.flip(path, *at));
    let shards = machine.open();
    let status = machine.status(&shards);
    assert!(!machine.holds(&shards, &contents[0]), "{what}: it was deleted");
    for content in &contents[1..] {
        assert!(status.is_incomplete || machine.holds(&shards, content), "{what}: a blob is missing");
    }
    if !status.is_incomplete {
        machine.delete(&shards, &contents[1]);
    }
    let compactor = machine.options.cores;
    let io = machine.sim().io(compactor);
    machine::start_compaction(&shards, io);
    machine.rest_and_close(shards);
    machine.restart(CrashMode::Power);
    if machine::segment_files(machine.sim()).iter().any(|file| file == path) {
        flips.iter().for_each(|at| machine.flip(path, *at));
    } else {
        assert!(!status.is_incomplete, "{what}: the segment went, though it could not be read");
    }
    for _ in 0..2 {
        let shards = machine.open();
        assert!(!machine.status(&shards).is_incomplete, "{what}: everything can be read again");
        assert!(!machine.holds(&shards, &contents[0]), "{what}: a deleted blob is back");
        assert_eq!(machine.holds(&shards, &contents[1]), status.is_incomplete, "{what}");
        for content in &contents[2..] {
            assert!(machine.holds(&shards, content), "{what}: a blob was lost");
        }
        machine.rest_and_close(shards);
        machine.restart(CrashMode::Power);
    }
    status
}

#[test]
fn a_damaged_header_costs_nothing_while_another_copy_is_sound() {
    for seed in 0..4 {
        for is_closed in [true, false] {
            for (flips, what) in [
                (&[20][..], "the first copy"),
                (&[BLOCK_SIZE as u64 + 20], "the second copy"),
                (&[20, BLOCK_SIZE as u64 + 20], "both copies, and the trailer is sound"),
            ] {
                let (mut machine, contents, path) = filled(seed, is_closed);
                let used = probe::count(Event::HeaderCopyUsed);
                machine.break_checkpoint();
                let status = survives(machine, &contents, &path, flips, what);
                assert!(!status.is_incomplete, "{what}");
                assert!(probe::count(Event::HeaderCopyUsed) > used, "{what}: it was not even looked at");
            }
        }
    }
}

#[test]
fn a_header_that_is_lost_altogether_hides_a_segment_and_nothing_is_concluded_from_that() {
    for seed in 0..4 {
        for is_closed in [true, false] {
            let (mut machine, contents, path) = filled(seed, is_closed);
            machine.break_checkpoint();
            let size = machine.sim().read_file(&path).expect("a file").len() as u64;
            let flips = [20, DATA_START - BLOCK_SIZE as u64 + 20, size - BLOCK_SIZE as u64 + 20];
            let status = survives(machine, &contents, &path, &flips, "all copies");
            assert!(status.is_incomplete);
        }
    }
}

/// Every read may give one wrong block the first time: a start loses nothing by it, and neither do
/// readers.
#[test]
fn reads_that_are_right_on_the_second_try_cost_nothing() {
    let mut flipped = 0;
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let mut machine = Machine::new(seed);
        let contents: Vec<Content> =
            (0..12).map(|number| Content::new(seed * 100 + number, 1 + random.index(40_000))).collect();
        let shards = machine.open();
        contents.iter().for_each(|content| machine.put(&shards, content));
        let deleted = random.index(contents.len());
        contents[..deleted].iter().for_each(|content| machine.delete(&shards, content));
        if random.chance(0.5) {
            machine.rest_and_close(shards);
        }
        for _ in 0..2 {
            machine.restart(if random.chance(0.5) { CrashMode::Power } else { CrashMode::Process });
            let rate = [0.02, 0.2, 1.0][random.index(3)];
            machine.sim().faults(|faults| faults.read_flip = rate);
            let shards = machine.open();
            let status = machine.status(&shards);
            assert!(!status.is_incomplete, "seed {seed}: nothing was unreadable");
            assert_eq!(status.blob_count, (contents.len() - deleted) as u64, "seed {seed}");
            for (number, content) in contents.iter().enumerate() {
                assert_eq!(machine.holds(&shards, content), number >= deleted, "seed {seed}: blob {number}");
            }
            assert_eq!(machine.status(&shards).damage_count, 0, "seed {seed}: nothing is damaged");
            machine.sim().faults(|faults| *faults = Faults::default());
            flipped += machine.sim().stats().flipped_reads;
        }
    }
    assert!(flipped > 1000, "{flipped} reads were wrong");
    assert!(probe::count(Event::RereadHelped) > 0);
}

/// Stands in for what a program with a cluster wrote: a sealed segment whose footer lists a part.
#[test]
fn a_store_with_a_record_of_a_cluster_is_refused_by_name() {
    let (mut machine, _, path) = filled(1, true);
    machine.break_checkpoint();
    let content = machine.sim().read_file(&path).expect("a file");
    let size = content.len() as u64;
    let trailer_at = content.len() - BLOCK_SIZE;
    let trailer = Trailer::decode_any(&content[trailer_at..], size).expect("it is sealed");
    let mut part = anatomy::footer_entries(&trailer, &content)[0];
    part.kind = Kind::Part;
    let entries_at = trailer.entries_offset as usize;
    let mut footer = content[entries_at..].to_vec();
    part.encode(&mut footer[..ENTRY_SIZE]);
    let entries_crc = crc32c(&footer[..trailer.count as usize * ENTRY_SIZE]);
    Trailer { entries_crc, ..trailer }.encode(&mut footer[trailer_at - entries_at..]);
    machine.sim().overwrite(&path, trailer.entries_offset, &footer).expect("within the file");
    let options = machine.options.clone();
    let ios = machine::ios(machine.sim(), options.cores);
    let refused = machine.sim().run(machine::open(ios, options)).expect_err("it can't be served");
    let number = path.file_stem().and_then(|name| name.to_str()).expect("a segment").to_owned();
    assert!(refused.0.contains(&number) && refused.0.contains("newer nabu-store"), "{refused}");
}
