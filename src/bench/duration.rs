//! Lengths of time as people write them: `10s`, `500ms`, `2m`.

use std::time::Duration;

/// The units, in milliseconds; seconds go without one, too.
const UNITS: [(&str, u64); 5] = [("", 1_000), ("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
/// The longest that can be asked for.
const SECONDS_MAX: u64 = 30 * 86_400;

/// Reads a whole number with an optional unit.
pub fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit = UNITS.iter().find(|(name, _)| *name == text[digits..].trim_start());
    let milliseconds = unit.and_then(|(_, factor)| text[..digits].parse::<u64>().ok()?.checked_mul(*factor));
    match milliseconds {
        Some(milliseconds) if milliseconds <= SECONDS_MAX * 1_000 => Ok(Duration::from_millis(milliseconds)),
        Some(_) => Err("a duration is at most 30 days".to_owned()),
        None => Err("a duration is a whole number followed by ms, s, m or h, such as 10s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_told_apart() {
        for (text, milliseconds) in
            [("10", 10_000), ("10s", 10_000), ("500ms", 500), ("2 m", 120_000), ("1h", 3_600_000), ("0", 0)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_length_of_time_is_refused() {
        for text in ["", "s", "1.5s", "-1s", "10 days", "99999999999999999999", "721h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
