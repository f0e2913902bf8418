//! Makes memory ready for the cache ahead of its use, where the machine has nothing better to do.
//!
//! A thread of its own with the lowest priority there is (`SCHED_IDLE`): it touches huge pages, so that the cores need not wait for the kernel, or the host of
//! a virtual machine, to find and clear them. It keeps [`READY_MAX`] ready at most, sleeps while that much is, and is of no more use once the cache
//! has grown to its budget. After the first fill it works a tenth of the time at most: even the lowest priority takes memory bandwidth, and on a virtual machine
//! the host's time, from those who serve.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::cache::Cache;
use crate::ring::frames;
use crate::ring::sys::{self, Scheduling};

/// Bytes that are kept ready, at most a quarter of the budget.
const READY_MAX: usize = 256 << 20;
/// After the first fill, the thread rests this many times as long as it worked.
const REST_TIMES: u32 = 9;
/// Bytes that the cache may charge before anything is ready.
const GROWN_AT_START: usize = 64 << 20;

/// The thread; dropping this ends it.
pub struct Warmer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Warmer {
    /// Lets the cache grow slowly, and makes memory ready for it.
    pub fn start<V: Clone + Send + Sync + 'static>(cache: Cache<V>) -> Self {
        cache.grow_slowly(GROWN_AT_START);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let work = move || {
            // About speed alone, so a refusal changes nothing.
            let _ = sys::schedule_thread(sys::THIS_THREAD, Scheduling::Idle);
            let ready_max = READY_MAX.min(cache.status().budget_bytes as usize / 4);
            let mut has_filled = false;
            while cache.is_growing() && !stopped.load(Ordering::Relaxed) {
                if frames::ready_bytes() >= ready_max {
                    has_filled = true;
                    thread::park();
                    continue;
                }
                let began = Instant::now();
                match frames::make_ready() {
                    Some(bytes) => {
                        cache.grow(bytes);
                        if has_filled {
                            rest(began + began.elapsed() * (1 + REST_TIMES), &stopped);
                        }
                    }
                    // The machine has no memory to spare: what there is, the cores find themselves.
                    None => return cache.grow(usize::MAX / 2),
                }
            }
        };
        let thread = thread::Builder::new().name("warmer".into()).spawn(work);
        if thread.is_err() {
            tracing::warn!("no thread can be started to make memory ready; the cache grows on demand");
        }
        Self { stop, thread: thread.ok() }
    }
}

/// Lets time pass; every frame that is taken meanwhile wakes the thread.
fn rest(until: Instant, stopped: &AtomicBool) {
    while !stopped.load(Ordering::Relaxed) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}

impl Drop for Warmer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It ends at the next frame, some milliseconds away.
            let _ = thread.join();
        }
    }
}
