//! Request targets: path segments, percent-decoding, query parameters (RFC 3986; WHATWG URL,
//! section 5, for queries).
//!
//! Invariant: what is decoded is UTF-8 without NUL, so that it can be a name anywhere. A decoded
//! `/` is a character of its segment: split first, decode then.

/// A path that has a bad percent escape, or decodes to something that is not UTF-8 or holds a NUL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadEscape {
    /// Bytes from the start of what was to be decoded: a segment, or a query.
    pub offset: usize,
}

impl std::fmt::Display for BadEscape {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "the percent escape at byte {} is broken, or does not spell UTF-8 text", self.offset)
    }
}

impl std::error::Error for BadEscape {}

/// Splits a target at its `?`.
pub fn split_query(target: &str) -> (&str, Option<&str>) {
    match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

/// Percent-decodes one path segment (`+` stays).
pub fn decode_segment(segment: &str) -> Result<String, BadEscape> {
    decode(segment, b'+')
}

/// The name-value pairs of a query, decoded (`+` is a space). A pair without `=` has an empty
/// value; empty pairs are skipped. The offset of a bad escape counts from the start of the query.
pub fn query_pairs(query: &str) -> impl Iterator<Item = Result<(String, String), BadEscape>> {
    let mut start = 0;
    query.split('&').filter_map(move |pair| {
        let pair_start = start;
        start += pair.len() + 1;
        (!pair.is_empty()).then(|| decode_pair(pair, pair_start))
    })
}

fn decode_pair(pair: &str, pair_start: usize) -> Result<(String, String), BadEscape> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    let decode_at = |text, start| decode(text, b' ').map_err(|error| BadEscape { offset: start + error.offset });
    Ok((decode_at(name, pair_start)?, decode_at(value, pair_start + name.len() + 1)?))
}

/// `plus` is what a `+` stands for. Of several errors the first is named.
fn decode(text: &str, plus: u8) -> Result<String, BadEscape> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    let mut broken = Ok(());
    while let Some(byte) = bytes.get(at) {
        let (byte, size) = match byte {
            b'%' => (escaped_byte(bytes, at), 3),
            b'+' => (Some(plus), 1),
            _ => (Some(*byte), 1),
        };
        match byte {
            None | Some(0) => {
                broken = Err(BadEscape { offset: at });
                break;
            }
            Some(byte) => decoded.push(byte),
        }
        at += size;
    }
    let decoded = String::from_utf8(decoded)
        .map_err(|error| BadEscape { offset: encoded_offset(bytes, error.utf8_error().valid_up_to()) })?;
    broken.map(|()| decoded)
}

fn escaped_byte(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |offset: usize| bytes.get(at + offset).and_then(|byte| char::from(*byte).to_digit(16));
    Some((digit(1)? << 4 | digit(2)?) as u8)
}

/// Where the decoded byte of this offset is written in the encoded text, whose escapes are all
/// complete.
fn encoded_offset(bytes: &[u8], decoded_offset: usize) -> usize {
    (0..decoded_offset).fold(0, |at, _| if bytes[at] == b'%' { at + 3 } else { at + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_target_is_split_at_its_first_question_mark() {
        assert_eq!(split_query("/a"), ("/a", None));
        assert_eq!(split_query("/a?"), ("/a", Some("")));
        assert_eq!(split_query("/a?b?c"), ("/a", Some("b?c")));
    }

    #[test]
    fn segments_are_decoded() {
        for (segment, decoded) in [
            ("", ""),
            ("a+b", "a+b"),
            ("models%2Fllama3%2fx", "models/llama3/x"),
            ("%C3%A4", "ä"),
            ("%25%32%35", "%25"),
            ("100%25", "100%"),
        ] {
            assert_eq!(decode_segment(segment).as_deref(), Ok(decoded));
        }
    }

    #[test]
    fn bad_escapes_are_refused_where_they_are() {
        for (segment, offset) in [
            ("%", 0),
            ("ab%", 2),
            ("a%4", 1),
            ("%41%4", 3),
            ("%zz", 0),
            ("%+1", 0),
            ("% 1", 0),
            ("%4g", 0),
            ("a%00", 1),
            ("a\0", 1),
            ("%41%FF", 3),
            ("%41%C3b", 3),
            ("ab%C3", 2),
            ("%ED%A0%80", 0),
            ("%C0%AF", 0),
            ("%4ä", 0),
            ("a%C3%zz", 1),
            ("%41%C3%00", 3),
        ] {
            assert_eq!(decode_segment(segment), Err(BadEscape { offset }), "{segment}");
        }
    }

    #[test]
    fn queries_fall_into_pairs() {
        let pairs = |query| query_pairs(query).collect::<Result<Vec<_>, _>>();
        let owned = |pairs: &[(&str, &str)]| Ok(pairs.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect());
        assert_eq!(pairs(""), owned(&[]));
        assert_eq!(pairs("&&"), owned(&[]));
        assert_eq!(pairs("a=1&b=2"), owned(&[("a", "1"), ("b", "2")]));
        assert_eq!(pairs("a&b=&=c&a=d=e"), owned(&[("a", ""), ("b", ""), ("", "c"), ("a", "d=e")]));
        assert_eq!(pairs("label=k%3Av+w&%61=%26"), owned(&[("label", "k:v w"), ("a", "&")]));
        assert_eq!(pairs("a=1&b=%4"), Err(BadEscape { offset: 6 }));
        assert_eq!(pairs("a=1&%FF=2"), Err(BadEscape { offset: 4 }));
    }

    proptest! {
        #[test]
        fn whatever_is_escaped_decodes_to_itself(text in "[^\0]{0,40}", upper: bool) {
            let escaped: String = text
                .bytes()
                .map(|byte| if upper { format!("%{byte:02X}") } else { format!("%{byte:02x}") })
                .collect();
            prop_assert_eq!(decode_segment(&escaped), Ok(text.clone()));
            let pair = format!("{escaped}={escaped}");
            prop_assert_eq!(query_pairs(&pair).next(), (!pair.is_empty()).then(|| Ok((text.clone(), text))));
        }

        #[test]
        fn decoding_never_panics(text: String) {
            let _ = decode_segment(&text);
            query_pairs(&text).for_each(drop);
        }
    }
}
