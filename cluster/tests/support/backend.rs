//! `redb` on a simulated disk.

use std::io;
use std::path::Path;
use std::time::Duration;

use nabu_engine::io::{Disk, OpenMode};
use nabu_engine::sim::{SimBlockingFile, SimIo};
use redb::StorageBackend;

/// The file of the control plane on each machine.
pub const FILE: &str = "/data/control.redb";

#[derive(Clone, Debug)]
pub struct Backend(SimBlockingFile);

impl Backend {
    /// Opens the file, or makes it, durably.
    pub async fn open(io: &SimIo) -> io::Result<Self> {
        let path = Path::new(FILE);
        let file = match io.open_blocking(path, OpenMode::ReadWrite) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => io.open_blocking(path, OpenMode::Create)?,
            result => result?,
        };
        // The name may be one that a crash has left, and not durable.
        io.sync_dir(Path::new("/data")).await?;
        Ok(Self(file))
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
