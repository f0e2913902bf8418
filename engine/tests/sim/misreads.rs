//! One bad block, and one bad read, decide over nothing more than themselves.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::anatomy;
use crate::support::content::Content;
use crate::support::machine::{self, Machine, Shards};
use nabu_engine::io::BLOCK_SIZE;
use nabu_engine::log::codec::crc32c;
use nabu_engine::log::footer::{ENTRY_SIZE, Trailer};
use nabu_engine::log::header::DATA_START;
use nabu_engine::log::record::Kind;
use nabu_engine::probe::{self, Event};
use nabu_engine::sim::{CrashMode, Faults, Random};
use nabu_engine::store::StoreStatus;

fn new_machine(seed: u64) -> Machine {
    let mut machine = Machine::new(seed, 1 + (seed % 2) as u16, 1);
    machine.options.memory_bytes = 8 << 20;
    machine
}

fn put(machine: &mut Machine, shards: &Shards, content: &Content) {
    machine.put(&shards[0], content).expect("stored");
}

fn delete(machine: &mut Machine, shards: &Shards, content: &Content) {
    assert!(machine.delete(&shards[0], content.id).expect("deleted"), "it was there");
}

/// Time for the background, then a clean stop.
fn rest_and_close(machine: &mut Machine, shards: Shards) {
    machine.sim().run_for(Duration::from_secs(2));
    machine.close(shards);
}

/// So that the headers of the segments that it covers are read.
fn break_checkpoint(machine: &mut Machine) {
    let checkpoint = machine.options.dirs[0].join("checkpoint");
    machine.flip(&checkpoint, 20);
}

fn contents(count: u64, size: usize) -> Vec<Content> {
    (0..count).map(|number| Content::new(number + 1, size)).collect()
}

/// A store with blobs in one segment, whose deletes lie in a later one; closed, or killed.
fn filled(seed: u64, is_closed: bool) -> (Machine, Vec<Content>, PathBuf) {
    let mut machine = new_machine(seed);
    let contents = contents(6, 3_000);
    let shards = machine.open();
    contents.iter().for_each(|content| put(&mut machine, &shards, content));
    rest_and_close(&mut machine, shards);
    machine.restart(CrashMode::Power);
    let path = machine::segment_files(machine.sim()).pop().expect("one segment");
    let shards = machine.open();
    delete(&mut machine, &shards, &contents[0]);
    match is_closed {
        true => rest_and_close(&mut machine, shards),
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
    assert!(!machine.holds(&shards[0], &contents[0]), "{what}: it was deleted");
    for content in &contents[1..] {
        assert!(status.is_incomplete || machine.holds(&shards[0], content), "{what}: a blob is missing");
    }
    if !status.is_incomplete {
        delete(&mut machine, &shards, &contents[1]);
    }
    let compactor = machine.options.cores;
    let io = machine.sim().io(compactor);
    machine::start_compaction(&shards, io);
    rest_and_close(&mut machine, shards);
    machine.restart(CrashMode::Power);
    if machine::segment_files(machine.sim()).iter().any(|file| file == path) {
        flips.iter().for_each(|at| machine.flip(path, *at));
    } else {
        assert!(!status.is_incomplete, "{what}: the segment went, though it could not be read");
    }
    for _ in 0..2 {
        let shards = machine.open();
        assert!(!machine.status(&shards).is_incomplete, "{what}: everything can be read again");
        assert!(!machine.holds(&shards[0], &contents[0]), "{what}: a deleted blob is back");
        assert_eq!(machine.holds(&shards[0], &contents[1]), status.is_incomplete, "{what}");
        for content in &contents[2..] {
            assert!(machine.holds(&shards[0], content), "{what}: a blob was lost");
        }
        rest_and_close(&mut machine, shards);
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
                break_checkpoint(&mut machine);
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
            break_checkpoint(&mut machine);
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
        let mut machine = new_machine(seed);
        let contents: Vec<Content> =
            (0..12).map(|number| Content::new(seed * 100 + number, 1 + random.index(40_000))).collect();
        let shards = machine.open();
        contents.iter().for_each(|content| put(&mut machine, &shards, content));
        let deleted = random.index(contents.len());
        contents[..deleted].iter().for_each(|content| delete(&mut machine, &shards, content));
        if random.chance(0.5) {
            rest_and_close(&mut machine, shards);
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
                assert_eq!(machine.holds(&shards[0], content), number >= deleted, "seed {seed}: blob {number}");
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
    break_checkpoint(&mut machine);
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
