//! Request targets: path segments, percent-decoding, query parameters (RFC 3986).

/// A path that has a bad percent escape, or decodes to something that is not UTF-8 or holds a NUL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadEscape {
    pub offset: usize,
}

/// Splits a target at its `?`.
pub fn split_query(target: &str) -> (&str, Option<&str>) {
    let _ = target;
    todo!()
}

/// Percent-decodes one path segment (`+` stays).
pub fn decode_segment(segment: &str) -> Result<String, BadEscape> {
    let _ = segment;
    todo!()
}

/// The name-value pairs of a query, decoded (`+` is a space).
pub fn query_pairs(query: &str) -> impl Iterator<Item = Result<(String, String), BadEscape>> {
    let _ = query;
    todo!();
    #[allow(unreachable_code)]
    std::iter::empty()
}
