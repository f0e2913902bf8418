//! Trying again: for how long, after which pauses, and what a person hears of it.
//!
//! Which failures are worth another attempt is decided where they are made, and stands in
//! [`Failure::retry_after`].

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use crate::bench::duration;

use super::exit::Failure;

/// The pause before the second attempt; doubled before each further one, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(8);
/// How often a person is told that it still fails.
const NOTICE_EVERY: Duration = Duration::from_secs(10);

/// How long a command tries again.
#[derive(Args, Clone, Copy, Debug)]
pub struct RetryOptions {
    /// Try again for this long while the server can't be reached, is overloaded or fails (429, 500,
    /// 502, 503, 504); 0 gives up at once
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration::parse, display_order = 810)]
    pub retry_for: Duration,
}

/// The attempts of one transfer.
pub struct Retry {
    patience: Duration,
    /// Failures since something went well.
    failures: u32,
    failing_since: Option<Instant>,
    noticed_at: Option<Instant>,
}

impl Retry {
    pub fn new(options: RetryOptions) -> Self {
        Self { patience: options.retry_for, failures: 0, failing_since: None, noticed_at: None }
    }

    /// Something went well: the next failure is the first one again.
    pub fn went_well(&mut self) {
        self.failures = 0;
        self.failing_since = None;
    }

    /// Waits until the next attempt is due, and tells `say` why, now and then.
    ///
    /// # Errors
    /// The failure, when another attempt would not help or the time for attempts is over.
    pub fn wait(&mut self, failure: Failure, say: impl FnOnce(&str)) -> Result<(), Failure> {
        let Some(asked) = failure.retry_after else { return Err(self.given_up(failure)) };
        let now = Instant::now();
        let failing_since = *self.failing_since.get_or_insert(now);
        self.failures += 1;
        let left = self.patience.saturating_sub(now - failing_since);
        if left.is_zero() {
            return Err(self.given_up(failure));
        }
        if asked > left {
            let mut failure = self.given_up(failure);
            failure.message.push_str(&format!(
                "; the server asks to wait {}, and --retry-for leaves {}",
                in_words(asked),
                in_words(left)
            ));
            return Err(failure);
        }
        if self.noticed_at.is_none_or(|noticed_at| now - noticed_at >= NOTICE_EVERY) {
            self.noticed_at = Some(now);
            say(&format!("{}; trying again for {} more", failure.message, in_words(left)));
        }
        thread::sleep(self.pause().max(asked).min(left));
        Ok(())
    }

    /// Calls until it succeeds.
    ///
    /// # Errors
    /// As [`Retry::wait`].
    pub fn run<T>(&mut self, say: impl Fn(&str), mut call: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
        loop {
            match call() {
                Ok(value) => {
                    self.went_well();
                    return Ok(value);
                }
                Err(failure) => self.wait(failure, &say)?,
            }
        }
    }

    /// Doubled from failure to failure, and shortened by up to half at random: clients that were
    /// cut off together don't come back together.
    fn pause(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        let pause = (PAUSE_MIN * 2u32.pow(doublings)).min(PAUSE_MAX);
        pause.mul_f64(0.5 + random_fraction() / 2.0)
    }

    fn given_up(&self, mut failure: Failure) -> Failure {
        if self.failures > 1 {
            failure.message.push_str(&format!("; gave up after {} attempts", self.failures));
        }
        failure
    }
}

/// At random from 0 to 1. Without random numbers the pauses are only less spread.
fn random_fraction() -> f64 {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    }
}

/// A length of time for people.
fn in_words(time: Duration) -> String {
    if time < Duration::from_secs(1) { format!("{} ms", time.as_millis()) } else { format!("{} s", time.as_secs()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    fn temporary(retry_after: Option<Duration>) -> Failure {
        Failure { retry_after, ..Failure::new(Exit::Unreachable, "no answer", "it doesn't answer") }
    }

    fn retry(patience: Duration) -> Retry {
        Retry::new(RetryOptions { retry_for: patience })
    }

    #[test]
    fn what_would_fail_again_is_not_tried_again() {
        let failure = retry(Duration::from_secs(60)).wait(temporary(None), |_| panic!("nothing to say")).unwrap_err();
        assert_eq!(failure.message, "it doesn't answer");
        let none = retry(Duration::ZERO).wait(temporary(Some(Duration::ZERO)), |_| panic!("nothing to say"));
        assert_eq!(none.unwrap_err().message, "it doesn't answer");
    }

    #[test]
    fn more_patience_than_there_is_ends_it_at_once() {
        let asked = temporary(Some(Duration::from_secs(3600)));
        let failure = retry(Duration::from_secs(60)).wait(asked, |_| panic!("nothing to say")).unwrap_err();
        assert!(failure.message.contains("asks to wait 3600 s"), "{}", failure.message);
    }

    #[test]
    fn pauses_grow_up_to_a_bound_and_differ() {
        let mut retry = retry(Duration::from_secs(60));
        for failures in 1..=40 {
            retry.failures = failures;
            let whole = (PAUSE_MIN * 2u32.pow((failures - 1).min(10))).min(PAUSE_MAX);
            let pause = retry.pause();
            assert!(pause >= whole / 2 && pause <= whole, "{failures}: {pause:?}");
        }
    }

    #[test]
    fn it_is_said_once_in_a_while_and_success_starts_anew() {
        let mut retry = retry(Duration::from_secs(60));
        let said = std::cell::Cell::new(0);
        let mut attempts = 0;
        let done = retry.run(
            |_| said.set(said.get() + 1),
            || {
                attempts += 1;
                if attempts < 3 { Err(temporary(Some(Duration::ZERO))) } else { Ok(attempts) }
            },
        );
        assert_eq!((done, said.get(), retry.failures), (Ok(3), 1, 0));
    }
}
