//! Until when a certificate is valid: just enough of X.509 (RFC 5280, section 4.1) to warn an
//! operator. Verifying is the business of the peers.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nabu_net::http::date;
use rustls::pki_types::CertificateDer;

/// How long before its end a certificate is warned about.
const WARN_SECONDS: i64 = 14 * 86_400;

/// ASN.1 tags (X.690).
const SEQUENCE: u8 = 0x30;
const EXPLICIT_VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Seconds since 1970 from and until which a certificate is valid, both inclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Validity {
    pub from: i64,
    pub until: i64,
}

/// Warns in the log when the certificate is not valid now, or not for long.
pub fn warn_about(path: &Path, certificate: &CertificateDer<'_>) {
    let file = path.display();
    let Some(validity) = validity_of(certificate) else {
        return tracing::warn!(%file, "can't tell when the certificate expires");
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    match judge(validity, now) {
        Some(Judgement::Expired) => {
            tracing::warn!(
                %file,
                "the certificate expired on {}; clients will refuse it: renew it, then reload by SIGHUP",
                show(validity.until)
            );
        }
        Some(Judgement::NotYet) => {
            tracing::warn!(
                %file,
                "the certificate is not valid before {}; clients will refuse it: is the clock right?",
                show(validity.from)
            );
        }
        Some(Judgement::Soon) => {
            tracing::warn!(%file, "the certificate expires on {}: renew it, then reload by SIGHUP", show(validity.until));
        }
        None => tracing::debug!(%file, "the certificate is valid until {}", show(validity.until)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Judgement {
    Expired,
    NotYet,
    Soon,
}

fn judge(validity: Validity, now: i64) -> Option<Judgement> {
    if now > validity.until {
        Some(Judgement::Expired)
    } else if now < validity.from {
        Some(Judgement::NotYet)
    } else if now > validity.until - WARN_SECONDS {
        Some(Judgement::Soon)
    } else {
        None
    }
}

fn show(seconds: i64) -> String {
    match u64::try_from(seconds) {
        Ok(seconds) => String::from_utf8_lossy(&date::format_http_date(seconds)).into_owned(),
        Err(_) => "a day before 1970".to_owned(),
    }
}

/// `None` if it isn't a certificate as the standard describes it.
fn validity_of(certificate: &[u8]) -> Option<Validity> {
    let (certificate, _) = expect(SEQUENCE, certificate)?;
    let (to_be_signed, _) = expect(SEQUENCE, certificate)?;
    let mut rest = to_be_signed;
    if rest.first() == Some(&EXPLICIT_VERSION) {
        rest = element(rest)?.2;
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (validity, _) = expect(SEQUENCE, rest)?;
    let (tag, from, rest) = element(validity)?;
    let from = seconds_of(tag, from)?;
    let (tag, until, _) = element(rest)?;
    Some(Validity { from, until: seconds_of(tag, until)? })
}

/// The content of an element of this tag, and what follows it.
fn expect(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(bytes)?;
    (found == tag).then_some((content, rest))
}

/// The tag and content of the first element, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // A length of one to four bytes follows.
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280, section 4.1.2.5).
fn seconds_of(tag: u8, text: &[u8]) -> Option<i64> {
    let digits = text.strip_suffix(b"Z")?;
    let (year_digits, expected) = match tag {
        UTC_TIME => (2, 12),
        GENERALIZED_TIME => (4, 14),
        _ => return None,
    };
    if digits.len() != expected || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |digits: &[u8]| digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    let (year, rest) = digits.split_at(year_digits);
    let year = match (tag, number(year)) {
        (UTC_TIME, year) if year < 50 => 2000 + year,
        (UTC_TIME, year) => 1900 + year,
        (_, year) => year,
    };
    let [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map(|start| number(&rest[start..start + 2]));
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some(days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days since 1970 of a date of the Gregorian calendar (Howard Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_validity_is_what_the_certificate_was_made_with() {
        for (from, until) in
            [((2024, 2, 29), (2049, 12, 31)), ((1999, 1, 1), (2050, 1, 1)), ((2000, 3, 1), (2400, 2, 29))]
        {
            let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
            parameters.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
            parameters.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
            let key = rcgen::KeyPair::generate().expect("a key");
            let certificate = parameters.self_signed(&key).expect("a certificate");
            let expected =
                Validity { from: parameters.not_before.unix_timestamp(), until: parameters.not_after.unix_timestamp() };
            assert_eq!(validity_of(certificate.der()), Some(expected));
        }
    }

    #[test]
    fn whatever_is_cut_off_or_changed_is_no_panic() {
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let der = certified.cert.der();
        for length in 0..der.len() {
            assert_eq!(validity_of(&der[..length]), None, "cut to {length} bytes");
        }
        for index in 0..der.len() {
            for value in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = der.to_vec();
                changed[index] = value;
                let _ = validity_of(&changed);
            }
        }
    }

    #[test]
    fn the_judgement_depends_on_the_time() {
        let validity = Validity { from: 1_000, until: 1_000 + 10 * WARN_SECONDS };
        assert_eq!(judge(validity, 999), Some(Judgement::NotYet));
        assert_eq!(judge(validity, 1_000), None);
        assert_eq!(judge(validity, validity.until - WARN_SECONDS), None);
        assert_eq!(judge(validity, validity.until - WARN_SECONDS + 1), Some(Judgement::Soon));
        assert_eq!(judge(validity, validity.until + 1), Some(Judgement::Expired));
    }
}
