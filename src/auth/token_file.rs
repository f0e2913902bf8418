//! What a token file says: `ROLE SHA256HEX [NAME] [OPTION…]` or `ROLE plain:TOKEN [NAME] [OPTION…]`
//! a line. A word that begins with `#` starts a comment, and lines may end with CR LF. A token
//! without a name goes by `line-N`.

use std::fmt;

use nabu_engine::types::unhex;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Role, check_token, hash_of};
use crate::config::RateLimit;
use crate::config::security::{BYTES, REQUESTS};
use crate::config::size;

/// The most tokens: every request is compared with all of them.
pub const TOKENS_MAX: usize = 1024;
/// The option of a line for a token that may write, and delete nothing.
pub const NO_DELETE: &str = "delete=no";

/// A token, as its line says.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub hash: [u8; 32],
    pub role: Role,
    pub may_delete: bool,
    /// In seconds since 1970, if it is not good for ever.
    pub expires_at: Option<u64>,
    pub name: String,
    /// What its line says; the rest is as configured for all.
    pub rate: RateLimit,
}

impl Token {
    /// One that is good for ever, and may do all that its role may.
    pub fn plain(hash: [u8; 32], role: Role, name: &str) -> Self {
        Self { hash, role, may_delete: true, expires_at: None, name: name.to_owned(), rate: RateLimit::default() }
    }
}

/// A line of a token file that can't be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenFileError {
    /// From 1.
    pub line: usize,
    pub reason: String,
}

impl fmt::Display for TokenFileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for TokenFileError {}

/// Reads the text of a token file.
///
/// # Errors
/// The first line that is wrong.
pub fn parse(text: &str) -> Result<Vec<Token>, TokenFileError> {
    let (mut tokens, mut lines): (Vec<Token>, Vec<usize>) = Default::default();
    for (line, content) in text.lines().enumerate().map(|(index, content)| (index + 1, content)) {
        let token = parse_line(content, line).map_err(|reason| TokenFileError { line, reason })?;
        let Some(token) = token else { continue };
        if let Some(earlier) = tokens.iter().position(|other| other.hash == token.hash) {
            let reason = format!("this token is already on line {}; remove one of the two", lines[earlier]);
            return Err(TokenFileError { line, reason });
        }
        if tokens.len() == TOKENS_MAX {
            return Err(TokenFileError { line, reason: format!("more than {TOKENS_MAX} tokens") });
        }
        tokens.push(token);
        lines.push(line);
    }
    Ok(tokens)
}

/// One line; `None` when there is no token on it.
fn parse_line(content: &str, line: usize) -> Result<Option<Token>, String> {
    let mut words = content.split_whitespace().take_while(|word| !word.starts_with('#'));
    let Some(role) = words.next() else { return Ok(None) };
    let role: Role =
        role.parse().map_err(|_| "the first word must be the role: metrics, read, write or admin".to_owned())?;
    let secret = words.next().ok_or("the token is missing; write ROLE SHA256HEX [NAME] or ROLE plain:TOKEN [NAME]")?;
    let hash = match secret.strip_prefix("plain:") {
        Some(token) => {
            check_token(token)?;
            hash_of(token.as_bytes())
        }
        None => unhex(secret.to_ascii_lowercase().as_bytes()).ok_or_else(|| {
            format!(
                "the second word must be the SHA-256 of the token, 64 hexadecimal characters (this has {} characters), \
                 or plain:TOKEN",
                secret.chars().count()
            )
        })?,
    };
    let mut token = Token::plain(hash, role, "");
    let mut has_options = false;
    for word in words {
        match word.split_once('=') {
            Some((key, value)) => {
                read_option(&mut token, key, value)?;
                has_options = true;
            }
            None if token.name.is_empty() && !has_options => token.name = word.to_owned(),
            None => return Err("there is more than a name after the token; a name is one word".to_owned()),
        }
    }
    if token.rate.burst.is_some() && token.rate.requests_per_second.is_none() {
        return Err("burst needs requests_per_second=N on the same line".to_owned());
    }
    if !token.may_delete && role != Role::Write {
        return Err(format!("{NO_DELETE} is for the role write, and this token has the role {role}"));
    }
    if token.name.is_empty() {
        token.name = format!("line-{line}");
    }
    Ok(Some(token))
}

fn read_option(token: &mut Token, key: &str, value: &str) -> Result<(), String> {
    let rate = &mut token.rate;
    let (place, number, parsed) = match key {
        "requests_per_second" => (&mut rate.requests_per_second, REQUESTS, value.parse().ok()),
        "burst" => (&mut rate.burst, REQUESTS, value.parse().ok()),
        "bytes_per_second" => (&mut rate.bytes_per_second, BYTES, size::parse(value)),
        "expires_at" => {
            token.expires_at = Some(
                seconds_of(value)
                    .ok_or("expires_at must be a time of RFC 3339 after 1970, like 2027-01-31T00:00:00Z")?,
            );
            return Ok(());
        }
        "delete" if value == "no" => {
            token.may_delete = false;
            return Ok(());
        }
        _ => {
            return Err(format!(
                "an option is requests_per_second=N, burst=N, bytes_per_second=SIZE, expires_at=TIME or {NO_DELETE}"
            ));
        }
    };
    *place = Some(parsed.filter(|value| number.contains(*value)).ok_or_else(|| format!("{key} must be {number}"))?);
    Ok(())
}

/// A time of RFC 3339 in seconds since 1970, rounded down.
fn seconds_of(text: &str) -> Option<u64> {
    u64::try_from(OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp()).ok()
}

/// The option of a line for a token that is good until then, in seconds since 1970; `None` when no
/// calendar has that time.
pub fn expiry(seconds: u64) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()?;
    Some(format!("expires_at={}", time.format(&Rfc3339).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Tokens, token_hash_hex};

    const PLAIN: &str = "correct-horse-battery";

    #[test]
    fn both_forms_are_read_and_give_role_and_name() {
        let text = format!(
            "# the tokens\n\nadmin {} ops  # who runs it\r\nread\tplain:{PLAIN}\r\nwrite plain:a#token-with-hash ci\n",
            token_hash_hex("the admin's own token").to_uppercase()
        );
        let tokens = Tokens::parse(&text).expect("valid");
        assert_eq!(tokens.len(), 3);
        assert_eq!(tokens.role_of(b"the admin's own token"), Some((Role::Admin, "ops")));
        assert_eq!(tokens.role_of(PLAIN.as_bytes()), Some((Role::Read, "line-4")));
        assert_eq!(tokens.role_of(b"a#token-with-hash"), Some((Role::Write, "ci")));
        for unknown in ["", "correct-horse-batterx", "correct-horse-battery ", "ops"] {
            assert_eq!(tokens.role_of(unknown.as_bytes()), None, "{unknown:?}");
        }
    }

    #[test]
    fn a_file_without_tokens_lets_nobody_in() {
        for text in ["", "\n\r\n", "# read plain:correct-horse-battery\n"] {
            let tokens = Tokens::parse(text).expect("valid");
            assert!(tokens.is_empty());
            assert_eq!(tokens.role_of(PLAIN.as_bytes()), None);
            assert_eq!(tokens.role_of(b""), None);
        }
    }

    #[test]
    fn every_wrong_line_is_named_without_its_content() {
        const ROLE: &str = "line 2: the first word must be the role: metrics, read, write or admin";
        let hash = token_hash_hex(PLAIN);
        for (line, message) in [
            (format!("owner {hash}"), ROLE.to_owned()),
            (format!("Admin {hash}"), ROLE.to_owned()),
            (hash.clone(), ROLE.to_owned()),
            (
                "read".into(),
                "line 2: the token is missing; write ROLE SHA256HEX [NAME] or ROLE plain:TOKEN [NAME]".into(),
            ),
            (
                "read # nothing".into(),
                "line 2: the token is missing; write ROLE SHA256HEX [NAME] or ROLE plain:TOKEN [NAME]".into(),
            ),
            (
                "read abc123".into(),
                "line 2: the second word must be the SHA-256 of the token, 64 hexadecimal characters (this has 6 \
                 characters), or plain:TOKEN"
                    .into(),
            ),
            (
                format!("read {}", hash.replace(&hash[..1], "z")),
                "line 2: the second word must be the SHA-256 of the token, 64 hexadecimal characters (this has 64 \
                 characters), or plain:TOKEN"
                    .into(),
            ),
            ("read plain:".into(), "line 2: the token is empty".into()),
            ("read plain:fifteen-letters".into(), "line 2: the token has 15 characters; at least 16 are needed".into()),
            (
                format!("read plain:{}", "x".repeat(1025)),
                "line 2: the token has 1025 characters; at most 1024 are allowed".into(),
            ),
            (
                "read plain:schlüssel-für-alles".into(),
                "line 2: the token may contain only visible ASCII characters".into(),
            ),
            (
                format!("read {hash} two names"),
                "line 2: there is more than a name after the token; a name is one word".into(),
            ),
            (format!("read {hash} name burst=0 requests_per_second=1"), "line 2: burst must be 1..1000000".into()),
            (format!("read {hash} burst=5"), "line 2: burst needs requests_per_second=N on the same line".into()),
            (
                format!("read {hash} rate=5"),
                "line 2: an option is requests_per_second=N, burst=N, bytes_per_second=SIZE, expires_at=TIME or \
                 delete=no"
                    .into(),
            ),
            (
                format!("read {hash} expires_at=2027-01-31"),
                "line 2: expires_at must be a time of RFC 3339 after 1970, like 2027-01-31T00:00:00Z".into(),
            ),
            (
                format!("read {hash} expires_at=1969-12-31T23:59:59Z"),
                "line 2: expires_at must be a time of RFC 3339 after 1970, like 2027-01-31T00:00:00Z".into(),
            ),
            (
                format!("admin {hash} ops delete=no"),
                "line 2: delete=no is for the role write, and this token has the role admin".into(),
            ),
            (
                format!("write {hash} delete=yes"),
                "line 2: an option is requests_per_second=N, burst=N, bytes_per_second=SIZE, expires_at=TIME or \
                 delete=no"
                    .into(),
            ),
            (format!("read {hash} bytes_per_second=1"), "line 2: bytes_per_second must be 64KiB..1TiB".into()),
            (format!("admin plain:{PLAIN}"), "line 2: this token is already on line 1; remove one of the two".into()),
        ] {
            let text = format!("read {hash} first\n{line}\n");
            let error = Tokens::parse(&text).expect_err(&line);
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn too_many_tokens_are_refused() {
        let mut text = String::new();
        for index in 0..TOKENS_MAX {
            text.push_str(&format!("read {}\n", token_hash_hex(&format!("token number {index}"))));
        }
        assert_eq!(Tokens::parse(&text).expect("just enough").len(), TOKENS_MAX);
        text.push_str(&format!("read {}\n", token_hash_hex("one more")));
        assert_eq!(Tokens::parse(&text).expect_err("too many").to_string(), "line 1025: more than 1024 tokens");
    }

    #[test]
    fn a_line_may_end_its_token_and_keep_it_from_deleting() {
        let text = format!("write plain:{PLAIN} ci delete=no expires_at=2027-01-31T02:00:00+02:00\n");
        let token = &parse(&text).expect("valid")[0];
        assert_eq!((token.name.as_str(), token.may_delete, token.expires_at), ("ci", false, Some(1_801_353_600)));
        assert_eq!(expiry(1_801_353_600).as_deref(), Some("expires_at=2027-01-31T00:00:00Z"));
        assert_eq!(expiry(u64::MAX), None);
    }
}
