//! Blobs that failed a check of the scrub: they are refused, never served.
//!
//! An entry stands for one record of a blob, by its sequence: who stores the content again, or
//! deletes it, takes it off the list. Compaction gives a blob a new sequence, so the entry goes
//! along. The scrub keeps the list in a file of the first data directory (`docs/format.md`, section
//! "Scrub").

use std::collections::BTreeMap;
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::types::{BlobId, Sequence};

/// The most blobs on the list. Of more on a broken disk each read fails by its own checksum.
pub(super) const QUARANTINED_MAX: usize = 64 << 10;
/// The most bytes of a reason.
pub(super) const REASON_BYTES_MAX: usize = 200;

/// What is wrong with a blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ailment {
    /// Its bytes are not those that were written: it is refused.
    Damaged,
    /// The disk refuses to read it, time and again. It is not refused beyond that: what the disk
    /// gives after all is checked as ever.
    Unreadable,
}

/// Why a blob is on the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quarantined {
    pub id: BlobId,
    /// Which record of the blob.
    pub sequence: Sequence,
    /// When it was found, in nanoseconds since 1970.
    pub found_at_ns: u64,
    pub ailment: Ailment,
    /// What failed, and where it lies.
    pub reason: String,
}

struct Held {
    entry: Quarantined,
    /// The sequence that the blob is about to get by a move.
    coming: Option<Sequence>,
}

impl Held {
    fn is_of(&self, sequence: Sequence) -> bool {
        self.entry.sequence == sequence || self.coming == Some(sequence)
    }
}

/// The list, for all cores.
#[derive(Default)]
pub(crate) struct Quarantine {
    /// Read before every lookup, and nearly always 0.
    count: AtomicUsize,
    /// Changes so far.
    changes: AtomicU64,
    blobs: RwLock<BTreeMap<BlobId, Held>>,
}

impl Quarantine {
    /// What is wrong with this record of a blob, as far as is known.
    pub fn ailment(&self, id: &BlobId, sequence: Sequence) -> Option<Ailment> {
        self.look(id, sequence, |entry| entry.ailment)
    }

    /// Why this record of a blob must not be served.
    pub fn refusal(&self, id: &BlobId, sequence: Sequence) -> Option<String> {
        let reason = |entry: &Quarantined| (entry.ailment == Ailment::Damaged).then(|| entry.reason.clone());
        self.look(id, sequence, reason).flatten()
    }

    fn look<T>(&self, id: &BlobId, sequence: Sequence, what: impl FnOnce(&Quarantined) -> T) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let blobs = self.blobs.read().expect("no panic under the lock");
        blobs.get(id).filter(|held| held.is_of(sequence)).map(|held| what(&held.entry))
    }

    /// Adds a blob, in place of an older record of it. False when it was there, or the list is
    /// full.
    pub fn add(&self, mut entry: Quarantined) -> bool {
        let end = (0..=REASON_BYTES_MAX).rev().find(|end| entry.reason.is_char_boundary(*end)).expect("0 is one");
        entry.reason.truncate(end);
        let mut blobs = self.blobs.write().expect("no panic under the lock");
        match blobs.get(&entry.id) {
            Some(held) if held.is_of(entry.sequence) && held.entry.ailment == entry.ailment => return false,
            None if blobs.len() >= QUARANTINED_MAX => return false,
            _ => {}
        }
        blobs.insert(entry.id, Held { entry, coming: None });
        self.changed(blobs.len());
        true
    }

    /// Takes a record off the list; false when it was not there.
    pub fn remove(&self, id: &BlobId, sequence: Sequence) -> bool {
        if self.is_empty() {
            return false;
        }
        let mut blobs = self.blobs.write().expect("no panic under the lock");
        let is_known = blobs.get(id).is_some_and(|held| held.is_of(sequence));
        if is_known {
            blobs.remove(id);
            self.changed(blobs.len());
        }
        is_known
    }

    /// The record of a blob gets another sequence. Called before the index says so, and
    /// [`Quarantine::moved`] after it.
    pub fn moves(&self, id: &BlobId, to: Sequence) {
        if self.is_empty() {
            return;
        }
        if let Some(held) = self.blobs.write().expect("no panic under the lock").get_mut(id) {
            held.coming = Some(to);
        }
    }

    /// The index says so now.
    pub fn moved(&self, id: &BlobId, from: Sequence, to: Sequence) {
        if self.is_empty() {
            return;
        }
        let mut blobs = self.blobs.write().expect("no panic under the lock");
        let Some(held) = blobs.get_mut(id) else { return };
        held.coming = None;
        if held.entry.sequence == from {
            held.entry.sequence = to;
            self.changes.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn changed(&self, count: usize) {
        self.count.store(count, Ordering::Release);
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Counts changes, so that the scrub knows when to save.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// All of it, by id.
    pub fn list(&self) -> Vec<Quarantined> {
        self.blobs.read().expect("no panic under the lock").values().map(|held| held.entry.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: BlobId = BlobId([7; 16]);

    fn entry(sequence: u64, ailment: Ailment) -> Quarantined {
        Quarantined { id: ID, sequence: Sequence(sequence), found_at_ns: 1, ailment, reason: "it is bad".into() }
    }

    #[test]
    fn a_damaged_record_is_refused_and_another_of_the_same_blob_is_not() {
        let list = Quarantine::default();
        assert_eq!(list.refusal(&ID, Sequence(3)), None);
        assert!(list.add(entry(3, Ailment::Damaged)));
        assert!(!list.add(entry(3, Ailment::Damaged)), "it is known");
        assert_eq!(list.refusal(&ID, Sequence(3)).as_deref(), Some("it is bad"));
        assert_eq!(list.refusal(&ID, Sequence(4)), None);
        assert!(!list.remove(&ID, Sequence(4)));
        assert!(list.remove(&ID, Sequence(3)));
        assert_eq!((list.refusal(&ID, Sequence(3)), list.count()), (None, 0));
    }

    #[test]
    fn an_unreadable_record_is_listed_and_not_refused() {
        let list = Quarantine::default();
        assert!(list.add(entry(3, Ailment::Unreadable)));
        assert_eq!(list.refusal(&ID, Sequence(3)), None);
        assert_eq!(list.ailment(&ID, Sequence(3)), Some(Ailment::Unreadable));
        assert!(list.add(entry(3, Ailment::Damaged)), "worse");
        assert!(list.refusal(&ID, Sequence(3)).is_some());
    }

    #[test]
    fn an_entry_goes_along_with_a_move_without_a_gap() {
        let list = Quarantine::default();
        list.add(entry(3, Ailment::Damaged));
        list.moves(&ID, Sequence(9));
        assert!(list.refusal(&ID, Sequence(3)).is_some() && list.refusal(&ID, Sequence(9)).is_some());
        list.moved(&ID, Sequence(3), Sequence(9));
        assert!(list.refusal(&ID, Sequence(3)).is_none() && list.refusal(&ID, Sequence(9)).is_some());
    }

    #[test]
    fn a_reason_is_cut_at_a_character() {
        let list = Quarantine::default();
        list.add(Quarantined { reason: "ä".repeat(REASON_BYTES_MAX), ..entry(1, Ailment::Damaged) });
        assert!(list.list()[0].reason.len() <= REASON_BYTES_MAX);
    }
}
