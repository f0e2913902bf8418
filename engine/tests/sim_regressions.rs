//! Bugs that were found in the store, each with the shortest course of events that showed it.

mod support;

use std::path::PathBuf;
use std::time::Duration;

use nabu_engine::content::Pace;
use nabu_engine::io::{Clock, Disk, Spawn};
use nabu_engine::log::footer::footer_bytes;
use nabu_engine::probe::{self, Event};
use nabu_engine::sim::{CrashMode, Faults, Sim, SimIo, SimOptions};
use nabu_engine::store::{CommitOptions, Limits, Shard, StoreError, StoreOptions, Stored};
use nabu_engine::sync::promise;
use nabu_engine::types::BlobId;
use support::client::read_range;
use support::content::Content;
use support::machine::{self, Shards};

const SEGMENT_SIZE: u64 = 256 << 10;

struct Machine {
    sim: Option<Sim>,
    options: StoreOptions,
}

impl Machine {
    fn new(seed: u64, cores: u16, dirs: usize) -> Self {
        let dirs = machine::dirs(dirs);
        let sim = SimOptions { dirs: dirs.clone(), capacity_bytes: 1 << 30, ..SimOptions::default() };
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

    fn close(&mut self, shards: Shards) {
        self.sim().run(machine::close(shards));
    }

    fn put(&mut self, shard: &Shard<SimIo>, content: &Content) -> Result<Stored, StoreError> {
        self.sim().run(put(shard.clone(), content))
    }

    fn delete(&mut self, shard: &Shard<SimIo>, id: BlobId) -> Result<bool, StoreError> {
        let shard = shard.clone();
        self.sim().run(async move { shard.delete(id).await })
    }

    fn holds(&mut self, shard: &Shard<SimIo>, content: &Content) -> bool {
        let (shard, size) = (shard.clone(), content.bytes.len() as u64);
        let found = self.sim().run(async move { read_range(&shard, content.id, 0..size, Pace::Fast).await });
        found.expect("nothing is damaged").is_some_and(|found| content.matches(0..size, &found.bytes))
    }

    fn segments(&mut self) -> Vec<PathBuf> {
        machine::segment_files(self.sim())
    }
}

async fn put(shard: Shard<SimIo>, content: &Content) -> Result<Stored, StoreError> {
    let mut upload = shard.upload(Some(content.bytes.len() as u64)).await?;
    upload.write(&content.bytes).await?;
    upload.commit(CommitOptions::default()).await
}

fn contents(count: u64, size: usize) -> Vec<Content> {
    (0..count).map(|number| Content::new(number, size)).collect()
}

#[test]
fn a_store_that_is_closed_before_everything_is_counted_reclaims_nothing() {
    for seed in 0..40 {
        let mut machine = Machine::new(seed, 2, 1);
        let contents = contents(20, 60_000);
        let shards = machine.open();
        for content in &contents {
            machine.put(&shards[0], content).expect("stored");
        }
        machine.close(shards);
        machine.restart(CrashMode::Process);
        let shards = machine.open();
        let late = Content::new(1 << 40, 10);
        machine.sim().run(async move {
            let (closed, closing) = promise();
            let first = shards[0].clone();
            shards[0].io().spawn(async move {
                first.close().await;
                closed.keep(());
            });
            // The other core has something to do yet, so that the reclaimer has time.
            put(shards[1].clone(), &late).await.expect("stored");
            shards[1].close().await;
            closing.await.expect("closed");
        });
        machine.restart(CrashMode::Power);
        let shards = machine.open();
        for content in &contents {
            assert!(machine.holds(&shards[0], content), "seed {seed}");
        }
    }
}

#[test]
fn a_first_start_that_crashes_anywhere_leaves_directories_that_open() {
    for steps in 0..120 {
        for mode in [CrashMode::Process, CrashMode::Power] {
            let mut machine = Machine::new(steps, 1, 3);
            let options = machine.options.clone();
            let ios = machine::ios(machine.sim(), 1);
            let _ = machine.sim().run_steps(steps, machine::open(ios, options));
            machine.restart(mode);
            let content = Content::new(steps, 100);
            let shards = machine.open();
            machine.put(&shards[0], &content).expect("stored");
            machine.restart(CrashMode::Power);
            let shards = machine.open();
            assert!(machine.holds(&shards[0], &content), "{steps} steps, {mode:?}");
        }
    }
}

#[test]
fn a_number_that_a_checkpoint_covers_is_not_given_to_another_segment() {
    for seed in 0..20 {
        let mut machine = Machine::new(seed, 1, 1);
        let contents = contents(3, 3_000);
        let shards = machine.open();
        for content in &contents {
            machine.put(&shards[0], content).expect("stored");
        }
        // The checkpoint covers what the next two lives reclaim.
        machine.close(shards);
        machine.restart(CrashMode::Power);
        let shards = machine.open();
        for content in &contents {
            machine.delete(&shards[0], content.id).expect("deleted");
        }
        machine.sim().run_for(Duration::from_secs(1));
        machine.restart(CrashMode::Power);
        drop(machine.open());
        machine.sim().run_for(Duration::from_secs(1));
        assert!(machine.segments().is_empty());
        machine.restart(CrashMode::Power);
        let shards = machine.open();
        for content in &contents {
            machine.put(&shards[0], content).expect("stored again");
        }
        machine.restart(CrashMode::Power);
        let shards = machine.open();
        for content in &contents {
            assert!(machine.holds(&shards[0], content), "seed {seed}");
        }
    }
}

/// A store that was closed, with three blobs in one segment: the file of that, and its bytes.
fn closed_store() -> (Machine, Vec<Content>, PathBuf, u64) {
    let mut machine = Machine::new(1, 1, 1);
    let contents = contents(3, 3_000);
    let shards = machine.open();
    for content in &contents {
        machine.put(&shards[0], content).expect("stored");
    }
    machine.close(shards);
    machine.restart(CrashMode::Power);
    let path = machine.segments().pop().expect("one segment");
    let size = machine.sim().read_file(&path).expect("a file").len() as u64;
    (machine, contents, path, size)
}

/// What the power leaves of a segment that was sealed by a process which died before its last sync,
/// and that a checkpoint covers: the footer may be gone, and the file be as long as before.
#[test]
fn a_sealed_segment_without_its_footer_or_its_cut_gives_its_space_back() {
    for (keeps_footer, is_cut) in [(true, false), (false, false), (false, true)] {
        let (mut machine, contents, path, size) = closed_store();
        let data_end = size - footer_bytes(contents.len());
        if !keeps_footer {
            machine.sim().truncate(&path, data_end).expect("a file");
        }
        machine.sim().truncate(&path, if is_cut { size } else { SEGMENT_SIZE }).expect("a file");
        let used = probe::count(Event::CheckpointUsed);
        let shards = machine.open();
        assert!(probe::count(Event::CheckpointUsed) > used);
        for content in &contents {
            assert!(machine.holds(&shards[0], content), "footer {keeps_footer}, cut {is_cut}");
            machine.delete(&shards[0], content.id).expect("deleted");
        }
        machine.sim().run_for(Duration::from_secs(1));
        machine.close(shards);
        assert!(!machine.segments().contains(&path), "footer {keeps_footer}, cut {is_cut}");
        machine.restart(CrashMode::Power);
        let shards = machine.open();
        for content in &contents {
            assert!(!machine.holds(&shards[0], content), "footer {keeps_footer}, cut {is_cut}");
        }
    }
}

/// But not when what is behind the last record may have been a record.
#[test]
fn a_sealed_segment_whose_end_is_damaged_is_kept() {
    let (mut machine, contents, path, size) = closed_store();
    machine.sim().truncate(&path, size - footer_bytes(contents.len())).expect("a file");
    machine.sim().truncate(&path, SEGMENT_SIZE).expect("a file");
    machine.sim().overwrite(&path, size - footer_bytes(contents.len()), &[1; 64]).expect("a file");
    let shards = machine.open();
    for content in &contents {
        machine.delete(&shards[0], content.id).expect("deleted");
    }
    machine.sim().run_for(Duration::from_secs(1));
    machine.close(shards);
    assert!(machine.segments().contains(&path));
}

#[test]
fn an_upload_is_not_told_that_a_blob_is_stored_whose_delete_failed() {
    for seed in 0..60 {
        let mut machine = Machine::new(seed, 1, 1);
        let content = Content::new(seed, 3000);
        let shards = machine.open();
        machine.put(&shards[0], &content).expect("stored");
        machine.sim().faults(|faults| faults.sync_error = 1.0);
        let failed = machine.delete(&shards[0], content.id);
        assert!(matches!(failed, Err(StoreError::WriteFailed { .. })), "{failed:?}");
        machine.sim().faults(|faults| *faults = Faults::default());
        machine.put(&shards[0], &content).expect("stored");
        machine.restart(CrashMode::Process);
        let shards = machine.open();
        assert!(machine.holds(&shards[0], &content), "seed {seed}");
    }
}

#[test]
fn a_blob_whose_upload_failed_does_not_come_back_after_it_was_deleted() {
    for seed in 0..60 {
        let mut machine = Machine::new(seed, 1, 1);
        let contents = contents(2, 3000);
        let shards = machine.open();
        machine.put(&shards[0], &contents[0]).expect("stored");
        machine.sim().faults(|faults| faults.sync_error = 1.0);
        machine.put(&shards[0], &contents[1]).expect_err("its sync fails");
        machine.sim().faults(|faults| *faults = Faults::default());
        assert!(!machine.delete(&shards[0], contents[1].id).expect("deleted"));
        machine.restart(CrashMode::Process);
        let shards = machine.open();
        assert!(!machine.holds(&shards[0], &contents[1]), "seed {seed}");
    }
}

#[test]
fn what_a_failed_sync_gave_up_is_made_durable_before_it_is_believed() {
    let mut found = 0;
    for seed in 0..60 {
        let mut machine = Machine::new(seed, 1, 1);
        let content = Content::new(seed, 3000);
        let shards = machine.open();
        machine.put(&shards[0], &Content::new(1 << 40, 10)).expect("stored");
        machine.sim().faults(|faults| faults.sync_error = 1.0);
        machine.put(&shards[0], &content).expect_err("its sync fails");
        machine.sim().faults(|faults| *faults = Faults::default());
        machine.restart(CrashMode::Process);
        let shards = machine.open();
        let held = machine.holds(&shards[0], &content);
        found += u32::from(held);
        machine.close(shards);
        machine.restart(CrashMode::Power);
        let shards = machine.open();
        assert_eq!(machine.holds(&shards[0], &content), held, "seed {seed}");
    }
    assert!(found > 0, "the record never survived the failure, so nothing was tested");
}

#[test]
fn segments_that_can_not_be_read_for_once_are_missed_and_not_forgotten() {
    for seed in 0..40 {
        let mut machine = Machine::new(seed, 1, 1);
        let contents = contents(10, 50_000);
        let shards = machine.open();
        for content in &contents {
            machine.put(&shards[0], content).expect("stored");
        }
        machine.delete(&shards[0], contents[3].id).expect("deleted");
        drop(shards);
        machine.restart(CrashMode::Power);
        machine.sim().faults(|faults| {
            faults.read_error = 0.5;
            faults.within = Some(PathBuf::from(machine::ROOT).join("data0/segments"));
        });
        let shards = machine.open();
        assert!(machine.sim().stats().read_errors > 0);
        machine.sim().faults(|faults| *faults = Faults::default());
        // Whatever is known of it, what is acknowledged now counts.
        machine.put(&shards[0], &contents[3]).expect("stored again");
        machine.delete(&shards[0], contents[5].id).expect("deleted");
        machine.sim().run_for(Duration::from_secs(1));
        machine.close(shards);
        machine.restart(CrashMode::Power);
        let shards = machine.open();
        for (number, content) in contents.iter().enumerate() {
            let held = machine.holds(&shards[0], content);
            assert_eq!(held, number != 5, "seed {seed}, blob {number}");
        }
    }
}

#[test]
fn a_blob_stays_readable_while_it_is_read_also_when_it_is_deleted() {
    for seed in 0..20 {
        let mut machine = Machine::new(seed, 2, 1);
        let content = Content::new(seed, 2 << 20);
        let shards = machine.open();
        machine.put(&shards[0], &content).expect("stored");
        let before = probe::count(Event::SegmentRetired);
        let (shard, other, id) = (shards[0].clone(), shards[1].clone(), content.id);
        let bytes = machine.sim().run(async move {
            let blob = shard.open(id).await.expect("sound").expect("stored");
            assert!(other.delete(id).await.expect("deleted"));
            shard.io().sleep(Duration::from_secs(1)).await;
            let mut reader = blob.reader(0..2 << 20);
            let mut bytes = Vec::new();
            while let Some(chunk) = reader.next(Pace::Slow).await.expect("readable to the end") {
                bytes.extend_from_slice(chunk.bytes());
            }
            bytes
        });
        assert!(content.matches(0..2 << 20, &bytes), "seed {seed}");
        machine.sim().run_for(Duration::from_secs(1));
        assert!(probe::count(Event::SegmentRetired) > before, "and then its space comes back");
    }
}

#[test]
fn a_reader_that_met_an_error_passes_nothing_over() {
    let mut machine = Machine::new(3, 1, 1);
    let content = Content::new(3, 400_000);
    let shards = machine.open();
    machine.put(&shards[0], &content).expect("stored");
    machine.close(shards);
    // A new start, so that nothing of it is in memory.
    let shards = machine.open();
    let (shard, id) = (shards[0].clone(), content.id);
    let blob = machine.sim().run(async move { shard.open(id).await }).expect("sound").expect("stored");
    let mut reader = blob.reader(0..400_000);
    machine.sim().faults(|faults| faults.read_error = 1.0);
    let failed = machine.sim().run(reader.next(Pace::Fast));
    assert!(matches!(failed, Err(StoreError::ReadFailed { .. })), "{failed:?}");
    machine.sim().faults(|faults| *faults = Faults::default());
    let again = machine.sim().run(reader.next(Pace::Fast));
    assert!(matches!(again, Err(StoreError::ReadFailed { .. })), "{again:?}");
}

#[test]
fn an_upload_that_lost_a_piece_can_not_be_committed() {
    let mut machine = Machine::new(4, 1, 1);
    let content = Content::new(4, 1 << 20);
    let shards = machine.open();
    machine.put(&shards[0], &Content::new(5, 10)).expect("stored");
    machine.sim().faults(|faults| faults.write_error = 1.0);
    let (shard, faulty) = (shards[0].clone(), &content);
    let (written, upload) = machine.sim().run(async move {
        let mut upload = shard.upload(None).await.expect("memory");
        (upload.write(&faulty.bytes).await, upload)
    });
    assert!(matches!(written, Err(StoreError::WriteFailed { .. })), "{written:?}");
    machine.sim().faults(|faults| *faults = Faults::default());
    let committed = machine.sim().run(upload.commit(CommitOptions::default()));
    assert!(matches!(committed, Err(StoreError::WriteFailed { .. })), "{committed:?}");
}

#[test]
fn restarts_without_end_leak_no_segments() {
    let mut machine = Machine::new(7, 3, 2);
    let mut most = 0;
    for round in 0..40u64 {
        machine.options.cores = 1 + (round % 4) as u16;
        let shards = machine.open();
        let content = Content::new(round, 5000);
        machine.put(&shards[0], &content).expect("stored");
        assert!(machine.delete(&shards[0], content.id).expect("deleted"));
        match round % 3 {
            0 => machine.close(shards),
            1 => machine.sim().run_for(Duration::from_secs(1)),
            _ => {}
        }
        machine.restart(if round % 2 == 0 { CrashMode::Power } else { CrashMode::Process });
        most = most.max(machine.segments().len());
    }
    assert!(most <= 12, "{most} segments for a store without blobs");
}

/// With frames of 64 KiB a page of extents is full after 128 MiB: the smallest blob whose extents
/// are paged.
#[test]
fn a_blob_of_several_extent_pages_is_stored_read_and_given_back() {
    const SIZE: usize = (2 * 2048 + 3) * (64 << 10) + 17;
    let mut machine = Machine::new(1, 2, 1);
    let content = Content::new(1, SIZE);
    let shards = machine.open();
    machine.put(&shards[0], &content).expect("stored");
    assert!(probe::count(Event::ExtentPageWritten) >= 3);
    machine.restart(CrashMode::Power);
    machine.options.cores = 3;
    let shards = machine.open();
    let page = (2048 * 64) << 10;
    for range in [0..10, page - 5..page + 5, 2 * page - 1..2 * page + 100_000, SIZE as u64 - 9..SIZE as u64] {
        let (shard, wanted, id) = (shards[2].clone(), range.clone(), content.id);
        let found = machine.sim().run(async move { read_range(&shard, id, wanted, Pace::Fast).await });
        let found = found.expect("sound").expect("stored");
        assert!(content.matches(range.clone(), &found.bytes), "{range:?}");
    }
    assert!(probe::count(Event::ExtentPageRead) > 0);
    assert!(machine.holds(&shards[1], &content));
    assert!(!machine.put(&shards[1], &Content::new(1, SIZE)).expect("stored already").created);
    let full = machine.segments().len();
    assert!(machine.delete(&shards[0], content.id).expect("deleted"));
    machine.sim().run_for(Duration::from_secs(5));
    machine.close(shards);
    let left = machine.segments().len();
    assert!(left <= 6, "{left} segments of {full} are left");
}

#[test]
fn a_full_disk_deletes_also_after_a_restart() {
    for seed in 0..10 {
        let mut machine = Machine::new(seed, 2, 1);
        machine.options.segment_size = Some(1 << 20);
        let contents = contents(4, 3_000);
        let shards = machine.open();
        for content in &contents {
            machine.put(&shards[0], content).expect("stored");
        }
        machine.restart(CrashMode::Process);
        let shards = machine.open();
        // Room for no segment of the usual size, and none is open.
        let io = machine.sim().io(0);
        let dir = machine.options.dirs[0].clone();
        let space = machine.sim().run(async move { io.space(&dir).await }).expect("there is a disk");
        machine.sim().set_capacity(space.total - space.available + (300 << 10));
        let full = machine.put(&shards[0], &Content::new(99, 3_000));
        assert!(matches!(full, Err(StoreError::Full)), "seed {seed}: {full:?}");
        for content in &contents {
            assert!(machine.delete(&shards[0], content.id).expect("deleted"), "seed {seed}");
        }
        machine.restart(CrashMode::Power);
        let shards = machine.open();
        for content in &contents {
            assert!(!machine.holds(&shards[0], content), "seed {seed}");
        }
    }
}
