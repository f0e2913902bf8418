//! `GET /v1/blobs`: the ids, ascending, page by page.

use nabu_engine::types::BlobId;
use serde::Serialize;

use crate::api::context::Context;
use crate::api::json;
use crate::api::route::{PathValues, pairs};
use crate::http::{Exchange, HttpError, Phase};

/// Ids of a page when the client does not say, and at most.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 10_000;

#[derive(Serialize)]
struct PageBody {
    ids: Vec<String>,
    next_cursor: Option<String>,
    has_more: bool,
}

/// Which page is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct PageQuery {
    after: Option<BlobId>,
    limit: usize,
}

pub async fn list(exchange: &mut Exchange, context: &Context, _: &PathValues) -> Result<(), HttpError> {
    let query = parse_query(exchange.target())?;
    let blobs = context.ready()?;
    exchange.enter_at_once(Phase::Read);
    let page = blobs.list(query.after, query.limit).await?;
    let ids: Vec<String> = page.ids.iter().map(BlobId::to_string).collect();
    let next_cursor = if page.has_more { ids.last().cloned() } else { None };
    json::answer(exchange, 200, &[], &PageBody { ids, next_cursor, has_more: page.has_more });
    Ok(())
}

fn parse_query(target: &str) -> Result<PageQuery, HttpError> {
    let mut parsed = PageQuery { after: None, limit: LIMIT_DEFAULT };
    for (name, value) in pairs(target)? {
        match name.as_str() {
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                parsed.limit = limit.ok_or_else(|| {
                    HttpError::new(400, "invalid limit", format!("limit is {value:?}, and must be 1 to {LIMIT_MAX}"))
                })?;
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
        let query = format!("/v1/blobs?cursor={ID}&limit=10000");
        let after = Some(ID.parse().unwrap());
        assert_eq!(parse_query(&query), Ok(PageQuery { after, limit: LIMIT_MAX }));
    }

    #[test]
    fn a_bad_value_is_400_and_named() {
        for (query, named) in [
            ("limit=0", "\"0\""),
            ("limit=10001", "10000"),
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
