//! Values that clients choose: ranges, conditions, dates, percent escapes. Nothing panics, ranges
//! stay inside, and what is understood can be written down again.

use nabu_net::http::date::{format_http_date, parse_http_date};
use nabu_net::http::range::{RangeOutcome, evaluate_range, if_match, if_none_match, if_range};
use nabu_net::http::target::{decode_segment, query_pairs, split_query};

const ETAG: &str = "\"a3f2\"";

pub fn check_values(input: &[u8]) {
    for size in [0, 1, 10, 1 << 40, u64::MAX] {
        if let RangeOutcome::Partial(range) = evaluate_range(input, size) {
            assert!(range.start < range.end && range.end <= size);
            let again = format!("bytes={}-{}", range.start, range.end - 1);
            assert_eq!(evaluate_range(again.as_bytes(), size), RangeOutcome::Partial(range));
        }
    }
    assert!(!if_match(input, ETAG) || if_none_match(input, ETAG), "what matches strongly matches weakly");
    let is_listed = input.windows(ETAG.len()).any(|window| window == ETAG.as_bytes()) || input.contains(&b'*');
    assert!(!if_none_match(input, ETAG) || is_listed);

    let date = parse_http_date(input);
    if let Some(seconds) = date {
        assert_eq!(parse_http_date(&format_http_date(seconds)), Some(seconds));
    }
    assert_eq!(if_range(input, ETAG, date.unwrap_or(0)), date.is_some() || input == ETAG.as_bytes());

    let Ok(text) = std::str::from_utf8(input) else { return };
    let (path, query) = split_query(text);
    assert_eq!(path.len() + query.map_or(0, |query| query.len() + 1), text.len());
    match decode_segment(path) {
        Ok(decoded) => {
            assert!(!decoded.contains('\0') && decoded.len() <= path.len());
            let escaped: String = decoded.bytes().map(|byte| format!("%{byte:02x}")).collect();
            assert_eq!(decode_segment(&escaped), Ok(decoded));
        }
        Err(error) => {
            assert!(matches!(path.as_bytes()[error.offset], b'%' | 0));
            assert!(decode_segment(&path[..error.offset]).is_ok(), "the first bad escape is named");
        }
    }
    for pair in query_pairs(query.unwrap_or_default()) {
        match pair {
            Ok((name, value)) => assert!(!name.contains('\0') && !value.contains('\0')),
            Err(error) => assert!(matches!(query.unwrap_or_default().as_bytes()[error.offset], b'%' | 0)),
        }
    }
}
