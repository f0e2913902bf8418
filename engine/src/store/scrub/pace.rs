//! How fast the scrub reads: at one rate, in steps of one read, with nothing between them but
//! sleep.

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::fault::Halt;
use crate::io::{Instant, Io};
use crate::store::shard::Shard;
use crate::store::worker::Worker;
use crate::sync::race;

/// The least bytes a second, so that what there is of a small store is read in a moment and then
/// left alone.
const RATE_MIN: u64 = 1 << 20;
/// Less than this is not slept: it is owed to the next step.
const SLEEP_MIN: Duration = Duration::from_millis(1);

/// Paces what is read on one core.
pub(in crate::store) struct Pacer<I: Io> {
    shard: Shard<I>,
    /// Bytes a second; 0: as fast as it goes.
    rate: Cell<u64>,
    /// When everything read so far should have taken its time.
    due: Cell<Instant>,
    read: Cell<u64>,
}

impl<I: Io> Pacer<I> {
    /// Without a limit.
    pub fn new(shard: Shard<I>) -> Self {
        let due = Cell::new(shard.io().now());
        Self { shard, rate: Cell::new(0), due, read: Cell::new(0) }
    }

    /// Spreads this many bytes over an interval from now on.
    pub fn spread(&self, bytes: u64, interval: Duration) {
        self.rate.set(rate(bytes, interval));
    }

    /// Bytes read so far.
    pub fn read(&self) -> u64 {
        self.read.get()
    }

    /// Counts bytes that were read, and sleeps until they have taken their time; ends at once when
    /// the store is being closed.
    pub async fn paced(&self, bytes: u64) -> Result<(), Halt> {
        let background = &self.shard.shared().background;
        let io = self.shard.io();
        self.read.set(self.read.get() + bytes);
        io.bulk_turn(bytes as usize).await;
        if self.rate.get() > 0 {
            background.scrub.bytes.fetch_add(bytes, Ordering::Relaxed);
            let now = io.now();
            self.due.set(self.due.get().max(now).after(duration(bytes, self.rate.get())));
            let owed = self.due.get().since(now);
            if owed >= SLEEP_MIN {
                race(background.stopped(Worker::Scrub), io.sleep(owed)).await;
            }
        }
        self.check()
    }

    /// Waits, unless the store is being closed.
    pub async fn pause(&self, duration: Duration) -> Result<(), Halt> {
        race(self.shard.shared().background.stopped(Worker::Scrub), self.shard.io().sleep(duration)).await;
        self.check()
    }

    pub fn check(&self) -> Result<(), Halt> {
        if self.shard.shared().background.is_stopping() { Err(Halt::Stopped) } else { Ok(()) }
    }
}

/// Bytes a second to read so many in this time.
fn rate(bytes: u64, interval: Duration) -> u64 {
    let wanted = u128::from(bytes) * 1_000_000_000 / interval.as_nanos().max(1);
    (wanted.min(u128::from(u64::MAX)) as u64).max(RATE_MIN)
}

/// How long so many bytes take.
fn duration(bytes: u64, rate: u64) -> Duration {
    Duration::from_nanos((u128::from(bytes) * 1_000_000_000 / u128::from(rate)).min(u128::from(u64::MAX)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn a_large_store_is_read_within_the_interval_and_a_small_one_at_the_least_rate() {
        let bytes = 80u64 << 40;
        let rate_of_large = rate(bytes, 14 * DAY);
        assert!(duration(bytes, rate_of_large) <= 14 * DAY + Duration::from_secs(60));
        assert!(rate_of_large < 80 << 20, "{rate_of_large} bytes a second");
        assert_eq!(rate(1 << 30, 14 * DAY), RATE_MIN);
        assert_eq!(rate(0, Duration::ZERO), RATE_MIN);
    }
}
