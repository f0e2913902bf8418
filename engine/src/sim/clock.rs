//! A machine's own view of the time of the simulation: where it began, and how fast it goes.
//!
//! Invariant: the monotonic clock never goes back, whatever becomes of its rate.

const MILLION: u64 = 1_000_000;

/// The clocks of one machine. *Time* is the simulation's, *local time* the machine's.
#[derive(Clone, Debug)]
pub struct Clock {
    /// A time and the local time that it was then: where the rate counts from.
    base: (u64, u64),
    /// Local nanoseconds in a million of the simulation's.
    rate: u64,
    /// Nanoseconds to add to local time for the wall clock.
    wall_clock_offset: u64,
}

impl Clock {
    /// A clock that goes with the simulation's.
    pub fn new(wall_clock_offset: u64) -> Self {
        Self { base: (0, 0), rate: MILLION, wall_clock_offset }
    }

    pub fn local(&self, now: u64) -> u64 {
        let elapsed = now.saturating_sub(self.base.0);
        self.base.1.saturating_add(scaled(elapsed, self.rate, MILLION, 0))
    }

    /// The first time at which it is so late here.
    pub fn when(&self, local: u64) -> u64 {
        let ahead = local.saturating_sub(self.base.1);
        self.base.0.saturating_add(scaled(ahead, MILLION, self.rate, self.rate - 1))
    }

    pub fn wall_clock(&self, now: u64) -> u64 {
        self.local(now).wrapping_add(self.wall_clock_offset)
    }

    pub fn jump_wall_clock(&mut self, nanoseconds: i64) {
        self.wall_clock_offset = self.wall_clock_offset.wrapping_add_signed(nanoseconds);
    }

    /// Lets the clock go this many millionths faster than the simulation's from now on.
    pub fn set_rate(&mut self, now: u64, faster_ppm: i32) {
        self.base = (now, self.local(now));
        self.rate = MILLION.checked_add_signed(faster_ppm.into()).filter(|rate| *rate > 0).expect("time goes on");
    }

    /// Lets both clocks jump ahead.
    pub fn advance(&mut self, now: u64, nanoseconds: u64) {
        self.base = (now, self.local(now).saturating_add(nanoseconds));
    }
}

/// `(count * factor + addend) / divisor`, at most the largest number.
fn scaled(count: u64, factor: u64, divisor: u64, addend: u64) -> u64 {
    if factor == divisor {
        return count;
    }
    let product = u128::from(count) * u128::from(factor) + u128::from(addend);
    u64::try_from(product / u128::from(divisor)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Random;

    #[test]
    fn a_clock_never_goes_back_and_when_is_the_first_time_of_a_local_time() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let (mut clock, mut now, mut last) = (Clock::new(0), 0, 0);
            for _ in 0..50 {
                let bits = random.below(40);
                now += random.below(1 << bits);
                match random.below(4) {
                    0 => clock.set_rate(now, random.below(1_900_000) as i32 - 900_000),
                    1 => clock.advance(now, random.below(1_000_000)),
                    _ => {}
                }
                let local = clock.local(now);
                assert!(local >= last, "seed {seed}");
                last = local;
                let bits = random.below(40);
                let ahead = local + random.below(1 << bits);
                let when = clock.when(ahead);
                assert!(when >= now || ahead == local, "seed {seed}");
                assert!(clock.local(when) >= ahead, "seed {seed}");
                assert!(when <= now || clock.local(when - 1) < ahead, "seed {seed}");
            }
            assert_eq!(clock.when(u64::MAX).max(clock.when(u64::MAX - 1)), clock.when(u64::MAX));
        }
    }
}
