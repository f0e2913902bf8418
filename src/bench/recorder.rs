//! What one core has seen: latencies, counts and errors of each operation, within the window that
//! is measured.
//!
//! A request belongs to the window when it was due in it, so a slow one that ends late is not lost;
//! rates count what ended in it.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::failure::RequestError;
use super::mix::Operation;

/// Latencies are kept to three digits, from a nanosecond to an hour; what takes longer counts as an
/// hour.
const LATENCY_MAX_NS: u64 = 3_600 * 1_000_000_000;
const DIGITS: u8 = 3;
/// Kinds of errors that are counted apart; further kinds are counted together.
const ERROR_KINDS_MAX: usize = 64;
const OTHER_ERRORS: &str = "other errors";

/// When a request was due, when it was sent, and when it ended; nanoseconds of the run.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub due: u64,
    pub sent: u64,
    pub ended: u64,
}

/// The part of the run that is measured: `from..to`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    pub from: u64,
    pub to: u64,
}

impl Window {
    pub fn contains(&self, time: u64) -> bool {
        (self.from..self.to).contains(&time)
    }
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Record {
    /// From the time a request was due to its end, in nanoseconds; of requests that succeeded.
    pub latency: Histogram<u64>,
    /// From the time it was sent. The same in a closed loop, where a request is due when it is
    /// sent.
    pub service: Histogram<u64>,
    /// Requests that succeeded.
    pub succeeded: u64,
    pub failed: u64,
    /// Of those that succeeded, the ones that ended within the window.
    pub ended_in_window: u64,
    /// Bytes of the bodies of requests that succeeded.
    pub bytes: u64,
}

impl Record {
    fn new() -> Self {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_MAX_NS, DIGITS).expect("the bounds are fixed and fit");
        Self { latency: histogram(), service: histogram(), succeeded: 0, failed: 0, ended_in_window: 0, bytes: 0 }
    }

    fn add(&mut self, other: &Self) {
        let fits = "histograms with the same bounds fit";
        self.latency.add(&other.latency).expect(fits);
        self.service.add(&other.service).expect(fits);
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.ended_in_window += other.ended_in_window;
        self.bytes += other.bytes;
    }
}

/// The records of one core, or of all together.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    records: [Option<Box<Record>>; Operation::COUNT],
    /// By the text of the error, and what it happened to.
    errors: BTreeMap<String, u64>,
    /// Answers whose content was not what was stored.
    pub wrong: u64,
    /// Connections that could not be opened.
    pub refused: u64,
    /// Connections opened beyond the first of each.
    pub reconnects: u64,
    /// Slots of the schedule that were due in the window and never sent.
    pub unsent: u64,
    /// Uploads that the store knew already.
    pub known_uploads: u64,
    /// When the last request of the window ended.
    pub last_end: u64,
}

impl Recorder {
    pub fn record(&self, operation: Operation) -> Option<&Record> {
        self.records[operation as usize].as_deref()
    }

    /// Kinds of errors and how often each came.
    pub fn errors(&self) -> &BTreeMap<String, u64> {
        &self.errors
    }

    pub fn succeeded(&self) -> u64 {
        self.records.iter().flatten().map(|record| record.succeeded).sum()
    }

    pub fn failed(&self) -> u64 {
        self.records.iter().flatten().map(|record| record.failed).sum()
    }

    fn of(&mut self, operation: Operation) -> &mut Record {
        self.records[operation as usize].get_or_insert_with(|| Box::new(Record::new()))
    }

    /// Records a request, if it belongs to the window. `Ok` carries the bytes of its body.
    pub fn note(&mut self, window: Window, operation: Operation, timing: Timing, outcome: &Result<u64, RequestError>) {
        let Timing { due, sent, ended } = timing;
        debug_assert!(due <= ended && sent <= ended);
        // Wrong bytes count whenever they come.
        if outcome.as_ref().is_err_and(RequestError::is_wrong_content) {
            self.wrong += 1;
        }
        if !window.contains(due) {
            return;
        }
        self.last_end = self.last_end.max(ended);
        let record = self.of(operation);
        match outcome {
            Ok(bytes) => {
                record.latency.saturating_record(ended - due);
                record.service.saturating_record(ended - sent);
                record.succeeded += 1;
                record.bytes += bytes;
                record.ended_in_window += u64::from(ended < window.to);
            }
            Err(error) => {
                record.failed += 1;
                self.note_error(&format!("{}: {error}", operation.name()));
            }
        }
    }

    /// Counts a connection that could not be opened.
    pub fn note_connect_error(&mut self, error: &RequestError) {
        self.refused += 1;
        self.note_error(&format!("connect: {error}"));
    }

    fn note_error(&mut self, text: &str) {
        let is_known = self.errors.contains_key(text) || self.errors.len() < ERROR_KINDS_MAX;
        *self.errors.entry(if is_known { text } else { OTHER_ERRORS }.to_owned()).or_default() += 1;
    }

    /// Adds what another core has seen.
    pub fn merge(&mut self, other: &Self) {
        for operation in Operation::ALL {
            if let Some(record) = other.record(operation) {
                self.of(operation).add(record);
            }
        }
        for (text, count) in &other.errors {
            *self.errors.entry(text.clone()).or_default() += count;
        }
        self.wrong += other.wrong;
        self.refused += other.refused;
        self.reconnects += other.reconnects;
        self.unsent += other.unsent;
        self.known_uploads += other.known_uploads;
        self.last_end = self.last_end.max(other.last_end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::schedule::Schedule;

    const MS: u64 = 1_000_000;
    const SECOND: u64 = 1_000 * MS;
    const ALL: Window = Window { from: 0, to: 10 * SECOND };

    fn near(found: u64, expected: u64) -> bool {
        found.abs_diff(expected) * 500 <= expected
    }

    /// One connection, a request each 10 ms for 10 s, each answered in 1 ms, but one takes 1 s: by
    /// a clock of our own.
    #[test]
    fn a_stall_is_charged_to_every_request_that_it_kept_waiting() {
        let mut schedule = Schedule::new(100.0, 0, 1);
        let mut recorder = Recorder::default();
        let mut clock = 0;
        for number in 0..1_000 {
            let due = schedule.take();
            let sent = due.max(clock);
            clock = sent + if number == 500 { SECOND } else { MS };
            recorder.note(ALL, Operation::Get, Timing { due, sent, ended: clock }, &Ok(1));
        }
        let record = recorder.record(Operation::Get).expect("requests were recorded");
        assert_eq!((record.succeeded, record.bytes), (1_000, 1_000));
        // The request that stalls, and the 109 behind it that wait for less and less: the queue
        // shrinks by 9 ms with each.
        let waited = record.latency.iter_recorded().filter(|entry| entry.value_iterated_to() > 2 * MS);
        let waited: u64 = waited.map(|entry| entry.count_at_value()).sum();
        assert!((109..=112).contains(&waited), "{waited}");
        assert!(near(record.latency.max(), SECOND));
        // p99 is the 990th of 1,000, and the ten that waited longer lie 9 ms apart.
        assert!(near(record.latency.value_at_quantile(0.99), SECOND - 10 * 9 * MS));
        // What a client without a schedule would have seen: one slow request in a thousand.
        assert!(near(record.service.value_at_quantile(0.99), MS));
        assert_eq!(schedule.missed(ALL.to), 0);
    }

    #[test]
    fn the_warm_up_is_left_out_and_late_ends_are_not() {
        let window = Window { from: SECOND, to: 2 * SECOND };
        let mut recorder = Recorder::default();
        for (due, ended) in
            [(SECOND - 1, SECOND + 5), (SECOND, SECOND + 1), (2 * SECOND - 1, 3 * SECOND), (2 * SECOND, 2 * SECOND)]
        {
            recorder.note(window, Operation::Put, Timing { due, sent: due, ended }, &Ok(7));
        }
        let record = recorder.record(Operation::Put).expect("recorded");
        assert_eq!((record.succeeded, record.ended_in_window, record.bytes), (2, 1, 14));
        assert_eq!((record.latency.len(), recorder.last_end), (2, 3 * SECOND));
    }

    #[test]
    fn errors_are_counted_by_kind_and_operation_and_not_as_latencies() {
        let mut recorder = Recorder::default();
        let timing = Timing { due: 1, sent: 1, ended: 2 };
        for error in [RequestError::Status(503), RequestError::Status(503), RequestError::ClosedEarly] {
            recorder.note(ALL, Operation::Get, timing, &Err(error));
        }
        recorder.note(ALL, Operation::Put, timing, &Err(RequestError::Status(503)));
        recorder.note_connect_error(&RequestError::ConnectionRefused);
        let mut other = recorder.clone();
        other.merge(&recorder);
        let counts: Vec<(&str, u64)> = other.errors().iter().map(|(text, count)| (text.as_str(), *count)).collect();
        assert_eq!(
            counts,
            [
                ("connect: connection refused", 2),
                ("get: closed early", 2),
                ("get: status 503", 4),
                ("put: status 503", 2)
            ]
        );
        assert_eq!((other.failed(), other.succeeded(), other.refused), (8, 0, 2));
        assert!(other.record(Operation::Get).expect("recorded").latency.is_empty());
    }

    #[test]
    fn wrong_content_counts_in_the_warm_up_too() {
        let mut recorder = Recorder::default();
        let window = Window { from: 10, to: 20 };
        recorder.note(window, Operation::Get, Timing { due: 1, sent: 1, ended: 2 }, &Err(RequestError::WrongBytes));
        assert_eq!((recorder.wrong, recorder.failed()), (1, 0));
    }

    #[test]
    fn kinds_of_errors_are_bounded() {
        let mut recorder = Recorder::default();
        for number in 0..1_000 {
            let error = RequestError::Protocol(number.to_string());
            recorder.note(ALL, Operation::Get, Timing { due: 1, sent: 1, ended: 1 }, &Err(error));
        }
        assert_eq!(recorder.errors().len(), ERROR_KINDS_MAX + 1);
        assert_eq!(recorder.errors()[OTHER_ERRORS], 1_000 - ERROR_KINDS_MAX as u64);
    }
}
