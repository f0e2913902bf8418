//! Large blobs that are being read, over all cores.
//!
//! The record of a small blob lies in one segment, which its reader holds. The pieces of a large one lie anywhere, and a reader comes to know
//! their segments only on its way. So while somebody reads it, a blob that was deleted is not counted as dead: none of its segments is
//! reclaimed. The last reader does the counting.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use crate::io::Io;
use crate::store::message::Released;
use crate::store::reclaim::Event;
use crate::store::shard::{Shard, has_extents};
use crate::types::{BlobId, Sequence};

/// Which life of which blob.
type Key = (BlobId, Sequence);

/// Who reads what. One lock for all cores, taken twice for each read of a large blob.
#[derive(Default)]
pub(super) struct Readers(Mutex<HashMap<Key, Reading>>);

#[derive(Default)]
struct Reading {
    readers: usize,
    /// It was deleted meanwhile.
    condemned: Option<Released>,
}

impl Readers {
    fn enter(&self, key: Key) {
        self.0.lock().expect("no panic under the lock").entry(key).or_default().readers += 1;
    }

    /// What the last reader must count as dead.
    fn leave(&self, key: Key) -> Option<Released> {
        let mut all = self.0.lock().expect("no panic under the lock");
        let reading = all.get_mut(&key).expect("entered before");
        reading.readers -= 1;
        if reading.readers > 0 {
            return None;
        }
        all.remove(&key).and_then(|reading| reading.condemned)
    }

    /// Leaves the counting to the readers; false when there are none.
    pub fn condemn(&self, sequence: Sequence, released: Released) -> bool {
        let mut all = self.0.lock().expect("no panic under the lock");
        match all.get_mut(&(released.id, sequence)) {
            Some(reading) => {
                reading.condemned = Some(released);
                true
            }
            None => false,
        }
    }
}

/// Keeps the pieces of a blob where they are.
pub(super) struct Pin<I: Io> {
    shard: Shard<I>,
    key: Key,
}

impl<I: Io> Shard<I> {
    /// A blob in pieces went out of the index before its bytes were counted as live, so nothing shows that its segments are in use: nothing is
    /// reclaimed while somebody reads it. To be called before this core's own counting can end.
    pub(super) fn hold_for_readers(&self, released: Released) {
        let Some(before) = released.before.filter(has_extents) else { return };
        if self.shared().readers.condemn(before.sequence, released) {
            self.shared().unaccounted_cores.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn let_go(&self, released: Released) {
        if released.accounted {
            let shard = self.clone();
            return self.io().spawn(async move { shard.forget(released).await });
        }
        if self.shared().unaccounted_cores.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.tell_reclaimer(Event::Accounted);
        }
    }

    /// Holds from the moment at which the blob is found in the index once more.
    pub(super) fn pin(&self, id: BlobId, sequence: Sequence) -> Pin<I> {
        self.shared().readers.enter((id, sequence));
        Pin { shard: self.clone(), key: (id, sequence) }
    }
}

impl<I: Io> Drop for Pin<I> {
    fn drop(&mut self) {
        if let Some(released) = self.shard.shared().readers.leave(self.key) {
            self.shard.let_go(released);
        }
    }
}
