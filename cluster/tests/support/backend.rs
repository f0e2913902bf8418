//! `redb` on a simulated disk.

use std::io;
use std::path::Path;
use std::time::Duration;

use nabu_cluster::control::member::StoreId;
use nabu_cluster::control::store::{Saved, Store, StoreError};
use nabu_engine::io::{Clock, Disk, OpenMode};
use nabu_engine::sim::{SimBlockingFile, SimIo};
use redb::StorageBackend;

/// The file of the control plane on each machine.
pub const FILE: &str = "/data/control.redb";
/// One that is being made.
const DRAFT: &str = "/data/control.redb.new";

#[derive(Clone, Debug)]
pub struct Backend(SimBlockingFile);

impl Backend {
    /// Opens the file. Its name is durable then.
    pub async fn open(io: &SimIo) -> io::Result<Self> {
        let file = io.open_blocking(Path::new(FILE), OpenMode::ReadWrite)?;
        // It may be one that a crash has left.
        io.sync_dir(Path::new("/data")).await?;
        Ok(Self(file))
    }

    /// Opens the file, or makes it for a new store.
    pub async fn open_or_make(io: &SimIo, new_store: StoreId) -> Result<(Self, Store, Saved), StoreError> {
        let backend = match Self::open(io).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::make(io, new_store).await?;
                Self::open(io).await.map_err(redb::Error::Io)?
            }
            result => result.map_err(redb::Error::Io)?,
        };
        let (store, saved) = Store::open(backend.clone(), new_store)?;
        Ok((backend, store, saved))
    }

    /// Makes the file whole before it has its name.
    async fn make(io: &SimIo, new_store: StoreId) -> Result<(), StoreError> {
        let draft = Path::new(DRAFT);
        match io.remove(draft).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(redb::Error::Io(error).into()),
            _ => {}
        }
        let backend = Self(io.open_blocking(draft, OpenMode::Create).map_err(redb::Error::Io)?);
        drop(Store::open(backend.clone(), new_store)?);
        io.sleep(backend.take_delay()).await;
        Ok(io.rename(draft, Path::new(FILE)).await.map_err(redb::Error::Io)?)
    }

    pub fn take_delay(&self) -> Duration {
        self.0.take_delay()
    }
}

impl StorageBackend for Backend {
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
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}
