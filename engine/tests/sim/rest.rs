//! Left alone, everything comes to rest: what failed is put right, its space comes back, and
//! nothing is tried for ever.

use std::path::PathBuf;
use std::time::Duration;

use crate::support::anatomy::{self, Meaning, Part};
use crate::support::content::Content;
use crate::support::machine::{self, Machine, Shards, put};
use nabu_engine::io::Clock;
use nabu_engine::log::header::DATA_START;
use nabu_engine::log::record::Kind;
use nabu_engine::probe::{self, Event};
use nabu_engine::sim::{CrashMode, Faults, SimIo};
use nabu_engine::store::{CommitOptions, Shard, StoreError};
use nabu_engine::sync::race;

/// Long enough for all that goes on in the background to come to its end, and for what is tried
/// again to be tried.
const A_MINUTE: Duration = Duration::from_secs(60);

/// A machine with memory for all that goes on in the background.
fn new_machine(seed: u64, cores: u16) -> Machine {
    let mut machine = Machine::new(seed, cores, 1);
    machine.options.memory_bytes = 64 << 20;
    machine
}

fn fail_syncs(machine: &mut Machine, within: &str) {
    let within = Some(PathBuf::from(machine::ROOT).join(within));
    machine.sim().faults(|faults| *faults = Faults { sync_error: 1.0, within, ..Faults::default() });
}

/// Puts and deletes one small blob after another: what is left of them is tombstones.
fn churn(machine: &mut Machine, shard: &Shard<SimIo>, from: u64, count: u64) {
    let shard = shard.clone();
    machine.sim().run(async move {
        for number in from..from + count {
            let content = Content::new(1 << 50 | number, 500);
            put(shard.clone(), &content).await.expect("stored");
            assert!(shard.delete(content.id).await.expect("deleted"));
        }
    });
}

/// Leaves the store alone for a minute, and demands that nothing happens in the next.
fn expect_rest(machine: &mut Machine, shards: &Shards) {
    machine.sim().run_for(A_MINUTE);
    let (before, files) = (machine.status(shards), machine.segments());
    machine.sim().run_for(A_MINUTE);
    let (after, files_after) = (machine.status(shards), machine.segments());
    let moved = after.compaction.moved_bytes - before.compaction.moved_bytes;
    assert_eq!(moved, 0, "bytes moved in the second minute");
    assert_eq!(files, files_after, "segments after one minute and after two");
    assert_eq!(after.next_segment, before.next_segment, "numbers used up in the second minute");
}

/// A store that was killed and started again, in which most of what was stored is deleted. With
/// what is left: small blobs, and one in pieces, the last.
fn restarted(seed: u64) -> (Machine, Shards, Vec<Content>) {
    let mut machine = new_machine(seed, 1);
    let shards = machine.open_compacting();
    let mut kept = Vec::new();
    for number in 0..60 {
        let content = Content::new(seed << 32 | number, 30_000);
        machine.put(&shards[0], &content).expect("stored");
        if number % 10 == 0 {
            kept.push(content);
        } else {
            machine.delete(&shards[0], content.id).expect("deleted");
        }
    }
    let large = Content::new(seed << 32 | 1 << 20, 600_000);
    machine.put(&shards[0], &large).expect("stored");
    kept.push(large);
    drop(shards);
    machine.restart(CrashMode::Process);
    let shards = machine.open_compacting();
    (machine, shards, kept)
}

/// The space of a blob in pieces that was deleted has come back, and the small ones are there.
fn expect_only(machine: &mut Machine, shards: &Shards, small: &[Content]) {
    expect_rest(machine, shards);
    let segments = machine.segments().len();
    assert!(segments <= 5, "{segments} segments are left");
    for content in small {
        assert!(machine.holds(&shards[0], content));
    }
}

/// For some seconds nothing can be read.
fn refuse_reads(machine: &mut Machine) {
    machine.sim().faults(|faults| faults.read_error = 1.0);
    machine.sim().run_for(Duration::from_secs(3));
    machine.heal();
}

#[test]
fn pieces_that_could_not_be_read_after_a_start_are_counted_when_they_can_be() {
    for seed in 0..5 {
        let left = [false, true].map(|is_refused| {
            let (mut machine, shards, kept) = restarted(seed);
            let before = probe::count_here(Event::CountedLater);
            if is_refused {
                refuse_reads(&mut machine);
            }
            expect_rest(&mut machine, &shards);
            assert!(
                !is_refused || probe::count_here(Event::CountedLater) > before,
                "seed {seed}: all was counted at once"
            );
            for content in &kept {
                assert!(machine.holds(&shards[0], content), "seed {seed}");
            }
            machine.segments().len()
        });
        assert!(left[1] <= left[0] + 1, "seed {seed}: {left:?} segments are left, without a fault and with it");
    }
}

#[test]
fn a_blob_of_which_the_pieces_could_not_be_counted_may_be_deleted_and_then_space_comes_back() {
    for seed in 0..5 {
        let (mut machine, shards, kept) = restarted(seed);
        machine.sim().faults(|faults| faults.read_error = 1.0);
        machine.sim().run_for(Duration::from_secs(1));
        let (large, small) = kept.split_last().expect("there are some");
        // Before it is counted, and with its list unread: nobody has to read it again.
        assert!(machine.delete(&shards[0], large.id).expect("deleted"));
        machine.sim().run_for(Duration::from_secs(5));
        machine.heal();
        expect_only(&mut machine, &shards, small);
        assert!(!machine.holds(&shards[0], large), "seed {seed}");
    }
}

#[test]
fn pieces_of_a_deleted_blob_that_could_not_be_read_give_their_space_back_when_they_can_be() {
    for seed in 0..5 {
        let (mut machine, shards, kept) = restarted(seed);
        machine.sim().run_for(A_MINUTE);
        let (large, small) = kept.split_last().expect("there are some");
        machine.sim().faults(|faults| faults.read_error = 1.0);
        assert!(machine.delete(&shards[0], large.id).expect("deleted"));
        machine.sim().run_for(Duration::from_secs(3));
        machine.heal();
        expect_only(&mut machine, &shards, small);
    }
}

#[test]
fn what_was_not_counted_of_a_damaged_list_is_not_taken_off_when_it_turns_out_to_be_sound() {
    for seed in 0..3 {
        let mut machine = new_machine(seed, 1);
        let shards = machine.open_compacting();
        let kept = Content::new(seed << 32, 300_000);
        machine.put(&shards[0], &kept).expect("stored");
        let before = machine.status(&shards).used_bytes;
        let large = Content::new(seed << 32 | 1, 600_000);
        machine.put(&shards[0], &large).expect("stored");
        machine.close(shards);
        machine.restart(CrashMode::Process);
        let (path, at) = lose_list(&mut machine, &large);
        let shards = machine.open_compacting();
        machine.sim().run_for(A_MINUTE);
        // The record of 600,000 bytes in pieces, and no piece.
        let counted = machine.status(&shards).used_bytes;
        assert!((before + 1..before + 2_000).contains(&counted), "seed {seed}: {counted} after {before}");
        machine.flip(&path, at);
        assert!(machine.delete(&shards[0], large.id).expect("deleted"));
        machine.sim().run_for(A_MINUTE);
        assert_eq!(machine.status(&shards).used_bytes, before, "seed {seed}");
        assert!(machine.holds(&shards[0], &kept), "seed {seed}");
    }
}

#[test]
fn what_was_not_counted_of_a_damaged_list_is_stored_anew_when_it_turns_out_to_be_sound() {
    for seed in 0..3 {
        let mut machine = new_machine(seed, 1);
        let shards = machine.open_compacting();
        // What lies beside keeps its segment from going at once.
        let kept = Content::new(seed << 32, 60_000);
        machine.put(&shards[0], &kept).expect("stored");
        let large = Content::new(seed << 32 | 1, 100_000);
        machine.put(&shards[0], &large).expect("stored");
        let used = machine.status(&shards).used_bytes;
        machine.close(shards);
        machine.restart(CrashMode::Process);
        let (path, at) = lose_list(&mut machine, &large);
        let shards = machine.open_compacting();
        machine.sim().run_for(Duration::from_secs(2));
        assert!(machine.status(&shards).used_bytes + 100_000 <= used, "seed {seed}: its pieces are counted");
        machine.flip(&path, at);
        assert!(machine.put(&shards[0], &large).expect("stored").created, "seed {seed}");
        expect_rest(&mut machine, &shards);
        assert_eq!(machine.status(&shards).used_bytes, used, "seed {seed}");
        assert!(machine.holds(&shards[0], &kept), "seed {seed}");
        assert!(machine.holds(&shards[0], &large), "seed {seed}");
    }
}

/// Flips a byte in the list of pieces of a blob on the disk. Returns where.
fn lose_list(machine: &mut Machine, large: &Content) -> (PathBuf, u64) {
    let is_list = |part: &Part| part.meaning == Meaning::Payload(Kind::Blob) && part.id() == Some(large.id);
    // The last is the one that counts: the segment of one before may not be retired yet.
    let list = anatomy::parts(machine.sim()).into_iter().rfind(is_list).expect("its record lists its pieces");
    machine.flip(&list.path, list.range.start);
    (list.path, list.range.start)
}

/// The segments know what of them is whose, so nobody needs the list.
#[test]
fn pieces_whose_list_is_lost_give_their_space_back() {
    for seed in 0..3 {
        let mut machine = new_machine(seed, 1);
        let shards = machine.open_compacting();
        let large = Content::new(seed << 32 | 1, 600_000);
        machine.put(&shards[0], &large).expect("stored");
        machine.close(shards);
        machine.restart(CrashMode::Process);
        let shards = machine.open_compacting();
        machine.sim().run_for(A_MINUTE);
        let (used, old) = (machine.status(&shards).used_bytes, machine.segments());
        lose_list(&mut machine, &large);
        assert!(machine.put(&shards[0], &large).expect("stored again").created, "seed {seed}");
        expect_rest(&mut machine, &shards);
        assert_eq!(machine.status(&shards).used_bytes, used, "seed {seed}");
        assert!(machine.holds(&shards[0], &large), "seed {seed}");
        let left: Vec<_> = machine.segments().into_iter().filter(|path| old.contains(path)).collect();
        assert!(left.is_empty(), "seed {seed}: {left:?} hold nothing that is in use");
    }
}

/// The same when compaction has moved some of them.
#[test]
fn pieces_that_were_moved_give_their_space_back_without_a_list() {
    for seed in 0..3 {
        let mut machine = new_machine(seed, 1);
        let shards = machine.open_compacting();
        let before = probe::count_here(Event::PiecesMoved);
        let larges: Vec<_> = (0..8).map(|number| Content::new(seed << 32 | 1 << 20 | number, 300_000)).collect();
        for (number, large) in larges.iter().enumerate() {
            for other in 0..20 {
                let small = Content::new(seed << 32 | (number as u64 * 20 + other), 30_000);
                machine.put(&shards[0], &small).expect("stored");
                if other == 10 {
                    machine.put(&shards[0], large).expect("stored");
                }
                machine.delete(&shards[0], small.id).expect("deleted");
            }
        }
        expect_rest(&mut machine, &shards);
        assert!(probe::count_here(Event::PiecesMoved) > before, "seed {seed}: the pieces lie where they lay");
        // More than the cache can hold beside the list, and asked for more often.
        let others: Vec<_> = (0..120).map(|number| Content::new(1 << 50 | number, 500_000)).collect();
        for other in &others {
            machine.put(&shards[0], other).expect("stored");
        }
        for other in others.iter().cycle().take(2 * others.len()) {
            assert!(machine.holds(&shards[0], other), "seed {seed}");
        }
        expect_rest(&mut machine, &shards);
        let used = machine.status(&shards).used_bytes;
        let before = probe::count_here(Event::PiecesOfNoList);
        lose_list(&mut machine, &larges[0]);
        assert!(machine.delete(&shards[0], larges[0].id).expect("deleted"), "seed {seed}");
        expect_rest(&mut machine, &shards);
        assert!(probe::count_here(Event::PiecesOfNoList) > before, "seed {seed}: the list was read");
        let freed = used - machine.status(&shards).used_bytes;
        assert!((300_000..325_000).contains(&freed), "seed {seed}: {freed} bytes were freed");
    }
}

#[test]
fn an_upload_that_is_given_up_while_it_waits_for_a_write_leaves_nothing_in_use() {
    for seed in 0..40 {
        let mut machine = new_machine(seed, 1);
        let shards = machine.open_compacting();
        let used = machine.status(&shards).used_bytes;
        machine.sim().faults(|faults| faults.slow = 1.0);
        let shard = shards[0].clone();
        let patience = Duration::from_millis(1 + seed * 3);
        let io = shard.io().clone();
        machine.sim().run(async move {
            let mut upload = shard.upload(None).await.expect("there is memory");
            let writing = async {
                loop {
                    upload.write(&[7; 100_000]).await.expect("written");
                }
            };
            race(writing, io.sleep(patience)).await;
        });
        machine.heal();
        expect_rest(&mut machine, &shards);
        assert_eq!(machine.status(&shards).used_bytes, used, "seed {seed}");
    }
}

/// How many segments are left when all blobs of one are deleted under a fault that ends soon.
fn left_after_deletes(seed: u64, fault: impl FnOnce(&mut Faults)) -> usize {
    let mut machine = new_machine(seed, 1);
    let shards = machine.open_compacting();
    let contents: Vec<Content> = (0..40).map(|number| Content::new(seed << 32 | number, 30_000)).collect();
    for content in &contents {
        machine.put(&shards[0], content).expect("stored");
    }
    drop(shards);
    machine.restart(CrashMode::Process);
    let shards = machine.open_compacting();
    machine.sim().run_for(A_MINUTE);
    // There is one that takes the tombstones.
    machine.put(&shards[0], &Content::new(seed << 32 | 1 << 20, 500)).expect("stored");
    machine.sim().faults(fault);
    // No more than that: after three failures in a row the directory would be taken out.
    for content in &contents[..10] {
        machine.delete(&shards[0], content.id).expect("deleted");
    }
    machine.sim().run_for(Duration::from_secs(3));
    machine.heal();
    expect_rest(&mut machine, &shards);
    for content in &contents[10..] {
        assert!(machine.holds(&shards[0], content), "seed {seed}");
    }
    machine.segments().len()
}

#[test]
fn a_dead_segment_that_could_not_be_read_or_renamed_durably_goes_when_it_can() {
    for seed in 0..3 {
        let healthy = left_after_deletes(seed, |_| {});
        assert_eq!(left_after_deletes(seed, |faults| faults.read_error = 1.0), healthy, "seed {seed}, reads fail");
        assert_eq!(left_after_deletes(seed, |faults| faults.dir_sync_error = 1.0), healthy, "seed {seed}, syncs fail");
    }
}

#[test]
fn uploads_that_a_full_disk_refuses_use_up_no_numbers_of_segments() {
    for cores in [1, 3] {
        let mut machine = new_machine(1, cores);
        machine.sim().set_capacity(16 << 20);
        let shards = machine.open_compacting();
        let mut number = 0;
        let mut next = |machine: &mut Machine| {
            number += 1;
            machine.put(&shards[number as usize % shards.len()], &Content::new(number, 70_000))
        };
        let mut refused = 0;
        while refused < 10 {
            match next(&mut machine) {
                Ok(_) => {}
                Err(StoreError::Full) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        let before = machine.status(&shards).next_segment;
        for _ in 0..1_000 {
            let refusal = next(&mut machine);
            assert!(matches!(refusal, Err(StoreError::Full)), "{refusal:?}");
        }
        let used = machine.status(&shards).next_segment - before;
        assert!(used <= 4, "a thousand refusals used up {used} numbers on {cores} cores");
    }
}

#[test]
fn after_a_failed_sync_its_segment_is_emptied_and_goes_and_compaction_comes_to_rest() {
    for seed in 0..2 {
        let mut machine = new_machine(seed, 1);
        let shards = machine.open_compacting();
        // Some that stay, in the segment that fails and before it.
        let mut kept: Vec<Content> = (0..100).map(|number| Content::new(seed << 32 | number, 30_000)).collect();
        for content in &kept {
            machine.put(&shards[0], content).expect("stored");
        }
        // The segment that fails holds a deletion, too.
        let gone = kept.pop().expect("one of many");
        assert!(machine.delete(&shards[0], gone.id).expect("deleted"));
        fail_syncs(&mut machine, "data0/segments");
        let late = Content::new(seed << 32 | 1 << 20, 3_000);
        machine.put(&shards[0], &late).expect_err("its sync fails");
        machine.heal();
        churn(&mut machine, &shards[0], seed << 32, 8_000);
        expect_rest(&mut machine, &shards);
        let status = machine.status(&shards);
        assert_eq!(status.segments.fenced, 0, "seed {seed}: the segment that failed is there yet");
        for content in &kept {
            assert!(machine.holds(&shards[0], content), "seed {seed}");
        }
        // What was in doubt is settled: nothing is stored, and whoever stores it is told so once.
        assert!(!machine.holds(&shards[0], &late));
        assert!(machine.put(&shards[0], &late).expect("stored").created);
        assert!(!machine.put(&shards[0], &late).expect("stored").created);
        machine.restart(CrashMode::Power);
        let shards = machine.open_compacting();
        for content in kept.iter().chain([&late]) {
            assert!(machine.holds(&shards[0], content), "seed {seed}");
        }
        assert!(!machine.holds(&shards[0], &gone), "seed {seed}: a deletion was lost with the segment that failed");
    }
}

#[test]
fn what_a_failed_delete_left_in_doubt_is_settled_when_its_segment_is_gone() {
    for seed in 0..40 {
        let mut machine = new_machine(seed, 2);
        let shards = machine.open_compacting();
        let content = Content::new(seed, 3_000);
        let shard = &shards[seed as usize % 2];
        machine.put(shard, &content).expect("stored");
        // Both cores try to write the deletion, each to the segment that it has open: one failure
        // more, and the directory were taken out.
        machine.put(&shards[1 - seed as usize % 2], &Content::new(1 << 40 | seed, 3_000)).expect("stored");
        machine.sim().run_for(Duration::from_secs(1));
        fail_syncs(&mut machine, "data0/segments");
        machine.delete(shard, content.id).expect_err("its sync fails");
        machine.heal();
        expect_rest(&mut machine, &shards);
        assert_eq!(machine.status(&shards).segments.fenced, 0, "seed {seed}");
        // Not in doubt any more, so it is not written again; and no start may find the deletion.
        assert!(!machine.put(shard, &content).expect("stored").created, "seed {seed}");
        machine.restart(if seed % 4 < 2 { CrashMode::Power } else { CrashMode::Process });
        let shards = machine.open_compacting();
        assert!(machine.holds(&shards[0], &content), "seed {seed}");
    }
}

#[test]
fn a_large_blob_whose_record_was_refused_leaves_nothing_behind() {
    let mut emptied = 0;
    for seed in 0..20 {
        let mut machine = new_machine(seed, 1);
        let shards = machine.open_compacting();
        let kept = Content::new(seed << 32, 30_000);
        machine.put(&shards[0], &kept).expect("stored");
        // Over several segments; some tries fail with the first pieces, some with the record.
        let large = Content::new(seed << 32 | 1, 1 << 20);
        let shard = shards[0].clone();
        let bytes = large.bytes.clone();
        let upload = machine.sim().run(async move {
            let mut upload = shard.upload(None).await?;
            upload.write(&bytes).await?;
            Ok::<_, StoreError>(upload)
        });
        fail_syncs(&mut machine, "data0/segments");
        machine.sim().run(upload.expect("written").commit(CommitOptions::default())).expect_err("a sync fails");
        machine.heal();
        expect_rest(&mut machine, &shards);
        let status = machine.status(&shards);
        // After three failures in a row the directory is taken out, and what is dead in it stays.
        if status.failed_dirs == 0 {
            emptied += 1;
            assert_eq!(status.segments.fenced, 0, "seed {seed}");
        }
        assert!(status.used_bytes < 40_000, "seed {seed}: {} bytes count as live", status.used_bytes);
        assert!(machine.holds(&shards[0], &kept), "seed {seed}");
    }
    assert!(emptied > 0, "the directory was always taken out");
}

/// Overwrites bytes of the first record of the segment that was not sealed, and returns its path.
fn damage_the_open_one(machine: &mut Machine, offset: u64) -> PathBuf {
    let files = machine.segments();
    let path = files.into_iter().max_by_key(|path| {
        let bytes = machine.sim().read_file(path).expect("listed");
        bytes.iter().filter(|byte| **byte != 0).count()
    });
    let path = path.expect("there are some");
    machine.sim().overwrite(&path, DATA_START + offset, &[0x5a; 64]).expect("there");
    path
}

/// In the head of a record, and in its payload.
const HEAD: u64 = 50;
const PAYLOAD: u64 = 1_000;

#[test]
fn a_segment_that_a_start_finds_damaged_is_emptied_and_goes() {
    for seed in 0..2 {
        let mut machine = new_machine(seed, 1);
        let shards = machine.open_compacting();
        let contents: Vec<Content> = (0..5).map(|number| Content::new(seed << 32 | number, 3_000)).collect();
        for content in &contents {
            machine.put(&shards[0], content).expect("stored");
        }
        drop(shards);
        machine.restart(CrashMode::Process);
        let damaged = damage_the_open_one(&mut machine, HEAD);
        let before = probe::count(Event::DamagedSegmentLeft);
        let shards = machine.open_compacting();
        assert_eq!(machine.status(&shards).damage_count, 1, "seed {seed}");
        churn(&mut machine, &shards[0], seed << 32, 8_000);
        expect_rest(&mut machine, &shards);
        assert!(probe::count(Event::DamagedSegmentLeft) > before);
        assert!(!machine.segments().contains(&damaged), "seed {seed}");
        for content in &contents[1..] {
            assert!(machine.holds(&shards[0], content), "seed {seed}");
        }
        machine.close(shards);
        machine.restart(CrashMode::Power);
        let shards = machine.open_compacting();
        assert_eq!(machine.status(&shards).damage_count, 0, "seed {seed}: the damage is gone with the segment");
        for content in &contents[1..] {
            assert!(machine.holds(&shards[0], content), "seed {seed}");
        }
    }
}

#[test]
fn a_damaged_segment_without_anything_live_pins_no_tombstones_over_starts() {
    let mut machine = new_machine(1, 1);
    let shards = machine.open_compacting();
    let contents: Vec<Content> = (0..5).map(|number| Content::new(number, 3_000)).collect();
    for content in &contents {
        machine.put(&shards[0], content).expect("stored");
    }
    drop(shards);
    machine.restart(CrashMode::Process);
    damage_the_open_one(&mut machine, HEAD);
    let mut files = Vec::new();
    for round in 0..4 {
        let shards = machine.open_compacting();
        for content in &contents[1..] {
            machine.delete(&shards[0], content.id).expect("deleted");
        }
        churn(&mut machine, &shards[0], round << 32, 3_000);
        expect_rest(&mut machine, &shards);
        files.push(machine.segments().len());
        machine.close(shards);
        machine.restart(CrashMode::Power);
    }
    assert!(files[3] <= files[0], "segments after each round: {files:?}");
}

#[test]
fn a_blob_that_can_not_be_moved_makes_no_others_move_and_its_segment_goes_when_it_is_deleted() {
    let mut machine = new_machine(3, 1);
    let shards = machine.open_compacting();
    let contents: Vec<Content> = (0..60).map(|number| Content::new(number, 3_000)).collect();
    for content in &contents {
        machine.put(&shards[0], content).expect("stored");
    }
    drop(shards);
    machine.restart(CrashMode::Process);
    let damaged = damage_the_open_one(&mut machine, PAYLOAD);
    let shards = machine.open_compacting();
    churn(&mut machine, &shards[0], 0, 9_000);
    expect_rest(&mut machine, &shards);
    // It was tried a few times, and then left alone: nothing goes on for hours.
    machine.sim().run_for(A_MINUTE * 60);
    expect_rest(&mut machine, &shards);
    assert!(machine.segments().contains(&damaged), "what is damaged is kept as long as it is stored");
    machine.delete(&shards[0], contents[0].id).expect("deleted");
    expect_rest(&mut machine, &shards);
    assert!(!machine.segments().contains(&damaged));
    for content in &contents[1..] {
        assert!(machine.holds(&shards[0], content));
    }
}

/// A life in which a start could not read one of the segments.
fn incomplete_life(machine: &mut Machine) -> Shards {
    let shards = machine.open_compacting();
    machine.put(&shards[0], &Content::new(1 << 40, 3_000)).expect("stored");
    drop(shards);
    machine.restart(CrashMode::Power);
    let within = Some(PathBuf::from(machine::ROOT).join("data0/segments"));
    machine.sim().faults(|faults| *faults = Faults { read_error: 1.0, within, ..Faults::default() });
    let shards = machine.open_compacting();
    machine.heal();
    assert!(machine.status(&shards).is_incomplete);
    shards
}

#[test]
fn after_a_start_that_could_not_read_everything_the_same_content_is_written_once() {
    let mut machine = new_machine(1, 2);
    let shards = incomplete_life(&mut machine);
    let content = Content::new(7, 3_000);
    let created: Vec<bool> = (0..3).map(|_| machine.put(&shards[1], &content).expect("stored").created).collect();
    assert_eq!(created, [true, false, false]);
    machine.restart(CrashMode::Power);
    let shards = machine.open_compacting();
    assert!(machine.holds(&shards[0], &content));
}

#[test]
fn after_a_start_that_could_not_read_everything_space_of_that_life_comes_back() {
    let mut machine = new_machine(2, 1);
    let shards = incomplete_life(&mut machine);
    let kept = Content::new(7, 3_000);
    machine.put(&shards[0], &kept).expect("stored");
    for number in 0..400 {
        let content = Content::new(1 << 20 | number, 60_000);
        machine.put(&shards[0], &content).expect("stored");
        assert!(machine.delete(&shards[0], content.id).expect("deleted"));
    }
    expect_rest(&mut machine, &shards);
    let files = machine.segments().len();
    assert!(files < 20, "{files} segments of 256 KiB for what is deleted of 24 MB");
    machine.restart(CrashMode::Power);
    let shards = machine.open_compacting();
    assert!(machine.holds(&shards[0], &kept));
    assert!(machine.holds(&shards[0], &Content::new(1 << 40, 3_000)), "what could not be read is back");
    for number in 0..400 {
        assert!(!machine.holds(&shards[0], &Content::new(1 << 20 | number, 60_000)), "deleted blob {number} is back");
    }
}

#[test]
fn tombstones_that_could_not_all_be_carried_do_not_multiply() {
    let (mut stores, mut records) = (0, 0);
    for seed in 0..40 {
        let mut machine = new_machine(seed, 1);
        let shards = machine.open_compacting();
        // What keeps tombstones needed: a segment before them.
        let kept = Content::new(seed << 32, 30_000);
        machine.put(&shards[0], &kept).expect("stored");
        churn(&mut machine, &shards[0], seed << 32, 1_200);
        let before = machine.status(&shards).log.records;
        machine.sim().faults(|faults| *faults = Faults { sync_error: 0.04, ..Faults::default() });
        let shard = shards[0].clone();
        machine.sim().run(async move {
            for number in 0..1_500 {
                let content = Content::new(1 << 40 | number, 500);
                if put(shard.clone(), &content).await.is_ok() {
                    let _ = shard.delete(content.id).await;
                }
            }
        });
        machine.heal();
        // What failed meanwhile is tried again after a minute.
        machine.sim().run_for(A_MINUTE * 2);
        expect_rest(&mut machine, &shards);
        let status = machine.status(&shards);
        // After three failures in a row the directory is taken out.
        if status.failed_dirs == 0 {
            stores += 1;
            records += status.log.records - before;
        }
    }
    // Some 25,000 on average; 44,000 where those that were carried are carried again.
    assert!(stores > 10, "the directory was nearly always taken out");
    assert!(
        records / stores < 33_000,
        "{records} records in {stores} stores for 1,500 deletions each and 1,200 before"
    );
}
