//! The kinds of work in the background, and how one that waits is woken.
//!
//! A *worker* is a shard without ids of its own: it has a mailbox behind those of the cores, asks
//! them about theirs, and writes, if it writes, to logs of its own. There is one for each kind of
//! work.

use std::future::poll_fn;
use std::task::Poll;

use crate::atomics::{AtomicBool, AtomicWaker, Ordering};
use crate::mutant::{Mutant, is_planted};
use crate::types::CoreId;

/// A kind of work in the background.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Worker {
    /// Moves what is live out of segments that are mostly dead.
    Compaction,
    /// Reads everything and compares it with its checksums and hashes.
    Scrub,
}

impl Worker {
    pub const ALL: [Worker; 2] = [Worker::Compaction, Worker::Scrub];
    pub(super) const COUNT: u16 = Self::ALL.len() as u16;

    /// The number of its mailbox, behind those of the cores.
    pub(super) fn core(self, cores: u16) -> CoreId {
        CoreId(cores + self as u16)
    }
}

/// Wakes a worker, from any core; it stays rung until the worker has heard it.
#[derive(Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    waker: AtomicWaker,
}

impl Bell {
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Waits until somebody has rung since the last time. For one task at a time.
    pub async fn heard(&self) {
        poll_fn(|context| {
            if is_planted(Mutant::RaceHearFirst) && self.rung.swap(false, Ordering::AcqRel) {
                return Poll::Ready(());
            }
            self.waker.register(context.waker());
            if is_planted(Mutant::RaceHearFirst) || !self.rung.swap(false, Ordering::AcqRel) {
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }
}
