//! The blobs that a run uploaded to a store and that are still there at its end.

use std::sync::{Arc, Mutex, PoisonError};

use nabu_engine::types::BlobId;

/// Blobs to be removed after a run; clones share them.
#[derive(Clone, Default, Debug)]
pub struct Leftovers(Arc<Mutex<Vec<BlobId>>>);

impl Leftovers {
    pub fn add(&self, ids: impl IntoIterator<Item = BlobId>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(ids);
    }

    /// All of them, each once.
    pub fn take(&self) -> Vec<BlobId> {
        let mut ids = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}
