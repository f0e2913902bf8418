//! How often an address showed a credential that is wrong: after too many, its requests are refused
//! before their credential is looked at.
//!
//! One table for all cores, as each would allow a guesser its own number. The algorithm is that of
//! [`rate`](super::rate): of each origin we keep the time at which its failures would have been due
//! at the agreed rate. What is due is forgotten, and when there is no room all the same, half of
//! the rest goes: whoever has that many addresses gets no more guesses by it than by taking new
//! ones.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nabu_engine::io::Instant;

use crate::origin::Origin;

/// A minute's failures may come at once.
const MINUTE_NS: u64 = 60_000_000_000;
/// Origins that are kept: less than 2 MiB in all.
const ORIGINS_MAX: usize = 32_768;

/// The failures of all origins.
pub struct FailedLogins {
    /// What one failure costs.
    interval_ns: u64,
    due: Mutex<HashMap<Origin, u64>>,
}

impl FailedLogins {
    pub fn new(per_minute: u64) -> Self {
        assert!((1..=MINUTE_NS).contains(&per_minute), "a limit of nothing would refuse everything");
        Self { interval_ns: MINUTE_NS / per_minute, due: Mutex::default() }
    }

    /// Whether the origin may show another credential.
    ///
    /// # Errors
    /// How long until it may.
    pub fn check(&self, origin: Origin, now: Instant) -> Result<(), Duration> {
        let due = self.lock().get(&origin).copied().unwrap_or(0);
        let wait = (due.saturating_sub(now.0) + self.interval_ns).saturating_sub(MINUTE_NS);
        if wait == 0 { Ok(()) } else { Err(Duration::from_nanos(wait)) }
    }

    /// Counts a credential that was wrong.
    pub fn count(&self, origin: Origin, now: Instant) {
        let mut due = self.lock();
        if due.len() >= ORIGINS_MAX && !due.contains_key(&origin) {
            make_room(&mut due, now);
        }
        let due = due.entry(origin).or_insert(0);
        *due = (*due).max(now.0) + self.interval_ns;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Origin, u64>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves at most half, so that this is not done again for each one that comes.
fn make_room(due: &mut HashMap<Origin, u64>, now: Instant) {
    due.retain(|_, due| *due > now.0);
    // In the order of the table, which is effectively random.
    let mut kept = 0;
    due.retain(|_, _| {
        kept += 1;
        kept <= ORIGINS_MAX / 2
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Origin = Origin::V4([192, 0, 2, 1]);
    const SECOND: Origin = Origin::V4([192, 0, 2, 2]);

    fn at(seconds: u64) -> Instant {
        Instant((7 + seconds) * 1_000_000_000)
    }

    #[test]
    fn a_minutes_failures_may_come_at_once_and_then_one_in_its_time() {
        let logins = FailedLogins::new(10);
        for _ in 0..10 {
            assert_eq!(logins.check(FIRST, at(0)), Ok(()));
            logins.count(FIRST, at(0));
        }
        assert_eq!(logins.check(FIRST, at(0)), Err(Duration::from_secs(6)));
        assert_eq!(logins.check(FIRST, at(5)), Err(Duration::from_secs(1)));
        assert_eq!(logins.check(FIRST, at(6)), Ok(()));
        assert_eq!(logins.check(SECOND, at(0)), Ok(()), "others have their own");
        logins.count(FIRST, at(6));
        assert_eq!(logins.check(FIRST, at(6)), Err(Duration::from_secs(6)));
        assert_eq!(logins.check(FIRST, at(70)), Ok(()));
    }

    #[test]
    fn whoever_has_many_addresses_takes_no_more_memory() {
        let logins = FailedLogins::new(1);
        for number in 0..3 * ORIGINS_MAX as u64 {
            let origin = Origin::V6(number.to_le_bytes());
            logins.count(origin, at(0));
            assert!(logins.lock().len() <= ORIGINS_MAX);
            assert!(logins.check(origin, at(0)).is_err(), "the newest is there");
        }
        // What is due makes room before the others.
        logins.lock().clear();
        logins.count(FIRST, at(1000));
        for number in 1..=ORIGINS_MAX as u64 {
            logins.count(Origin::V6(number.to_le_bytes()), at(if number < ORIGINS_MAX as u64 { 0 } else { 500 }));
        }
        assert!(logins.check(FIRST, at(1000)).is_err());
        assert_eq!(logins.lock().len(), 2);
    }
}
