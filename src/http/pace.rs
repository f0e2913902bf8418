//! How fast a peer takes what it is sent, as far as the ways of sending agree on it.

use std::time::Duration;

use nabu_engine::io::Instant;

use crate::config::Limits;

/// How long a peer may take nothing before it counts as slow.
pub const PATIENCE: Duration = Duration::from_millis(250);

/// How sending fast ended.
pub enum Sent {
    All,
    /// The peer is gone, and the exchange knows.
    Gone,
    /// The peer is slow, or there are too many transfers: the rest goes another way.
    Slow,
}

/// How much longer a peer may take for an answer than the least rate allows.
///
/// At first that is the progress timeout. Time that a send waits for the peer uses it up, and each
/// byte that the peer takes gives back what a byte takes at the least rate. So a peer that takes
/// nothing is ended after the timeout, and one that takes less than the least rate somewhat later.
/// Time that the server needs costs the peer nothing.
#[derive(Clone, Copy, Debug)]
pub struct Slack {
    max: Duration,
    bytes_per_second: u64,
    left: Duration,
}

impl Slack {
    pub fn new(limits: &Limits) -> Self {
        let max = Duration::from_millis(limits.progress_timeout_ms);
        Self { max, bytes_per_second: limits.answer_bytes_per_second_min, left: max }
    }

    /// Until when the peer must have taken `bytes` that are sent from `now` on.
    pub fn deadline(&self, now: Instant, bytes: usize) -> Instant {
        now.after(self.left + self.time_of(bytes))
    }

    /// The peer took so long for so many bytes.
    pub fn spend(&mut self, duration: Duration, bytes: usize) {
        self.left = (self.left + self.time_of(bytes)).saturating_sub(duration).min(self.max);
    }

    pub fn left(&self) -> Duration {
        self.left
    }

    /// What bytes take at the least rate.
    fn time_of(&self, bytes: usize) -> Duration {
        Duration::from_nanos(bytes as u64 * (1_000_000_000 / self.bytes_per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn slack() -> Slack {
        Slack { max: 30 * SECOND, bytes_per_second: 1000, left: 30 * SECOND }
    }

    #[test]
    fn who_takes_nothing_has_the_timeout_and_who_takes_the_least_rate_has_forever() {
        let mut none = slack();
        for second in 1..=30 {
            assert!(!none.left().is_zero(), "after {second} s");
            none.spend(SECOND, 0);
        }
        assert!(none.left().is_zero());
        let mut enough = slack();
        for _ in 0..100_000 {
            enough.spend(SECOND, 1000);
        }
        assert_eq!(enough.left(), 30 * SECOND);
    }

    #[test]
    fn who_takes_half_the_least_rate_is_ended_in_twice_the_timeout() {
        let mut half = slack();
        let seconds = (0..).take_while(|_| {
            half.spend(SECOND, 500);
            !half.left().is_zero()
        });
        assert_eq!(seconds.count(), 59);
    }

    #[test]
    fn what_is_sent_at_once_has_its_time_beside_the_timeout_and_leaves_no_more_than_that() {
        let mut fast = slack();
        assert_eq!(fast.deadline(Instant(0), 2_000_000), Instant(0).after(2030 * SECOND));
        fast.spend(SECOND, 2_000_000);
        assert_eq!(fast.left(), 30 * SECOND);
    }
}
