//! One core: a pinned thread with a ring, a task queue, timers and streams.
//!
//! [`run`] starts the cores; each gets a [`RingIo`], its handle to everything below. Nothing here knows blobs.

mod listener;
pub mod mailbox;
mod ring_io;
mod stream;

use std::future::Future;
use std::io;

use crate::types::CoreId;

pub use listener::Listener;
pub use ring_io::RingIo;
pub use stream::{Half, ReceivedBytes, Stream};

/// What the runtime needs to know to start.
#[derive(Clone, Debug)]
pub struct RuntimeOptions {
    /// Threads to start, at least 1.
    pub cores: u16,
    /// Pin thread `i` to the `i`-th CPU this process may run on (and do nothing if there are fewer CPUs than cores).
    pub pin: bool,
}

/// Starts the cores and blocks until the main future of each has ended.
///
/// `core_main` is called once on each core's own thread. When a main future ends, tasks still running on that core are
/// dropped, what they had in flight is cancelled and reaped, and the thread ends.
///
/// # Errors
/// When the kernel lacks what the ring needs, or refuses it: the message says what, and how to mend it.
pub fn run<Main, Fut>(options: &RuntimeOptions, core_main: Main) -> io::Result<()>
where
    Main: Fn(CoreId, RingIo) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let _ = (options, core_main);
    todo!()
}
