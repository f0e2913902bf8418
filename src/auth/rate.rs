//! How often a token may ask, and for how many bytes: one counter a limit, shared by all cores.
//!
//! The algorithm is GCRA (ITU-T I.371, "virtual scheduling"): the counter is the time at which
//! everything that was granted would have been due at the agreed rate. A request is granted when
//! that is no more than a burst ahead of now. One atomic word, no lock, no timer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nabu_engine::io::Instant;

use crate::config::RateLimit;

const NANOSECONDS: u64 = 1_000_000_000;
/// Subjects of JWTs whose counters are kept; those that come when all of them are busy share one.
const SUBJECTS_MAX: usize = 65_536;

/// One limit: units a second, and how many at once.
struct Gcra {
    per_second: u64,
    burst: u64,
    due: AtomicU64,
}

impl Gcra {
    fn new(per_second: u64, burst: u64) -> Self {
        assert!(per_second > 0 && burst > 0, "a limit of nothing would refuse everything");
        Self { per_second, burst, due: AtomicU64::new(0) }
    }

    fn nanoseconds(&self, units: u64) -> u64 {
        let nanoseconds = u128::from(units) * u128::from(NANOSECONDS) / u128::from(self.per_second);
        u64::try_from(nanoseconds).unwrap_or(u64::MAX)
    }

    /// Takes one unit, or says how long to wait for it.
    fn take(&self, now: Instant) -> Result<(), Duration> {
        let (cost, tolerance) = (self.nanoseconds(1), self.nanoseconds(self.burst));
        let mut wait = 0;
        let taken = self.due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| {
            let due = due.max(now.0).saturating_add(cost);
            wait = (due - now.0).saturating_sub(tolerance);
            (wait == 0).then_some(due)
        });
        taken.map(drop).map_err(|_| Duration::from_nanos(wait))
    }

    /// Charges units that were used already, however many.
    fn charge(&self, now: Instant, units: u64) {
        let cost = self.nanoseconds(units);
        let charge = |due: u64| Some(due.max(now.0).saturating_add(cost));
        let charged = self.due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, charge);
        charged.expect("it always charges");
    }

    /// How long until what was charged is within the burst again.
    fn wait(&self, now: Instant) -> Option<Duration> {
        let ahead = self.due.load(Ordering::Relaxed).saturating_sub(now.0);
        let wait = ahead.saturating_sub(self.nanoseconds(self.burst));
        (wait > 0).then(|| Duration::from_nanos(wait))
    }

    fn is_idle(&self, now: Instant) -> bool {
        self.due.load(Ordering::Relaxed) <= now.0
    }
}

/// What one token may ask for.
pub struct Bucket {
    limit: RateLimit,
    requests: Option<Gcra>,
    bytes: Option<Gcra>,
}

/// A request over the limit, and how long to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exceeded {
    pub per_second: u64,
    pub wait: Duration,
}

impl Bucket {
    /// `None` when nothing is limited.
    pub fn new(limit: RateLimit) -> Option<Arc<Self>> {
        if limit.is_off() {
            return None;
        }
        let requests = limit.requests_per_second.map(|rate| Gcra::new(rate, limit.burst.unwrap_or(rate)));
        let bytes = limit.bytes_per_second.map(|rate| Gcra::new(rate, rate));
        Some(Arc::new(Self { limit, requests, bytes }))
    }

    pub fn limit(&self) -> RateLimit {
        self.limit
    }

    /// Grants a request, or says why not. One that is refused is not counted.
    pub fn take(&self, now: Instant) -> Result<(), Exceeded> {
        match &self.requests {
            Some(requests) => requests.take(now).map_err(|wait| Exceeded { per_second: requests.per_second, wait }),
            None => Ok(()),
        }
    }

    /// The limit of bytes. It refuses nothing; it slows transfers down.
    pub fn bytes_per_second(&self) -> Option<u64> {
        self.bytes.as_ref().map(|limit| limit.per_second)
    }

    /// How long a transfer must wait before it moves more bytes.
    pub fn bytes_wait(&self, now: Instant) -> Option<Duration> {
        self.bytes.as_ref().and_then(|limit| limit.wait(now))
    }

    /// Charges what a request has moved.
    pub fn charge_bytes(&self, now: Instant, bytes: u64) {
        if let Some(limit) = &self.bytes {
            limit.charge(now, bytes);
        }
    }

    fn is_idle(&self, now: Instant) -> bool {
        [&self.requests, &self.bytes].into_iter().flatten().all(|limit| limit.is_idle(now))
    }
}

/// The counters of those who come with JWTs, by subject.
pub struct Subjects {
    limit: RateLimit,
    buckets: Mutex<HashMap<String, Arc<Bucket>>>,
    /// For those who find no place.
    overflow: Option<Arc<Bucket>>,
}

impl Subjects {
    pub fn new(limit: RateLimit) -> Self {
        Self { limit, buckets: Mutex::default(), overflow: Bucket::new(limit) }
    }

    /// The counter of a subject; `None` when nothing is limited.
    pub fn bucket(&self, subject: &str, now: Instant) -> Option<Arc<Bucket>> {
        let overflow = self.overflow.as_ref()?;
        let mut buckets = self.buckets.lock().expect("no holder of this lock panics");
        if let Some(bucket) = buckets.get(subject) {
            return Some(bucket.clone());
        }
        if buckets.len() >= SUBJECTS_MAX {
            // A bucket that nobody holds and that owes nothing equals a new one.
            buckets.retain(|_, bucket| Arc::strong_count(bucket) > 1 || !bucket.is_idle(now));
            if buckets.len() >= SUBJECTS_MAX {
                return Some(overflow.clone());
            }
        }
        let bucket = Bucket::new(self.limit)?;
        buckets.insert(subject.to_owned(), bucket.clone());
        Some(bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(per_second: u64, burst: u64) -> RateLimit {
        RateLimit { requests_per_second: Some(per_second), burst: Some(burst), bytes_per_second: None }
    }

    fn at(milliseconds: u64) -> Instant {
        Instant(7 * NANOSECONDS).after(Duration::from_millis(milliseconds))
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let bucket = Bucket::new(requests(10, 3)).expect("a limit");
        let refused = |milliseconds| Err(Exceeded { per_second: 10, wait: Duration::from_millis(milliseconds) });
        for _ in 0..3 {
            assert_eq!(bucket.take(at(0)), Ok(()));
        }
        assert_eq!(bucket.take(at(0)), refused(100));
        assert_eq!(bucket.take(at(99)), refused(1));
        assert_eq!(bucket.take(at(100)), Ok(()));
        assert_eq!(bucket.take(at(100)), refused(100));
        // A pause of any length refills no more than the burst.
        for _ in 0..3 {
            assert_eq!(bucket.take(at(60_000)), Ok(()));
        }
        assert_eq!(bucket.take(at(60_000)), refused(100));
    }

    #[test]
    fn bytes_are_charged_afterwards_and_make_the_next_ones_wait() {
        let bucket = Bucket::new(RateLimit { bytes_per_second: Some(1000), ..RateLimit::default() }).expect("a limit");
        assert_eq!(bucket.bytes_wait(at(0)), None);
        bucket.charge_bytes(at(0), 5000);
        assert_eq!(bucket.take(at(0)), Ok(()), "nothing is refused");
        assert_eq!(bucket.bytes_wait(at(0)), Some(Duration::from_secs(4)));
        assert_eq!(bucket.bytes_wait(at(3000)), Some(Duration::from_secs(1)));
        assert_eq!(bucket.bytes_wait(at(4000)), None);
    }

    #[test]
    fn cores_together_get_no_more_than_the_limit() {
        let bucket = Bucket::new(requests(1, 1000)).expect("a limit");
        let granted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..1000).filter(|_| bucket.take(at(0)).is_ok()).count())).collect();
            threads.into_iter().map(|thread| thread.join().expect("no thread panics")).sum()
        });
        assert_eq!(granted, 1000);
    }

    #[test]
    fn whatever_is_charged_nothing_overflows() {
        let bucket = Bucket::new(RateLimit { bytes_per_second: Some(1), ..RateLimit::default() }).expect("a limit");
        bucket.charge_bytes(at(0), u64::MAX);
        bucket.charge_bytes(at(0), u64::MAX);
        assert!(bucket.bytes_wait(at(0)).is_some());
        assert!(Bucket::new(RateLimit::default()).is_none());
    }

    #[test]
    fn each_subject_has_its_own_counter_and_the_places_are_bounded() {
        let subjects = Subjects::new(requests(1, 1));
        let first = subjects.bucket("first", at(0)).expect("a limit");
        assert_eq!(first.take(at(0)), Ok(()));
        assert_eq!(subjects.bucket("second", at(0)).expect("a limit").take(at(0)), Ok(()));
        assert!(subjects.bucket("first", at(0)).expect("a limit").take(at(0)).is_err());
        for index in 0..2 * SUBJECTS_MAX {
            subjects.bucket(&index.to_string(), at(0));
        }
        assert!(subjects.buckets.lock().expect("not poisoned").len() <= SUBJECTS_MAX);
        // Who is held is not forgotten.
        assert!(subjects.bucket("first", at(0)).expect("a limit").take(at(0)).is_err());
        assert!(Subjects::new(RateLimit::default()).bucket("anyone", at(0)).is_none());
    }
}
