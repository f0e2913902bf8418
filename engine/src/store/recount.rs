//! What could not be counted because a disk refused to tell which pieces a blob has.
//!
//! A blob whose list of pieces can't be read may have them anywhere, so nothing is reclaimed while
//! it is not counted. Who asks the disk again is [`super::counting`]'s business.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use crate::index::Location;
use crate::types::{BlobId, Sequence};

/// What waits to be counted, of one core.
#[derive(Default)]
pub(super) struct Recount {
    /// As live: blobs of the index, with the places of their records.
    pub live: RefCell<BTreeMap<BlobId, Location>>,
    pub is_running: Cell<bool>,
}

impl Recount {
    /// Whether this record of a blob is not counted as live yet.
    pub fn holds(&self, id: &BlobId, sequence: Sequence) -> bool {
        self.live.borrow().get(id).is_some_and(|location| location.sequence == sequence)
    }

    pub fn len(&self) -> usize {
        self.live.borrow().len()
    }
}
