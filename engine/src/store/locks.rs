//! The operations under way on the ids of one core: one at a time for each id, in the order in which they came.
//!
//! The owner of an id gives each operation its sequence at the moment when its turn comes, so that the order of the sequences is the order
//! of the outcomes.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};

use crate::sync::{Promise, promise};
use crate::types::{BlobId, Sequence};

struct Held {
    sequence: Sequence,
    waiting: VecDeque<Promise<Sequence>>,
}

/// The locks of the ids that one core owns.
pub(super) struct Locks {
    held: RefCell<HashMap<BlobId, Held>>,
    next: Cell<u64>,
}

impl Locks {
    /// `next`: the first sequence to give out.
    pub fn new(next: Sequence) -> Self {
        Self { held: RefCell::default(), next: Cell::new(next.0) }
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
                held.sequence = self.next_sequence();
                let sequence = held.sequence;
                drop(all);
                promise.keep(sequence);
            }
            None => {
                all.remove(&id);
            }
        }
    }

    /// The operations under way from `first` to `last`, both inclusive.
    pub fn under_way(&self, first: BlobId, last: BlobId) -> Vec<(BlobId, Sequence)> {
        let held = self.held.borrow();
        held.iter().filter(|(id, _)| (first..=last).contains(*id)).map(|(id, held)| (*id, held.sequence)).collect()
    }

    fn next_sequence(&self) -> Sequence {
        let sequence = self.next.get();
        self.next.set(sequence + 1);
        Sequence(sequence)
    }
}
