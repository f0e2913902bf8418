//! Byte ranges and conditional requests (RFC 9110, sections 13 and 14).

use std::ops::Range;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RangeOutcome {
    /// No range, one we ignore (another unit, malformed, more than one range): the whole representation, 200.
    Whole,
    /// 206 with these bytes.
    Partial(Range<u64>),
    /// 416.
    Unsatisfiable,
}

/// Evaluates a `Range` value against a representation of `size` bytes.
pub fn evaluate_range(value: &[u8], size: u64) -> RangeOutcome {
    let _ = (value, size);
    todo!()
}

/// Whether an `If-None-Match` value (a list, or `*`) matches `etag` (with its quotes), by weak comparison.
pub fn if_none_match(value: &[u8], etag: &str) -> bool {
    let _ = (value, etag);
    todo!()
}

/// Whether an `If-Match` value matches, by strong comparison.
pub fn if_match(value: &[u8], etag: &str) -> bool {
    let _ = (value, etag);
    todo!()
}

/// Whether an `If-Range` value (an entity tag or an HTTP date) lets the range apply. `last_modified` in seconds since 1970.
pub fn if_range(value: &[u8], etag: &str, last_modified: u64) -> bool {
    let _ = (value, etag, last_modified);
    todo!()
}

/// An HTTP date (RFC 9110, section 5.6.7) in seconds since 1970; all three forms.
pub fn parse_http_date(value: &[u8]) -> Option<u64> {
    let _ = value;
    todo!()
}
