//! What the cores and the work in the background know of one another.
//!
//! A *worker* is a shard without ids of its own: it has a mailbox behind those of the cores, asks them about theirs, and writes, if it writes, to logs
//! of its own. There is one for each kind of work. Workers end before the cores have closed: core 0 waits for them.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Mutex, PoisonError};
use std::task::Poll;

use crate::atomics::{AtomicBool, AtomicWaker, Ordering};
use crate::mutant::{Mutant, is_planted};
use crate::probe::{self, Event};
use crate::store::pressure::Pressure;
use crate::store::quarantine::Quarantine;
use crate::types::{BlobId, CoreId, SegmentId, Sequence};

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
    /// Damage that the scrub found beside what is live, by its offsets, until the segment is retired.
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

/// Compaction in numbers, since the start unless said otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CompactionStatus {
    /// Segments that were emptied.
    pub segments: u64,
    pub moved_bytes: u64,
    pub moved_records: u64,
    /// Bytes of emptied segments beyond what was moved out of them.
    pub freed_bytes: u64,
    /// Segments that could not be emptied because something failed.
    pub failures: u64,
    /// Bytes of segments now, and what of them emptying segments would give back; tombstones that are needed count in.
    pub segment_bytes: u64,
    pub dead_bytes: u64,
}

impl CompactionCounters {
    pub fn status(&self) -> CompactionStatus {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CompactionStatus {
            segments: get(&self.segments),
            moved_bytes: get(&self.moved_bytes),
            moved_records: get(&self.moved_records),
            freed_bytes: get(&self.freed_bytes),
            failures: get(&self.failures),
            segment_bytes: get(&self.sealed_bytes),
            dead_bytes: get(&self.dead_bytes),
        }
    }
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
    /// How far the present pass is, in millionths.
    pub progress_ppm: AtomicU32,
    /// When the last complete pass ended, in nanoseconds since 1970; 0: none did.
    pub last_pass_end_ns: AtomicU64,
}

impl ScrubCounters {
    pub fn status(&self) -> ScrubStatus {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ScrubStatus {
            passes: of(&self.passes),
            bytes: of(&self.bytes),
            blobs: of(&self.blobs),
            segments: of(&self.segments),
            findings: of(&self.findings),
            mended: of(&self.mended),
            progress_ppm: self.progress_ppm.load(Ordering::Relaxed),
            last_pass_end_ns: of(&self.last_pass_end_ns),
        }
    }
}

/// What the scrub did since the start, and how far it is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ScrubStatus {
    /// Passes that were completed.
    pub passes: u64,
    pub bytes: u64,
    /// Blobs whose content was compared with their hash.
    pub blobs: u64,
    pub segments: u64,
    /// Places that were not as they were written.
    pub findings: u64,
    /// Of those, what was put right: stored again, deleted, moved out of the way or rewritten.
    pub mended: u64,
    /// How far the present pass is, in millionths; 1,000,000 between two.
    pub progress_ppm: u32,
    /// When the last complete pass ended, in nanoseconds since 1970, also before the start; 0: none did.
    pub last_pass_end_ns: u64,
}

/// How far the scrub is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Position {
    /// When the pass began, in nanoseconds since 1970; 0: none has.
    pub began_ns: u64,
    /// Everything in segments before this one was looked at, if the pass is under way.
    pub segment: SegmentId,
    /// In this one everything, but the large blobs with records from this offset on; 0: nothing.
    pub offset_units: u32,
    /// The pass is complete.
    pub is_complete: bool,
    /// When the last complete pass ended, in nanoseconds since 1970; 0: none did.
    pub last_end_ns: u64,
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

    /// Notes damage in a segment that costs no blob. False when it is known, or there is more of it already than is counted.
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

    /// Takes a record of a blob off the quarantine, if it is there: it was replaced, deleted, or found sound.
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

/// Suspects that wait at the same time; others are found when they are read again, or by the next pass.
const SUSPECTS_MAX: usize = 1024;
/// Damaged places that are counted in one segment.
const DAMAGES_MAX: usize = 256;
