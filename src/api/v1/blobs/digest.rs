//! The digest that an upload promises: `Repr-Digest` (RFC 9530) or `X-Nabu-Content-SHA256`.

use nabu_engine::types::{ContentHash, unhex};

use crate::http::HttpError;

/// The hash that the fields promise, if any; both may be there, and must agree.
pub fn expected_hash(repr_digest: Option<&[u8]>, hex: Option<&[u8]>) -> Result<Option<ContentHash>, HttpError> {
    let from_digest = repr_digest.map(parse_repr_digest).transpose()?.flatten();
    let from_hex = hex.map(parse_hex).transpose()?;
    match (from_digest, from_hex) {
        (Some(one), Some(other)) if one != other => {
            Err(malformed("Repr-Digest and X-Nabu-Content-SHA256 promise different digests".to_owned()))
        }
        (one, other) => Ok(one.or(other)),
    }
}

/// The value of `Repr-Digest` for a hash.
pub fn repr_digest(hash: &ContentHash) -> String {
    let mut value = String::with_capacity(54);
    value.push_str("sha-256=:");
    base64_simd::STANDARD.encode_append(hash.0, &mut value);
    value.push(':');
    value
}

fn parse_hex(value: &[u8]) -> Result<ContentHash, HttpError> {
    unhex(&value.to_ascii_lowercase())
        .map(ContentHash)
        .ok_or_else(|| malformed("X-Nabu-Content-SHA256 must be the 64 hex characters of a SHA-256".to_owned()))
}

/// Reads the `sha-256` of a dictionary of digests (RFC 8941, section 3.2); other algorithms are
/// passed over. Of a key that comes twice the last one counts.
fn parse_repr_digest(value: &[u8]) -> Result<Option<ContentHash>, HttpError> {
    let wrong = || malformed("Repr-Digest must read sha-256=:BASE64:, with the 32 bytes of a SHA-256".to_owned());
    let text = std::str::from_utf8(value).map_err(|_| wrong())?;
    let mut found = None;
    for member in text.split(',') {
        let (key, value) = member.trim_matches([' ', '\t']).split_once('=').ok_or_else(wrong)?;
        // Dictionary keys are lowercase by their grammar; senders that follow the older Digest
        // field are not.
        if !key.eq_ignore_ascii_case("sha-256") {
            continue;
        }
        // Parameters may follow, and mean nothing here.
        let value = value.split(';').next().unwrap_or(value).trim_end();
        let base64 = value.strip_prefix(':').and_then(|rest| rest.strip_suffix(':')).ok_or_else(wrong)?;
        let bytes = base64_simd::STANDARD.decode_to_vec(base64).map_err(|_| wrong())?;
        found = Some(ContentHash(bytes.try_into().map_err(|_| wrong())?));
    }
    Ok(found)
}

fn malformed(message: String) -> HttpError {
    HttpError::new(400, "malformed digest", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: ContentHash = ContentHash([0xab; 32]);

    #[test]
    fn the_digest_that_we_write_is_read_back() {
        let field = repr_digest(&HASH);
        assert_eq!(expected_hash(Some(field.as_bytes()), None), Ok(Some(HASH)));
        assert_eq!(expected_hash(None, Some(HASH.to_hex().as_bytes())), Ok(Some(HASH)));
        assert_eq!(expected_hash(None, Some(HASH.to_hex().to_uppercase().as_bytes())), Ok(Some(HASH)));
        assert_eq!(expected_hash(Some(field.as_bytes()), Some(HASH.to_hex().as_bytes())), Ok(Some(HASH)));
        assert_eq!(expected_hash(None, None), Ok(None));
    }

    #[test]
    fn other_algorithms_are_passed_over() {
        assert_eq!(expected_hash(Some(b"sha-512=:AAAA:"), None), Ok(None));
        let both = format!("sha-512=:AAAA:, {}", repr_digest(&HASH));
        assert_eq!(expected_hash(Some(both.as_bytes()), None), Ok(Some(HASH)));
    }

    #[test]
    fn a_malformed_or_contradicting_digest_is_400() {
        for bad in [&b"sha-256"[..], b"sha-256=abc", b"sha-256=:abc:", b"sha-256=:AAAA:", b"", b"\xff"] {
            assert_eq!(expected_hash(Some(bad), None).unwrap_err().status, 400, "{bad:?}");
        }
        for bad in [&b""[..], b"ab", &[b'g'; 64], &[b'a'; 63]] {
            assert_eq!(expected_hash(None, Some(bad)).unwrap_err().status, 400, "{bad:?}");
        }
        let other = ContentHash([1; 32]).to_hex();
        assert_eq!(expected_hash(Some(repr_digest(&HASH).as_bytes()), Some(other.as_bytes())).unwrap_err().status, 400);
    }
}
