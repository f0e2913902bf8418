//! Conditional requests and ranges: what a request selects of a representation (RFC 9110, sections
//! 13 and 14).

use std::ops::Range;

use nabu_net::http::head::Method;
use nabu_net::http::range::{RangeOutcome, evaluate_range, if_match, if_none_match, if_range, parse_http_date};

use super::error::HttpError;
use super::exchange::Exchange;

/// What a request selects of a representation, given its conditions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Selection {
    Whole,
    Partial(Range<u64>),
    NotModified,
}

/// What there is to select from.
#[derive(Clone, Copy, Debug)]
pub struct Representation<'r> {
    /// Quoted.
    pub etag: &'r str,
    /// Seconds since 1970.
    pub modified: u64,
    /// Bytes.
    pub size: u64,
}

/// The fields of a request that decide on its selection.
#[derive(Clone, Copy, Default, Debug)]
pub struct Conditions<'f> {
    if_match: Option<&'f [u8]>,
    if_unmodified_since: Option<&'f [u8]>,
    if_none_match: Option<&'f [u8]>,
    if_modified_since: Option<&'f [u8]>,
    if_range: Option<&'f [u8]>,
    range: Option<&'f [u8]>,
}

impl<'f> Conditions<'f> {
    pub fn of(exchange: &'f Exchange) -> Self {
        Self {
            if_match: exchange.field("if-match"),
            if_unmodified_since: exchange.field("if-unmodified-since"),
            if_none_match: exchange.field("if-none-match"),
            if_modified_since: exchange.field("if-modified-since"),
            if_range: exchange.field("if-range"),
            // A range is defined only for GET.
            range: if exchange.method() == Method::Get { exchange.field("range") } else { None },
        }
    }

    /// Evaluates the conditions in the order of RFC 9110, section 13.2.2.
    ///
    /// # Errors
    /// 412 where a condition fails, 416 where the range lies outside.
    pub fn select(&self, representation: &Representation<'_>) -> Result<Selection, HttpError> {
        let Representation { etag, modified, size } = *representation;
        // A date that can't be read counts as absent.
        let since = |value: Option<&[u8]>| value.and_then(parse_http_date);
        let met = match self.if_match {
            Some(value) => if_match(value, etag),
            None => since(self.if_unmodified_since).is_none_or(|date| modified <= date),
        };
        if !met {
            return Err(HttpError::new(
                412,
                "precondition failed",
                format!("the stored blob is {etag}, which is not what the condition asks for"),
            ));
        }
        let unchanged = match self.if_none_match {
            Some(value) => if_none_match(value, etag),
            None => since(self.if_modified_since).is_some_and(|date| modified <= date),
        };
        if unchanged {
            return Ok(Selection::NotModified);
        }
        let Some(range) = self.range else { return Ok(Selection::Whole) };
        if self.if_range.is_some_and(|value| !if_range(value, etag, modified)) {
            return Ok(Selection::Whole);
        }
        match evaluate_range(range, size) {
            RangeOutcome::Whole => Ok(Selection::Whole),
            RangeOutcome::Partial(range) => Ok(Selection::Partial(range)),
            RangeOutcome::Unsatisfiable => {
                let message = format!("the range starts past the end of the blob, which has {} bytes", size);
                Err(HttpError::new(416, "range not satisfiable", message)
                    .with_field("Content-Range", format!("bytes */{}", size)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETAG: &str = "\"0707070707070707070707070707070707070707070707070707070707070707\"";
    /// The time of the representation, and a day before it.
    const DATE: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";
    const DAY_BEFORE: &[u8] = b"Sat, 05 Nov 1994 08:49:37 GMT";

    fn selected(conditions: Conditions<'_>) -> Result<Selection, u16> {
        let representation = Representation { etag: ETAG, modified: 784_111_777, size: 100 };
        conditions.select(&representation).map_err(|error| error.status)
    }

    #[test]
    fn conditions_come_in_the_order_of_the_standard() {
        let none = Conditions::default();
        assert_eq!(selected(none), Ok(Selection::Whole));
        assert_eq!(selected(Conditions { if_none_match: Some(ETAG.as_bytes()), ..none }), Ok(Selection::NotModified));
        assert_eq!(selected(Conditions { if_match: Some(b"\"x\""), if_none_match: Some(b"*"), ..none }), Err(412));
        assert_eq!(
            selected(Conditions { if_match: Some(b"*"), if_unmodified_since: Some(DAY_BEFORE), ..none }),
            Ok(Selection::Whole)
        );
        assert_eq!(selected(Conditions { if_unmodified_since: Some(DAY_BEFORE), ..none }), Err(412));
        assert_eq!(selected(Conditions { if_unmodified_since: Some(b"yesterday"), ..none }), Ok(Selection::Whole));
        assert_eq!(selected(Conditions { if_modified_since: Some(DATE), ..none }), Ok(Selection::NotModified));
        assert_eq!(selected(Conditions { if_modified_since: Some(DAY_BEFORE), ..none }), Ok(Selection::Whole));
        let both = Conditions { if_none_match: Some(b"\"x\""), if_modified_since: Some(DATE), ..none };
        assert_eq!(selected(both), Ok(Selection::Whole));
    }

    #[test]
    fn a_range_applies_unless_if_range_says_otherwise() {
        let range = Conditions { range: Some(b"bytes=10-19"), ..Conditions::default() };
        assert_eq!(selected(range), Ok(Selection::Partial(10..20)));
        assert_eq!(selected(Conditions { if_range: Some(ETAG.as_bytes()), ..range }), Ok(Selection::Partial(10..20)));
        assert_eq!(selected(Conditions { if_range: Some(b"\"x\""), ..range }), Ok(Selection::Whole));
        assert_eq!(selected(Conditions { range: Some(b"bytes=100-"), ..range }), Err(416));
        assert_eq!(selected(Conditions { range: Some(b"lines=1-2"), ..range }), Ok(Selection::Whole));
    }
}
