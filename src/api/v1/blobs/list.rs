//! `GET /v1/blobs`: the ids, ascending, page by page.
//!
//! A page of more ids than one piece holds is read and sent piece by piece, so that a client that
//! doesn't read it holds one piece, not a page. Ids that are stored or deleted meanwhile may be in
//! it or not, as between two pages.

use std::io::Write;

use nabu_engine::types::BlobId;
use nabu_net::http::head::Method;

use crate::api::context::{Blobs, Context};
use crate::api::json;
use crate::api::route::{PathValues, pairs};
use crate::http::{Exchange, HttpError, PIECE_BYTES_MAX, Phase};

/// Ids of a page when the client does not say, and at most.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 10_000;
/// What an id takes in the answer: 32 characters, quotes and a comma.
const ID_BYTES: usize = 35;
/// What is around the ids: the keys, and the cursor.
const ENVELOPE_BYTES_MAX: usize = 128;
/// Ids that are read and sent at once.
const PIECE_IDS: usize = (PIECE_BYTES_MAX - ENVELOPE_BYTES_MAX) / ID_BYTES;
const _: () = assert!(PIECE_IDS >= LIMIT_DEFAULT, "the usual page is one piece");

/// Which page is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct PageQuery {
    after: Option<BlobId>,
    limit: usize,
}

pub async fn list(exchange: &mut Exchange, context: &Context, _: &PathValues) -> Result<(), HttpError> {
    let PageQuery { after, limit } = parse_query(exchange.target())?;
    let blobs = context.ready()?;
    exchange.enter_at_once(Phase::Read);
    let first = blobs.list(after, limit.min(PIECE_IDS)).await?;
    let mut text = Vec::with_capacity(ENVELOPE_BYTES_MAX + first.ids.len() * ID_BYTES);
    text.extend_from_slice(br#"{"ids":["#);
    write_ids(&mut text, &first.ids, true);
    let last = first.ids.last().copied();
    if limit <= PIECE_IDS || !first.has_more {
        write_end(&mut text, last.filter(|_| first.has_more));
        exchange.answer_bytes(200, json::MEDIA_TYPE, &[], &text);
        return Ok(());
    }
    exchange.begin_pieces(200, json::MEDIA_TYPE);
    if exchange.method() == Method::Head {
        return Ok(());
    }
    list_rest(exchange, &blobs, text, last.expect("a piece of a page has ids"), limit - first.ids.len()).await
}

/// Sends `text`, and the page after `last`, which has up to `left` more ids.
async fn list_rest(
    exchange: &mut Exchange,
    blobs: &Blobs,
    mut text: Vec<u8>,
    mut last: BlobId,
    mut left: usize,
) -> Result<(), HttpError> {
    loop {
        exchange.put_piece(&text);
        text = Vec::new();
        if !exchange.send_pieces().await {
            return Ok(());
        }
        exchange.enter(Phase::Read);
        let piece = blobs.list(Some(last), left.min(PIECE_IDS)).await?;
        write_ids(&mut text, &piece.ids, false);
        last = piece.ids.last().copied().unwrap_or(last);
        left -= piece.ids.len();
        if left == 0 || !piece.has_more {
            write_end(&mut text, Some(last).filter(|_| piece.has_more));
            exchange.end_pieces(&text);
            return Ok(());
        }
    }
}

/// Writes ids of the array.
fn write_ids(text: &mut Vec<u8>, ids: &[BlobId], are_first: bool) {
    for (index, id) in ids.iter().enumerate() {
        let comma = if are_first && index == 0 { "" } else { "," };
        write!(text, "{comma}\"{id}\"").expect("memory takes everything");
    }
}

/// Writes what follows the ids; where more follow on another page, its cursor.
fn write_end(text: &mut Vec<u8>, next_cursor: Option<BlobId>) {
    let written = match next_cursor {
        Some(id) => write!(text, r#"],"next_cursor":"{id}","has_more":true}}"#),
        None => write!(text, r#"],"next_cursor":null,"has_more":false}}"#),
    };
    written.expect("memory takes everything");
}

fn parse_query(target: &str) -> Result<PageQuery, HttpError> {
    let mut parsed = PageQuery { after: None, limit: LIMIT_DEFAULT };
    for (name, value) in pairs(target)? {
        match name.as_str() {
            "limit" => {
                let limit = value.parse().ok().filter(|limit| *limit > 0);
                let limit: usize = limit.ok_or_else(|| {
                    let message =
                        format!("limit is {value:?}, and must be a number from 1; a page has at most {LIMIT_MAX} ids");
                    HttpError::new(400, "invalid limit", message)
                })?;
                // The page says that there is more.
                parsed.limit = limit.min(LIMIT_MAX);
            }
            // An empty cursor is how a loop in a shell asks for its first page.
            "cursor" if value.is_empty() => parsed.after = None,
            "cursor" => {
                let after = value.parse().map_err(|_| {
                    let message = format!(
                        "cursor is {value:?}, and must be the next_cursor of a page: 32 lowercase hex characters"
                    );
                    HttpError::new(400, "invalid cursor", message)
                })?;
                parsed.after = Some(after);
            }
            // The row of the table lists what there is.
            _ => {}
        }
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "000102030405060708090a0b0c0d0e0f";

    #[test]
    fn a_page_is_what_the_query_asks_for() {
        let first = PageQuery { after: None, limit: LIMIT_DEFAULT };
        assert_eq!(parse_query("/v1/blobs"), Ok(first));
        assert_eq!(parse_query("/v1/blobs?cursor="), Ok(first));
        for limit in ["10000", "10001", "4000000000"] {
            let query = format!("/v1/blobs?cursor={ID}&limit={limit}");
            let after = Some(ID.parse().unwrap());
            assert_eq!(parse_query(&query), Ok(PageQuery { after, limit: LIMIT_MAX }));
        }
    }

    #[test]
    fn pieces_together_are_the_page_and_none_is_too_large() {
        let ids: Vec<BlobId> = (0..=255).map(|byte| format!("{byte:02x}").repeat(16).parse().unwrap()).collect();
        let strings: Vec<String> = ids.iter().map(BlobId::to_string).collect();
        for next_cursor in [None, ids.last().copied()] {
            let mut text = br#"{"ids":["#.to_vec();
            write_ids(&mut text, &ids[..100], true);
            write_ids(&mut text, &ids[100..], false);
            write_end(&mut text, next_cursor);
            assert!(text.len() <= ids.len() * ID_BYTES + ENVELOPE_BYTES_MAX, "{} bytes", text.len());
            let quoted = strings.iter().map(|id| format!("\"{id}\"")).collect::<Vec<_>>().join(",");
            let cursor = next_cursor.map_or("null".to_owned(), |id| format!("\"{id}\""));
            let has_more = next_cursor.is_some();
            let expected = format!(r#"{{"ids":[{quoted}],"next_cursor":{cursor},"has_more":{has_more}}}"#);
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        }
    }

    #[test]
    fn a_bad_value_is_400_and_named() {
        for (query, named) in [
            ("limit=0", "\"0\""),
            ("limit=abc", "\"abc\""),
            ("limit=", "\"\""),
            ("limit=-1", "\"-1\""),
            ("cursor=abc", "\"abc\""),
            ("limit=%zz", "percent"),
        ] {
            let error = parse_query(&format!("/v1/blobs?{query}")).unwrap_err();
            assert_eq!(error.status, 400, "{query}");
            assert!(error.message.contains(named), "{query}: {}", error.message);
        }
    }
}
