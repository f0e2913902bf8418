//! `GET` and `HEAD /v1/blobs/{id}`: the bytes, or a range of them.

use nabu_engine::store::BlobMeta;
use nabu_net::http::head::Method;

use super::digest::repr_digest;
use super::{blob_id, blob_not_found};
use crate::api::context::Context;
use crate::api::route::PathValues;
use crate::http::{Conditions, Exchange, HttpError, Phase, Representation, Selection, send};

/// A blob never changes under its id, so caches may keep it forever. Shared caches may not: they
/// would serve it to clients without a token (RFC 9111, section 5.2.2.7).
const CACHE_CONTROL: &str = "private, max-age=31536000, immutable";

pub async fn retrieve(exchange: &mut Exchange, context: &Context, values: &PathValues) -> Result<(), HttpError> {
    let id = blob_id(exchange, values)?;
    let blobs = context.ready()?;
    exchange.enter_at_once(Phase::Read);
    let Some(found) = blobs.open(id).await? else { return Err(blob_not_found(id)) };
    let meta = found.meta();
    let etag = format!("\"{}\"", meta.hash.to_hex());
    let representation = Representation { etag: &etag, modified: last_modified(meta), size: meta.size };
    let selection = Conditions::of(exchange).select(&representation)?;
    write_head(exchange, meta, &etag, &selection);
    if exchange.method() == Method::Head {
        return Ok(());
    }
    match selection {
        Selection::NotModified => Ok(()),
        Selection::Whole => {
            let range = 0..meta.size;
            send(exchange, found.source(range)).await
        }
        Selection::Partial(range) => send(exchange, found.source(range)).await,
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
