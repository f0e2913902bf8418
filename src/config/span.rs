//! Spans of time as people write them: `14d`, `12h`, `30m`, `10s`.

use std::fmt;
use std::time::Duration;

/// The units, each with its seconds, from the largest on.
const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];

/// Reads a whole number of a unit; `None` when it is neither that nor below 2⁶⁴ seconds.
pub fn parse(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == text[digits..].trim_start())?;
    text[..digits].parse::<u64>().ok()?.checked_mul(*factor).map(Duration::from_secs)
}

/// Writes whole seconds so that [`parse`] reads the same: in the largest unit that divides them.
pub fn exact(seconds: u64) -> String {
    let fits = |(_, factor): &&(&str, u64)| seconds != 0 && seconds.is_multiple_of(*factor);
    let (unit, factor) = UNITS.iter().find(fits).unwrap_or(&("s", 1));
    format!("{}{unit}", seconds / factor)
}

/// A span of time within bounds, both inclusive.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub seconds_min: u64,
    pub seconds_max: u64,
}

impl Span {
    pub fn contains(&self, duration: Duration) -> bool {
        duration.subsec_nanos() == 0 && (self.seconds_min..=self.seconds_max).contains(&duration.as_secs())
    }
}

/// The bounds as messages and documentation write them: `1m..7d`.
impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}..{}", exact(self.seconds_min), exact(self.seconds_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_whole_numbers_of_a_unit() {
        for (text, seconds) in [("0s", 0), ("90s", 90), ("15m", 900), ("12 h", 43_200), ("7d", 604_800)] {
            assert_eq!(parse(text), Some(Duration::from_secs(seconds)), "{text:?}");
        }
        for text in ["", "m", "15", "-1s", "1.5h", "1w", "1M", "18446744073709551615d", "٣s"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_exact_span_reads_back_as_itself() {
        for (seconds, text) in [(0, "0s"), (90, "90s"), (60, "1m"), (7200, "2h"), (604_800, "7d")] {
            assert_eq!(exact(seconds), text);
            assert_eq!(parse(text), Some(Duration::from_secs(seconds)));
        }
    }
}
