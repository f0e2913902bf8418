//! What a disk refused to tell is asked again, ever more seldom, until it answers, the blob is
//! gone, or its directory is taken out. Nothing is left to the next start.
//!
//! One task of each core does so, and only while there is something.

use crate::index::Entry;
use crate::io::Io;
use crate::probe;
use crate::store::backoff::Backoff;
use crate::store::event::Event;
use crate::store::recount::Recount;
use crate::store::shard::{Inner, Shard};
use crate::sync::race;

impl<I: Io> Shard<I> {
    /// Has a blob counted as live later. Until then nothing is reclaimed.
    pub(in crate::store) fn count_live_later(&self, entry: &Entry) {
        self.shared().uncounted.add();
        self.recounting().live.borrow_mut().insert(entry.id, entry.location);
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
        let is_unknown = matches!(&pieces, Err(error) if error.is_passing());
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
