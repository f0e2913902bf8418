//! A small JSON body, received whole.

use super::{Document, MEDIA_TYPE};
use crate::http::{Charge, Exchange, HttpError, Phase, SizeLimit};

/// The most bytes of it: much more than any document needs that carries no content.
const BODY_BYTES_MAX: u64 = 16 << 10;

/// A body that has come. Its memory is charged to the core until it is dropped.
pub struct Received {
    bytes: Vec<u8>,
    _charge: Charge,
}

impl Received {
    /// Parses it, as [`Document::parse`].
    pub fn parse(&mut self) -> Result<Document<'_>, HttpError> {
        Document::parse(&mut self.bytes)
    }
}

/// Receives the body of a request.
///
/// # Errors
/// 415 for a body of another type, 413 for one that is too large, and what can go wrong with any.
pub async fn receive(exchange: &mut Exchange) -> Result<Received, HttpError> {
    check_type(exchange.field("content-type"))?;
    exchange.limit_body(SizeLimit { bytes: BODY_BYTES_MAX, refusal: too_large })?;
    let (mut bytes, mut charge) = (Vec::new(), exchange.hold_memory());
    while let Some(piece) = exchange.next_piece().await? {
        charge.need((bytes.len() + piece.len()) as u64)?;
        bytes.extend_from_slice(exchange.bytes(piece));
    }
    exchange.enter_once(Phase::Prepare);
    Ok(Received { bytes, _charge: charge })
}

fn too_large(limit: u64) -> HttpError {
    HttpError::new(413, "body too large", format!("a JSON body may have at most {limit} bytes here"))
}

fn check_type(value: Option<&[u8]>) -> Result<(), HttpError> {
    let essence = value.map(|value| value.split(|byte| *byte == b';').next().unwrap_or(value).trim_ascii());
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case(MEDIA_TYPE.as_bytes())) {
        return Ok(());
    }
    let found = match essence {
        None => "there is no Content-Type".to_owned(),
        Some(essence) => format!("the Content-Type {:?} is not accepted here", String::from_utf8_lossy(essence)),
    };
    Err(HttpError::new(415, "unsupported media type", format!("{found}: send Content-Type: {MEDIA_TYPE}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_is_taken_whatever_its_parameters() {
        for good in [&b"application/json"[..], b"Application/JSON ; charset=utf-8"] {
            assert_eq!(check_type(Some(good)), Ok(()));
        }
        for bad in [None, Some(&b""[..]), Some(b"application/octet-stream"), Some(b"application/json2")] {
            let error = check_type(bad).unwrap_err();
            assert_eq!((error.status, error.error), (415, "unsupported media type"));
            assert!(error.message.ends_with("send Content-Type: application/json"), "{}", error.message);
        }
    }
}
