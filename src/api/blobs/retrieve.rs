//! `GET` and `HEAD /v1/blobs/{id}`: the bytes, or a range of them.

use std::ops::Range;

use nabu_engine::runtime::RingIo;
use nabu_engine::store::{BlobMeta, Shard};
use nabu_engine::types::BlobId;
use nabu_net::http::head::Method;
use nabu_net::http::range::{RangeOutcome, evaluate_range, if_match, if_none_match, if_range, parse_http_date};

use super::blob_not_found;
use super::digest::repr_digest;
use super::sending::send;
use crate::api::error::ApiError;
use crate::server::{Exchange, Phase};

/// A blob never changes under its id, so caches may keep it for good.
const CACHE_CONTROL: &str = "public, max-age=31536000, immutable";

/// What a request selects of a blob, given its conditions.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Selection {
    Whole,
    Partial(Range<u64>),
    NotModified,
}

/// The fields of a request that decide on its selection.
#[derive(Clone, Copy, Default, Debug)]
struct Conditions<'f> {
    if_match: Option<&'f [u8]>,
    if_unmodified_since: Option<&'f [u8]>,
    if_none_match: Option<&'f [u8]>,
    if_modified_since: Option<&'f [u8]>,
    if_range: Option<&'f [u8]>,
    range: Option<&'f [u8]>,
}

pub async fn retrieve(exchange: &mut Exchange, shard: &Shard<RingIo>, id: BlobId) -> Result<(), ApiError> {
    exchange.enter_at_once(Phase::Read);
    let Some(blob) = shard.open(id).await? else { return Err(blob_not_found(id)) };
    let meta = blob.meta();
    let etag = format!("\"{}\"", meta.hash.to_hex());
    let selection = select(&conditions(exchange), meta, &etag)?;
    write_head(exchange, meta, &etag, &selection);
    if exchange.method() == Method::Head {
        return Ok(());
    }
    match selection {
        Selection::NotModified => Ok(()),
        Selection::Whole => {
            let range = 0..meta.size;
            send(exchange, blob.reader(range)).await
        }
        Selection::Partial(range) => send(exchange, blob.reader(range)).await,
    }
}

fn conditions(exchange: &Exchange) -> Conditions<'_> {
    Conditions {
        if_match: exchange.field("if-match"),
        if_unmodified_since: exchange.field("if-unmodified-since"),
        if_none_match: exchange.field("if-none-match"),
        if_modified_since: exchange.field("if-modified-since"),
        if_range: exchange.field("if-range"),
        // A range is defined for GET alone.
        range: if exchange.method() == Method::Get { exchange.field("range") } else { None },
    }
}

/// Evaluates the conditions in the order of RFC 9110, section 13.2.2.
fn select(conditions: &Conditions<'_>, meta: &BlobMeta, etag: &str) -> Result<Selection, ApiError> {
    let modified = last_modified(meta);
    // A date that can't be read is as good as none.
    let since = |value: Option<&[u8]>| value.and_then(parse_http_date);
    let met = match conditions.if_match {
        Some(value) => if_match(value, etag),
        None => since(conditions.if_unmodified_since).is_none_or(|date| modified <= date),
    };
    if !met {
        return Err(ApiError::new(
            412,
            "precondition failed",
            format!("blob {} is {etag}, not what the condition asks for", meta.id),
        ));
    }
    let unchanged = match conditions.if_none_match {
        Some(value) => if_none_match(value, etag),
        None => since(conditions.if_modified_since).is_some_and(|date| modified <= date),
    };
    if unchanged {
        return Ok(Selection::NotModified);
    }
    let Some(range) = conditions.range else { return Ok(Selection::Whole) };
    if conditions.if_range.is_some_and(|value| !if_range(value, etag, modified)) {
        return Ok(Selection::Whole);
    }
    match evaluate_range(range, meta.size) {
        RangeOutcome::Whole => Ok(Selection::Whole),
        RangeOutcome::Partial(range) => Ok(Selection::Partial(range)),
        RangeOutcome::Unsatisfiable => {
            let message = format!("the range starts behind the {} bytes of the blob", meta.size);
            Err(ApiError::new(416, "range not satisfiable", message)
                .with_field("Content-Range", format!("bytes */{}", meta.size)))
        }
    }
}

fn last_modified(meta: &BlobMeta) -> u64 {
    meta.created_at_ns / 1_000_000_000
}

fn write_head(exchange: &mut Exchange, meta: &BlobMeta, etag: &str, selection: &Selection) {
    let status = match selection {
        Selection::Whole => 200,
        Selection::Partial(_) => 206,
        Selection::NotModified => 304,
    };
    let mut head = exchange
        .begin(status)
        .field("ETag", etag)
        .field_date("Last-Modified", last_modified(meta))
        .field("Cache-Control", CACHE_CONTROL);
    match selection {
        // A 304 carries what a cache needs to update its entry, and no more.
        Selection::NotModified => return head.end(),
        Selection::Whole => head = head.field_u64("Content-Length", meta.size),
        Selection::Partial(range) => {
            let content_range = format!("bytes {}-{}/{}", range.start, range.end - 1, meta.size);
            head = head.field_u64("Content-Length", range.end - range.start).field("Content-Range", &content_range);
        }
    }
    head = head
        .field("Content-Type", "application/octet-stream")
        .field("Accept-Ranges", "bytes")
        .field("Repr-Digest", &repr_digest(&meta.hash))
        .field_u64("X-Nabu-Blob-Size", meta.size)
        .field_u64("X-Nabu-Created-At", meta.created_at_ns)
        .field_u64("X-Nabu-Policy", u64::from(meta.policy));
    let mut name = String::new();
    for (label, value) in &meta.labels {
        name.clear();
        name.push_str("X-Nabu-Label-");
        name.push_str(label);
        head = head.field(&name, value);
    }
    head.end();
}

#[cfg(test)]
mod tests {
    use nabu_engine::types::ContentHash;

    use super::*;

    fn meta() -> BlobMeta {
        let hash = ContentHash([7; 32]);
        BlobMeta {
            id: BlobId::of(&hash),
            hash,
            size: 100,
            created_at_ns: 784_111_777_000_000_000,
            policy: 1,
            labels: vec![],
        }
    }

    const ETAG: &str = "\"0707070707070707070707070707070707070707070707070707070707070707\"";
    /// The time in [`meta`], and a day before it.
    const DATE: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";
    const DAY_BEFORE: &[u8] = b"Sat, 05 Nov 1994 08:49:37 GMT";

    fn selected(conditions: Conditions<'_>) -> Result<Selection, u16> {
        select(&conditions, &meta(), ETAG).map_err(|error| error.status)
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
