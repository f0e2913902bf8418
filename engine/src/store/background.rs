//! What the cores and the work in the background know of one another.
//!
//! A *worker* is a shard without ids of its own: it has a mailbox behind those of the cores, asks them about theirs, and writes, if it writes, to logs
//! of its own. There is one for each kind of work. Workers end before the cores have closed: core 0 waits for them.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Poll;

use atomic_waker::AtomicWaker;

use crate::store::pressure::Pressure;
use crate::store::quarantine::Quarantine;
use crate::types::{BlobId, CoreId};

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
            self.waker.register(context.waker());
            if self.rung.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// What is shared with the workers.
#[derive(Default)]
pub(crate) struct Background {
    state: Mutex<State>,
    stopping: AtomicBool,
    bells: [Bell; Worker::COUNT as usize],
    pub quarantine: Quarantine,
    pub pressure: Pressure,
    /// Blobs that looked damaged to a reader, for the scrub to look at.
    suspects: Mutex<Vec<BlobId>>,
    pub compaction: CompactionCounters,
    pub scrub: ScrubCounters,
}

#[derive(Default)]
struct State {
    stopping: bool,
    workers: usize,
}

/// What compaction did since the start.
#[derive(Default)]
pub(crate) struct CompactionCounters {
    pub segments: AtomicU64,
    pub moved_bytes: AtomicU64,
    pub moved_records: AtomicU64,
    /// Bytes of emptied segments beyond what was moved out of them.
    pub freed_bytes: AtomicU64,
    pub failures: AtomicU64,
    /// Dead bytes in sealed segments, as compaction last counted them.
    pub dead_bytes: AtomicU64,
    pub sealed_bytes: AtomicU64,
}

/// What the scrub did since the start.
#[derive(Default)]
pub(crate) struct ScrubCounters {
    pub passes: AtomicU64,
    pub bytes: AtomicU64,
    pub blobs: AtomicU64,
    pub segments: AtomicU64,
    /// Places that were not as they were written.
    pub findings: AtomicU64,
    /// Of those, what was put right.
    pub mended: AtomicU64,
}

impl Background {
    /// Counts a worker in; false when it is too late.
    pub fn enter(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.stopping {
            state.workers += 1;
        }
        !state.stopping
    }

    /// Has the workers end, and lets no more begin.
    pub fn stop(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).stopping = true;
        self.stopping.store(true, Ordering::Release);
        self.bells.iter().for_each(Bell::ring);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Waits until the store is being closed; hears for a worker what else it might.
    pub async fn stopped(&self, worker: Worker) {
        while !self.is_stopping() {
            self.bell(worker).heard().await;
        }
    }

    pub fn worker_count(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).workers
    }

    pub fn bell(&self, worker: Worker) -> &Bell {
        &self.bells[worker as usize]
    }

    /// Something died, was sealed, or went: there may be work for compaction.
    pub fn space_changed(&self) {
        self.bell(Worker::Compaction).ring();
    }

    /// Has the scrub look at a blob.
    pub fn suspect(&self, id: BlobId) {
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        if suspects.len() < SUSPECTS_MAX && !suspects.contains(&id) {
            suspects.push(id);
        }
        drop(suspects);
        self.bell(Worker::Scrub).ring();
    }

    pub fn take_suspect(&self) -> Option<BlobId> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// Suspects that wait at the same time; others are found when they are read again, or by the next pass.
const SUSPECTS_MAX: usize = 1024;
