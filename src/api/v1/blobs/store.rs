//! `POST /v1/blobs`: the content as raw bytes, or as base64 in a JSON body.
//!
//! Everything that can refuse an upload is checked before the first byte of its body is asked for.

use nabu_engine::content::Sink;
use nabu_engine::store::{CommitOptions, Stored};
use nabu_net::http::head::BodyFraming;
use serde::Serialize;

use super::base64::{BadBase64, Base64};
use super::digest::expected_hash;
use super::labels::Labels;
use super::policy::{effective_policy, effective_policy_of_field};
use crate::api::context::{Blobs, Context};
use crate::api::errors::blob_too_large;
use crate::api::json;
use crate::api::json::split::{Piece, Split};
use crate::api::route::PathValues;
use crate::http::{Exchange, HttpError, Phase, SizeLimit};

/// What a JSON body may hold beside the content: labels, with room for keys that are newer than
/// this server.
const JSON_REST_BYTES_MAX: usize = 64 << 10;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum MediaType {
    Json,
    Bytes,
}

#[derive(Serialize)]
struct StoredBody {
    id: String,
    size: u64,
}

pub async fn store(exchange: &mut Exchange, context: &Context, _: &PathValues) -> Result<(), HttpError> {
    let blobs = &context.ready()?;
    let media_type = media_type(exchange.field("content-type"))?;
    if exchange.framing() == BodyFraming::None {
        let message = "an upload needs a body: send Content-Length (0 for an empty blob) or Transfer-Encoding: chunked";
        return Err(HttpError::new(411, "length required", message));
    }
    let (stored, policy) = match media_type {
        MediaType::Bytes => store_bytes(exchange, blobs).await?,
        MediaType::Json => Box::pin(store_json(exchange, blobs)).await?,
    };
    answer(exchange, &stored, policy);
    Ok(())
}

async fn store_bytes(exchange: &mut Exchange, blobs: &Blobs) -> Result<(Stored, u8), HttpError> {
    let options = CommitOptions {
        policy: effective_policy_of_field(exchange.field("x-nabu-policy"))?,
        labels: Labels::from_fields(exchange.fields())?.into_vec(),
        expected_hash: expected_hash(exchange.field("repr-digest"), exchange.field("x-nabu-content-sha256"))?,
    };
    exchange.limit_body(blob_limit(exchange))?;
    exchange.enter_at_once(Phase::Buffer);
    let mut sink = blobs.put(exchange.body_length()).await?;
    exchange.receive_into(&mut sink).await?;
    let policy = options.policy;
    exchange.enter(Phase::Commit);
    Ok((sink.commit(options).await?, policy))
}

/// The content is decoded and stored as it comes; what else is in the body is kept, and read at its
/// end.
async fn store_json(exchange: &mut Exchange, blobs: &Blobs) -> Result<(Stored, u8), HttpError> {
    let expected_hash = expected_hash(exchange.field("repr-digest"), exchange.field("x-nabu-content-sha256"))?;
    exchange.limit_body(SizeLimit { bytes: exchange.core.limits().json_bytes_max as u64, refusal: json_too_large })?;
    exchange.enter_at_once(Phase::Buffer);
    // Four characters of base64 make three bytes.
    let mut sink = blobs.put(exchange.body_length().map(|length| length / 4 * 3)).await?;
    let mut split = Split::new("data", JSON_REST_BYTES_MAX);
    let mut charge = exchange.hold_memory();
    let mut base64 = Base64::default();
    let mut decoded = exchange.core.vector();
    while let Some(mut piece) = exchange.next_piece().await? {
        exchange.enter_once(Phase::Hash);
        while !piece.is_empty() {
            let (count, found) = split.next(exchange.bytes(piece.clone()))?;
            match found {
                Piece::Plain(text) => base64.push(text, &mut decoded),
                Piece::Escaped(character) => base64.push(character.encode_utf8(&mut [0; 4]).as_bytes(), &mut decoded),
                Piece::Kept => Ok(()),
            }
            .map_err(bad_base64)?;
            piece.start += count;
        }
        charge.need(split.rest_bytes() as u64)?;
        write(exchange, &mut sink, &mut decoded).await?;
    }
    exchange.enter(Phase::Prepare);
    let mut rest = split.into_rest();
    let document = rest.parse()?;
    document.required_string("data")?;
    let policy = effective_policy(document.optional_integer("policy")?.unwrap_or(0))?;
    let labels = Labels::from_pairs(&document.optional_strings("labels")?)?.into_vec();
    base64.finish(&mut decoded).map_err(bad_base64)?;
    write(exchange, &mut sink, &mut decoded).await?;
    exchange.core.recycle(decoded);
    exchange.enter(Phase::Commit);
    Ok((sink.commit(CommitOptions { policy, labels, expected_hash }).await?, policy))
}

/// Stores what was decoded, and empties it.
async fn write<S: Sink>(exchange: &Exchange, sink: &mut S, decoded: &mut Vec<u8>) -> Result<(), HttpError>
where
    HttpError: From<S::Error>,
{
    blob_limit(exchange).check(sink.size() + decoded.len() as u64)?;
    sink.write(decoded).await?;
    decoded.clear();
    Ok(())
}

fn blob_limit(exchange: &Exchange) -> SizeLimit {
    SizeLimit { bytes: exchange.core.limits().blob_bytes_max, refusal: blob_too_large }
}

fn json_too_large(limit: u64) -> HttpError {
    HttpError::new(413, "body too large", format!("a JSON body may have at most {limit} bytes on this server"))
}

fn answer(exchange: &mut Exchange, stored: &Stored, policy: u8) {
    exchange.blob_id.set(Some(stored.id));
    let id = stored.id.to_string();
    let location = format!("/v1/blobs/{id}");
    let policy = policy.to_string();
    let fields = [("X-Nabu-Policy", policy.as_str()), ("Location", location.as_str())];
    // Only a 201 has a location.
    let (status, fields) = if stored.created { (201, &fields[..]) } else { (200, &fields[..1]) };
    json::answer(exchange, status, fields, &StoredBody { id, size: stored.size });
}

fn media_type(value: Option<&[u8]>) -> Result<MediaType, HttpError> {
    const ACCEPTED: &str =
        "send Content-Type: application/octet-stream (the bytes) or application/json (base64 in `data`)";
    let unsupported = |found: String| {
        HttpError::new(415, "unsupported media type", format!("{found}; {ACCEPTED}"))
            .with_field("Accept-Post", "application/octet-stream, application/json")
    };
    let Some(value) = value else { return Err(unsupported("the Content-Type is missing".to_owned())) };
    let essence = value.split(|byte| *byte == b';').next().unwrap_or(value).trim_ascii();
    if essence.eq_ignore_ascii_case(b"application/octet-stream") {
        Ok(MediaType::Bytes)
    } else if essence.eq_ignore_ascii_case(b"application/json") {
        Ok(MediaType::Json)
    } else {
        Err(unsupported(format!("the Content-Type {:?} is not accepted", String::from_utf8_lossy(essence))))
    }
}

fn bad_base64(error: BadBase64) -> HttpError {
    HttpError::new(
        422,
        "malformed base64",
        format!("`data` is not base64 in the standard alphabet: character {} is invalid", error.offset),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_is_one_of_two_and_parameters_are_ignored() {
        assert_eq!(media_type(Some(b"application/octet-stream")), Ok(MediaType::Bytes));
        assert_eq!(media_type(Some(b"Application/JSON ; charset=utf-8")), Ok(MediaType::Json));
        for other in [None, Some(&b"application/x-www-form-urlencoded"[..]), Some(b""), Some(b"application/json2")] {
            let error = media_type(other).unwrap_err();
            assert_eq!(error.status, 415);
            assert!(error.message.contains("application/octet-stream") && error.message.contains("application/json"));
        }
    }
}
