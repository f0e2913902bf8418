//! How many bytes of each segment are live.
//!
//! Every record is counted when it is written, and its bytes are taken off when its blob goes. What was there at the start is counted in the
//! background, in the order of the ids, while the store works. An outcome that takes away a blob which was not counted yet takes nothing off.
//! Until every core has counted, no segment is reclaimed. What a disk refuses to tell is counted
//! later: see [`recount`](super::recount).

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::atomics::{AtomicU32, Ordering};
use crate::index::Entry;
use crate::io::{Disk, Io};
use crate::log::RECORD_ALIGN;
use crate::log::segment::Segment;
use crate::mutant::{Mutant, is_planted};
use crate::probe;
use crate::store::StoreError;
use crate::store::identity;
use crate::store::location::{has_extents, record_bytes};
use crate::store::message::{Outcome, Released};
use crate::store::ownership::first_owned;
use crate::store::readers::Condemned;
use crate::store::reclaim::Event;
use crate::store::recount::Recount;
use crate::store::shard::{Inner, Shard};
use crate::sync::{Notify, Promised, promise};
use crate::types::{BlobId, SegmentId, Sequence};

/// How often a list of pieces that looks damaged is read again before it counts as lost, and after how long.
const DAMAGED_RETRIES: u32 = 2;
const DAMAGED_PAUSE: Duration = Duration::from_millis(500);

/// Large blobs of which the pieces are read at the same time.
const READS_AT_ONCE: usize = 8;

/// Segments, and the bytes that a blob has in each.
pub(super) type Pieces<I> = Vec<(Arc<Segment<<I as Disk>::File>>, u64)>;

/// The pieces of the next large blobs, read ahead of their turn.
struct Ahead<I: Io> {
    shard: Shard<I>,
    entries: VecDeque<Entry>,
    reads: VecDeque<Promised<Result<Pieces<I>, StoreError>>>,
}

impl<I: Io> Ahead<I> {
    fn of(shard: Shard<I>, entries: &[Entry]) -> Self {
        let is_read = |entry: &&Entry| {
            has_extents(&entry.location) && !shard.0.accounting.is_of_this_life(entry.location.sequence)
        };
        let entries = entries.iter().filter(is_read).copied().collect();
        Self { shard, entries, reads: VecDeque::new() }
    }

    /// Those of the next one.
    async fn next(&mut self) -> Result<Pieces<I>, StoreError> {
        while self.reads.len() < READS_AT_ONCE
            && let Some(entry) = self.entries.pop_front()
        {
            let (result, promised) = promise();
            let shard = self.shard.clone();
            self.shard.0.io.spawn(async move { result.keep(shard.pieces_of(&entry).await) });
            self.reads.push_back(promised);
        }
        let next = self.reads.pop_front().expect("asked for once for each");
        next.await.expect("reads end by themselves")
    }
}

/// Whether the pieces of a blob may be known later.
pub(super) fn is_passing(error: &StoreError) -> bool {
    matches!(error, StoreError::ReadFailed { .. } | StoreError::Busy)
}

/// How far the counting after the start has come.
pub(super) struct Accounting {
    /// Everything up to here is counted; `None`: nothing.
    counted_to: Cell<Option<BlobId>>,
    done: Cell<bool>,
    /// Everything is counted, or the core closes.
    pub changed: Notify,
    /// What a disk refused to tell.
    pub recount: Recount,
    /// What has a higher sequence was counted when it was written.
    start: Sequence,
}

/// Cores that have not counted their live bytes yet, and what else keeps everything from being
/// counted.
pub(super) struct Uncounted(AtomicU32);

impl Uncounted {
    pub fn new(cores: u16) -> Self {
        Self(AtomicU32::new(u32::from(cores)))
    }

    /// While there are others, or the store has not begun.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// True for the last.
    pub fn remove(&self) -> bool {
        let order = if is_planted(Mutant::RaceCountedRelaxed) { Ordering::Relaxed } else { Ordering::AcqRel };
        self.0.fetch_sub(1, order) == 1
    }

    /// Whether everything is counted, and its bytes are in the segments.
    pub fn is_none(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

impl Accounting {
    pub fn new(start: Sequence) -> Self {
        Self {
            counted_to: Cell::new(None),
            done: Cell::new(false),
            changed: Notify::default(),
            recount: Recount::default(),
            start,
        }
    }

    /// Whether a record was written since the start: its sequence is above all that a start which
    /// could not read everything may have missed.
    pub fn is_of_this_life(&self, sequence: Sequence) -> bool {
        sequence > self.start
    }

    /// Whether a blob of this core is counted.
    pub fn counted(&self, id: &BlobId, sequence: Sequence) -> bool {
        if self.is_of_this_life(sequence) {
            return true;
        }
        let is_passed = self.done.get() || self.counted_to.get().is_some_and(|counted_to| *id <= counted_to);
        is_passed && !self.recount.holds(id, sequence)
    }
}

impl<I: Io> Shard<I> {
    /// Counts what was there at the start.
    pub(super) async fn account(self) {
        let Inner { accounting, index, io, .. } = &*self.0;
        let per_turn = self.shared().options.limits.counted_per_turn;
        let mut after = None;
        loop {
            let mut entries = Vec::with_capacity(per_turn);
            index.borrow().after(after.as_ref(), per_turn, &mut entries);
            if self.0.closing.get() {
                // Not everything is counted: what looks dead need not be, and nothing may be reclaimed.
                return;
            }
            if entries.is_empty() {
                break;
            }
            let mut ahead = Ahead::of(self.clone(), &entries);
            // All cores count in the same segments: once a turn for each, not once a blob.
            let mut live = BTreeMap::new();
            for entry in entries {
                if has_extents(&entry.location) {
                    self.add_live(&mut live);
                    self.account_large(entry, &mut ahead).await;
                } else if self.is_to_be_counted(&entry) {
                    *live.entry(entry.location.segment).or_default() += record_bytes(&entry.location);
                }
                accounting.counted_to.set(Some(entry.id));
                after = Some(entry.id);
                if self.shared().forgetting.is_under_way.load(Ordering::Acquire) && has_extents(&entry.location) {
                    self.delete_if_lost(&entry).await;
                }
            }
            self.add_live(&mut live);
            io.yield_now().await;
        }
        accounting.done.set(true);
        self.0.accounting.changed.notify();
        if self.shared().forgetting.is_under_way.load(Ordering::Acquire) {
            self.forget_missing().await;
        }
        if self.shared().uncounted.remove() {
            self.tell_reclaimer(Event::Accounted);
        }
    }

    /// Waits until this core has counted what was there at the start.
    pub(super) async fn accounted(&self) {
        let accounting = &self.0.accounting;
        accounting.changed.wait_for(|| accounting.done.get().then_some(())).await;
    }

    /// Deletes a blob of which pieces are lost with a directory that is given up. Its list names
    /// segments that are not there, and their numbers must never mean others.
    async fn delete_if_lost(&self, entry: &Entry) {
        let lost = match self.segment(&entry.location) {
            None => Ok(false),
            Some(segment) => match self.open_record(entry.id, &entry.location, segment).await {
                Ok(record) => self.lacks_pieces(entry.id, &record).await,
                Err(error) => Err(error),
            },
        };
        let outcome = match lost {
            // What is damaged beside is never read by its numbers.
            Ok(false) | Err(StoreError::Damaged { .. }) => return,
            Ok(true) => self.delete(entry.id).await.map(drop),
            Err(error) => Err(error),
        };
        let is_current = self.0.index.borrow().get(&entry.id) == Some(entry.location);
        match outcome {
            Ok(()) => {
                tracing::warn!(id = %entry.id, "a blob is gone: pieces of it lay in a directory that is given up");
            }
            // Stored again or deleted meanwhile.
            Err(_) if !is_current => {}
            Err(error) => {
                self.shared().forgetting.is_hindered.store(true, Ordering::Release);
                tracing::error!(id = %entry.id, %error, "a blob with lost pieces can't be looked at, or deleted");
            }
        }
    }

    /// When the last core has looked for what is lost, the directories leave the list of the store.
    async fn forget_missing(&self) {
        let shared = self.shared();
        let forgetting = &shared.forgetting;
        if forgetting.done_cores.fetch_add(1, Ordering::AcqRel) + 1 < u32::from(self.cores()) {
            return;
        }
        let mut superblocks = shared.superblocks.lock().expect("no panic under the lock").clone();
        let written = match forgetting.is_hindered.load(Ordering::Acquire) {
            true => Err(std::io::Error::other("not all that is lost could be deleted")),
            false => identity::forget(&self.0.dirs, &shared.options.dirs, &mut superblocks).await,
        };
        if let Err(error) = written {
            tracing::error!(%error, "the missing data directories are not given up yet: start with --forget-missing again");
            return;
        }
        *shared.superblocks.lock().expect("no panic under the lock") = superblocks;
        probe::hit(probe::Event::DirectoriesForgotten);
        tracing::warn!(
            "the missing data directories are given up: what lay there is gone, and the store no longer knows them"
        );
        forgetting.is_under_way.store(false, Ordering::Release);
        if shared.uncounted.remove() {
            self.tell_reclaimer(Event::Accounted);
        }
    }

    /// Whether a blob of the list that a turn began with is where it was, and was there at the start.
    fn is_to_be_counted(&self, entry: &Entry) -> bool {
        !self.0.accounting.is_of_this_life(entry.location.sequence)
            && self.0.index.borrow().get(&entry.id) == Some(entry.location)
    }

    /// Counts bytes in their segments.
    fn add_live(&self, live: &mut BTreeMap<SegmentId, u64>) {
        for (segment, bytes) in std::mem::take(live) {
            if let Some(segment) = self.shared().table.get(segment) {
                segment.add_live(bytes);
            }
        }
    }

    async fn account_large(&self, entry: Entry, ahead: &mut Ahead<I>) {
        let Inner { accounting, locks, .. } = &*self.0;
        if accounting.is_of_this_life(entry.location.sequence) {
            return;
        }
        // They are what they were for as long as the record is where it was. From here on nobody may
        // delete it.
        let pieces = ahead.next().await;
        locks.acquire(entry.id).await;
        if self.is_to_be_counted(&entry) {
            match pieces {
                Err(error) if is_passing(&error) => {
                    tracing::error!(
                        id = %entry.id, %error,
                        "the pieces of a blob can't be read: no segment is reclaimed until they can, or the blob is deleted"
                    );
                    self.count_live_later(&entry);
                }
                pieces => {
                    if !self.count_pieces(&entry, pieces) {
                        self.shared().uncounted.add();
                    }
                }
            }
        }
        // Counted before the next operation on it is let through.
        accounting.counted_to.set(Some(entry.id));
        self.release_own(entry.id);
    }

    /// Counts the record of a blob and its pieces as live; false if those will not be known before
    /// the next start.
    pub(super) fn count_pieces(&self, entry: &Entry, pieces: Result<Pieces<I>, StoreError>) -> bool {
        if let Some(segment) = self.segment(&entry.location) {
            segment.add_live(record_bytes(&entry.location));
        }
        match pieces {
            Ok(pieces) => {
                for (segment, bytes) in pieces {
                    segment.add_live(bytes);
                    segment.add_tenant(entry.id);
                }
                true
            }
            // Nobody will ever know which pieces are its: they are as good as dead, and must not keep all
            // others waiting.
            Err(error @ StoreError::Damaged { .. }) => {
                tracing::error!(id = %entry.id, %error, "the list of a blob's pieces is damaged: the blob is lost");
                self.0.accounting.recount.lose(entry);
                true
            }
            Err(error) => {
                tracing::error!(
                    id = %entry.id, %error,
                    "the pieces of a blob can't be counted: no segment is reclaimed until the next start"
                );
                false
            }
        }
    }

    /// The pieces of a blob. What looks damaged is read again: all that hangs on it is given up when it is.
    pub(super) async fn pieces_of(&self, entry: &Entry) -> Result<Pieces<I>, StoreError> {
        let mut tries = 0;
        loop {
            let mut pieces = Vec::new();
            let visit = |segment: &Arc<Segment<I::File>>, bytes| pieces.push((segment.clone(), bytes));
            match self.visit_pieces(entry.id, &entry.location, visit).await {
                Ok(()) => return Ok(pieces),
                Err(StoreError::Damaged { .. }) if tries < DAMAGED_RETRIES => {
                    tries += 1;
                    self.0.io.sleep(DAMAGED_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn release_own(&self, id: BlobId) {
        debug_assert!(self.owner(&id) == self.0.core && id >= first_owned(self.0.core, self.cores()));
        self.apply(id, Outcome::Nothing);
    }

    /// Counts what was taken out of the index as dead.
    pub(super) async fn forget(&self, released: Released) {
        let Released { before: Some(location), accounted: true, is_lost, id } = released else { return };
        if has_extents(&location) {
            let condemned = Condemned::Blob(released);
            if self.shared().readers.condemn(id, location.sequence, condemned).is_none() {
                return;
            }
            let mut pieces = Vec::new();
            if !is_lost {
                let read = self.visit_pieces(id, &location, |segment, bytes| pieces.push((segment.clone(), bytes)));
                match read.await {
                    Ok(()) => {}
                    Err(error) if is_passing(&error) => return self.count_dead_later(released),
                    Err(error) => {
                        // Nobody knows whether those that could be read were counted.
                        pieces.clear();
                        tracing::warn!(
                            %id, %error,
                            "the pieces of a deleted blob can't be read: their space is known only after a restart"
                        );
                    }
                }
            }
            for (segment, bytes) in pieces {
                self.count_dead(&segment, bytes);
            }
        }
        if let Some(segment) = self.segment(&location) {
            let wrong = if is_planted(Mutant::AccountWrong) { RECORD_ALIGN as u64 } else { 0 };
            self.count_dead(&segment, record_bytes(&location) + wrong);
        }
    }

    /// An operation whose record lies in a segment is in the index now.
    pub(super) fn applied(&self, segment: &Segment<I::File>) {
        let was_last = segment.remove_unapplied();
        if was_last && segment.is_dead() {
            self.tell_reclaimer(Event::Dead(segment.id));
        }
    }

    /// The same for records that were refused, once the owners of their ids know what is in doubt.
    pub(super) fn applied_in(&self, segments: &[SegmentId]) {
        for id in segments {
            // A segment with something unapplied is not taken out of the table.
            let segment = self.shared().table.get(*id).expect("what was refused in it is not applied yet");
            self.applied(&segment);
        }
    }

    /// Keeps the pieces that a record lists which may lie in a segment: the next start may find it.
    /// Those in that segment itself go with it.
    pub(super) fn hold_pieces(&self, in_doubt: SegmentId, pieces: &[(SegmentId, u64)]) {
        let home = self.shared().table.get(in_doubt).expect("what was refused in it is not applied yet");
        for (segment, bytes) in pieces {
            if *segment == in_doubt {
                self.count_dead(&home, *bytes);
            } else {
                home.hold(*segment, *bytes);
            }
        }
    }

    /// Takes bytes off a segment, and has it reclaimed when nothing is left.
    pub(super) fn count_dead(&self, segment: &Arc<Segment<I::File>>, bytes: u64) {
        if segment.remove_live(bytes) == 0 {
            self.tell_reclaimer(Event::Dead(segment.id));
        }
        self.shared().background.space_changed();
    }

    /// The same for records that were moved.
    pub(super) fn count_records_dead(&self, records: &[(SegmentId, u64)]) {
        for (segment, bytes) in records {
            let segment = self.shared().table.get(*segment).expect("it holds something that counts as live");
            self.count_dead(&segment, *bytes);
        }
    }
}
