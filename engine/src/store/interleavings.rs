//! What cores remember of one another, in every interleaving (see [`crate::atomics`]).

use std::sync::Arc;

use loom::thread;

use super::background::Background;
use super::recent::{Changes, Recent};
use super::uncounted::Uncounted;
use super::worker::{Bell, Worker};
use crate::atomics::{AtomicBool, AtomicU64, Mutex, Ordering, block_on, explore};
use crate::index::Location;
use crate::log::header::SegmentHeader;
use crate::log::segment::{Segment, State};
use crate::mutant::{Mutant, by_test::plant, is_planted};
use crate::types::{BlobId, SegmentId, Sequence};

const ID: BlobId = BlobId([7; 16]);
const PLACE: Location = Location { segment: SegmentId(1), offset_units: 64, length_units: 2, sequence: Sequence(1) };

fn no_location_outlives_its_blob() {
    explore(|| {
        // The owner does one thing at a time, and whoever has its answer knows what it did before:
        // to the others it is like a lock.
        let index = Arc::new(Mutex::new(Some(PLACE)));
        let changes = Arc::new(Changes::default());
        let is_acknowledged = Arc::new(AtomicBool::new(false));
        let deleting = thread::spawn({
            let (index, changes, is_acknowledged) = (index.clone(), changes.clone(), is_acknowledged.clone());
            move || {
                // As `Shard::enter` does.
                let mut index = index.lock().expect("no panic under the lock");
                *index = None;
                if !is_planted(Mutant::RecentStays) {
                    changes.add();
                }
                drop(index);
                is_acknowledged.store(true, Ordering::Release);
            }
        });
        let recent = Recent::default();
        let find = || {
            let ask_owner = async || Some(*index.lock().expect("no panic under the lock"));
            block_on(recent.find(ID, &changes, ask_owner)).expect("the owner answers")
        };
        for _ in 0..2 {
            let was_deleted = is_acknowledged.load(Ordering::Acquire);
            let found = find();
            assert!(!was_deleted || found.is_none(), "a deleted blob is found");
        }
        deleting.join().unwrap();
    });
}

#[test]
fn a_remembered_location_is_not_used_after_the_deletion_of_its_blob_was_acknowledged() {
    no_location_outlives_its_blob();
}

#[test]
#[should_panic(expected = "a deleted blob is found")]
fn a_deletion_that_is_not_counted_is_found_out() {
    plant(Mutant::RecentStays);
    no_location_outlives_its_blob();
}

#[test]
#[should_panic(expected = "a deleted blob is found")]
fn a_location_that_is_remembered_by_a_later_count_is_found_out() {
    plant(Mutant::RaceRememberLate);
    no_location_outlives_its_blob();
}

fn a_worker_hears_what_is_rung() {
    explore(|| {
        let bell = Arc::new(Bell::default());
        let work = Arc::new(AtomicU64::new(0));
        let others: Vec<_> = (0..2)
            .map(|_| {
                let (bell, work) = (bell.clone(), work.clone());
                thread::spawn(move || {
                    work.fetch_add(1, Ordering::Relaxed);
                    bell.ring();
                })
            })
            .collect();
        // Ends when all work was seen: a ring may stand for two.
        block_on(async {
            while work.load(Ordering::Relaxed) < 2 {
                bell.heard().await;
            }
        });
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

#[test]
fn a_worker_hears_of_all_work_that_it_was_rung_for() {
    a_worker_hears_what_is_rung();
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_worker_that_listens_before_it_can_be_woken_is_found_waiting() {
    plant(Mutant::RaceHearFirst);
    a_worker_hears_what_is_rung();
}

#[test]
fn a_worker_hears_that_the_store_is_being_closed() {
    explore(|| {
        let background = Arc::new(Background::default());
        let others = [
            thread::spawn({
                let background = background.clone();
                move || background.stop()
            }),
            thread::spawn({
                let background = background.clone();
                move || background.space_changed()
            }),
        ];
        block_on(background.stopped(Worker::Compaction));
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

fn nothing_goes_before_it_is_counted() {
    explore(|| {
        let header =
            SegmentHeader { segment: SegmentId(1), size: 1 << 20, store: [7; 16], nonce: 9, created_at_ns: 11 };
        let segment = Arc::new(Segment::new(&header, 0, Some(()), State::Sealed, header.size));
        let uncounted = Arc::new(Uncounted::new(2));
        let cores = [0, 1].map(|core| {
            let (segment, uncounted) = (segment.clone(), uncounted.clone());
            thread::spawn(move || {
                if core == 0 {
                    segment.add_live(64);
                }
                uncounted.remove()
            })
        });
        // As the reclaimer does with every segment from before the start.
        if uncounted.is_none() {
            assert!(!segment.is_dead(), "a segment goes before what is live in it is counted");
        }
        let last = cores.into_iter().map(|core| core.join().unwrap()).filter(|is_last| *is_last);
        assert_eq!(last.count(), 1, "one core alone tells the reclaimer");
        assert!(uncounted.is_none());
    });
}

#[test]
fn no_segment_is_taken_for_dead_while_a_core_has_not_counted_what_is_live() {
    nothing_goes_before_it_is_counted();
}

#[test]
#[should_panic(expected = "a segment goes before what is live in it is counted")]
fn a_core_whose_end_of_counting_does_not_show_what_it_counted_is_found_out() {
    plant(Mutant::RaceCountedRelaxed);
    nothing_goes_before_it_is_counted();
}
