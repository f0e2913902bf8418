//! What the cores and the work in the background ([`Worker`]) know of one another.
//!
//! Workers end before the cores have closed: core 0 waits for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use crate::atomics::{AtomicBool, Ordering};
use crate::probe::{self, Event};
use crate::store::pressure::Pressure;
use crate::store::progress::{CompactionCounters, Position, ScrubCounters};
use crate::store::quarantine::Quarantine;
use crate::store::worker::{Bell, Worker};
use crate::types::{BlobId, SegmentId, Sequence};

/// What is shared with the workers.
#[derive(Default)]
pub(crate) struct Background {
    state: Mutex<State>,
    stopping: AtomicBool,
    /// Which workers have opened their shards.
    running: [AtomicBool; Worker::COUNT as usize],
    bells: [Bell; Worker::COUNT as usize],
    pub quarantine: Quarantine,
    pub pressure: Pressure,
    /// Blobs that looked damaged to a reader, for the scrub to look at.
    suspects: Mutex<Vec<BlobId>>,
    /// Damage that the scrub found beside what is live, by its offsets, until the segment is
    /// retired.
    damages: Mutex<BTreeMap<SegmentId, BTreeSet<u64>>>,
    /// What the scrub left behind at the last stop.
    pub scrub_position: Mutex<Position>,
    pub compaction: CompactionCounters,
    pub scrub: ScrubCounters,
}

#[derive(Default)]
struct State {
    stopping: bool,
    workers: usize,
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

    pub fn set_running(&self, worker: Worker) {
        self.running[worker as usize].store(true, Ordering::Release);
    }

    pub fn is_running(&self, worker: Worker) -> bool {
        self.running[worker as usize].load(Ordering::Acquire)
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

    /// Notes damage in a segment that costs no blob. False when it is known, or there is more of it
    /// already than is counted.
    pub fn add_damage(&self, segment: SegmentId, offset: u64) -> bool {
        let mut damages = self.damages.lock().unwrap_or_else(PoisonError::into_inner);
        let offsets = damages.entry(segment).or_default();
        offsets.len() < DAMAGES_MAX && offsets.insert(offset)
    }

    /// A segment leaves, and what is damaged in it.
    pub fn segment_left(&self, segment: SegmentId) {
        let gone = self.damages.lock().unwrap_or_else(PoisonError::into_inner).remove(&segment);
        if let Some(offsets) = gone {
            self.mended(offsets.len() as u64);
        }
    }

    /// Counts findings that are put right.
    pub fn mended(&self, count: u64) {
        self.scrub.mended.fetch_add(count, Ordering::Relaxed);
        probe::hit(Event::ScrubMended);
    }

    /// Takes a record of a blob off the quarantine, if it is there: it was replaced, deleted, or
    /// found sound.
    pub fn release(&self, id: &BlobId, sequence: Sequence) -> bool {
        let is_held = self.quarantine.remove(id, sequence);
        if is_held {
            self.mended(1);
            self.bell(Worker::Scrub).ring();
        }
        is_held
    }

    pub fn has_suspects(&self) -> bool {
        !self.suspects.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub fn take_suspect(&self) -> Option<BlobId> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// Suspects that wait at the same time; others are found when they are read again, or by the next
/// pass.
const SUSPECTS_MAX: usize = 1024;
/// Damaged places that are counted in one segment.
const DAMAGES_MAX: usize = 256;
