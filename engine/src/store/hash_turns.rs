//! Turns at hashing: what all uploads of a core hash together before its loop looks at the kernel again.
//!
//! SHA-256 takes most of the time of a fast upload, and a core has one thread: sixteen uploads that each hashed only a little before they
//! yield would still hold up everybody else by sixteen times as much. So the bound is on the sum. Who finds it used up waits in
//! line; the first in the line lets a round pass and renews it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::io::Io;
use crate::sync::{Promise, Promised, promise};

/// Bytes that a core hashes between two looks at the kernel: about 100 µs.
const HASHED_PER_ROUND: usize = 128 << 10;

/// The turns of one core.
pub(super) struct HashTurns {
    left: Cell<usize>,
    /// Somebody lets a round pass, and will renew the budget.
    renewing: Cell<bool>,
    line: RefCell<VecDeque<Promise<()>>>,
}

impl Default for HashTurns {
    fn default() -> Self {
        Self { left: Cell::new(HASHED_PER_ROUND), renewing: Cell::new(false), line: RefCell::default() }
    }
}

impl HashTurns {
    /// Waits until `size` bytes may be hashed.
    pub async fn take<I: Io>(&self, io: &I, size: usize) {
        assert!(size <= HASHED_PER_ROUND, "a turn of {size} bytes");
        if self.line.borrow().is_empty() && self.take_left(size) {
            return;
        }
        loop {
            if !self.renewing.get() {
                let renewal = Renewal::new(self);
                io.yield_now().await;
                self.left.set(HASHED_PER_ROUND - size);
                drop(renewal);
                return;
            }
            let (promise, promised) = promise();
            self.line.borrow_mut().push_back(promise);
            InLine { turns: self, promised: Some(promised) }.await;
            if self.take_left(size) {
                self.call_next();
                return;
            }
        }
    }

    fn take_left(&self, size: usize) -> bool {
        let left = self.left.get();
        let enough = left >= size;
        if enough {
            self.left.set(left - size);
        }
        enough
    }

    /// Lets the first in the line try; those that have left it are passed over.
    fn call_next(&self) {
        let next = {
            let mut line = self.line.borrow_mut();
            line.retain(|promise| !promise.is_abandoned());
            line.pop_front()
        };
        if let Some(promise) = next {
            promise.keep(());
        }
    }
}

/// The duty to renew the budget; dropped, also half done, it passes to the next in the line.
struct Renewal<'t>(&'t HashTurns);

impl<'t> Renewal<'t> {
    fn new(turns: &'t HashTurns) -> Self {
        turns.renewing.set(true);
        Self(turns)
    }
}

impl Drop for Renewal<'_> {
    fn drop(&mut self) {
        self.0.renewing.set(false);
        self.0.call_next();
    }
}

/// A place in the line. Who is called and dropped before it could try calls the next one.
struct InLine<'t> {
    turns: &'t HashTurns,
    promised: Option<Promised<()>>,
}

impl Future for InLine<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let promised = self.promised.as_mut().expect("not polled after its end");
        let polled = Pin::new(promised).poll(context);
        polled.map(|_| self.promised = None)
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        if self.promised.take().is_some_and(|promised| promised.into_value().is_some()) {
            self.turns.call_next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Sim, SimOptions};
    use crate::sync::{Either, race};
    use std::rc::Rc;

    #[test]
    fn no_more_than_the_bound_is_hashed_between_two_rounds_and_nobody_is_left_behind() {
        for seed in 0..50 {
            let mut sim = Sim::new(seed, SimOptions::default());
            let io = sim.io(0);
            let turns = Rc::new(HashTurns::default());
            let since_renewal = Rc::new(Cell::new(0));
            let ended = Rc::new(Cell::new(0));
            for task in 0..20usize {
                let (io_of_task, turns, ended, since_renewal) =
                    (io.clone(), turns.clone(), ended.clone(), since_renewal.clone());
                io.spawn(async move {
                    for turn in 0..50usize {
                        let size = 1 + (task * 7919 + turn * 104_729) % (64 << 10);
                        if turn % 7 == 3 {
                            // Some leave the line, or let a renewal drop.
                            let waiting = turns.take(&io_of_task, size);
                            match race(waiting, io_of_task.yield_now()).await {
                                Either::First(()) => {}
                                Either::Second(()) => continue,
                            }
                        } else {
                            turns.take(&io_of_task, size).await;
                        }
                        let hashed = HASHED_PER_ROUND - turns.left.get();
                        assert!((size..=HASHED_PER_ROUND).contains(&hashed), "seed {seed}");
                        since_renewal.set(hashed);
                    }
                    ended.set(ended.get() + 1);
                });
            }
            sim.run_for(std::time::Duration::from_secs(1));
            assert_eq!(ended.get(), 20, "seed {seed}");
            assert!(since_renewal.get() > 0);
        }
    }
}
