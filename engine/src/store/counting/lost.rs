//! What lay in data directories that are given up as lost: blobs with pieces there are deleted, and
//! then the directories leave the list of the store.

use std::sync::atomic::Ordering;

use crate::index::Entry;
use crate::io::Io;
use crate::probe;
use crate::store::error::StoreError;
use crate::store::event::Event;
use crate::store::open::identity;
use crate::store::shard::Shard;

impl<I: Io> Shard<I> {
    /// Deletes a blob of which pieces are lost with a directory that is given up. Its list names
    /// segments that are not there, and their numbers must never mean others.
    pub(super) async fn delete_if_lost(&self, entry: &Entry) {
        let lost = match self.segment(&entry.location) {
            None => Ok(false),
            Some(segment) => match self.open_record(entry.id, &entry.location, segment).await {
                Ok(record) => self.lacks_pieces(entry.id, &record, None).await,
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
    pub(super) async fn forget_missing(&self) {
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
}
