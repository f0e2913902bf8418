//! The operations under way on the ids of one core: one at a time for each id, in the order in
//! which they came.
//!
//! The owner of an id gives each operation its sequence at the moment when its turn comes, so that
//! the order of the sequences is the order of the outcomes.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};

use crate::mutant::{Mutant, is_planted};
use crate::probe::{self, Event};
use crate::sync::{Promise, promise};
use crate::types::{BlobId, SegmentId, Sequence};

struct Held {
    sequence: Sequence,
    waiting: VecDeque<Promise<Sequence>>,
}

/// The locks of the ids that one core owns.
pub(super) struct Locks {
    held: RefCell<HashMap<BlobId, Held>>,
    next: Cell<u64>,
    /// Operations whose writes failed, and the segments that their records may lie in, until a
    /// later one on the same id succeeds or those segments are gone. No more than there are records
    /// in fenced segments.
    doubts: RefCell<HashMap<BlobId, Vec<(Sequence, SegmentId)>>>,
}

impl Locks {
    /// `next`: the first sequence to give out.
    pub fn new(next: Sequence) -> Self {
        Self { held: RefCell::default(), next: Cell::new(next.0), doubts: RefCell::default() }
    }

    /// The highest sequence given out.
    pub fn last(&self) -> Sequence {
        Sequence(self.next.get() - 1)
    }

    /// The lock, if nobody holds it.
    pub fn try_acquire(&self, id: BlobId) -> Option<Sequence> {
        let mut held = self.held.borrow_mut();
        if held.contains_key(&id) {
            return None;
        }
        let sequence = self.next_sequence();
        held.insert(id, Held { sequence, waiting: VecDeque::new() });
        Some(sequence)
    }

    /// Waits for the lock. The caller must release it: a wait may not be dropped.
    pub async fn acquire(&self, id: BlobId) -> Sequence {
        if let Some(sequence) = self.try_acquire(id) {
            return sequence;
        }
        let (promise, promised) = promise();
        self.held.borrow_mut().get_mut(&id).expect("held by another").waiting.push_back(promise);
        promised.await.expect("every holder releases")
    }

    pub fn release(&self, id: BlobId) {
        let mut all = self.held.borrow_mut();
        let held = all.get_mut(&id).expect("released by its holder");
        match held.waiting.pop_front() {
            Some(promise) => {
                if !is_planted(Mutant::StaleSequence) {
                    held.sequence = self.next_sequence();
                }
                let sequence = held.sequence;
                drop(all);
                promise.keep(sequence);
            }
            None => {
                all.remove(&id);
            }
        }
    }

    /// The holder's operation may be found by the next start or not, in one of these segments.
    pub fn doubt(&self, id: BlobId, segments: &[SegmentId]) {
        let sequence = self.held.borrow().get(&id).expect("its holder says so").sequence;
        let doubts = segments.iter().map(|segment| (sequence, *segment));
        self.doubts.borrow_mut().entry(id).or_default().extend(doubts);
    }

    /// A segment is gone: no start will find what may have been in it, so an operation in doubt did
    /// not happen.
    pub fn settle_in(&self, segment: SegmentId, ids: &[BlobId]) {
        let mut all = self.doubts.borrow_mut();
        for id in ids {
            let Some(doubts) = all.get_mut(id) else { continue };
            doubts.retain(|(_, home)| *home != segment);
            if doubts.is_empty() {
                all.remove(id);
            }
        }
    }

    /// A later operation overrules those in doubt.
    pub fn settle(&self, id: &BlobId) {
        if self.doubts.borrow_mut().remove(id).is_some() {
            probe::hit(Event::DoubtOverruled);
        }
    }

    pub fn is_in_doubt(&self, id: &BlobId) -> bool {
        self.doubts.borrow().contains_key(id)
    }

    /// The operations under way or in doubt from `first` to `last`, both inclusive.
    pub fn under_way(&self, first: BlobId, last: BlobId) -> Vec<(BlobId, Sequence)> {
        let (held, doubts) = (self.held.borrow(), self.doubts.borrow());
        let is_within = |id: &BlobId| (first..=last).contains(id);
        if held.keys().any(is_within) {
            probe::hit(Event::SliceMetOperation);
        }
        if doubts.keys().any(is_within) {
            probe::hit(Event::SliceMetDoubt);
        }
        let held = held.iter().map(|(id, held)| (*id, held.sequence));
        let doubts = doubts.iter().flat_map(|(id, sequences)| sequences.iter().map(|(sequence, _)| (*id, *sequence)));
        held.chain(doubts).filter(|(id, _)| is_within(id)).collect()
    }

    fn next_sequence(&self) -> Sequence {
        let sequence = self.next.get();
        self.next.set(sequence + 1);
        Sequence(sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: BlobId = BlobId([7; 16]);

    #[test]
    fn a_doubt_lasts_until_every_segment_that_may_hold_its_record_is_gone() {
        let locks = Locks::new(Sequence(5));
        assert_eq!(locks.try_acquire(ID), Some(Sequence(5)));
        locks.doubt(ID, &[SegmentId(1), SegmentId(2)]);
        locks.release(ID);
        assert_eq!(locks.under_way(ID, ID), [(ID, Sequence(5)); 2]);
        locks.settle_in(SegmentId(3), &[ID]);
        locks.settle_in(SegmentId(1), &[ID, BlobId([8; 16])]);
        assert!(locks.is_in_doubt(&ID), "a start may find it in the other one");
        locks.settle_in(SegmentId(2), &[ID]);
        assert!(!locks.is_in_doubt(&ID) && locks.under_way(ID, ID).is_empty());
    }
}
