//! What the cores tell the thread that watches: counters that only their owner writes, and the end
//! of the run.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The counters of one core, on a cache line of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Gauge {
    /// Requests that ended, well or not.
    pub ended: AtomicU64,
    pub failed: AtomicU64,
    /// Bytes of bodies, both ways, from the start of the run.
    pub moved: AtomicU64,
    /// The same within the window that is measured.
    pub received_in_window: AtomicU64,
    pub sent_in_window: AtomicU64,
}

impl Gauge {
    /// Adds to a counter that only the calling thread writes, so that no locked instruction is
    /// needed.
    pub fn add(counter: &AtomicU64, count: u64) {
        counter.store(counter.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }
}

/// All of them.
#[derive(Debug)]
pub struct Gauges {
    pub cores: Vec<Gauge>,
    /// The time that all of the run counts from.
    pub epoch: Instant,
    /// Set when the run is to end early.
    pub is_stopping: Arc<AtomicBool>,
    ended: Mutex<bool>,
    changed: Condvar,
}

impl Gauges {
    pub fn new(cores: u16) -> Self {
        Self {
            cores: (0..cores).map(|_| Gauge::default()).collect(),
            epoch: Instant::now(),
            is_stopping: Arc::default(),
            ended: Mutex::new(false),
            changed: Condvar::new(),
        }
    }

    pub fn sum(&self, counter: impl Fn(&Gauge) -> &AtomicU64) -> u64 {
        self.cores.iter().map(|core| counter(core).load(Ordering::Relaxed)).sum()
    }

    /// Says that all cores are done.
    pub fn end(&self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits until all cores are done, but not beyond a time of the run; whether they are.
    pub fn wait_for_end(&self, until: Duration) -> bool {
        let left = until.saturating_sub(self.epoch.elapsed());
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(ended, left, |ended| !*ended);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
