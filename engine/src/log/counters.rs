//! What a log counts of itself, for whoever watches the store.
//!
//! One core writes these, with plain stores, and gives copies away. A distribution has few fixed
//! buckets: a commit happens thousands of times a second at most, and its numbers travel in a
//! message.

/// The most bounds of a [`Distribution`].
const BOUNDS_MAX: usize = 16;
/// Bounds for the records of one commit.
const RECORDS_BOUNDS: [u64; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
/// Bounds for the time of one commit, in nanoseconds: from 100 µs, which a good device needs for a
/// sync, to 10 s.
const NANOSECONDS_BOUNDS: [u64; 16] = {
    let mut bounds = [1, 2, 3, 5, 10, 20, 30, 50, 100, 250, 500, 1_000, 5_000, 10_000, 50_000, 100_000];
    let mut index = 0;
    while index < bounds.len() {
        bounds[index] *= 100_000;
        index += 1;
    }
    bounds
};

/// How many values were at most each of some bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Distribution {
    bounds: &'static [u64],
    /// One for each bound, and one for what is above them all.
    counts: [u64; BOUNDS_MAX + 1],
    sum: u64,
}

impl Distribution {
    const fn new(bounds: &'static [u64]) -> Self {
        assert!(bounds.len() <= BOUNDS_MAX);
        Self { bounds, counts: [0; BOUNDS_MAX + 1], sum: 0 }
    }

    pub fn record(&mut self, value: u64) {
        let index = self.bounds.partition_point(|bound| *bound < value);
        self.counts[index] += 1;
        self.sum += value;
    }

    /// Adds what another one with the same bounds counted.
    pub fn add(&mut self, other: &Self) {
        assert_eq!(self.bounds, other.bounds, "distributions of different things");
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sum += other.sum;
    }

    /// Each bound with the number of values that were at most that.
    pub fn cumulated(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut total = 0;
        self.bounds.iter().zip(self.counts).map(move |(bound, count)| {
            total += count;
            (*bound, total)
        })
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub fn sum(&self) -> u64 {
        self.sum
    }
}

/// What a log did since its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogCounters {
    /// Syncs that made something durable.
    pub commits: u64,
    /// Blobs and deletions made durable.
    pub records: u64,
    pub bytes_written: u64,
    /// Records of each commit.
    pub commit_records: Distribution,
    /// Nanoseconds of each commit: its write, where it has one of its own, and its sync.
    pub commit_ns: Distribution,
}

impl Default for LogCounters {
    fn default() -> Self {
        Self {
            commits: 0,
            records: 0,
            bytes_written: 0,
            commit_records: Distribution::new(&RECORDS_BOUNDS),
            commit_ns: Distribution::new(&NANOSECONDS_BOUNDS),
        }
    }
}

impl LogCounters {
    /// Counts a commit of this many records.
    pub fn count_commit(&mut self, records: u64, nanoseconds: u64) {
        self.commits += 1;
        self.records += records;
        self.commit_records.record(records);
        self.commit_ns.record(nanoseconds);
    }

    /// Adds what another log counted.
    pub fn add(&mut self, other: &Self) {
        self.commits += other.commits;
        self.records += other.records;
        self.bytes_written += other.bytes_written;
        self.commit_records.add(&other.commit_records);
        self.commit_ns.add(&other.commit_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_at_its_bound_and_at_all_above() {
        let mut distribution = Distribution::new(&RECORDS_BOUNDS);
        for value in [1, 2, 3, 1024, 1025] {
            distribution.record(value);
        }
        let cumulated: Vec<(u64, u64)> = distribution.cumulated().collect();
        assert_eq!(cumulated[..3], [(1, 1), (2, 2), (4, 3)]);
        assert_eq!(cumulated.last(), Some(&(1024, 4)));
        assert_eq!((distribution.count(), distribution.sum()), (5, 2055));

        let mut twice = distribution;
        twice.add(&distribution);
        assert_eq!((twice.count(), twice.sum()), (10, 4110));
    }

    #[test]
    fn bounds_ascend() {
        assert!(RECORDS_BOUNDS.is_sorted_by(|a, b| a < b) && NANOSECONDS_BOUNDS.is_sorted_by(|a, b| a < b));
    }
}
