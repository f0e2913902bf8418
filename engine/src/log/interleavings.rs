//! What cores and the reclaimer believe of a segment, in every interleaving (see
//! [`crate::atomics`]).

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use loom::thread;

use super::header::SegmentHeader;
use super::open_segment::OpenSegment;
use super::record::Head;
use super::segment::{Segment, State};
use super::table::SegmentTable;
use crate::atomics::{AtomicU64, Ordering, explore};
use crate::mutant::{Mutant, by_test::plant};
use crate::types::{BlobId, SegmentId, Sequence};

const ID: SegmentId = SegmentId(1);
const OFFSET_UNITS: u32 = 64;
const LENGTH_UNITS: u32 = 2;
const LENGTH: u64 = super::bytes(LENGTH_UNITS);

/// A segment in a table, as its writer prepares it.
fn prepared() -> (Arc<SegmentTable<()>>, Arc<Segment<()>>) {
    let header = SegmentHeader { segment: ID, size: 1 << 20, store: [7; 16], nonce: 9, created_at_ns: 11 };
    let segment = Arc::new(Segment::new(&header, 0, Some(()), State::Active, header.size));
    let table = Arc::new(SegmentTable::new(Vec::new(), 1));
    table.insert(segment.clone());
    (table, segment)
}

/// Places a record as a log does. Its number is that of the next one, beginning with 0.
fn place(open: &Rc<OpenSegment<()>>, head: &Head, number: u32) {
    let offset_units = OFFSET_UNITS + number * LENGTH_UNITS;
    open.place(head, offset_units, LENGTH_UNITS, super::bytes(offset_units + LENGTH_UNITS));
}

fn tombstone() -> Head {
    Head::tombstone(BlobId([1; 16]), Sequence(1), ID, 0)
}

fn blob() -> Head {
    Head { kind: super::record::Kind::Blob, ..tombstone() }
}

fn what_is_settled_is_in_the_index() {
    explore(|| {
        let (table, segment) = prepared();
        // What the owners of the ids have entered.
        let index = Arc::new(AtomicU64::new(0));
        let writer = thread::spawn({
            let (segment, index) = (segment.clone(), index.clone());
            move || {
                let open = Rc::new(OpenSegment::new(segment.clone()));
                place(&open, &tombstone(), 0);
                // One operation ends on another core.
                let other = thread::spawn({
                    let (segment, index) = (segment.clone(), index.clone());
                    move || {
                        index.fetch_add(1, Ordering::Relaxed);
                        segment.remove_unapplied();
                    }
                });
                place(&open, &tombstone(), 1);
                assert!(segment.seal());
                index.fetch_add(1, Ordering::Relaxed);
                segment.remove_unapplied();
                other.join().unwrap();
            }
        });
        let segment = table.get(ID).expect("it stays");
        if segment.is_settled() {
            assert_eq!(index.load(Ordering::Relaxed), 2, "a checkpoint covers what is not in the index");
        }
        writer.join().unwrap();
        assert!(segment.is_settled());
    });
}

#[test]
fn a_segment_is_settled_only_when_the_outcome_of_every_record_is_in_the_index() {
    what_is_settled_is_in_the_index();
}

#[test]
#[should_panic(expected = "a checkpoint covers what is not in the index")]
fn a_checkpoint_that_counts_before_it_reads_the_state_is_found_out() {
    plant(Mutant::RaceStateLast);
    what_is_settled_is_in_the_index();
}

#[test]
#[should_panic(expected = "a checkpoint covers what is not in the index")]
fn a_state_that_does_not_show_what_was_placed_before_is_found_out() {
    plant(Mutant::RaceStateRelaxed);
    what_is_settled_is_in_the_index();
}

#[test]
#[should_panic(expected = "a checkpoint covers what is not in the index")]
fn an_operation_that_does_not_show_the_index_is_found_out() {
    plant(Mutant::RaceAppliedRelaxed);
    what_is_settled_is_in_the_index();
}

fn what_is_dead_holds_nothing_live() {
    explore(|| {
        let (table, segment) = prepared();
        // Of the standard library: what is, and not what a thread may see.
        let is_live = Arc::new(AtomicBool::new(false));
        let writer = thread::spawn({
            let (segment, is_live) = (segment.clone(), is_live.clone());
            move || {
                let open = Rc::new(OpenSegment::new(segment.clone()));
                is_live.store(true, Ordering::Relaxed);
                place(&open, &blob(), 0);
                segment.remove_unapplied();
                assert!(segment.seal());
            }
        });
        // As the reclaimer does with a segment in which nothing was live for a moment.
        let segment = table.get(ID).expect("it stays");
        if segment.is_dead() && segment.is_applied() {
            assert!(!is_live.load(Ordering::Relaxed), "a segment with a live record is reclaimed");
        }
        writer.join().unwrap();
        assert!(!segment.is_dead());
        assert_eq!(segment.remove_live(LENGTH), 0);
        assert!(segment.is_dead() && segment.is_applied());
    });
}

#[test]
fn a_segment_with_a_live_record_is_never_taken_for_dead() {
    what_is_dead_holds_nothing_live();
}

#[test]
#[should_panic(expected = "a segment with a live record is reclaimed")]
fn a_reclaimer_that_counts_before_it_reads_the_state_is_found_out() {
    plant(Mutant::RaceStateLast);
    what_is_dead_holds_nothing_live();
}

#[test]
#[should_panic(expected = "a segment with a live record is reclaimed")]
fn a_state_that_does_not_show_what_was_live_before_is_found_out() {
    plant(Mutant::RaceStateRelaxed);
    what_is_dead_holds_nothing_live();
}

#[test]
fn live_bytes_are_never_below_zero_and_whoever_takes_the_last_knows_it() {
    explore(|| {
        let (table, segment) = prepared();
        segment.add_live(LENGTH);
        let cores: Vec<_> = (0..2)
            .map(|core| {
                let segment = segment.clone();
                thread::spawn(move || {
                    // One deletes what was there, the other stores a record and deletes it.
                    if core == 1 {
                        segment.add_live(LENGTH);
                    }
                    segment.remove_live(LENGTH) == 0
                })
            })
            .collect();
        assert!(segment.live_bytes.load(Ordering::Acquire) >= 0);
        let zeros = cores.into_iter().map(|core| core.join().unwrap()).filter(|is_zero| *is_zero).count();
        assert_eq!((segment.live_bytes.load(Ordering::Acquire), table.live_bytes()), (0, 0));
        assert!(zeros > 0, "nobody tells the reclaimer");
    });
}

#[test]
fn a_segment_is_sealed_or_fenced_and_the_table_counts_it_once() {
    explore(|| {
        let (table, segment) = prepared();
        let sealing = thread::spawn({
            let segment = segment.clone();
            move || segment.seal()
        });
        segment.fence();
        let is_sealed = sealing.join().unwrap();
        assert_eq!(segment.state(), if is_sealed { State::Sealed } else { State::Fenced });
        let counts = [State::Active, State::Sealed, State::Fenced].map(|state| table.count(state));
        assert_eq!(counts, [0, u64::from(is_sealed), u64::from(!is_sealed)]);
        table.remove(ID).expect("it is there");
        let counts = [State::Active, State::Sealed, State::Fenced].map(|state| table.count(state));
        assert_eq!(counts, [0; 3]);
    });
}

#[test]
fn a_segment_that_leaves_is_unused_only_when_its_last_reader_is_gone() {
    explore(|| {
        let (table, segment) = prepared();
        drop(segment);
        let is_read = Arc::new(AtomicBool::new(false));
        let is_unused = Arc::new(AtomicBool::new(false));
        let reader = thread::spawn({
            let (table, is_read, is_unused) = (table.clone(), is_read.clone(), is_unused.clone());
            move || {
                let Some(segment) = table.get(ID) else { return };
                is_read.store(true, Ordering::Relaxed);
                thread::yield_now();
                assert!(!is_unused.load(Ordering::Relaxed), "the file is reused under a reader");
                is_read.store(false, Ordering::Relaxed);
                drop(segment);
            }
        });
        let segment = table.remove(ID).expect("it is there");
        segment.when_unused({
            let is_unused = is_unused.clone();
            move || {
                assert!(!is_read.load(Ordering::Relaxed), "the file is reused under a reader");
                assert!(!is_unused.swap(true, Ordering::Relaxed), "told twice");
            }
        });
        drop(segment);
        reader.join().unwrap();
        assert!(is_unused.load(Ordering::Relaxed), "nobody tells the reclaimer");
    });
}
