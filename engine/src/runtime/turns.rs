//! Bulk work (splicing, copying, hashing) takes turns with everything else on a core.
//!
//! Invariant: turns are given in the order of asking, and each round gives one at least to somebody
//! who waits.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use crate::sync::{Promise, promise};

/// Bytes of bulk work (splicing, copying, hashing) in one round, over all tasks: some 50 to 350 µs.
/// The rest continues in the next rounds, so that a small request waits for no more than this,
/// however many bulk transfers there are.
const BULK_BYTES_PER_ROUND: usize = 512 << 10;

/// Who may do bulk work, in the order of asking. A turn may overdraw what is left of its round; the
/// next rounds make up for it.
pub(super) struct BulkTurns {
    left: Cell<isize>,
    waiting: RefCell<VecDeque<(usize, Promise<()>)>>,
}

impl Default for BulkTurns {
    fn default() -> Self {
        Self { left: Cell::new(BULK_BYTES_PER_ROUND as isize), waiting: RefCell::default() }
    }
}

impl BulkTurns {
    pub fn count(&self, bytes: usize) {
        self.left.set(self.left.get() - bytes as isize);
    }

    pub fn has_waiting(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// Gives the turns of the next round. What is done without a turn delays those who wait by a
    /// round at most, and one of them always gets on: it must not starve them.
    pub fn begin_round(&self) {
        let round = BULK_BYTES_PER_ROUND as isize;
        self.left.set((self.left.get() + round).clamp(-round, round));
        let mut has_served = false;
        while self.left.get() > 0 || !has_served {
            let Some((bytes, promise)) = self.waiting.borrow_mut().pop_front() else { return };
            if !promise.is_abandoned() {
                has_served = true;
                self.count(bytes);
                promise.keep(());
            }
        }
    }

    /// Takes back what a turn did not use.
    pub fn unused(&self, bytes: usize) {
        self.left.set(self.left.get() + bytes as isize);
    }

    /// Waits for a turn to do this much.
    pub async fn take(&self, bytes: usize) {
        if self.left.get() > 0 && !self.has_waiting() {
            return self.count(bytes);
        }
        let (promise, promised) = promise();
        self.waiting.borrow_mut().push_back((bytes, promise));
        promised.await.expect("the core keeps what it promised for as long as its tasks live");
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
        future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn turns_come_in_the_order_of_asking_and_a_round_gives_no_more_than_its_bytes() {
        let turns = BulkTurns::default();
        let size = BULK_BYTES_PER_ROUND / 2;
        let mut asked: Vec<_> = (0..7).map(|_| Box::pin(turns.take(size))).collect();
        for round in 1..=4 {
            let ready: Vec<bool> = asked.iter_mut().map(|turn| poll(turn).is_ready()).collect();
            assert_eq!(ready.len(), 7 - 2 * (round - 1));
            let expected = ready.len().min(2);
            assert!(
                ready[..expected].iter().all(|ready| *ready) && !ready[expected..].iter().any(|ready| *ready),
                "round {round}"
            );
            asked.drain(..expected);
            turns.begin_round();
        }
        assert!(asked.is_empty() && !turns.has_waiting());
    }

    #[test]
    fn whatever_is_done_without_turns_somebody_who_waits_gets_on_in_every_round() {
        let turns = BulkTurns::default();
        turns.count(BULK_BYTES_PER_ROUND);
        let mut waiting: Vec<_> = (0..10).map(|_| Box::pin(turns.take(1))).collect();
        for _ in 0..10 {
            assert!(waiting.iter_mut().all(|turn| poll(turn).is_pending()));
            turns.count(100 * BULK_BYTES_PER_ROUND);
            turns.begin_round();
            assert!(poll(&mut waiting[0]).is_ready());
            drop(waiting.remove(0));
        }
    }

    #[test]
    fn who_stops_waiting_costs_the_others_nothing() {
        let turns = BulkTurns::default();
        turns.count(BULK_BYTES_PER_ROUND);
        let mut gone = Box::pin(turns.take(BULK_BYTES_PER_ROUND));
        let mut waiting = Box::pin(turns.take(1));
        assert!(poll(&mut gone).is_pending() && poll(&mut waiting).is_pending());
        drop(gone);
        turns.begin_round();
        assert!(poll(&mut waiting).is_ready());
    }
}
