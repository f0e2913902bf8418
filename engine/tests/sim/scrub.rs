//! The scrub on a simulated disk: damage of every kind is found, nothing wrong is served, and what
//! can be put right is.

use std::time::Duration;

use crate::support::anatomy::{self, Meaning, Part};
use crate::support::client::read_range;
use crate::support::content::Content;
use crate::support::machine::{self, Shards};
use nabu_engine::content::Pace;
use nabu_engine::log::record::{Kind, Layout};
use nabu_engine::sim::{CrashMode, Faults, Random, Sim, SimIo, SimOptions};
use nabu_engine::store::{CommitOptions, Limits, ScrubOptions, Shard, StoreError, StoreOptions, StoreStatus};

const SEGMENT_SIZE: u64 = 256 << 10;
/// From the beginning of a pass to that of the next.
const INTERVAL: Duration = Duration::from_millis(200);
/// Within this time everything is found and put right, in virtual time.
const PATIENCE: Duration = Duration::from_secs(20);

struct Machine {
    sim: Sim,
    options: StoreOptions,
    shards: Shards,
    contents: Vec<Content>,
    deleted: Vec<Content>,
}

impl Machine {
    /// A store with some of everything, all of it sealed, opened again.
    fn new(seed: u64) -> Self {
        let sizes = [0, 100, 5_000, 60_000, 65_536, 90_000, 300_000, 700_000];
        let contents = |first: u64| (first..).zip(sizes).map(|(key, size)| Content::new(key, size)).collect::<Vec<_>>();
        let (contents, mut deleted) = (contents(seed * 1000 + 1), contents(seed * 1000 + 500));
        deleted.retain(|content| !content.bytes.is_empty());
        let dirs = machine::dirs(2);
        let mut sim =
            Sim::new(seed, SimOptions { dirs: dirs.clone(), capacity_bytes: 1 << 30, ..SimOptions::default() });
        let options = StoreOptions {
            dirs,
            cores: 2,
            memory_bytes: 8 << 20,
            segment_size: Some(SEGMENT_SIZE),
            read_only: false,
            callers_files: &[],
            limits: Limits::default(),
        };
        let shards = sim.run(machine::open(machine::ios(&sim, 2), options.clone())).expect("opens");
        let mut machine = Self { sim, options, shards, contents, deleted };
        for number in 0..machine.contents.len() {
            machine.put(number).expect("stored");
            if let Some(content) = machine.deleted.get(number) {
                let content = Content::new(seed * 1000 + 501 + number as u64, content.bytes.len());
                machine.put_content(&content).expect("stored");
            }
        }
        for content in std::mem::take(&mut machine.deleted) {
            let shard = machine.shards[0].clone();
            let id = content.id;
            assert!(machine.sim.run(async move { shard.delete(id).await }).expect("deleted"));
            machine.deleted.push(content);
        }
        machine.reopen();
        machine
    }

    fn close(&mut self) {
        let shards = std::mem::take(&mut self.shards);
        self.sim.run(machine::close(shards));
    }

    fn restart(self, mode: CrashMode) -> Self {
        let mut machine = Self { sim: self.sim.restart(mode), ..self };
        let ios = machine::ios(&machine.sim, machine.options.cores);
        machine.shards = machine.sim.run(machine::open(ios, machine.options.clone())).expect("opens");
        machine
    }

    fn reopen(&mut self) {
        self.close();
        let ios = machine::ios(&self.sim, self.options.cores);
        self.shards = self.sim.run(machine::open(ios, self.options.clone())).expect("opens");
    }

    fn start_scrub(&mut self) {
        let options = ScrubOptions { interval: Some(INTERVAL), retry_pause: Duration::from_millis(5) };
        machine::start_scrub(&self.shards, self.sim.io(self.options.cores), options);
    }

    fn start_compaction(&mut self) {
        machine::start_compaction(&self.shards, self.sim.io(self.options.cores + 1));
    }

    fn status(&mut self) -> StoreStatus {
        let shard = self.shards[0].clone();
        self.sim.run(async move { shard.status().await })
    }

    /// Runs until two more passes are complete: the second began after this moment.
    fn full_pass(&mut self) -> StoreStatus {
        let passes = self.status().scrub.passes;
        self.until("two passes", |status| status.scrub.passes >= passes + 2)
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&StoreStatus) -> bool) -> StoreStatus {
        let step = Duration::from_millis(50);
        for _ in 0..PATIENCE.as_millis() / step.as_millis() {
            let status = self.status();
            if is_so(&status) {
                return status;
            }
            self.sim.run_for(step);
        }
        panic!("seed {}: {what} takes too long: {:?}", self.sim.seed(), self.status().scrub);
    }

    fn put_content(&mut self, content: &Content) -> Result<bool, StoreError> {
        self.sim.run(put(self.shards[1].clone(), content))
    }

    fn put(&mut self, number: usize) -> Result<bool, StoreError> {
        self.sim.run(put(self.shards[number % 2].clone(), &self.contents[number]))
    }

    /// Reads a blob whole; false when it is not what was stored.
    fn read(&mut self, number: usize) -> Result<bool, StoreError> {
        let (shard, content) = (self.shards[number % 2].clone(), &self.contents[number]);
        let size = content.bytes.len() as u64;
        let found = self.sim.run(async move { read_range(&shard, content.id, 0..size, Pace::Fast).await })?;
        Ok(found.is_some_and(|found| content.matches(0..size, &found.bytes)))
    }

    /// Every blob is whole, but those at these places.
    fn assert_whole_but(&mut self, but: &[usize], what: &str) {
        for number in (0..self.contents.len()).filter(|number| !but.contains(number)) {
            let seed = self.sim.seed();
            assert!(self.read(number).expect("it is sound"), "seed {seed}, {what}: blob {number}");
        }
    }

    fn flip(&self, part: &Part, random: &mut Random) {
        let at = part.range.start + random.below(part.range.end - part.range.start);
        self.flip_at(part, at, random.below(8) as u8);
    }

    fn flip_at(&self, part: &Part, at: u64, bit: u8) {
        let byte = self.sim.read_file(&part.path).expect("it is there")[at as usize];
        self.sim.overwrite(&part.path, at, &[byte ^ (1 << bit)]).expect("within the file");
    }
}

async fn put(shard: Shard<SimIo>, content: &Content) -> Result<bool, StoreError> {
    let mut upload = shard.upload(Some(content.bytes.len() as u64)).await?;
    upload.write(&content.bytes).await?;
    Ok(upload.commit(CommitOptions::default()).await?.created)
}

/// What becomes of damage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// A blob is refused until it is stored again.
    Quarantined,
    /// The segment is emptied and goes.
    MovedAway,
    /// The file is written anew.
    Rewritten,
}

/// Whether a record is in use: blobs that were not deleted. Pieces are judged by their blob's size,
/// which only one of each has.
fn is_live(machine: &Machine, part: &Part) -> bool {
    part.id().is_some_and(|id| machine.contents.iter().any(|content| content.id == id))
}

/// Damages one part and follows it to the end.
#[track_caller]
fn follow(seed: u64, choose: impl Fn(&Machine, &Part) -> bool, expected: Outcome) {
    let mut random = Random::new(seed ^ 0x5c2b);
    let mut machine = Machine::new(seed);
    machine.start_scrub();
    let before = machine.full_pass();
    assert_eq!((before.scrub.findings, before.quarantined), (0, 0), "seed {seed}: nothing is damaged yet");
    let parts: Vec<Part> = anatomy::parts(&machine.sim).into_iter().filter(|part| choose(&machine, part)).collect();
    assert!(!parts.is_empty(), "seed {seed}: there is something to damage");
    let part = &parts[random.index(parts.len())];
    let what = format!("{:?} of {}", part.meaning, part.path.display());
    machine.flip(part, &mut random);
    let mut found = machine.full_pass();
    if found.scrub.findings == 0 && part.meaning == Meaning::ScrubFile {
        // It was being replaced in this very moment: what is there now has not been damaged.
        let parts = anatomy::parts(&machine.sim);
        let part = parts.iter().find(|part| part.meaning == Meaning::ScrubFile).expect("there is one");
        machine.flip(part, &mut random);
        found = machine.full_pass();
    }
    assert!(found.scrub.findings >= 1, "seed {seed}: {what} is found");
    match expected {
        Outcome::Quarantined => {
            assert_eq!(found.quarantined, 1, "seed {seed}: {what}");
            let is_refused = |machine: &mut Machine, number: &usize| {
                matches!(machine.read(*number), Err(StoreError::Quarantined { .. }))
            };
            let refused: Vec<usize> =
                (0..machine.contents.len()).filter(|number| is_refused(&mut machine, number)).collect();
            assert_eq!(refused.len(), 1, "seed {seed}: {what}");
            machine.assert_whole_but(&refused, &what);
            assert!(machine.put(refused[0]).expect("stored"), "an upload writes it anew");
            assert!(machine.read(refused[0]).expect("it is sound"));
        }
        Outcome::MovedAway | Outcome::Rewritten => {
            assert_eq!(found.quarantined, 0, "seed {seed}: {what}");
            machine.assert_whole_but(&[], &what);
        }
    }
    if part.record.is_some_and(|(_, entry)| entry.layout != Layout::Inline) {
        // What the old list of pieces named is known to be dead at the next start.
        machine.reopen();
        machine.start_scrub();
        machine.full_pass();
    }
    // What is dead and damaged goes with its segment.
    machine.start_compaction();
    let mended = machine.until(&what, |status| status.scrub.mended == status.scrub.findings);
    assert_eq!(mended.quarantined, 0);
    if expected == Outcome::MovedAway {
        assert!(!machine.sim.files().contains(&part.path), "seed {seed}: {what}");
    }
    let again = machine.full_pass();
    let again = machine.until(&what, |status| status.scrub.mended == again.scrub.findings);
    let settled = machine.full_pass();
    assert_eq!(settled.scrub.findings, again.scrub.findings, "seed {seed}: {what}");
    machine.assert_whole_but(&[], &what);
    machine.close();
    // And the next start finds everything.
    let mut machine = machine.restart(CrashMode::Power);
    machine.assert_whole_but(&[], &what);
    assert_eq!(machine.status().damage_count, 0, "seed {seed}: {what}");
}

#[test]
fn a_flipped_bit_in_what_a_blob_needs_puts_it_under_quarantine_until_it_is_stored_again() {
    let kinds = [Meaning::Head(Kind::Blob), Meaning::Payload(Kind::Blob)];
    for (number, meaning) in (0..).zip(kinds.iter().cycle().take(8)) {
        follow(number, |machine, part| part.meaning == *meaning && is_live(machine, part), Outcome::Quarantined);
    }
}

#[test]
fn a_flipped_bit_in_what_no_blob_needs_has_the_rest_of_its_segment_moved_away() {
    let dead = |kind| {
        [Meaning::Head(kind), Meaning::Payload(kind)]
            .map(|meaning| move |machine: &Machine, part: &Part| part.meaning == meaning && !is_live(machine, part))
    };
    for (number, choose) in (100..).zip(dead(Kind::Blob)) {
        follow(number, choose, Outcome::MovedAway);
    }
    let others = [
        Meaning::SegmentHeader,
        Meaning::HeaderPadding,
        Meaning::RecordPadding(Kind::Blob),
        Meaning::RecordPadding(Kind::Frame),
        Meaning::Head(Kind::Tombstone),
        Meaning::BatchPadding,
        Meaning::FooterEntry,
        Meaning::FooterPadding,
        Meaning::Trailer,
        Meaning::TrailerPadding,
    ];
    for (number, meaning) in (200..).zip(others) {
        follow(number, |_, part| part.meaning == meaning, Outcome::MovedAway);
    }
}

#[test]
fn a_flipped_bit_in_a_file_beside_the_segments_has_it_written_anew() {
    for (number, meaning) in (300..).zip([Meaning::Checkpoint, Meaning::Superblock, Meaning::ScrubFile]) {
        follow(number, |_, part| part.meaning == meaning, Outcome::Rewritten);
    }
}

#[test]
fn a_flipped_bit_in_a_piece_in_use_puts_its_blob_under_quarantine_and_in_another_costs_nothing() {
    let mut quarantined = 0;
    for seed in 400..416 {
        let mut random = Random::new(seed);
        let mut machine = Machine::new(seed);
        machine.start_scrub();
        let (shard, large) = (machine.shards[0].clone(), machine.contents.remove(6));
        machine.sim.run(async move { shard.delete(large.id).await }).expect("deleted");
        // What is wholly dead has gone by then.
        machine.full_pass();
        let meaning = if seed % 2 == 0 { Meaning::Payload(Kind::Frame) } else { Meaning::Head(Kind::Frame) };
        let parts: Vec<Part> =
            anatomy::parts(&machine.sim).into_iter().filter(|part| part.meaning == meaning).collect();
        machine.flip(&parts[random.index(parts.len())], &mut random);
        let found = machine.full_pass();
        assert_eq!(found.scrub.findings, 1, "seed {seed}");
        quarantined += found.quarantined;
        let refused: Vec<usize> = (0..machine.contents.len())
            .filter(|number| matches!(machine.read(*number), Err(StoreError::Quarantined { .. })))
            .collect();
        assert_eq!(refused.len() as u64, found.quarantined, "seed {seed}");
        machine.assert_whole_but(&refused, "a piece");
        for number in &refused {
            assert!(machine.put(*number).expect("stored"));
        }
        machine.start_compaction();
        machine.until("mending", |status| status.scrub.mended == status.scrub.findings);
        machine.assert_whole_but(&[], "a piece");
    }
    assert!((1..16).contains(&quarantined), "some of both: {quarantined}");
}

#[test]
fn what_readers_find_is_looked_at_before_the_pass_is_due() {
    let mut machine = Machine::new(500);
    let options = ScrubOptions { interval: Some(Duration::from_secs(3600)), retry_pause: Duration::from_millis(5) };
    machine::start_scrub(&machine.shards, machine.sim.io(2), options);
    machine.until("the first pass", |status| status.scrub.passes == 1);
    let mut random = Random::new(500);
    let is_wanted = |part: &&Part| part.meaning == Meaning::Payload(Kind::Blob) && is_live(&machine, part);
    let part = anatomy::parts(&machine.sim).iter().rfind(is_wanted).expect("there is one").clone();
    machine.flip(&part, &mut random);
    let number = machine.contents.iter().position(|content| Some(content.id) == part.id()).expect("it is live");
    assert!(matches!(machine.read(number), Err(StoreError::Damaged { .. })));
    machine.until("the check", |status| status.quarantined == 1);
    assert!(matches!(machine.read(number), Err(StoreError::Quarantined { .. })));
    assert_eq!(machine.status().scrub.passes, 1);
    let (shard, id) = (machine.shards[0].clone(), machine.contents[number].id);
    assert!(machine.sim.run(async move { shard.delete(id).await }).expect("it can be deleted"));
    assert_eq!(machine.status().quarantined, 0);
    assert!(!machine.read(number).expect("it is gone"));
}

#[test]
fn position_and_quarantine_outlive_a_restart() {
    for (seed, mode) in [(600, CrashMode::Process), (601, CrashMode::Power)] {
        let mut machine = Machine::new(seed);
        machine.start_scrub();
        machine.full_pass();
        let mut random = Random::new(seed);
        let is_wanted = |part: &&Part| part.meaning == Meaning::Payload(Kind::Blob) && is_live(&machine, part);
        let part = anatomy::parts(&machine.sim).iter().find(is_wanted).expect("there is one").clone();
        machine.flip(&part, &mut random);
        machine.full_pass();
        machine.sim.run_for(Duration::from_secs(3));
        let before = machine.status().scrub;
        let mut machine = machine.restart(mode);
        let number = machine.contents.iter().position(|content| Some(content.id) == part.id()).expect("it is live");
        let status = machine.status();
        assert_eq!(status.quarantined, 1, "seed {seed}");
        assert!(status.scrub.last_pass_end_ns >= before.last_pass_end_ns - 1_000_000_000, "seed {seed}");
        assert!(matches!(machine.read(number), Err(StoreError::Quarantined { .. })), "without any scrub running");
        assert!(machine.put(number).expect("stored"));
        assert!(machine.read(number).expect("it is sound"));
        assert_eq!(machine.status().quarantined, 0);
    }
}

#[test]
fn a_pass_that_was_broken_off_goes_on_where_it_was() {
    for seed in 700..706 {
        let mut machine = Machine::new(seed);
        // What is wholly dead has gone by then.
        machine.sim.run_for(Duration::from_secs(1));
        let segments = machine::segment_files(&machine.sim).len() as u64;
        // At the least rate of 1 MiB a second.
        let options = ScrubOptions { interval: Some(Duration::from_secs(3600)), retry_pause: Duration::from_millis(5) };
        machine::start_scrub(&machine.shards, machine.sim.io(2), options);
        let broken_off = machine.until("some segments", |status| status.scrub.segments >= 4).scrub;
        assert_eq!(broken_off.passes, 0);
        machine.reopen();
        machine::start_scrub(&machine.shards, machine.sim.io(2), options);
        let whole = machine.until("the rest", |status| status.scrub.passes == 1).scrub;
        // One may have been read and not counted as done, or only half.
        let read = whole.segments + broken_off.segments;
        assert!((segments..=segments + 1).contains(&read), "seed {seed}: {read} of {segments}");
    }
}

#[test]
fn what_is_being_written_to_is_sealed_and_read_too() {
    let mut machine = Machine::new(800);
    let content = Content::new(800_999, 10_000);
    machine.put_content(&content).expect("stored");
    machine.contents.push(content);
    let number = machine.contents.len() - 1;
    // Found by its bytes: there is no footer yet.
    let needle = machine.contents[number].bytes[..64].to_vec();
    let files = machine::segment_files(&machine.sim);
    let (path, at) = files
        .into_iter()
        .find_map(|path| {
            let content = machine.sim.read_file(&path).expect("just listed");
            let at = content.windows(needle.len()).position(|bytes| bytes == needle)?;
            Some((path, at as u64))
        })
        .expect("it is on the disk");
    machine.sim.overwrite(&path, at, &[needle[0] ^ 1]).expect("within the file");
    machine.start_scrub();
    let found = machine.until("the first pass", |status| status.scrub.passes == 1);
    assert_eq!(found.quarantined, 1);
    assert!(matches!(machine.read(number), Err(StoreError::Quarantined { .. })));
}

#[test]
fn a_disk_that_refuses_reads_for_a_while_has_nothing_refused_and_is_forgiven() {
    for seed in 900..904 {
        let mut machine = Machine::new(seed);
        machine.sim.faults(|faults| faults.read_error = 0.7);
        machine.start_scrub();
        machine.sim.run_for(Duration::from_secs(5));
        machine.sim.faults(|faults| faults.read_error = 0.0);
        let listed = machine.status();
        assert!(listed.quarantined > 0, "seed {seed}: what can't be read is listed");
        machine.assert_whole_but(&[], "listed as unreadable");
        let forgiven = machine.full_pass();
        assert_eq!(forgiven.quarantined, 0, "seed {seed}");
        assert!(forgiven.scrub.mended >= listed.quarantined, "seed {seed}");
        assert!(!machine.put(1).expect("it is there"), "seed {seed}");
    }
}

#[test]
fn a_directory_that_is_taken_out_in_the_midst_of_a_pass_is_left_to_a_later_one() {
    for seed in 0..20 {
        let mut machine = Machine::new(seed);
        machine.start_scrub();
        machine.full_pass();
        machine.sim.run_for(Duration::from_millis(seed * 10));
        let struck = machine.options.dirs[1].clone();
        machine.sim.faults(|faults| *faults = Faults { stuck: 1.0, within: Some(struck), ..Faults::default() });
        machine.sim.run_for(machine.options.limits.disk_timeout * 2);
        let status = machine.status();
        assert_eq!(status.failed_dirs, 1, "seed {seed}");
        assert_eq!((status.scrub.findings, status.quarantined), (0, 0), "seed {seed}: silence is no damage");
        machine.full_pass();
        machine.sim.faults(|faults| *faults = Faults::default());
        machine.sim.release_stuck();
        machine.close();
    }
}

/// A blob of many pieces, each of which may be wrong the first time that it is read.
#[test]
fn reads_that_are_wrong_once_at_several_places_of_a_blob_put_it_under_no_quarantine() {
    let mut flipped = 0;
    for seed in 0..20 {
        let mut machine = Machine::new(seed);
        machine.sim.faults(|faults| faults.read_flip = 0.1);
        machine.start_scrub();
        let status = machine.full_pass();
        assert_eq!((status.scrub.findings, status.quarantined), (0, 0), "seed {seed}: nothing is damaged");
        flipped += machine.sim.stats().flipped_reads;
    }
    assert!(flipped > 100, "{flipped} reads were wrong");
}
