//! Where blobs of other cores were found lately, so that popular ones need no message to their
//! owner.
//!
//! Every core counts the changes of its part of the index: an entry here holds while its owner's
//! count is what it was before the owner was asked. The count goes up before a delete is
//! acknowledged, so nobody finds here what was deleted before the question.

use std::cell::RefCell;

use crate::atomics::{AtomicU64, Ordering};
use crate::index::Location;
use crate::mutant::{Mutant, is_planted};
use crate::types::BlobId;

/// Entries; each takes 64 bytes. A newer blob takes the place of an older one that falls on the
/// same.
const ENTRIES: usize = 4096;

/// Changes of one core's part of the index, insertions of new blobs aside. On a cache line of its
/// own.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Changes(AtomicU64);

impl Changes {
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Clone, Copy)]
struct Entry {
    id: BlobId,
    location: Location,
    changes: u64,
}

/// The locations that one core remembers.
#[derive(Default)]
pub(super) struct Recent {
    /// None before the first: a worker, and the only core, never ask another for a location.
    entries: RefCell<Vec<Option<Entry>>>,
}

/// Ids are uniform; their last bytes have nothing to do with their owner.
fn slot(id: &BlobId) -> usize {
    let tail: [u8; 8] = id.0[8..].try_into().expect("8 of 16 bytes");
    u64::from_le_bytes(tail) as usize % ENTRIES
}

impl Recent {
    /// Where a blob lies: as remembered, or else as its owner says when asked; `None` when it does
    /// not answer.
    pub async fn find(
        &self,
        id: BlobId,
        changes: &Changes,
        ask_owner: impl AsyncFnOnce() -> Option<Option<Location>>,
    ) -> Option<Option<Location>> {
        // Before the owner is asked: what changes after it, is asked for again.
        let count = changes.count();
        if let Some(location) = self.get(&id, count) {
            return Some(Some(location));
        }
        let found = ask_owner().await?;
        if let Some(location) = found {
            self.put(id, location, if is_planted(Mutant::RaceRememberLate) { changes.count() } else { count });
        }
        Some(found)
    }

    pub fn get(&self, id: &BlobId, changes: u64) -> Option<Location> {
        let entry = (*self.entries.borrow().get(slot(id))?)?;
        (entry.id == *id && entry.changes == changes).then_some(entry.location)
    }

    /// `changes`: the owner's count before it was asked.
    pub fn put(&self, id: BlobId, location: Location, changes: u64) {
        let mut entries = self.entries.borrow_mut();
        if entries.is_empty() {
            entries.resize(ENTRIES, None);
        }
        entries[slot(&id)] = Some(Entry { id, location, changes });
    }

    pub fn forget(&self, id: &BlobId) {
        let mut entries = self.entries.borrow_mut();
        let Some(entry) = entries.get_mut(slot(id)) else { return };
        if entry.is_some_and(|entry| entry.id == *id) {
            *entry = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{SegmentId, Sequence};

    fn location(sequence: u64) -> Location {
        Location { segment: SegmentId(1), offset_units: 64, length_units: 2, sequence: Sequence(sequence) }
    }

    #[test]
    fn a_location_holds_until_its_owner_changes_something() {
        let (recent, changes) = (Recent::default(), Changes::default());
        let id = BlobId([7; 16]);
        recent.put(id, location(1), changes.count());
        assert_eq!(recent.get(&id, changes.count()), Some(location(1)));
        changes.add();
        assert_eq!(recent.get(&id, changes.count()), None);
    }

    #[test]
    fn a_blob_on_the_same_place_takes_it() {
        let recent = Recent::default();
        let (first, second) = (BlobId([7; 16]), BlobId([[8; 8], [7; 8]].concat().try_into().unwrap()));
        recent.put(first, location(1), 0);
        recent.put(second, location(2), 0);
        assert_eq!((recent.get(&first, 0), recent.get(&second, 0)), (None, Some(location(2))));
        recent.forget(&first);
        assert_eq!(recent.get(&second, 0), Some(location(2)));
        recent.forget(&second);
        assert_eq!(recent.get(&second, 0), None);
    }
}
