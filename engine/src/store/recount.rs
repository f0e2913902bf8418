//! What could not be counted because a disk refused to tell which pieces a blob has.
//!
//! A blob whose list of pieces can't be read may have them anywhere, so nothing is reclaimed while
//! it is not counted; and of one that was deleted the space does not come back. Neither is left to
//! the next start: the disk is asked again, ever more seldom, until it answers, the blob is gone, or
//! its directory is taken out. One task of each core does so, and only while there is something.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use crate::index::{Entry, Location};
use crate::io::Io;
use crate::probe;
use crate::store::accounting::is_passing;
use crate::store::backoff::Backoff;
use crate::store::message::Released;
use crate::store::reclaim::Event;
use crate::store::shard::{Inner, Shard};
use crate::sync::race;
use crate::types::{BlobId, Sequence};

/// What waits to be counted, of one core.
#[derive(Default)]
pub(super) struct Recount {
    /// As live: blobs of the index, with the places of their records.
    live: RefCell<BTreeMap<BlobId, Location>>,
    /// As dead.
    dead: RefCell<Vec<Released>>,
    /// Blobs of the index of which the list of pieces was damaged: their pieces count as dead.
    lost: RefCell<BTreeMap<BlobId, Location>>,
    is_running: Cell<bool>,
}

impl Recount {
    /// Whether this record of a blob is not counted as live yet.
    pub fn holds(&self, id: &BlobId, sequence: Sequence) -> bool {
        self.live.borrow().get(id).is_some_and(|location| location.sequence == sequence)
    }

    /// The pieces of a blob are not counted, and never will be.
    pub fn lose(&self, entry: &Entry) {
        self.lost.borrow_mut().insert(entry.id, entry.location);
    }

    /// Whether this record, which leaves the index, is of such a blob.
    pub fn take_lost(&self, id: &BlobId, sequence: Sequence) -> bool {
        let mut lost = self.lost.borrow_mut();
        let is_lost = lost.get(id).is_some_and(|location| location.sequence == sequence);
        if is_lost {
            lost.remove(id);
        }
        is_lost
    }

    fn len(&self) -> usize {
        self.live.borrow().len() + self.dead.borrow().len()
    }
}

impl<I: Io> Shard<I> {
    /// Has a blob counted as live later. Until then nothing is reclaimed.
    pub(super) fn count_live_later(&self, entry: &Entry) {
        self.shared().uncounted.add();
        self.recounting().live.borrow_mut().insert(entry.id, entry.location);
        self.start_recount();
    }

    /// Has a blob that left the index counted as dead later.
    pub(super) fn count_dead_later(&self, released: Released) {
        self.recounting().dead.borrow_mut().push(released);
        self.start_recount();
    }

    fn recounting(&self) -> &Recount {
        &self.0.accounting.recount
    }

    fn start_recount(&self) {
        if !self.recounting().is_running.replace(true) {
            self.0.io.spawn(self.clone().recount());
        }
    }

    async fn recount(self) {
        let Inner { accounting, io, closing, .. } = &*self.0;
        let waiting = &accounting.recount;
        let mut backoff = Backoff::default();
        loop {
            race(accounting.changed.wait_for(|| closing.get().then_some(())), io.sleep(backoff.next_pause())).await;
            if closing.get() {
                return;
            }
            let before = waiting.len();
            let live: Vec<Entry> =
                waiting.live.borrow().iter().map(|(id, location)| Entry { id: *id, location: *location }).collect();
            for entry in live {
                self.recount_live(entry).await;
            }
            for released in waiting.dead.take() {
                if closing.get() {
                    return;
                }
                self.forget(released).await;
            }
            if waiting.len() == 0 {
                waiting.is_running.set(false);
                return;
            }
            if waiting.len() < before {
                backoff = Backoff::default();
            }
        }
    }

    async fn recount_live(&self, entry: Entry) {
        let is_current = || self.0.index.borrow().get(&entry.id) == Some(entry.location);
        let pieces = match is_current() {
            true => self.pieces_of(&entry).await,
            false => Ok(Vec::new()),
        };
        let is_unknown = matches!(&pieces, Err(error) if is_passing(error));
        if self.0.closing.get() || (is_unknown && is_current()) {
            return;
        }
        self.0.locks.acquire(entry.id).await;
        // While it was not counted, whatever became of it took nothing off.
        let is_current = is_current();
        let is_counted = !is_current || self.count_pieces(&entry, pieces);
        self.recounting().live.borrow_mut().remove(&entry.id);
        self.release_own(entry.id);
        if is_counted {
            probe::hit(probe::Event::CountedLater);
            tracing::info!(id = %entry.id, is_current, "the pieces of a blob that could not be read are counted");
            if self.shared().uncounted.remove() {
                self.tell_reclaimer(Event::Accounted);
            }
        }
    }
}
