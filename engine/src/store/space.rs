//! The space of a store, and how fast compaction works by it: slowly while there is space, and the
//! faster the less there is.
//!
//! With ample space it copies at a rate that nobody notices. Below a low mark the rate grows with
//! what is missing, up to no limit at all, so it meets the rate at which space is used up somewhere
//! in between.

use std::time::Duration;

/// Bytes a second while there is space.
const RATE_AT_REST: u64 = 64 << 20;
/// Bytes a second just above the point where there is no limit.
const RATE_MAX: u64 = 1 << 30;
/// Below this part of the capacity space is short, in percent; below the second, nothing else
/// counts.
const LOW_PERCENT: u64 = 10;
const URGENT_PERCENT: u64 = 4;
/// The longest that one step waits.
const STEP_MAX: Duration = Duration::from_millis(200);

/// The space of a store, or of one of its directories.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Space {
    pub total: u64,
    /// What may still be written: free blocks, and files kept for reuse.
    pub free: u64,
}

impl Space {
    /// How short space is: 0 is ample, 1000 none.
    pub fn shortage(&self) -> u64 {
        let percent = |percent: u64| self.total / 100 * percent;
        let (low, urgent) = (percent(LOW_PERCENT), percent(URGENT_PERCENT));
        if self.free >= low {
            return 0;
        }
        (low - self.free) * 1000 / (low - urgent).max(1)
    }

    pub fn is_urgent(&self) -> bool {
        self.shortage() >= 1000
    }

    /// How long to wait after this many bytes.
    pub fn pause(&self, bytes: u64) -> Duration {
        let shortage = self.shortage();
        if shortage >= 1000 {
            return Duration::ZERO;
        }
        let rate = RATE_AT_REST + (RATE_MAX - RATE_AT_REST) * shortage / 1000;
        Duration::from_nanos((u128::from(bytes) * 1_000_000_000 / u128::from(rate)) as u64).min(STEP_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(free_percent: u64) -> Space {
        Space { total: 100 << 30, free: free_percent << 30 }
    }

    #[test]
    fn it_is_the_faster_the_less_space_there_is() {
        let pauses: Vec<Duration> = [50, 10, 9, 7, 5, 4, 0].iter().map(|free| space(*free).pause(1 << 20)).collect();
        assert!(pauses.is_sorted_by(|one, other| one >= other), "{pauses:?}");
        assert_eq!(pauses[0], pauses[1]);
        assert_eq!((pauses[5], pauses[6]), (Duration::ZERO, Duration::ZERO));
        assert!(space(4).is_urgent() && !space(5).is_urgent());
        assert!(Space::default().pause(1) == Duration::ZERO || Space::default().total == 0);
    }
}
