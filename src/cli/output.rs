//! What commands print: results on standard output, everything else on standard error.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use time::OffsetDateTime;

use super::exit::Failure;
pub use crate::text::human_size;

/// How a command talks.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Output {
    /// Print each result as one JSON object on a line of its own; errors too, on standard error
    #[arg(long, display_order = 900)]
    pub json: bool,

    /// No progress bar and no remarks
    #[arg(long, short, display_order = 901)]
    pub quiet: bool,
}

impl Output {
    /// Whether somebody watches: a progress bar reaches a person and disturbs no program.
    pub fn is_watched(self) -> bool {
        !self.json && !self.quiet && io::stderr().is_terminal()
    }

    /// A line for a person, on standard error; also into a log, where nobody watches.
    pub fn remark(self, text: &str) {
        if !self.json && !self.quiet {
            say(text);
        }
    }

    /// One result: `json` with `--json`, else the text, which brings its line ends along.
    pub fn result<T: Serialize>(self, json: &T, text: impl FnOnce() -> String) -> Result<(), Failure> {
        let bytes = if self.json {
            let mut line = simd_json::to_string(json).expect("results are plain data");
            line.push('\n');
            line
        } else {
            text()
        };
        write_stdout(bytes.as_bytes())
    }

    /// Writes a failure to standard error: one JSON object with `--json`, else a line of text.
    pub fn failure(self, failure: &Failure) {
        if failure.is_reader_gone() {
            return;
        }
        if self.json {
            #[derive(Serialize)]
            struct Shape<'a> {
                error: &'a str,
                message: &'a str,
                exit_code: u8,
                #[serde(skip_serializing_if = "Option::is_none")]
                status: Option<u16>,
            }
            let Failure { exit, error, message, status, retry_after: _ } = failure;
            let shape = Shape { error, message, exit_code: *exit as u8, status: *status };
            say(&simd_json::to_string(&shape).expect("strings and numbers become JSON"));
        } else {
            say(&format!("error: {}", failure.message));
        }
    }
}

/// Writes a line to standard error. When nobody reads it any more, the work continues all the same.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes all bytes to standard output and flushes it.
pub fn write_stdout(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| stdout_failure(&error))
}

/// The failure for an error of standard output.
pub fn stdout_failure(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::reader_gone()
    } else {
        Failure::io("cannot write to standard output", error)
    }
}

/// A size, and how fast that many bytes came or went: `3.0 GiB in 1.5 s, 2.0 GiB/s`.
pub fn human_speed(bytes: u64, time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let speed = human_size((bytes as f64 / seconds.max(1e-3)) as u64);
    let time = if seconds < 1.0 { format!("{} ms", time.as_millis()) } else { format!("{seconds:.1} s") };
    format!("{} in {time}, {speed}/s", human_size(bytes))
}

/// A count with its noun: `1 blob`, `2 blobs`.
pub fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Nanoseconds since 1970 as RFC 3339 in UTC, in whole milliseconds: `2026-03-01T12:00:00.250Z`.
pub fn rfc3339(nanoseconds: u64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds.into()).expect("they end in the year 2554");
    let (date, month) = (time.date(), u8::from(time.month()));
    format!(
        "{:04}-{month:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        date.year(),
        date.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_with_leap_years() {
        const SECOND: u64 = 1_000_000_000;
        for (nanoseconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400 * SECOND, "2000-02-29T00:00:00.000Z"),
            (1_709_164_799 * SECOND + 999_999_999, "2024-02-28T23:59:59.999Z"),
            (1_709_164_800 * SECOND, "2024-02-29T00:00:00.000Z"),
            (4_107_542_400 * SECOND, "2100-03-01T00:00:00.000Z"),
            (u64::MAX, "2554-07-21T23:34:33.709Z"),
        ] {
            assert_eq!(rfc3339(nanoseconds), text);
        }
    }
}
