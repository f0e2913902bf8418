//! A file of the control plane in memory, which can be opened again.

use std::io;
use std::sync::Arc;

use nabu_cluster::control::member::StoreId;
use nabu_cluster::control::store::{Saved, Store, StoreError};
use redb::StorageBackend;
use redb::backends::InMemoryBackend;

/// Clones are the same file.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<InMemoryBackend>);

impl Memory {
    /// Opens it, once what was opened before is dropped.
    pub fn open(&self, new_store: StoreId) -> Result<(Store, Saved), StoreError> {
        Store::open(self.clone(), new_store)
    }
}

impl StorageBackend for Memory {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}
