//! Makes memory ready for the cache ahead of its use, on whatever CPU is idle.
//!
//! The cache grows to its budget with what is read and written, and every byte of it is touched for
//! the first time once. Where that is dear (see [`crate::ring::frames`]), a stream that finds no
//! memory ready pays it on its own core. So threads of the lowest priority there is (`SCHED_IDLE`),
//! one for each CPU that this process may use, touch huge pages ahead of it: the *stock*. They work
//! as fast as idle CPUs allow while the stock is short, sleep while it is not, and end when the
//! cache has reached its budget.
//!
//! Uploads can do without the cache, so where the first touch is dear they keep only what finds
//! memory ready ([`frames::may_grow`]).
//!
//! How large the stock is, demand says: as much as was used up within [`WINDOW`], so that after a
//! stream has begun the next one of its kind finds all of it ready; but only [`STOCK_MIN`] where
//! the first touch turns out to be cheap, as then nothing is gained.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::cache::Cache;
use crate::ring::frames::{self, Maker};
use crate::ring::sys::{self, Scheduling};

/// Bytes that are kept ready without any demand.
const STOCK_MIN: usize = 256 << 20;
/// The most that is kept ready.
const STOCK_MAX: usize = 2 << 30;
/// The part of the cache's budget that the stock may take.
const STOCK_DIVISOR: usize = 4;
/// Demand is what was used up within this time.
const WINDOW: Duration = Duration::from_secs(10);
/// How often within that time it is looked at.
const SAMPLES: u32 = 20;
/// From this cost of the first touch on, per MiB, it is dear. Clearing memory takes some 30 to 100
/// us of it, and up to 550 without huge pages.
const DEAR: Duration = Duration::from_micros(800);
/// The last measurement counts for one part in this many.
const COST_DIVISOR: u32 = 16;
const THREADS_MAX: usize = 16;

/// The threads; dropping this ends them.
pub struct Warmer {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Warmer {
    /// Starts to make memory ready.
    pub fn start<V: Clone + Send + Sync + 'static>(cache: Cache<V>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let demand = Arc::new(Mutex::new(Demand::new(Instant::now(), frames::grown_bytes())));
        let count = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(THREADS_MAX);
        let mut threads = Vec::with_capacity(count);
        for _ in 0..count {
            let (cache, stop, demand) = (cache.clone(), stop.clone(), demand.clone());
            let work = move || {
                // About speed alone, so a refusal changes nothing.
                let _ = sys::schedule_thread(sys::THIS_THREAD, Scheduling::Idle);
                make_stock(&cache, &demand, &stop);
            };
            match thread::Builder::new().name("warmer".into()).spawn(work) {
                Ok(thread) => threads.push(thread),
                Err(_) => break,
            }
        }
        if threads.is_empty() {
            tracing::warn!("no thread can be started to make memory ready; the cache grows on demand");
        }
        Self { stop, threads }
    }
}

/// The work of one thread.
fn make_stock<V: Clone>(cache: &Cache<V>, demand: &Mutex<Demand>, stop: &AtomicBool) {
    let lock = || demand.lock().unwrap_or_else(PoisonError::into_inner);
    let maker = Maker::register();
    while !stop.load(Ordering::Relaxed) {
        let (charged, budget) = cache.charged_and_budget();
        let room = budget - charged;
        if room < frames::REGION {
            // What is ready beyond the budget would come on top of it.
            frames::give_up_ready();
            break;
        }
        let stock = lock().stock(Instant::now(), frames::grown_bytes()).min(budget / STOCK_DIVISOR).min(room);
        if frames::ready_bytes() + frames::REGION > stock {
            // Woken when some of it is taken, which is not the only reason to look again.
            thread::park_timeout(WINDOW);
            continue;
        }
        match maker.make_ready() {
            Some(made) => {
                let mut demand = lock();
                demand.add_cost(made.cpu_time * (1 << 20) / made.bytes as u32);
                frames::set_first_touch_dear(demand.is_dear());
            }
            // What there is, the cores find themselves.
            None => break,
        }
    }
    // The cores find memory themselves; once the cache is full that is memory which was in use.
    frames::set_first_touch_dear(false);
}

impl Drop for Warmer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // It ends at the next frame, some milliseconds away.
            let _ = thread.join();
        }
    }
}

/// How much memory was used up lately, and what a first touch costs.
struct Demand {
    /// When, and what had been used up by then; the oldest first, no more than the window and no
    /// more than [`SAMPLES`].
    samples: VecDeque<(Instant, usize)>,
    /// Of a MiB; a moving average.
    cost: Duration,
}

impl Demand {
    fn new(now: Instant, grown: usize) -> Self {
        Self { samples: VecDeque::from([(now, grown)]), cost: Duration::ZERO }
    }

    fn add_cost(&mut self, of_a_mib: Duration) {
        self.cost = (self.cost * (COST_DIVISOR - 1) + of_a_mib) / COST_DIVISOR;
    }

    fn is_dear(&self) -> bool {
        self.cost >= DEAR
    }

    /// Bytes to keep ready, where `grown` have been used up by now.
    fn stock(&mut self, now: Instant, grown: usize) -> usize {
        if self.samples.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= WINDOW / SAMPLES) {
            self.samples.push_back((now, grown));
        }
        // The last one before the window is where it begins.
        while self.samples.len() > 1 && now.saturating_duration_since(self.samples[1].0) >= WINDOW {
            self.samples.pop_front();
        }
        if !self.is_dear() {
            return STOCK_MIN;
        }
        let used = self.samples.front().map_or(0, |(_, before)| grown.wrapping_sub(*before));
        used.clamp(STOCK_MIN, STOCK_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: usize = 1 << 30;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn the_stock_is_what_was_used_up_lately_where_the_first_touch_is_dear() {
        let start = Instant::now();
        let mut demand = Demand::new(start, GIB);
        (0..100).for_each(|_| demand.add_cost(DEAR * 4));
        assert_eq!(demand.stock(start, GIB), STOCK_MIN);
        // 100 MiB a second for 5 s, then none.
        for tenth in 1..=50 {
            let stock = demand.stock(at(start, tenth * 100), GIB + tenth as usize * (10 << 20));
            assert_eq!(stock, (tenth as usize * (10 << 20)).max(STOCK_MIN), "after {tenth} tenths");
        }
        let grown = GIB + (500 << 20);
        assert_eq!(demand.stock(at(start, 9_000), grown), 500 << 20);
        assert_eq!(demand.stock(at(start, 30_000), grown), STOCK_MIN);
        assert_eq!(demand.stock(at(start, 31_000), grown + 9 * GIB), STOCK_MAX);
        assert!(demand.samples.len() <= SAMPLES as usize + 2);
    }

    #[test]
    fn where_the_first_touch_is_cheap_the_stock_stays_small() {
        let start = Instant::now();
        let mut demand = Demand::new(start, 0);
        (0..100).for_each(|_| demand.add_cost(DEAR / 4));
        assert_eq!(demand.stock(at(start, 1000), 9 * GIB), STOCK_MIN);
        // It turns out to be dear after all: what was free a moment ago is used up.
        (0..100).for_each(|_| demand.add_cost(DEAR * 4));
        assert_eq!(demand.stock(at(start, 1000), 9 * GIB), STOCK_MAX);
    }
}
