//! How long a core is busy at a time, for benchmarks: the feature `steps` compiles it in.
//!
//! A *step* is what a core does without looking after anybody else: a poll of one task, or an entry
//! into the kernel that waits for nothing. Time for which the thread was ready and had no CPU does
//! not count; what a hypervisor takes away does.

use std::cell::RefCell;
use std::time::{Duration, Instant};

/// From this length on the kernel is asked how much of a step was spent waiting for a CPU.
const LONG: Duration = Duration::from_micros(200);

/// The steps of a thread by their length.
#[derive(Clone, Debug, Default)]
pub struct Steps {
    /// By the number of bits of the microseconds.
    by_bits: [u64; 32],
    longest: Duration,
    waited: Duration,
}

thread_local! {
    static STEPS: RefCell<Steps> = RefCell::default();
}

/// Does a step, and takes its time if the feature is on.
pub(super) fn step<T>(work: impl FnOnce() -> T) -> T {
    if !cfg!(feature = "steps") {
        return work();
    }
    let began = Instant::now();
    let result = work();
    let length = began.elapsed();
    STEPS.with_borrow_mut(|steps| steps.add(length));
    result
}

/// The steps of this thread since the last call.
pub fn take() -> Steps {
    STEPS.replace(Steps { waited: waited_for_a_cpu(), ..Steps::default() })
}

impl Steps {
    fn add(&mut self, mut length: Duration) {
        if length >= LONG {
            let waited = waited_for_a_cpu();
            length = length.saturating_sub(waited - self.waited);
            self.waited = waited;
        }
        let bits = u64::BITS - (length.as_micros() as u64).leading_zeros();
        self.by_bits[(bits as usize).min(self.by_bits.len() - 1)] += 1;
        self.longest = self.longest.max(length);
    }

    pub fn count(&self) -> u64 {
        self.by_bits.iter().sum()
    }

    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// Steps of two to the power of `bits` microseconds or more.
    pub fn count_from(&self, bits: usize) -> u64 {
        self.by_bits[bits + 1..].iter().sum()
    }
}

/// How long this thread was ready to run and did not (the second figure of `schedstat`, proc(5)).
fn waited_for_a_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_whitespace().nth(1).and_then(|value| value.parse().ok()).unwrap_or(0);
    Duration::from_nanos(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_by_their_length() {
        let mut steps = Steps::default();
        [0, 1, 3, 100].into_iter().for_each(|micros| steps.add(Duration::from_micros(micros)));
        assert_eq!((steps.count(), steps.longest()), (4, Duration::from_micros(100)));
        assert_eq!([0, 1, 2, 6, 7].map(|bits| steps.count_from(bits)), [3, 2, 1, 1, 0]);
    }
}
