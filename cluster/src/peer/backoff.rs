//! When an address is tried again: soon after the first failure, and then less and less often, each
//! time a little earlier or later so that nodes don't call in step.

use std::time::Duration;

use super::limits::{BACKOFF_MAX, BACKOFF_MIN};

#[derive(Debug)]
pub struct Backoff(Duration);

impl Backoff {
    pub fn new() -> Self {
        Self(BACKOFF_MIN)
    }

    /// What was tried has worked.
    pub fn reset(&mut self) {
        *self = Self::new();
    }

    /// How long to wait now: from half to all of a time that doubles.
    pub fn next(&mut self, random: u64) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(BACKOFF_MAX);
        let half = pause / 2;
        half + Duration::from_nanos(random % (half.as_nanos() as u64 + 1))
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_vary_by_half() {
        let (mut shortest, mut longest) = (Backoff::new(), Backoff::new());
        for pause_ms in [100, 200, 400, 800, 1_600, 2_000, 2_000] {
            let pause = Duration::from_millis(pause_ms);
            assert_eq!(shortest.next(0), pause / 2);
            let half = pause.as_nanos() as u64 / 2;
            assert_eq!(longest.next(half), pause);
        }
        shortest.reset();
        assert_eq!(shortest.next(0), BACKOFF_MIN / 2);
    }
}
