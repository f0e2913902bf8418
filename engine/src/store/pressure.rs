//! How short space is, and so how long the bytes of an upload wait: uploads slow down before there
//! is none.
//!
//! Compaction says how much space there is and whether it can make more. While it can, uploads wait
//! a little for their bytes, the longer the less is free, so that compaction gets the disk and the
//! cores; on the last segments they wait for it to come forward. When it can't, nobody waits: the
//! log takes what fits and refuses the rest. The waiting itself is in [`super::slowdown`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::store::space::Space;

/// Uploads begin to wait below this part of the capacity, in percent.
const SLOW_PERCENT: u64 = 4;
/// The wait for a MiB on a core when hardly anything is left.
const WAIT_PER_MIB: Duration = Duration::from_millis(60);
/// The time that compaction takes to see that there is something to do, and how long anybody waits
/// for it on the last segments.
const PATIENCE_MIN: Duration = Duration::from_millis(500);
const PATIENCE_MAX: Duration = Duration::from_secs(5);

/// What compaction says of the space, for all cores.
#[derive(Default)]
pub(crate) struct Pressure {
    free: AtomicU64,
    total: AtomicU64,
    /// Below this, hardly anything is left: segments that the cores would take next.
    last: AtomicU64,
    can_help: AtomicBool,
}

impl Pressure {
    pub fn set(&self, space: Space, last: u64, can_help: bool) {
        self.free.store(space.free, Ordering::Relaxed);
        self.total.store(space.total, Ordering::Relaxed);
        self.last.store(last, Ordering::Relaxed);
        self.can_help.store(can_help, Ordering::Relaxed);
    }

    /// Whether so much was free when compaction last looked; false before it has.
    pub fn has_free(&self, bytes: u64) -> bool {
        self.total.load(Ordering::Relaxed) > 0 && self.free.load(Ordering::Relaxed) >= bytes
    }

    /// How long these bytes wait.
    pub fn wait(&self, bytes: u64) -> Duration {
        if !self.can_help.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        let slow = self.total.load(Ordering::Relaxed) / 100 * SLOW_PERCENT;
        let last = self.last.load(Ordering::Relaxed);
        let free = self.free.load(Ordering::Relaxed).max(last);
        if free >= slow {
            return Duration::ZERO;
        }
        let missing = (slow - free) * 1000 / (slow - last).max(1);
        let per_mib = WAIT_PER_MIB.as_nanos() as u64 * missing / 1000 * missing / 1000;
        Duration::from_nanos(per_mib.saturating_mul(bytes) >> 20)
    }

    /// Whether it is worth while to wait for space, having waited for this long.
    pub fn may_help(&self, waited: Duration) -> bool {
        waited < PATIENCE_MIN || (waited < PATIENCE_MAX && self.can_help.load(Ordering::Relaxed))
    }

    pub fn is_last(&self) -> bool {
        self.can_help.load(Ordering::Relaxed) && self.free.load(Ordering::Relaxed) <= self.last.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressure(free: u64, can_help: bool) -> Pressure {
        let pressure = Pressure::default();
        pressure.set(Space { total: 10_000 << 20, free: free << 20 }, 40 << 20, can_help);
        pressure
    }

    #[test]
    fn the_less_is_free_the_longer_uploads_wait_and_never_when_that_helps_nobody() {
        let waits: Vec<Duration> =
            [5000, 400, 300, 200, 100, 40, 0].map(|free| pressure(free, true).wait(1 << 20)).into();
        assert!(waits.is_sorted(), "{waits:?}");
        assert_eq!((waits[1], waits[5], waits[6]), (Duration::ZERO, WAIT_PER_MIB, WAIT_PER_MIB));
        assert!(waits[2] > Duration::ZERO);
        assert_eq!(pressure(0, false).wait(1 << 20), Duration::ZERO);
        assert!(pressure(0, true).is_last() && !pressure(0, false).is_last() && !pressure(41, true).is_last());
    }
}
