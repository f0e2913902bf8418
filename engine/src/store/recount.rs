//! What could not be counted because a disk refused to tell which pieces a blob has.
//!
//! A blob whose list of pieces can't be read may have them anywhere, so nothing is reclaimed while
//! it is not counted; and of one that was deleted the space does not come back. Who asks the disk
//! again is [`super::counting`]'s business.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use crate::index::{Entry, Location};
use crate::store::message::Released;
use crate::types::{BlobId, Sequence};

/// What waits to be counted, of one core.
#[derive(Default)]
pub(super) struct Recount {
    /// As live: blobs of the index, with the places of their records.
    pub live: RefCell<BTreeMap<BlobId, Location>>,
    /// As dead.
    pub dead: RefCell<Vec<Released>>,
    /// Blobs of the index of which the list of pieces was damaged: their pieces count as dead.
    lost: RefCell<BTreeMap<BlobId, Location>>,
    pub is_running: Cell<bool>,
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

    pub fn len(&self) -> usize {
        self.live.borrow().len() + self.dead.borrow().len()
    }
}
