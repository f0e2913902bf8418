//! A core's handle: implements the seam [`Io`] on the ring.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::io::{AlignedBuf, DirEntry, Instant, Io, OpenMode, Space, WithBuf};

/// An open file of the ring.
#[derive(Clone, Debug)]
pub struct RingFile(Arc<std::os::fd::OwnedFd>);

/// The handle of one core; cheap to clone, never leaves its thread.
#[derive(Clone)]
pub struct RingIo(());

#[allow(unused_variables)]
impl Io for RingIo {
    type File = RingFile;

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<RingFile> {
        todo!()
    }
    async fn read_at(&self, file: &RingFile, buf: AlignedBuf, range: Range<usize>, offset: u64) -> WithBuf<usize> {
        todo!()
    }
    async fn write_at(&self, file: &RingFile, buf: AlignedBuf, range: Range<usize>, offset: u64) -> WithBuf<()> {
        todo!()
    }
    async fn sync(&self, file: &RingFile) -> io::Result<()> {
        todo!()
    }
    async fn allocate(&self, file: &RingFile, size: u64) -> io::Result<()> {
        todo!()
    }
    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        todo!()
    }
    async fn remove(&self, path: &Path) -> io::Result<()> {
        todo!()
    }
    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        todo!()
    }
    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        todo!()
    }
    async fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        todo!()
    }
    async fn file_size(&self, file: &RingFile) -> io::Result<u64> {
        todo!()
    }
    async fn space(&self, path: &Path) -> io::Result<Space> {
        todo!()
    }
    fn now(&self) -> Instant {
        todo!()
    }
    fn wall_clock_ns(&self) -> u64 {
        todo!()
    }
    async fn sleep(&self, duration: Duration) {
        todo!()
    }
    async fn yield_now(&self) {
        todo!()
    }
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        todo!()
    }
    fn random_u64(&self) -> u64 {
        todo!()
    }
}
