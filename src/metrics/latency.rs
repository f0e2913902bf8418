//! A histogram of durations, and the buckets it is shown in.
//!
//! It is recorded in an HdrHistogram of microseconds with two significant digits, some 27 KiB
//! whatever comes, and shown in the fixed buckets of [`BOUNDS_US`]. So a bucket's border is true to
//! a hundredth of its value (the bounds below 256 µs exactly), and the sum exactly, as it is kept
//! apart.

use hdrhistogram::Histogram;

/// The upper bounds of the buckets in microseconds. From a hot GET on the loopback to an upload
/// that takes minutes.
pub const BOUNDS_US: [u64; 21] = [
    25,
    50,
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
];
/// The longest duration that is distinguished from longer ones: an hour.
const MICROSECONDS_MAX: u64 = 3_600_000_000;
const SIGNIFICANT_DIGITS: u8 = 2;

/// Durations of one kind.
#[derive(Clone, Debug)]
pub struct Latency {
    microseconds: Histogram<u64>,
    sum_ns: u128,
}

/// How many durations were at most each of [`BOUNDS_US`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Buckets {
    /// Each includes the ones before it.
    pub cumulated: [u64; BOUNDS_US.len()],
    pub count: u64,
    pub sum_ns: u128,
}

impl Default for Latency {
    fn default() -> Self {
        let microseconds = Histogram::new_with_bounds(1, MICROSECONDS_MAX, SIGNIFICANT_DIGITS);
        Self { microseconds: microseconds.expect("the bounds are in order"), sum_ns: 0 }
    }
}

impl Latency {
    pub fn record(&mut self, nanoseconds: u64) {
        // Up, so that nothing longer than a bound counts as within it.
        self.microseconds.saturating_record(nanoseconds.div_ceil(1000));
        self.sum_ns += u128::from(nanoseconds);
    }

    pub fn buckets(&self) -> Buckets {
        let mut buckets = Buckets { count: self.microseconds.len(), sum_ns: self.sum_ns, ..Buckets::default() };
        for step in self.microseconds.iter_recorded() {
            let lowest = self.microseconds.lowest_equivalent(step.value_iterated_to());
            let first = BOUNDS_US.partition_point(|bound| *bound < lowest);
            if let Some(count) = buckets.cumulated.get_mut(first) {
                *count += step.count_since_last_iteration();
            }
        }
        let mut total = 0;
        for count in &mut buckets.cumulated {
            total += *count;
            *count = total;
        }
        buckets
    }
}

impl Buckets {
    pub fn add(&mut self, other: &Self) {
        self.cumulated.iter_mut().zip(other.cumulated).for_each(|(count, more)| *count += more);
        self.count += other.count;
        self.sum_ns += other.sum_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_its_bucket_and_in_all_above() {
        for (index, bound) in BOUNDS_US.into_iter().enumerate() {
            let mut latency = Latency::default();
            latency.record(bound * 1000);
            // Beyond the border by more than the histogram's precision.
            latency.record(bound * 1020 + 1);
            let buckets = latency.buckets();
            assert_eq!(buckets.cumulated[index], 1, "{bound} us");
            assert!(buckets.cumulated[..index].iter().all(|count| *count == 0), "{bound} us");
            assert!(buckets.cumulated[index + 1..].iter().all(|count| *count == 2), "{bound} us");
            assert_eq!((buckets.count, buckets.sum_ns), (2, u128::from(bound) * 2020 + 1));
        }
    }

    #[test]
    fn below_a_quarter_of_a_millisecond_a_border_is_exact() {
        for bound in [25, 50, 100] {
            let mut latency = Latency::default();
            latency.record(bound * 1000 + 1);
            let index = BOUNDS_US.iter().position(|known| *known == bound).expect("a bound");
            assert_eq!(latency.buckets().cumulated[index], 0, "{bound} us and a nanosecond");
        }
    }

    #[test]
    fn a_duration_beyond_everything_is_counted_and_costs_no_memory() {
        let mut latency = Latency::default();
        latency.record(0);
        latency.record(u64::MAX / 2);
        let buckets = latency.buckets();
        assert_eq!((buckets.count, buckets.cumulated[0], buckets.cumulated[BOUNDS_US.len() - 1]), (2, 1, 1));
    }
}
