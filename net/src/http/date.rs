//! HTTP dates (RFC 9110, section 5.6.7): seconds since 1970 to text and back.
//!
//! Invariants: only the one form that may be sent is written, all three that may arrive are read.
//! What is written reads back to the same second. Calendar arithmetic is that of the proleptic
//! Gregorian calendar, by 400-year eras (H. Hinnant, "chrono-Compatible Low-Level Date
//! Algorithms"). Dates before 1970 are no dates here: nothing in a store is that old.

/// Bytes of a date as it is written: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub const HTTP_DATE_SIZE: usize = 29;

/// The last second that four digits of a year can name; later ones are written as this one.
const SECONDS_MAX: u64 = 253_402_300_799;
const SECONDS_PER_DAY: u64 = 86_400;
/// Days from 0000-03-01, where the eras start, to 1970-01-01.
const DAYS_TO_1970: u64 = 719_468;
const DAYS_PER_ERA: u64 = 146_097;
/// A year of two digits below this is of the 21st century. Section 5.6.7 wants a year more than
/// fifty years ahead to be past; a fixed year keeps the parser free of clocks, and nobody has sent
/// this form for decades.
const PIVOT_YEAR: u64 = 70;

const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

struct CivilDate {
    year: u64,
    /// 1 to 12.
    month: u64,
    /// 1 to 31.
    day: u64,
}

fn civil_from_days(days_since_1970: u64) -> CivilDate {
    let days = days_since_1970 + DAYS_TO_1970;
    let era = days / DAYS_PER_ERA;
    let day_of_era = days % DAYS_PER_ERA;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Years that start in March, so that the leap day is the last one.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    CivilDate {
        year: era * 400 + year_of_era + u64::from(month <= 2),
        month,
        day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
    }
}

/// `None` before 1970.
fn days_from_civil(date: &CivilDate) -> Option<u64> {
    let year = date.year.checked_sub(u64::from(date.month <= 2))?;
    let era = year / 400;
    let year_of_era = year % 400;
    let month_from_march = if date.month > 2 { date.month - 3 } else { date.month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + date.day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * DAYS_PER_ERA + day_of_era).checked_sub(DAYS_TO_1970)
}

fn days_in_month(year: u64, month: u64) -> u64 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Writes a date in the form that is sent, ASCII. Seconds beyond the year 9999 are written as its
/// last.
pub fn format_http_date(seconds: u64) -> [u8; HTTP_DATE_SIZE] {
    let seconds = seconds.min(SECONDS_MAX);
    let days = seconds / SECONDS_PER_DAY;
    let second_of_day = seconds % SECONDS_PER_DAY;
    let date = civil_from_days(days);
    // 1970-01-01 was a Thursday.
    let weekday = WEEKDAYS[((days + 4) % 7) as usize].as_bytes();
    let mut text = *b"Day, 00 Mon 0000 00:00:00 GMT";
    text[..3].copy_from_slice(&weekday[..3]);
    write_digits(&mut text[5..7], date.day);
    text[8..11].copy_from_slice(MONTHS[date.month as usize - 1]);
    write_digits(&mut text[12..16], date.year);
    write_digits(&mut text[17..19], second_of_day / 3_600);
    write_digits(&mut text[20..22], second_of_day / 60 % 60);
    write_digits(&mut text[23..25], second_of_day % 60);
    text
}

fn write_digits(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// An HTTP date (RFC 9110, section 5.6.7) in seconds since 1970; all three forms. The name of the
/// weekday is checked to be one, not to be the right one.
pub fn parse_http_date(value: &[u8]) -> Option<u64> {
    let space = value.iter().position(|byte| *byte == b' ')?;
    let (weekday, rest) = (&value[..space], &value[space + 1..]);
    let is_weekday = |name: &[u8], size: usize| {
        WEEKDAYS.iter().any(|weekday| &weekday.as_bytes()[..size.min(weekday.len())] == name)
    };
    let (date, time) = match weekday.split_last()? {
        // Sun, 06 Nov 1994 08:49:37 GMT
        (b',', name) if is_weekday(name, 3) => match rest {
            [day @ .., b' ', b'G', b'M', b'T']
                if day.len() == 20 && day[2] == b' ' && day[6] == b' ' && day[11] == b' ' =>
            {
                (civil_date(&day[..2], &day[3..6], digits(&day[7..11])?)?, &day[12..])
            }
            _ => return None,
        },
        // Sunday, 06-Nov-94 08:49:37 GMT
        (b',', name) if is_weekday(name, usize::MAX) => match rest {
            [day @ .., b' ', b'G', b'M', b'T']
                if day.len() == 18 && day[2] == b'-' && day[6] == b'-' && day[9] == b' ' =>
            {
                let year = digits(&day[7..9])?;
                let century = if year < PIVOT_YEAR { 2_000 } else { 1_900 };
                (civil_date(&day[..2], &day[3..6], century + year)?, &day[10..])
            }
            _ => return None,
        },
        // Sun Nov  6 08:49:37 1994
        _ if is_weekday(weekday, 3) => match rest {
            day if day.len() == 20 && day[3] == b' ' && day[6] == b' ' && day[15] == b' ' => {
                let day_of_month = if day[4] == b' ' { &day[5..6] } else { &day[4..6] };
                (civil_date(day_of_month, &day[..3], digits(&day[16..])?)?, &day[7..15])
            }
            _ => return None,
        },
        _ => return None,
    };
    Some(days_from_civil(&date)? * SECONDS_PER_DAY + second_of_day(time)?)
}

fn civil_date(day: &[u8], month: &[u8], year: u64) -> Option<CivilDate> {
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let day = digits(day)?;
    (1..=days_in_month(year, month)).contains(&day).then_some(CivilDate { year, month, day })
}

/// `HH:MM:SS`; a leap second counts as the second after it.
fn second_of_day(time: &[u8]) -> Option<u64> {
    let [hour @ .., _, _, b':', _, _] = time else { return None };
    let [_, _, b':'] = hour else { return None };
    let (hours, minutes, seconds) = (digits(&time[..2])?, digits(&time[3..5])?, digits(&time[6..])?);
    (hours < 24 && minutes < 60 && seconds <= 60).then_some(hours * 3_600 + minutes * 60 + seconds)
}

fn digits(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + u64::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_seconds_are_written_as_their_dates() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (SECONDS_MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(std::str::from_utf8(&format_http_date(seconds)), Ok(text));
        }
    }

    /// Steps of a prime number of seconds walk through every month, weekday and time of day of four
    /// centuries.
    #[test]
    fn what_is_written_reads_back_to_the_same_second() {
        for seconds in (0..400 * 366 * SECONDS_PER_DAY).step_by(99_991).chain([SECONDS_MAX]) {
            assert_eq!(parse_http_date(&format_http_date(seconds)), Some(seconds));
        }
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_day_before() {
        let mut expected = CivilDate { year: 1970, month: 1, day: 1 };
        for days in 0..DAYS_PER_ERA {
            let date = civil_from_days(days);
            assert_eq!((date.year, date.month, date.day), (expected.year, expected.month, expected.day));
            assert_eq!(days_from_civil(&date), Some(days));
            expected.day += 1;
            if expected.day > days_in_month(expected.year, expected.month) {
                expected = match expected.month {
                    12 => CivilDate { year: expected.year + 1, month: 1, day: 1 },
                    month => CivilDate { year: expected.year, month: month + 1, day: 1 },
                };
            }
        }
    }

    #[test]
    fn all_three_forms_are_read() {
        for text in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(parse_http_date(text.as_bytes()), Some(784_111_777), "{text}");
        }
        assert_eq!(parse_http_date(b"Wed Nov 16 08:49:37 1994"), Some(784_975_777));
        assert_eq!(parse_http_date(b"Thursday, 01-Jan-70 00:00:00 GMT"), Some(0));
        assert_eq!(parse_http_date(b"Tuesday, 31-Dec-69 00:00:00 GMT"), Some(3_155_673_600));
        assert_eq!(parse_http_date(b"Sat, 31 Dec 2016 23:59:60 GMT"), Some(1_483_228_800));
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            " ",
            "Sun,",
            "Sun, ",
            "784111777",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 GMT ",
            " Sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "sun, 06 Nov 1994 08:49:37 GMT",
            "Xyz, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Tue, 29 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sun, 06 Nov 0000 08:49:37 GMT",
            "Sun, 06 Jan 0000 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:00 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 06 Nov 1994 08-49-37 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-1994 08:49:37 GMT",
            "Sunday, 06 Nov 94 08:49:37 GMT",
            "Sun Nov 6 08:49:37 1994",
            "Sun Nov  6 08:49:37 94",
            "Sun Nov    08:49:37 1994",
        ] {
            assert_eq!(parse_http_date(text.as_bytes()), None, "{text}");
        }
    }
}
