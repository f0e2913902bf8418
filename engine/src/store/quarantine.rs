//! Blobs that failed a check: they are refused, never served.
//!
//! An entry stands for one record of a blob, by its sequence: who stores the content again, or deletes it, is not held up by it. The list is kept in
//! a file of the first data directory (`docs/format.md`, section "Quarantine") by the scrub.

use std::collections::BTreeMap;
use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::types::{BlobId, Sequence};

/// Why a blob is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quarantined {
    pub id: BlobId,
    /// Which record of the blob.
    pub sequence: Sequence,
    /// When it was found, in nanoseconds since 1970.
    pub found_at_ns: u64,
    pub reason: String,
}

/// The list, for all cores.
#[derive(Default)]
pub(crate) struct Quarantine {
    /// Read before every lookup, and nearly always 0.
    count: AtomicUsize,
    blobs: RwLock<BTreeMap<BlobId, Quarantined>>,
}

impl Quarantine {
    /// Whether this record of a blob is refused.
    pub fn holds(&self, id: &BlobId, sequence: Sequence) -> bool {
        self.count.load(Ordering::Acquire) > 0
            && self.blobs.read().expect("no panic under the lock").get(id).is_some_and(|held| held.sequence == sequence)
    }

    /// Adds a blob, in place of an older record of it. False when it was there.
    pub fn add(&self, entry: Quarantined) -> bool {
        let mut blobs = self.blobs.write().expect("no panic under the lock");
        let known = blobs.get(&entry.id).is_some_and(|held| held.sequence == entry.sequence);
        if !known {
            blobs.insert(entry.id, entry);
            self.count.store(blobs.len(), Ordering::Release);
        }
        !known
    }

    /// Takes a record off the list; false when it was not there.
    pub fn remove(&self, id: &BlobId, sequence: Sequence) -> bool {
        let mut blobs = self.blobs.write().expect("no panic under the lock");
        let known = blobs.get(id).is_some_and(|held| held.sequence == sequence);
        if known {
            blobs.remove(id);
            self.count.store(blobs.len(), Ordering::Release);
        }
        known
    }

    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// All of it, by id.
    pub fn list(&self) -> Vec<Quarantined> {
        self.blobs.read().expect("no panic under the lock").values().cloned().collect()
    }
}
