//! One core: a pinned thread with a ring, a task queue, timers and streams.
//!
//! [`run`] starts the cores; each gets a [`RingIo`], its handle to everything below. Nothing here
//! knows blobs.

mod blocking;
mod core;
mod deadlines;
mod doorbell;
mod file;
mod half;
#[cfg(all(test, feature = "loom"))]
mod interleavings;
mod kernel_tls;
mod listener;
mod load;
mod pipes;
mod resolver;
mod ring_io;
mod slab;
mod splice;
pub mod steps;
mod stream;
mod timers;
mod turns;

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use self::core::{Core, CoreThread};
use self::doorbell::Doorbell;
use crate::ring::{probe, sys};
use crate::types::CoreId;

pub(crate) use self::core::now;
pub(crate) use file::{STALLS_MAX, assert_aligned};
pub(crate) use ring_io::{DIRECTORY_MODE, FILE_MODE, list_dir, wall_clock_ns};

pub use half::Half;
pub use listener::Listener;
pub use load::CoreLoad;
pub use resolver::resolve;
pub use ring_io::{RingFile, RingIo, boot_time};
pub use splice::{Splice, Taken};
pub use stream::{ReceivedBytes, Stream};

/// What the runtime needs to know to start.
#[derive(Clone, Debug)]
pub struct RuntimeOptions {
    /// Threads to start, at least 1.
    pub cores: u16,
    /// Pin thread `i` to the `i`-th CPU this process may run on (and do nothing if there are fewer
    /// CPUs than cores).
    pub pin: bool,
}

/// Starts the cores and blocks until the main future of each has ended.
///
/// `core_main` is called once on each core's own thread. When a main future ends, tasks still
/// running on that core are dropped, what they had in flight is cancelled and reaped, and the
/// thread ends.
///
/// # Errors
/// When the kernel lacks what the ring needs, or refuses it: the message says what, and how to fix
/// it.
pub fn run<Main, Fut>(options: &RuntimeOptions, core_main: Main) -> io::Result<()>
where
    Main: Fn(CoreId, RingIo) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    assert!(options.cores >= 1, "a runtime of no cores");
    probe::check()?;
    let cpus = pinned_cpus(options)?;
    let doorbells = (0..options.cores).map(|_| Doorbell::new().map(Arc::new)).collect::<io::Result<Arc<[_]>>>()?;
    let start = Arc::new(StartLine { everyone: Barrier::new(doorbells.len()), failed: AtomicBool::new(false) });
    let mut threads = Vec::new();
    for (number, cpu) in (0..options.cores).zip(cpus) {
        let (doorbells, start, core_main) = (doorbells.clone(), start.clone(), core_main.clone());
        let builder = thread::Builder::new().name(format!("core-{number}"));
        threads.push(
            builder
                .spawn(move || core_thread(CoreId(number), cpu, &doorbells, &start, core_main))
                .expect("a thread for each core can be started"),
        );
    }
    let mut outcome = Ok(());
    let mut panic = None;
    for thread in threads {
        match thread.join() {
            Ok(ended) => outcome = outcome.and(ended),
            Err(payload) => panic = panic.or(Some(payload)),
        }
    }
    if let Some(payload) = panic {
        std::panic::resume_unwind(payload);
    }
    outcome
}

/// No core runs a task before every core has its ring, so that a failure at the start is nothing
/// but an error.
struct StartLine {
    everyone: Barrier,
    failed: AtomicBool,
}

/// Stops every core when its own ends in an error or a panic: the others could wait for it forever.
struct StopOthers<'cores> {
    doorbells: &'cores [Arc<Doorbell>],
    armed: bool,
}

impl Drop for StopOthers<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.doorbells.iter().for_each(|doorbell| doorbell.stop());
        }
    }
}

fn core_thread<Main, Fut>(
    id: CoreId,
    cpu: Option<usize>,
    doorbells: &Arc<[Arc<Doorbell>]>,
    start: &StartLine,
    core_main: Main,
) -> io::Result<()>
where
    Main: Fn(CoreId, RingIo) -> Fut,
    Fut: Future<Output = ()> + 'static,
{
    if let Some(cpu) = cpu
        && let Err(error) = sys::pin_to(cpu)
    {
        tracing::warn!(core = id.0, cpu, %error, "the core is not pinned");
    }
    let core = Core::new(id, doorbells);
    start.failed.fetch_or(core.is_err(), Ordering::SeqCst);
    start.everyone.wait();
    let core = core?;
    if start.failed.load(Ordering::SeqCst) {
        return Ok(());
    }
    let mut others = StopOthers { doorbells, armed: true };
    let thread = CoreThread::new(core);
    let main = core_main(id, RingIo::new(thread.core()));
    let ended = thread.run(main);
    // Before the others are let alone: dropping what is left may panic as well.
    drop(thread);
    others.armed = ended.is_err();
    ended
}

/// The CPU of each core, `None` where it is left to the scheduler.
fn pinned_cpus(options: &RuntimeOptions) -> io::Result<Vec<Option<usize>>> {
    let cores = usize::from(options.cores);
    let allowed = if options.pin { sys::allowed_cpus()? } else { Vec::new() };
    if allowed.len() < cores {
        return Ok(vec![None; cores]);
    }
    Ok(allowed.into_iter().take(cores).map(Some).collect())
}
