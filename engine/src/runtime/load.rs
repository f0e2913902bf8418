//! How busy a core is, for other cores to see.
//!
//! A core measures the part of its time that it neither slept nor lent to others, over windows of
//! about [`WINDOW`], and publishes it with one store. Who asks reads two atomics, and gets an
//! estimate: it may be old by a window, or by a round that takes longer.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::io::Instant;

/// The time over which load is measured: short beside an upload of 64 MiB, long beside a round.
const WINDOW: Duration = Duration::from_millis(2);
/// Rounds without sleep between two looks at the clock.
const ROUNDS_UNTIMED: u32 = 16;
/// A core with less load has time to spare, in thousandths.
const IDLE_BELOW: u32 = 500;
/// The core does not sleep.
const AWAKE: u64 = u64::MAX;

/// How busy a core is and was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CoreLoad {
    /// The part of the last window of some 2 ms in which it neither slept nor worked for others, in
    /// thousandths.
    pub busy_thousandths: u32,
    /// The same in nanoseconds, since the start.
    pub busy_ns: u64,
}

/// What a core publishes.
pub(super) struct Load {
    /// Of the last window, in thousandths.
    busy: AtomicU32,
    /// Of all windows that have ended, in nanoseconds.
    busy_total_ns: AtomicU64,
    /// Since when the core sleeps, in nanoseconds of the monotonic clock, or [`AWAKE`].
    asleep_since: AtomicU64,
}

/// What a core knows of itself.
pub(super) struct Meter {
    window_began: Cell<Instant>,
    /// Nanoseconds of the window that the core slept or lent.
    spare_ns: Cell<u64>,
    rounds: Cell<u32>,
}

impl Load {
    pub fn new() -> Self {
        Self { busy: AtomicU32::new(0), busy_total_ns: AtomicU64::new(0), asleep_since: AtomicU64::new(AWAKE) }
    }

    /// The numbers of a core that is awake, as the one that asks about itself is.
    pub fn now(&self) -> CoreLoad {
        CoreLoad {
            busy_thousandths: self.busy.load(Ordering::Relaxed),
            busy_ns: self.busy_total_ns.load(Ordering::Relaxed),
        }
    }

    /// Whether the core has time to spare.
    pub fn is_idle(&self, now: Instant) -> bool {
        let asleep_since = self.asleep_since.load(Ordering::Relaxed);
        let sleeps_long = asleep_since != AWAKE && now.since(Instant(asleep_since)) >= WINDOW;
        // What was published before a long sleep says nothing any more.
        sleeps_long || self.busy.load(Ordering::Relaxed) < IDLE_BELOW
    }
}

impl Meter {
    pub fn new(now: Instant) -> Self {
        Self { window_began: Cell::new(now), spare_ns: Cell::new(0), rounds: Cell::new(0) }
    }

    /// The core is about to sleep.
    pub fn sleeps(&self, load: &Load, now: Instant) {
        load.asleep_since.store(now.0, Ordering::Relaxed);
    }

    /// It slept from `since` to `now`.
    pub fn slept(&self, load: &Load, since: Instant, now: Instant) {
        load.asleep_since.store(AWAKE, Ordering::Relaxed);
        self.spared(now.since(since));
        self.publish(load, now);
    }

    /// A round passed without sleep. Asks for the time now and then.
    pub fn round(&self, load: &Load, now: impl FnOnce() -> Instant) {
        self.rounds.set(self.rounds.get() + 1);
        if self.rounds.get() >= ROUNDS_UNTIMED {
            self.publish(load, now());
        }
    }

    /// This much time went into work for others.
    pub fn spared(&self, duration: Duration) {
        self.spare_ns.set(self.spare_ns.get() + duration.as_nanos() as u64);
    }

    fn publish(&self, load: &Load, now: Instant) {
        self.rounds.set(0);
        let window = now.since(self.window_began.get());
        if window < WINDOW {
            return;
        }
        let window_ns = window.as_nanos() as u64;
        let busy_ns = window_ns.saturating_sub(self.spare_ns.replace(0));
        // Written by this core alone, so a load and a store will do.
        load.busy_total_ns.store(load.busy_total_ns.load(Ordering::Relaxed) + busy_ns, Ordering::Relaxed);
        load.busy.store((busy_ns * 1000 / window_ns) as u32, Ordering::Relaxed);
        self.window_began.set(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(microseconds: u64) -> Instant {
        Instant(microseconds * 1000)
    }

    #[test]
    fn a_core_is_idle_when_it_slept_or_lent_most_of_the_last_window() {
        let (load, meter) = (Load::new(), Meter::new(at(0)));
        meter.slept(&load, at(500), at(2000));
        assert!(load.is_idle(at(2000)), "a quarter was work");
        assert_eq!(load.now(), CoreLoad { busy_thousandths: 250, busy_ns: 500_000 });
        meter.slept(&load, at(3500), at(4000));
        assert!(!load.is_idle(at(4000)), "three quarters were work");
        assert_eq!(load.now(), CoreLoad { busy_thousandths: 750, busy_ns: 2_000_000 }, "the total goes on");
        meter.spared(Duration::from_micros(1500));
        meter.slept(&load, at(6000), at(6000));
        assert!(load.is_idle(at(6000)), "it worked for others");
    }

    #[test]
    fn a_core_that_never_sleeps_is_found_busy_and_one_that_sleeps_on_idle() {
        let (load, meter) = (Load::new(), Meter::new(at(0)));
        let mut clock = 0;
        for _ in 0..100 {
            clock += 100;
            meter.round(&load, || at(clock));
        }
        assert!(!load.is_idle(at(clock)));
        meter.sleeps(&load, at(clock));
        assert!(!load.is_idle(at(clock + 100)), "a nap says nothing yet");
        assert!(load.is_idle(at(clock + 2000)));
    }
}
