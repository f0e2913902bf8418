//! Byte ranges and conditional requests (RFC 9110, sections 13 and 14).
//!
//! Invariants: a range that comes out is not empty and lies inside of the representation. A value
//! that can't be read never grants anything: a bad `Range` is ignored, and a bad condition does not
//! match.

use std::ops::Range;

pub use super::date::parse_http_date;
use super::scan;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RangeOutcome {
    /// No range, one we ignore (another unit, malformed, more than one range): the whole
    /// representation, 200.
    Whole,
    /// 206 with these bytes.
    Partial(Range<u64>),
    /// 416.
    Unsatisfiable,
}

/// Evaluates a `Range` value against a representation of `size` bytes.
///
/// The last bytes of an empty representation are asked for by clients that only mean to bound what
/// they get; they get the whole, which is nothing, since no `Content-Range` could say that.
pub fn evaluate_range(value: &[u8], size: u64) -> RangeOutcome {
    let Some((unit, range)) = split_at_byte(value, b'=') else { return RangeOutcome::Whole };
    let Some((first, last)) = split_at_byte(range, b'-') else { return RangeOutcome::Whole };
    let (first, last) = (Position::parse(first), Position::parse(last));
    let all = match (unit.eq_ignore_ascii_case(b"bytes"), first, last) {
        (true, Position::Absent, Position::At(0)) => return RangeOutcome::Unsatisfiable,
        (true, Position::Absent, Position::At(_)) if size == 0 => return RangeOutcome::Whole,
        (true, Position::Absent, Position::At(suffix)) => size.saturating_sub(suffix)..size,
        (true, Position::At(first), Position::Absent) => first..size,
        (true, Position::At(first), Position::At(last)) if first <= last => first..size.min(last.saturating_add(1)),
        _ => return RangeOutcome::Whole,
    };
    if all.start < size { RangeOutcome::Partial(all) } else { RangeOutcome::Unsatisfiable }
}

/// One end of a range as written. A number over 64 bits is as far off as the largest one: no
/// representation reaches it.
#[derive(Clone, Copy)]
enum Position {
    Absent,
    At(u64),
    Malformed,
}

impl Position {
    fn parse(text: &[u8]) -> Self {
        if text.is_empty() {
            return Self::Absent;
        }
        if !text.iter().all(u8::is_ascii_digit) {
            return Self::Malformed;
        }
        Self::At(
            text.iter().fold(0u64, |value, digit| value.saturating_mul(10).saturating_add(u64::from(digit - b'0'))),
        )
    }
}

fn split_at_byte(value: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = value.iter().position(|byte| *byte == separator)?;
    Some((&value[..at], &value[at + 1..]))
}

/// An entity tag: its opaque part with the quotes, and whether it is weak.
#[derive(Clone, Copy, PartialEq, Eq)]
struct EntityTag<'v> {
    opaque: &'v [u8],
    is_weak: bool,
}

/// Takes an entity tag off the front (RFC 9110, section 8.8.3).
fn take_entity_tag(value: &[u8]) -> Option<(EntityTag<'_>, &[u8])> {
    let (is_weak, value) = match value.strip_prefix(b"W/") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let inner = value.strip_prefix(b"\"")?;
    let size = inner.iter().position(|byte| !matches!(byte, 0x21 | 0x23..=0x7e | 0x80..=0xff))?;
    if inner[size] != b'"' {
        return None;
    }
    let (opaque, rest) = value.split_at(size + 2);
    Some((EntityTag { opaque, is_weak }, rest))
}

/// The tags of a list, up to where it stops being one.
fn entity_tags(mut list: &[u8]) -> impl Iterator<Item = EntityTag<'_>> {
    std::iter::from_fn(move || {
        while let Some((b' ' | b'\t' | b',', rest)) = list.split_first() {
            list = rest;
        }
        let (tag, rest) = take_entity_tag(list)?;
        let behind = scan::trim(rest);
        if !matches!(behind.first(), None | Some(b',')) {
            return None;
        }
        list = behind;
        Some(tag)
    })
}

fn own_tag(etag: &str) -> EntityTag<'_> {
    match take_entity_tag(etag.as_bytes()) {
        Some((tag, [])) => tag,
        _ => panic!("{etag:?} is not an entity tag with its quotes"),
    }
}

/// Whether an `If-None-Match` value (a list, or `*`) matches `etag` (with its quotes), by weak
/// comparison. `*` matches every representation: the caller has one.
pub fn if_none_match(value: &[u8], etag: &str) -> bool {
    let own = own_tag(etag);
    scan::trim(value) == b"*" || entity_tags(value).any(|tag| tag.opaque == own.opaque)
}

/// Whether an `If-Match` value matches, by strong comparison.
pub fn if_match(value: &[u8], etag: &str) -> bool {
    let own = own_tag(etag);
    scan::trim(value) == b"*" || entity_tags(value).any(|tag| tag == own && !tag.is_weak)
}

/// Whether an `If-Range` value (an entity tag or an HTTP date) lets the range apply.
/// `last_modified` in seconds since 1970.
pub fn if_range(value: &[u8], etag: &str, last_modified: u64) -> bool {
    let own = own_tag(etag);
    match take_entity_tag(value) {
        Some((tag, [])) => tag == own && !tag.is_weak,
        Some(_) => false,
        None => parse_http_date(value) == Some(last_modified),
    }
}

#[cfg(test)]
mod tests {
    use super::RangeOutcome::{Partial, Unsatisfiable, Whole};
    use super::*;

    #[test]
    fn a_single_range_is_honoured() {
        for (value, size, outcome) in [
            ("bytes=0-0", 10, Partial(0..1)),
            ("bytes=0-9", 10, Partial(0..10)),
            ("bytes=0-10", 10, Partial(0..10)),
            ("bytes=9-9", 10, Partial(9..10)),
            ("bytes=9-", 10, Partial(9..10)),
            ("bytes=0-", 10, Partial(0..10)),
            ("bytes=-1", 10, Partial(9..10)),
            ("bytes=-10", 10, Partial(0..10)),
            ("bytes=-11", 10, Partial(0..10)),
            ("BYTES=1-2", 10, Partial(1..3)),
            ("bytes=0001-0002", 10, Partial(1..3)),
            ("bytes=1-18446744073709551615", 10, Partial(1..10)),
            ("bytes=1-99999999999999999999999", 10, Partial(1..10)),
            ("bytes=-99999999999999999999999", 10, Partial(0..10)),
            ("bytes=18446744073709551614-", u64::MAX, Partial(u64::MAX - 1..u64::MAX)),
        ] {
            assert_eq!(evaluate_range(value.as_bytes(), size), outcome, "{value} of {size}");
        }
    }

    #[test]
    fn a_range_behind_the_end_is_unsatisfiable() {
        for (value, size) in [
            ("bytes=10-", 10),
            ("bytes=10-10", 10),
            ("bytes=-0", 10),
            ("bytes=-0", 0),
            ("bytes=0-", 0),
            ("bytes=0-0", 0),
            ("bytes=18446744073709551615-", u64::MAX),
            ("bytes=99999999999999999999999-", u64::MAX),
            ("bytes=99999999999999999999999-99999999999999999999999", u64::MAX),
        ] {
            assert_eq!(evaluate_range(value.as_bytes(), size), Unsatisfiable, "{value} of {size}");
        }
    }

    #[test]
    fn what_is_no_single_range_of_bytes_is_ignored() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=--1",
            "bytes=1",
            "bytes=2-1",
            "bytes=a-b",
            "bytes=1-b",
            "bytes=+1-2",
            "bytes=1-2,",
            "bytes=1-2, 4-5",
            "bytes=0-0,-1",
            "bytes= 1-2",
            "bytes =1-2",
            "bytes=1 -2",
            "bytes=0x1-0x2",
            "items=1-2",
            "=1-2",
        ] {
            assert_eq!(evaluate_range(value.as_bytes(), 10), Whole, "{value}");
        }
        assert_eq!(evaluate_range(b"bytes=-5", 0), Whole);
    }

    #[test]
    fn if_none_match_compares_weakly_over_the_whole_list() {
        for value in [
            "\"a\"",
            "W/\"a\"",
            "*",
            " * ",
            "\"b\", \"a\"",
            "\"b\",W/\"a\" ,\"c\"",
            ",, \"a\"",
            "\"b,\", \"a\"",
            "\"a\", broken",
        ] {
            assert!(if_none_match(value.as_bytes(), "\"a\""), "{value}");
        }
        for value in [
            "",
            "a",
            "\"b\"",
            "\"A\"",
            "\"a",
            "a\"",
            "w/\"a\"",
            "\"b\" \"a\"",
            "broken, \"a\"",
            "**",
            "\"\"",
            "\"b, \"a\"",
        ] {
            assert!(!if_none_match(value.as_bytes(), "\"a\""), "{value}");
        }
        assert!(if_none_match(b"\"a\"", "W/\"a\""));
    }

    #[test]
    fn if_match_compares_strongly() {
        for value in ["\"a\"", "*", "W/\"a\", \"a\""] {
            assert!(if_match(value.as_bytes(), "\"a\""), "{value}");
        }
        for value in ["", "W/\"a\"", "\"b\""] {
            assert!(!if_match(value.as_bytes(), "\"a\""), "{value}");
        }
        assert!(!if_match(b"W/\"a\"", "W/\"a\""), "a weak tag matches nothing strongly, not even itself");
        assert!(!if_match(b"\"a\"", "W/\"a\""));
    }

    #[test]
    fn if_range_takes_the_same_strong_tag_or_the_same_second() {
        let date = 784_111_777;
        for value in ["\"a\"", "Sun, 06 Nov 1994 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert!(if_range(value.as_bytes(), "\"a\"", date), "{value}");
        }
        for value in [
            "",
            "*",
            "W/\"a\"",
            "\"b\"",
            "\"a\", \"b\"",
            "Sun, 06 Nov 1994 08:49:38 GMT",
            "Sun, 06 Nov 1994 08:49:36 GMT",
        ] {
            assert!(!if_range(value.as_bytes(), "\"a\"", date), "{value}");
        }
    }
}
