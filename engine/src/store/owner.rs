//! What a shard does as the owner of its ids: it finds, locks and lists them, and says so to the
//! other cores.
//!
//! The index is written here alone: by `apply`, when the holder of an id's lock says what came of
//! its operation.

use std::sync::atomic::Ordering;

use crate::index::{Entry, Location};
use crate::io::Io;
use crate::log::checkpoint::Slice;
use crate::log::segment::Tenant;
use crate::mutant::{Mutant, is_planted};
use crate::probe::{self, Event};
use crate::store::error::StoreError;
use crate::store::location::has_extents;
use crate::store::message::{Acquired, CoreStatus, Held, Outcome, Released, Reply, Request};
use crate::store::ownership::{first_owned, last_owned, successor};
use crate::store::shard::Shard;
use crate::types::{BlobId, CoreId, Sequence};

impl<I: Io> Shard<I> {
    pub(super) fn answer(&self, from: CoreId, call: u64, request: Request) {
        let reply = match request {
            Request::Lookup(id) => Reply::Lookup(self.0.index.borrow().get(&id)),
            Request::Acquire(id) => match self.0.locks.try_acquire(id) {
                Some(sequence) => Reply::Acquired(self.acquired(id, sequence)),
                None => {
                    let shard = self.clone();
                    self.0.io.spawn(async move {
                        let sequence = shard.0.locks.acquire(id).await;
                        shard.reply(from, call, Reply::Acquired(shard.acquired(id, sequence)));
                    });
                    return;
                }
            },
            Request::Locate(ids) => {
                let index = self.0.index.borrow();
                Reply::Located(ids.iter().map(|id| index.get(id)).collect())
            }
            Request::Hold(records) => Reply::Held(records.into_iter().map(|(id, at)| self.hold(id, at)).collect()),
            Request::Moved(records) => {
                for (id, location) in records {
                    self.apply_move(id, location);
                }
                Reply::Moved
            }
            Request::Settle { segment, ids } => {
                self.0.locks.settle_in(segment, &ids);
                Reply::Settled
            }
            Request::Release { id, outcome } => Reply::Released(self.apply(id, outcome)),
            Request::List { after, limit } => Reply::Listed(self.list_own(after, limit)),
            Request::Slice { after } => {
                let (slice, more) = self.slice_own(after);
                Reply::Slice { slice, more }
            }
            Request::Rotate => {
                let shard = self.clone();
                self.0.io.spawn(async move {
                    for log in &shard.0.logs {
                        log.seal_active().await;
                    }
                    shard.reply(from, call, Reply::Rotated);
                });
                return;
            }
            Request::Status => Reply::Status(Box::new(self.status_own())),
            Request::Bury(head) => {
                let shard = self.clone();
                self.0.io.spawn(async move {
                    let buried = shard.bury_here(head).await;
                    shard.reply(from, call, Reply::Buried(buried));
                });
                return;
            }
            Request::Hash { upload, step } => return self.hash_for_another(from, call, upload, step),
            Request::Closed => {
                self.0.closed_cores.borrow_mut().push((from, Some(call)));
                self.0.core_closed.notify();
                return;
            }
        };
        self.reply(from, call, reply);
    }

    pub(super) async fn lookup(&self, id: BlobId) -> Result<Option<Location>, StoreError> {
        let owner = self.owner(&id);
        if owner == self.0.core {
            return Ok(self.0.index.borrow().get(&id));
        }
        let changes = &self.shared().changes[usize::from(owner.0)];
        let ask_owner = async || match self.call(owner, Request::Lookup(id)).await {
            Some(Reply::Lookup(found)) => Some(found),
            _ => None,
        };
        self.0.recent.find(id, changes, ask_owner).await.ok_or(StoreError::Closed)
    }

    /// Locks an id. The caller must [`Shard::release`] it.
    pub(super) async fn acquire(&self, id: BlobId) -> Result<Acquired, StoreError> {
        let owner = self.owner(&id);
        if owner == self.0.core {
            let sequence = self.0.locks.acquire(id).await;
            return Ok(self.acquired(id, sequence));
        }
        match self.call(owner, Request::Acquire(id)).await {
            Some(Reply::Acquired(acquired)) => Ok(acquired),
            _ => Err(StoreError::Closed),
        }
    }

    pub(super) async fn release(&self, id: BlobId, outcome: Outcome) -> Result<Released, StoreError> {
        let owner = self.owner(&id);
        if owner == self.0.core {
            return Ok(self.apply(id, outcome));
        }
        match self.call(owner, Request::Release { id, outcome }).await {
            Some(Reply::Released(released)) => Ok(released),
            _ => Err(StoreError::Closed),
        }
    }

    /// Locks an id to move its record, if it still lies there and nobody else is at it.
    fn hold(&self, id: BlobId, location: Location) -> Option<Held> {
        let is_there = self.0.index.borrow().get(&id) == Some(location);
        if !is_there {
            probe::hit(Event::MoveOvertaken);
        }
        let sequence = if is_there || is_planted(Mutant::MoveBlindly) { self.0.locks.try_acquire(id) } else { None };
        if is_there && sequence.is_none() {
            probe::hit(Event::MoveRefused);
        }
        sequence.map(|sequence| Held { sequence, tenant: self.0.accounting.tenant(id, location.sequence) })
    }

    fn acquired(&self, id: BlobId, sequence: Sequence) -> Acquired {
        let current = self.0.index.borrow().get(&id);
        // What this life has written overrules whatever could not be read.
        let is_known = current.is_some_and(|current| self.0.accounting.is_of_this_life(current.sequence));
        let in_doubt = ((self.shared().is_incomplete() && !is_known) || self.0.locks.is_in_doubt(&id))
            && !is_planted(Mutant::DoubtForgotten);
        let accounting = &self.0.accounting;
        let tenant = current
            .filter(|current| has_extents(current) && accounting.counted(&id, current.sequence))
            .map(|current| accounting.tenant(id, current.sequence));
        Acquired { current, tenant, in_doubt, sequence }
    }

    /// Enters an outcome into the index and passes the lock on. What was under quarantine and is
    /// replaced or removed is so no longer.
    pub(super) fn apply(&self, id: BlobId, outcome: Outcome) -> Released {
        let released = self.enter(id, outcome);
        if let Some(before) = released.before
            && self.shared().background.release(&id, before.sequence)
            && let Some(segment) = self.segment(&before)
        {
            // What is live beside it should not lie there.
            segment.is_damaged.store(true, Ordering::Release);
            self.shared().background.space_changed();
        }
        released
    }

    /// The same for a blob that was moved: it is what it was.
    fn apply_move(&self, id: BlobId, to: Option<Location>) {
        let Some(to) = to else {
            self.apply(id, Outcome::Nothing);
            return;
        };
        let quarantine = &self.shared().background.quarantine;
        quarantine.moves(&id, to.sequence);
        let released = self.enter(id, Outcome::Insert(to));
        if let Some(before) = released.before {
            if has_extents(&to) && !is_planted(Mutant::TenantsUnknown) {
                self.0.accounting.move_tenant(released.tenant);
            }
            quarantine.moved(&id, before.sequence, to.sequence);
        }
    }

    fn enter(&self, id: BlobId, outcome: Outcome) -> Released {
        let mut index = self.0.index.borrow_mut();
        let before = match outcome {
            Outcome::Nothing => None,
            Outcome::InDoubt(ref segments) => {
                self.0.locks.doubt(id, segments);
                None
            }
            Outcome::Insert(location) => index.insert(Entry { id, location }),
            Outcome::Remove => index.remove(&id),
        };
        drop(index);
        if before.is_some() && !is_planted(Mutant::RecentStays) {
            self.shared().changes[usize::from(self.0.core.0)].add();
        }
        if matches!(outcome, Outcome::Insert(_) | Outcome::Remove) {
            self.0.locks.settle(&id);
        }
        let accounted = before.is_none_or(|before| self.0.accounting.counted(&id, before.sequence));
        let tenant = match before {
            Some(before) => self.0.accounting.take_tenant(id, before.sequence),
            None => Tenant { id, since: Sequence(0) },
        };
        let released = Released { id, before, accounted, tenant };
        if !accounted {
            self.hold_for_readers(released);
        }
        self.0.locks.release(id);
        released
    }

    pub(super) fn list_own(&self, after: Option<BlobId>, limit: usize) -> Vec<BlobId> {
        let mut entries = Vec::new();
        self.0.index.borrow().after(after.as_ref(), limit, &mut entries);
        entries.into_iter().map(|entry| entry.id).collect()
    }

    /// The next slice of this core's ids above `after`, and whether more follow.
    pub(super) fn slice_own(&self, after: Option<BlobId>) -> (Slice, bool) {
        let first = match after {
            Some(after) => successor(after).expect("more follow only below the last id"),
            None => first_owned(self.0.core, self.cores()),
        };
        let most = self.shared().options.limits.slice_entries_max;
        let mut entries = Vec::new();
        self.0.index.borrow().after(after.as_ref(), most, &mut entries);
        let end = last_owned(self.0.core, self.cores());
        let last = match entries.last() {
            Some(entry) if entries.len() == most => entry.id,
            _ => end,
        };
        let operations = match is_planted(Mutant::SliceWithoutOperations) {
            true => Vec::new(),
            false => self.0.locks.under_way(first, last),
        };
        let slice = Slice { first, last, sequence: self.0.locks.last(), operations, entries };
        (slice, last < end)
    }

    pub(super) fn status_own(&self) -> CoreStatus {
        let index = self.0.index.borrow();
        let mut status = CoreStatus {
            blob_count: index.len() as u64,
            index_bytes: index.memory_bytes() as u64,
            frame_bytes: self.0.frames.charged() as u64,
            frame_budget_bytes: self.0.frames.budget() as u64,
            frame_waiters: self.0.frames.waiting() as u64,
            ..CoreStatus::default()
        };
        for log in &self.0.logs {
            let counters = log.counters();
            status.log.add(&counters);
            status.waiting_records += log.waiting_records() as u64;
        }
        status
    }
}
