//! The maintenance thread's handle: implements the seam [`crate::io::Io`] on a `glommio` executor.
//!
//! Its files are the cores' files, so that both planes share one store. Data moves through the
//! executor's own direct-I/O files, and is copied between the buffers of the seam and `glommio`'s.
//! What `glommio` cannot do on its ring, it does on a thread for blocking calls, and so do we:
//! names, sizes and syncs. No call blocks the executor's thread.

use std::cell::Cell;
use std::fs::{self, DirBuilder, File};
use std::future::Future;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use glommio::TaskQueueHandle;
use glommio::io::DmaFile;

use super::files::{DirectFiles, LINGER, plain};
use super::operations::{Operations, block};
use super::priority::Priority;
use super::tasks::Tasks;
use crate::io::{AlignedBuf, BLOCK_SIZE, Clock, DirEntry, Disk, Instant, OpenMode, Randomness, Space, Spawn, WithBuf};
use crate::ring::sys;
use crate::runtime::{self, DIRECTORY_MODE, FILE_MODE, RingFile, STALLS_MAX, assert_aligned};
use crate::types::CoreId;

/// Bytes that one request to the kernel moves, at most, and so the memory that a transfer takes
/// beside the caller's.
pub const TRANSFER_MAX: usize = 2 << 20;
/// Zeros written at once where the file system cannot reserve space.
const ZEROS: usize = 1 << 20;
/// The longest timer that is set; a longer sleep sets several. `glommio` adds durations to instants
/// without a care for overflow.
const TIMER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

const _: () = assert!(TRANSFER_MAX.is_multiple_of(BLOCK_SIZE) && ZEROS.is_multiple_of(BLOCK_SIZE));

/// What all handles of one executor share.
pub(super) struct Plane {
    tasks: Rc<Tasks>,
    operations: Rc<Operations>,
    files: DirectFiles,
    is_closing_unused: Cell<bool>,
    priority: Priority,
}

impl Plane {
    pub fn new(priority: Priority) -> Self {
        Self {
            tasks: Rc::default(),
            operations: Rc::default(),
            files: DirectFiles::default(),
            is_closing_unused: Cell::default(),
            priority,
        }
    }

    /// Ends every task, then waits for what is in flight, then closes the files.
    pub async fn end(&self) {
        self.tasks.end().await;
        self.operations.close().await;
        self.files.close().await;
    }
}

/// The handle of one task queue of the maintenance thread; cheap to clone, never leaves its thread.
#[derive(Clone)]
pub struct MaintenanceIo {
    plane: Rc<Plane>,
    queue: TaskQueueHandle,
}

impl MaintenanceIo {
    pub(super) fn new(plane: Rc<Plane>, queue: TaskQueueHandle) -> Self {
        Self { plane, queue }
    }

    /// Operations that have begun and not ended, whether anybody waits for them or not.
    pub fn operations_in_flight(&self) -> usize {
        self.plane.operations.in_flight()
    }

    /// Files of the store that the executor has opened a second time, for itself.
    pub fn open_files(&self) -> usize {
        self.plane.files.len()
    }

    async fn run<T: 'static>(&self, operation: impl Future<Output = T> + 'static) -> T {
        self.plane.operations.run(self.queue, operation).await
    }

    async fn block<T: Send + 'static>(&self, call: impl FnOnce() -> T + Send + 'static) -> T {
        self.run(block(call)).await
    }

    /// The executor's file. To be called from within an operation, which is never dropped.
    async fn direct(&self, file: &Arc<File>) -> io::Result<Rc<DmaFile>> {
        let file = self.plane.files.get(file).await?;
        if !self.plane.is_closing_unused.replace(true) {
            // Its own handle, since it may outlive this operation. It ends when no file is open, so
            // that an idle thread sets no timers.
            let io = self.clone();
            self.spawn(async move {
                while io.plane.files.len() > 0 {
                    io.sleep(LINGER).await;
                    let plane = io.plane.clone();
                    io.run(async move { plane.files.close_unused().await }).await;
                }
                io.plane.is_closing_unused.set(false);
            });
        }
        Ok(file)
    }

    async fn read(self, file: Arc<File>, mut buf: AlignedBuf, range: Range<usize>, offset: u64) -> WithBuf<usize> {
        let direct = match self.direct(&file).await {
            Ok(direct) => direct,
            Err(error) => return (Err(error), buf),
        };
        let mut done = 0;
        let mut stalls = 0;
        while done < range.len() {
            // Each step starts at a block boundary, also after one that ended within a block.
            let from = done - done % BLOCK_SIZE;
            let length = (range.len() - from).min(TRANSFER_MAX);
            match direct.read_at_aligned(offset + from as u64, length).await.map_err(plain) {
                // Nothing beyond what is known: the end of the file.
                Ok(bytes) if from + bytes.len() <= done => break,
                Ok(bytes) => {
                    buf[range.start + from..][..bytes.len()].copy_from_slice(&bytes);
                    done = from + bytes.len();
                }
                Err(error) if is_interruption(&error) && stalls < STALLS_MAX => stalls += 1,
                Err(error) => return (Err(error), buf),
            }
        }
        (Ok(done), buf)
    }

    async fn write(self, file: Arc<File>, buf: AlignedBuf, range: Range<usize>, offset: u64) -> WithBuf<()> {
        let direct = match self.direct(&file).await {
            Ok(direct) => direct,
            Err(error) => return (Err(error), buf),
        };
        let mut done = 0;
        let mut stalls = 0;
        while done < range.len() {
            let length = (range.len() - done).min(TRANSFER_MAX);
            let mut bytes = direct.alloc_dma_buffer(length);
            bytes.as_bytes_mut().copy_from_slice(&buf[range.start + done..][..length]);
            let count = match direct.write_at(bytes, offset + done as u64).await.map_err(plain) {
                // A direct write ends short at an error; the block in which it did is written
                // again.
                Ok(count) => count - count % BLOCK_SIZE,
                Err(error) if is_interruption(&error) => 0,
                Err(error) => return (Err(error), buf),
            };
            done += count;
            stalls = if count == 0 { stalls + 1 } else { 0 };
            if stalls > STALLS_MAX {
                return (Err(io::Error::new(io::ErrorKind::WriteZero, "a write that makes no progress")), buf);
            }
        }
        (Ok(()), buf)
    }

    /// Reserves `size` bytes. What an attempt that failed has added to the file is cut off again.
    async fn reserve(self, file: Arc<File>, size: u64) -> io::Result<()> {
        let before = file_size(&file).await?;
        let mut stalls = 0;
        let outcome = loop {
            let direct = self.direct(&file).await?;
            match direct.pre_allocate(size, false).await.map_err(plain) {
                Err(error) if is_interruption(&error) && stalls < STALLS_MAX => stalls += 1,
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                    break self.fill_with_zeros(&file, before, size).await;
                }
                outcome => break outcome,
            }
        };
        if outcome.is_err() {
            block(move || if file.metadata()?.len() > before { file.set_len(before) } else { Ok(()) }).await?;
        }
        outcome
    }

    /// For file systems that cannot reserve space: writing is the only way to be sure of it.
    async fn fill_with_zeros(&self, file: &Arc<File>, before: u64, size: u64) -> io::Result<()> {
        let mut offset = before.next_multiple_of(BLOCK_SIZE as u64);
        let mut zeros = AlignedBuf::zeroed(ZEROS);
        while offset < size {
            let count = (size - offset).min(ZEROS as u64).next_multiple_of(BLOCK_SIZE as u64) as usize;
            let (written, buf) = self.clone().write(file.clone(), zeros, 0..count, offset).await;
            written?;
            zeros = buf;
            offset += count as u64;
        }
        let file = file.clone();
        block(move || file.set_len(size.max(before))).await
    }
}

async fn file_size(file: &Arc<File>) -> io::Result<u64> {
    let file = file.clone();
    block(move || Ok(file.metadata()?.len())).await
}

fn is_interruption(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN))
}

impl Disk for MaintenanceIo {
    type File = RingFile;

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<RingFile> {
        let path = path.to_path_buf();
        self.block(move || {
            let mut options = File::options();
            options.read(true).custom_flags(libc::O_DIRECT).mode(FILE_MODE);
            match mode {
                OpenMode::Read => &mut options,
                OpenMode::ReadWrite => options.write(true),
                OpenMode::Create => options.write(true).create_new(true),
            };
            Ok(RingFile(Arc::new(options.open(path)?)))
        })
        .await
    }

    async fn read_at(&self, file: &RingFile, buf: AlignedBuf, range: Range<usize>, offset: u64) -> WithBuf<usize> {
        assert_aligned(&buf, &range, offset);
        self.run(self.clone().read(file.0.clone(), buf, range, offset)).await
    }

    async fn write_at(&self, file: &RingFile, buf: AlignedBuf, range: Range<usize>, offset: u64) -> WithBuf<()> {
        assert_aligned(&buf, &range, offset);
        self.run(self.clone().write(file.0.clone(), buf, range, offset)).await
    }

    async fn sync(&self, file: &RingFile) -> io::Result<()> {
        // On the store's own descriptor: see `files`.
        let file = file.0.clone();
        self.block(move || sys::sync_data(&file)).await
    }

    async fn allocate(&self, file: &RingFile, size: u64) -> io::Result<()> {
        self.run(self.clone().reserve(file.0.clone(), size)).await
    }

    async fn truncate(&self, file: &RingFile, size: u64) -> io::Result<()> {
        let file = file.0.clone();
        self.block(move || file.set_len(size)).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (from.to_path_buf(), to.to_path_buf());
        self.block(move || fs::rename(from, to)).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let path = path.to_path_buf();
        self.block(move || fs::remove_file(path)).await
    }

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        let path = path.to_path_buf();
        self.block(move || DirBuilder::new().mode(DIRECTORY_MODE).create(path)).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = path.to_path_buf();
        self.block(move || {
            let directory = File::options().read(true).custom_flags(libc::O_DIRECTORY).open(path)?;
            sys::sync_all(&directory)
        })
        .await
    }

    async fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let path = path.to_path_buf();
        self.block(move || runtime::list_dir(&path)).await
    }

    async fn file_size(&self, file: &RingFile) -> io::Result<u64> {
        let file = file.0.clone();
        self.run(async move { file_size(&file).await }).await
    }

    async fn space(&self, path: &Path) -> io::Result<Space> {
        let path = path.to_path_buf();
        self.block(move || sys::space(&path)).await
    }
}

impl Clock for MaintenanceIo {
    fn now(&self) -> Instant {
        runtime::now()
    }

    fn wall_clock_ns(&self) -> u64 {
        runtime::wall_clock_ns()
    }

    async fn sleep(&self, duration: Duration) {
        let until = self.now().after(duration);
        loop {
            let left = until.since(self.now());
            if left.is_zero() {
                return;
            }
            glommio::timer::sleep(left.min(TIMER_MAX)).await;
        }
    }
}

impl Spawn for MaintenanceIo {
    async fn yield_now(&self) {
        glommio::executor().yield_task_queue_now().await;
    }

    /// Nobody's small request waits for this thread, so the turn is as long as the executor's
    /// slice, or until the next transfer.
    async fn bulk_turn(&self, _bytes: usize) {
        glommio::yield_if_needed().await;
    }

    fn count_bulk(&self, _bytes: usize) {}

    fn set_pressing(&self, is_pressing: bool) {
        self.plane.priority.set_pressing(is_pressing);
    }

    /// No core: maintenance asks none of them to help.
    fn is_idle(&self, _core: CoreId) -> bool {
        false
    }

    fn lend<T>(&self, work: impl FnOnce() -> T) -> T {
        work()
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.plane.tasks.spawn(self.queue, task);
    }
}

impl Randomness for MaintenanceIo {
    fn random_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the kernel gives randomness once it has booted");
        u64::from_le_bytes(bytes)
    }
}
