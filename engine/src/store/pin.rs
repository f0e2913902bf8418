//! What a reader of a large blob holds: a pin, which keeps its pieces where they are.
//!
//! Which blobs are pinned is in [`super::in_use`]. The last pin to go counts as dead what waits
//! there.

use crate::io::Io;
use crate::store::event::Event;
use crate::store::in_use::Condemned;
use crate::store::location::has_extents;
use crate::store::message::Released;
use crate::store::shard::Shard;
use crate::types::{BlobId, Sequence};

/// Keeps the pieces of a blob where they are.
pub(super) struct Pin<I: Io> {
    shard: Shard<I>,
    id: BlobId,
    sequence: Sequence,
}

impl<I: Io> Shard<I> {
    /// A blob in pieces went out of the index before its bytes were counted as live, so nothing
    /// shows that its segments are in use: nothing is reclaimed while somebody reads it. To be
    /// called before this core's own counting can end.
    pub(super) fn hold_for_readers(&self, released: Released) {
        let Some(before) = released.before.filter(has_extents) else { return };
        if self.shared().in_use.condemn(released.id, before.sequence, Condemned::Blob(released)).is_none() {
            self.shared().uncounted.add();
        }
    }

    fn let_go(&self, condemned: Condemned) {
        match condemned {
            Condemned::Blob(released) if released.accounted => {
                let shard = self.clone();
                self.io().spawn(async move { shard.forget(released).await });
            }
            Condemned::Blob(_) => {
                if self.shared().uncounted.remove() {
                    self.tell_reclaimer(Event::Accounted);
                }
            }
            Condemned::Moved(records) => self.count_records_dead(&records),
        }
    }

    /// Holds from the moment at which the blob is found in the index once more.
    pub(super) fn pin(&self, id: BlobId, sequence: Sequence) -> Pin<I> {
        self.shared().in_use.enter(id, sequence);
        Pin { shard: self.clone(), id, sequence }
    }
}

impl<I: Io> Drop for Pin<I> {
    fn drop(&mut self) {
        for condemned in self.shard.shared().in_use.leave(self.id, self.sequence) {
            self.shard.let_go(condemned);
        }
    }
}
