//! The maintenance thread: one `glommio` executor, unpinned and of low priority, with a task queue
//! for each kind of work.
//!
//! Traps of `glommio` 0.9 that this file keeps away from:
//! - It asks by one read whether a device can be polled, of the first file that it opens there. A
//!   read that needs no disk (an empty file, or space that was reserved and never written)
//!   succeeds, and then every later read is polled for and fails with `EOPNOTSUPP`. So the first is
//!   a file of data, and it is opened to write: such a read fails, and nothing on that device is
//!   ever polled for. Polling would also burn a CPU for as long as the disk works, and hang on
//!   requests larger than the device takes at once.
//! - It panics where `/sys` has the device otherwise than it thinks. So that is looked at first,
//!   and makes an error.
//! - It panics, or ends the process, where there is no io_uring. So that is looked at first as
//!   well.
//! - It goes to sleep although a task of its own could run, when its time slice was over before it
//!   had run one: nothing wakes it then. Mended after 0.9.0 (pull request 53 of glommio/glommio).
//!   With slices of 100 microseconds one start in a hundred ends so, with 10 milliseconds one in
//!   some thousands on a busy machine. So the slice is longer than a thread is kept from its CPU
//!   ([`SLICE`]), and a timer wakes the thread in case ([`HEARTBEAT`]).
//! - It refuses to start where less than [`LOCKED_MEMORY_MIN`] may be locked, root or not; that too
//!   is asked first.

use std::fmt;
use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use glommio::io::OpenOptions;
use glommio::{Latency, LocalExecutor, LocalExecutorBuilder, Placement, Shares, TaskQueueHandle};

use super::files::{self, close, plain};
use super::io::{MaintenanceIo, Plane};
use super::priority::{self, Priority, Standing};
use crate::io::BLOCK_SIZE;
use crate::ring::sys::Limit;
use crate::ring::{probe, sys};

const THREAD_NAME: &str = "nabu-maint";
/// Memory for transfers that is locked once for each of three rings, where the limit allows. It is
/// the least that glommio takes: larger transfers use other memory, and what may be locked is left
/// to the cores' zero-copy sends.
const LOCKED_BYTES: usize = 64 << 10;
/// The limit of locked memory below which glommio refuses to start, even where its user may lock
/// all.
const LOCKED_MEMORY_MIN: u64 = 512 << 10;
/// Operations that each ring holds; more wait. Maintenance has a handful.
const RING_DEPTH: usize = 64;
/// The longest that the executor sleeps.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long a task queue runs before another gets its turn, if its tasks ask. They give it away
/// much sooner: with each transfer.
const SLICE: Duration = Duration::from_secs(1);

/// Space that nobody can use is what compaction gives back, and the store refuses uploads without
/// it; scrub only has to come round in some weeks. The shares divide this thread's time, not the
/// disk's.
const COMPACTION_SHARES: usize = 800;
const SCRUB_SHARES: usize = 200;

/// A kind of work, with a task queue of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Copies what is live out of segments that are mostly dead.
    Compaction,
    /// Reads what is stored and compares it with its checksums.
    Scrub,
}

/// The task queues of the thread.
#[derive(Clone)]
pub struct Queues {
    plane: Rc<Plane>,
    compaction: TaskQueueHandle,
    scrub: TaskQueueHandle,
}

impl Queues {
    /// To be called on the executor.
    fn new(priority: Priority) -> Self {
        let queue =
            |shares, name| glommio::executor().create_task_queue(Shares::Static(shares), Latency::NotImportant, name);
        Self {
            plane: Rc::new(Plane::new(priority)),
            compaction: queue(COMPACTION_SHARES, "compaction"),
            scrub: queue(SCRUB_SHARES, "scrub"),
        }
    }

    /// The seam for one kind of work: what it spawns runs in that work's queue.
    pub fn io(&self, work: Work) -> MaintenanceIo {
        let queue = match work {
            Work::Compaction => self.compaction,
            Work::Scrub => self.scrub,
        };
        MaintenanceIo::new(self.plane.clone(), queue)
    }
}

/// The running thread. It ends when its main future does: whoever started it tells that future to
/// end, and then joins.
#[must_use = "a panic of the thread is seen by joining it"]
pub struct MaintenanceThread {
    thread: JoinHandle<()>,
    standing: Standing,
}

impl MaintenanceThread {
    /// Starts the thread, and returns when its executor is ready, or can't be. To be called from a
    /// thread that is not pinned.
    ///
    /// `probe_files` has one file with data on each file system that will be read: the superblocks
    /// of the data directories. `main` is called on the thread. When its future ends, the tasks
    /// still running are dropped, and what is in flight is waited for.
    ///
    /// # Errors
    /// When the machine lacks what the executor needs, or a probe file is missing, empty, or can't
    /// be read with direct I/O. Then nothing runs, and `main` was not called. The server may go on
    /// without maintenance.
    pub fn start<Main, Fut>(probe_files: Vec<PathBuf>, main: Main) -> io::Result<Self>
    where
        Main: FnOnce(Queues) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        probe::check()?;
        check_locked_memory(sys::raise_limit(Limit::LockedMemory)?)?;
        for path in &probe_files {
            check_device(path).map_err(|error| context(error, path))?;
        }
        let may_come_back = priority::may_come_back()?;
        let (told, outcome) = mpsc::channel();
        let thread = thread::Builder::new().name(THREAD_NAME.into()).spawn(move || {
            let executor = match executor() {
                Ok(executor) => executor,
                Err(error) => return tell(&told, Err(error)),
            };
            executor.run(async move {
                // It ends with the executor.
                glommio::spawn_local(heartbeat()).detach();
                for path in &probe_files {
                    if let Err(error) = open_first(path).await {
                        return tell(&told, Err(context(error, path)));
                    }
                }
                // Not before: whoever waits for the start would wait for a thread that everybody
                // else goes before.
                let blocking = glommio::executor().spawn_blocking(sys::thread_id).await;
                let priority = Priority::lowered(may_come_back, blocking);
                let standing = priority.standing();
                let queues = Queues::new(priority);
                let plane = queues.plane.clone();
                tell(&told, Ok(standing));
                main(queues).await;
                plane.end().await;
            });
        })?;
        match outcome.recv() {
            Ok(Ok(standing)) => Ok(Self { thread, standing }),
            Ok(Err(error)) => {
                join(thread);
                Err(error)
            }
            Err(mpsc::RecvError) => {
                join(thread);
                Err(io::Error::other("the maintenance thread ended before it began"))
            }
        }
    }

    /// Where it stands among the threads of this process, for those who want to raise it.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Waits for the thread to end. A panic there resumes here.
    pub fn join(self) {
        join(self.thread);
    }
}

async fn heartbeat() {
    loop {
        glommio::timer::sleep(HEARTBEAT).await;
    }
}

fn join(thread: JoinHandle<()>) {
    if let Err(payload) = thread.join() {
        panic::resume_unwind(payload);
    }
}

impl fmt::Debug for MaintenanceThread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MaintenanceThread")
    }
}

fn tell(told: &mpsc::Sender<io::Result<Standing>>, outcome: io::Result<Standing>) {
    told.send(outcome).expect("the one who starts the thread waits to be told");
}

fn context(error: io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("the maintenance thread can't use {}: {error}", path.display()))
}

fn executor() -> io::Result<LocalExecutor> {
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .name(THREAD_NAME)
        .io_memory(LOCKED_BYTES)
        .ring_depth(RING_DEPTH)
        .preempt_timer(SLICE)
        .make();
    executor.map_err(|error| {
        let error = plain(error);
        io::Error::new(error.kind(), format!("the executor of the maintenance thread can't start: {error}"))
    })
}

/// What glommio requires, phrased so that it can be fixed.
fn check_locked_memory(allowed: u64) -> io::Result<()> {
    if allowed < LOCKED_MEMORY_MIN {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "the maintenance thread starts only where {} KiB of memory may be locked, and {} KiB may: raise it with \
                 `ulimit -l` or LimitMEMLOCK=",
                LOCKED_MEMORY_MIN >> 10,
                allowed >> 10
            ),
        ));
    }
    Ok(())
}

/// Looks for the files of `/sys` whose absence glommio takes for a broken machine: it takes minor
/// number 0 for the whole device.
fn check_device(path: &Path) -> io::Result<()> {
    let device = fs::metadata(path)?.dev();
    let directory = PathBuf::from(format!("/sys/dev/block/{}:0", libc::major(device)));
    if !directory.try_exists()? {
        // Taken for a device without properties, and that does for direct I/O.
        return Ok(());
    }
    for name in NUMBERS {
        let file = directory.join("queue").join(name);
        let text = fs::read_to_string(&file).map_err(|error| context(error, &file))?;
        if text.trim_end().parse::<isize>().is_err() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} holds no number", file.display())));
        }
    }
    fs::read_to_string(directory.join("queue/write_cache"))?;
    fs::read_dir(directory.join("slaves")).map(drop)
}

/// What glommio reads of a device's queue.
const NUMBERS: [&str; 7] = [
    "rotational",
    "minimum_io_size",
    "optimal_io_size",
    "logical_block_size",
    "physical_block_size",
    "max_sectors_kb",
    "max_segment_size",
];

/// Makes the executor know the device of a file, and proves that a read of it works.
async fn open_first(path: &Path) -> io::Result<()> {
    // To write, though nothing is written: see the top of this file.
    close(OpenOptions::new().write(true).dma_open(path).await.map_err(plain)?).await;
    // As the store's files are opened, so that it shows here if that can't work.
    let file = files::open(&Arc::new(File::open(path)?)).await?;
    let read = file.read_at_aligned(0, BLOCK_SIZE).await.map_err(plain);
    close(file).await;
    if read?.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is empty"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_memory_that_may_be_locked_is_an_error_that_says_how_much_and_how_to_mend_it() {
        check_locked_memory(LOCKED_MEMORY_MIN).unwrap();
        check_locked_memory(u64::MAX).unwrap();
        let error = check_locked_memory(64 << 10).unwrap_err().to_string();
        assert!(error.contains("64 KiB") && error.contains("512 KiB") && error.contains("ulimit -l"), "{error}");
    }

    #[test]
    fn a_device_that_glommio_can_read_of_is_accepted() {
        check_device(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        check_device(Path::new("/proc/self/status")).unwrap();
    }
}
