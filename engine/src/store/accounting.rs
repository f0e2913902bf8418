//! How far one core has come with counting how many bytes of each segment are live.
//!
//! Every record is counted when it is written, and its bytes are taken off when its blob goes. What
//! was there at the start is counted in the background, in the order of the ids, while the store
//! works. An outcome that takes away a blob which was not counted yet takes nothing off. Until
//! every core has counted ([`super::uncounted`]), no segment is reclaimed.
//!
//! Not here: the counting itself ([`super::counting`]).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use crate::log::segment::Tenant;
use crate::store::recount::Recount;
use crate::sync::Notify;
use crate::types::{BlobId, Sequence};

/// How far the counting after the start has come.
pub(super) struct Accounting {
    /// Everything up to here is counted; `None`: nothing.
    pub counted_to: Cell<Option<BlobId>>,
    pub done: Cell<bool>,
    /// Everything is counted, or the core closes.
    pub changed: Notify,
    /// What a disk refused to tell.
    pub recount: Recount,
    /// What has a higher sequence was counted when it was written.
    start: Sequence,
    /// Large blobs that were moved, with the sequences that they had before: the segments know
    /// their pieces by these. Not a hash table: one that grows moves all of it at once.
    moved: RefCell<BTreeMap<BlobId, Sequence>>,
}

impl Accounting {
    pub fn new(start: Sequence) -> Self {
        Self {
            counted_to: Cell::new(None),
            done: Cell::new(false),
            changed: Notify::default(),
            recount: Recount::default(),
            start,
            moved: RefCell::default(),
        }
    }

    /// Whether a record was written since the start: its sequence is above all that a start which
    /// could not read everything may have missed.
    pub fn is_of_this_life(&self, sequence: Sequence) -> bool {
        sequence > self.start
    }

    /// As which the segments know the pieces of a blob of this core.
    pub fn tenant(&self, id: BlobId, sequence: Sequence) -> Tenant {
        let since = self.moved.borrow().get(&id).copied().unwrap_or(sequence);
        Tenant { id, since }
    }

    /// A large blob was moved.
    pub fn move_tenant(&self, tenant: Tenant) {
        self.moved.borrow_mut().insert(tenant.id, tenant.since);
    }

    /// The same as [`Self::tenant`], of one that leaves the index.
    pub fn take_tenant(&self, id: BlobId, sequence: Sequence) -> Tenant {
        let since = self.moved.borrow_mut().remove(&id).unwrap_or(sequence);
        Tenant { id, since }
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
