//! What was live at the start is counted in the background, in the order of the ids, and a blob
//! that was not counted yet takes nothing off when it goes.
//!
//! The pieces of large blobs are read ahead. What a disk refuses to tell is counted later: see
//! [`super::later`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::index::Entry;
use crate::io::{Disk, Io};
use crate::log::segment::{Segment, Tenant};
use crate::store::error::StoreError;
use crate::store::event::Event;
use crate::store::location::{has_extents, record_bytes};
use crate::store::message::Outcome;
use crate::store::ownership::first_owned;
use crate::store::shard::{Inner, Shard};
use crate::sync::{Promised, promise};
use crate::types::{BlobId, SegmentId};

/// How often a list of pieces that looks damaged is read again before it counts as lost, and after
/// how long.
const DAMAGED_RETRIES: u32 = 2;
const DAMAGED_PAUSE: Duration = Duration::from_millis(500);

/// Large blobs of which the pieces are read at the same time.
const READS_AT_ONCE: usize = 8;

/// Segments, and the bytes that a blob has in each.
type Pieces<I> = Vec<(Arc<Segment<<I as Disk>::File>>, u64)>;

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

impl<I: Io> Shard<I> {
    /// Counts what was there at the start.
    pub(in crate::store) async fn account(self) {
        let Inner { accounting, index, io, .. } = &*self.0;
        let per_turn = self.shared().options.limits.counted_per_turn;
        let mut after = None;
        loop {
            let mut entries = Vec::with_capacity(per_turn);
            index.borrow().after(after.as_ref(), per_turn, &mut entries);
            if self.0.closing.get() {
                // Not everything is counted: what looks dead need not be, and nothing may be
                // reclaimed.
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
    pub(in crate::store) async fn accounted(&self) {
        let accounting = &self.0.accounting;
        accounting.changed.wait_for(|| accounting.done.get().then_some(())).await;
    }

    /// Whether a blob of the list that a turn began with is where it was, and was there at the
    /// start.
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
        // They are what they were for as long as the record is where it was. From here on nobody
        // may delete it.
        let pieces = ahead.next().await;
        locks.acquire(entry.id).await;
        if self.is_to_be_counted(&entry) {
            match pieces {
                Err(error) if error.is_passing() => {
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
    pub(in crate::store) fn count_pieces(&self, entry: &Entry, pieces: Result<Pieces<I>, StoreError>) -> bool {
        if let Some(segment) = self.segment(&entry.location) {
            segment.add_live(record_bytes(&entry.location));
        }
        match pieces {
            Ok(pieces) => {
                for (segment, bytes) in pieces {
                    segment.add_live(bytes);
                    segment.add_tenant(Tenant { id: entry.id, since: entry.location.sequence }, bytes);
                }
                true
            }
            // Nobody will ever know which pieces are its: they are as good as dead, and must not
            // keep all others waiting. Their segments don't know it, so nothing is taken off when
            // it goes, even if the list can be read then.
            Err(error @ StoreError::Damaged { .. }) => {
                tracing::error!(id = %entry.id, %error, "the list of a blob's pieces is damaged: the blob is lost");
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

    /// The pieces of a blob. What looks damaged is read again: all that hangs on it is given up
    /// when it is.
    pub(in crate::store) async fn pieces_of(&self, entry: &Entry) -> Result<Pieces<I>, StoreError> {
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

    pub(in crate::store) fn release_own(&self, id: BlobId) {
        debug_assert!(self.owner(&id) == self.0.core && id >= first_owned(self.0.core, self.cores()));
        self.apply(id, Outcome::Nothing);
    }
}
