//! Who may do what: static tokens, kept as SHA-256 and compared in constant time, each with a role;
//! and JWTs.
//!
//! | room | question it answers |
//! | --- | --- |
//! | this one | which static tokens are there, and what may they do? |
//! | `admin_token` | who may do what where no file says so? |
//! | `jwt` | is this token of the identity provider to be believed? |
//! | `verified` | was it verified before? |
//! | `access` | which tokens and keys are good as of now, also after a reload? |
//! | `rate` | has a token asked for too much? |
//! | `failed_logins` | has an address guessed too often? |
//!
//! No token and no hash of one is ever printed, in messages and `Debug` neither: a line of a token
//! file that can't be read is named by its number, not by its content.

mod access;
pub mod admin_token;
pub mod failed_logins;
pub mod jwt;
pub mod rate;
pub mod verified;

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use nabu_engine::types::{hex, unhex};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

pub use self::access::{Access, Authority, CoreAuthority};
use self::rate::Bucket;
use crate::config::RateLimit;
use crate::config::security::{BYTES, REQUESTS};
use crate::config::size;
use crate::private_file::read_private;

/// The fewest characters of a plain token; shorter ones can be guessed.
pub const TOKEN_CHARS_MIN: usize = 16;
/// The most characters of a token: it travels in a header.
pub const TOKEN_CHARS_MAX: usize = 1024;
/// The most tokens: every request is compared with all of them.
pub const TOKENS_MAX: usize = 1024;

/// What a token may do; each role includes the ones before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    /// Metrics, and nothing of the contents.
    Metrics,
    Read,
    Write,
    Admin,
}

impl Role {
    pub const ALL: [Role; 4] = [Self::Metrics, Self::Read, Self::Write, Self::Admin];

    /// As token files and the command line write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A word that is no role. It doesn't say which word: in a file whose columns are mixed up it can
/// be a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidRole;

impl fmt::Display for InvalidRole {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a role is metrics, read, write or admin")
    }
}

impl std::error::Error for InvalidRole {}

impl FromStr for Role {
    type Err = InvalidRole;

    fn from_str(text: &str) -> Result<Self, InvalidRole> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or(InvalidRole)
    }
}

/// The tokens that the server knows.
#[derive(Clone, Default)]
pub struct Tokens {
    entries: Vec<Entry>,
}

#[derive(Clone)]
struct Entry {
    hash: [u8; 32],
    role: Role,
    name: String,
    /// What its line says; the rest is as configured for all.
    rate: RateLimit,
    bucket: Option<Arc<Bucket>>,
}

/// A token that is known.
#[derive(Clone, Copy)]
pub struct TokenRef<'t> {
    pub role: Role,
    /// As the log names it.
    pub name: &'t str,
    /// What it may ask for; `None` when nothing is limited.
    pub bucket: Option<&'t Arc<Bucket>>,
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

impl fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.entries.iter().map(|entry| (entry.role, &entry.name))).finish()
    }
}

impl Tokens {
    /// Reads a token file, and counts what each token asks for against `default` or what its line
    /// says.
    ///
    /// # Errors
    /// A message that names the file, the line and the remedy.
    pub fn load(path: &Path, default: RateLimit) -> Result<Tokens, String> {
        let name = path.display();
        let text = read_private(path).map_err(|error| format!("cannot read the token file {name}: {error}"))?;
        let mut tokens = Self::parse(&text).map_err(|error| format!("{name}:{}: {}", error.line, error.reason))?;
        if tokens.is_empty() {
            return Err(format!(
                "{name}: holds no token, so nobody could do anything; add a line that `nabu-store token new --role admin` prints"
            ));
        }
        tokens.limit(default);
        tracing::info!(file = %name, tokens = tokens.len(), "tokens read");
        Ok(tokens)
    }

    /// Counts what each token asks for against `default` or what its line says.
    pub fn limit(&mut self, default: RateLimit) {
        for entry in &mut self.entries {
            entry.bucket = Bucket::new(effective(entry.rate, default));
        }
    }

    /// Goes on counting for the tokens that were there before under the same limit.
    pub fn go_on_from(&mut self, before: &Tokens) {
        for entry in &mut self.entries {
            let same = before.entries.iter().find(|other| other.hash == entry.hash);
            if let (Some(bucket), Some(before)) = (&mut entry.bucket, same.and_then(|same| same.bucket.as_ref()))
                && bucket.limit() == before.limit()
            {
                *bucket = before.clone();
            }
        }
    }

    /// Reads the text of a token file: `ROLE SHA256HEX [NAME] [LIMIT…]` or
    /// `ROLE plain:TOKEN [NAME] [LIMIT…]` a line; a word that begins with `#` starts a comment.
    /// Limits are `requests_per_second=N`, `burst=N` and `bytes_per_second=SIZE`. Lines may end
    /// with CR LF. A token without a name goes by `line-N`.
    ///
    /// # Errors
    /// The first line that is wrong. A file without a token is not an error here: see
    /// [`Tokens::is_empty`].
    pub fn parse(text: &str) -> Result<Tokens, TokenFileError> {
        let mut tokens = Self::default();
        let mut lines: Vec<usize> = Vec::new();
        for (line, content) in text.lines().enumerate().map(|(index, content)| (index + 1, content)) {
            let entry = parse_line(content, line).map_err(|reason| TokenFileError { line, reason })?;
            let Some(entry) = entry else { continue };
            if let Some(earlier) = tokens.entries.iter().position(|other| other.hash == entry.hash) {
                let reason = format!("this token is on line {} already; remove one of the two", lines[earlier]);
                return Err(TokenFileError { line, reason });
            }
            if tokens.entries.len() == TOKENS_MAX {
                return Err(TokenFileError { line, reason: format!("more than {TOKENS_MAX} tokens") });
            }
            tokens.entries.push(entry);
            lines.push(line);
        }
        Ok(tokens)
    }

    /// Adds one plain token. One that is there already gets this role and name instead.
    ///
    /// # Panics
    /// When the token is one that [`check_token`] refuses.
    pub fn add(&mut self, token: &str, role: Role, name: &str) {
        assert_eq!(check_token(token), Ok(()), "the caller checks the token");
        let hash = hash_of(token.as_bytes());
        self.entries.retain(|entry| entry.hash != hash);
        self.entries.push(Entry { hash, role, name: name.to_owned(), rate: RateLimit::default(), bucket: None });
    }

    /// The role of a token, and the name it goes by in the logs; `None` when it is unknown. Takes
    /// the same time whichever token matches.
    pub fn role_of(&self, token: &[u8]) -> Option<(Role, &str)> {
        self.find(&hash_of(token)).map(|token| (token.role, token.name))
    }

    /// The token with this SHA-256; `None` when it is unknown. Takes the same time whichever token
    /// matches.
    pub fn find(&self, hash: &[u8; 32]) -> Option<TokenRef<'_>> {
        const NONE: u64 = u64::MAX;
        let mut found = NONE;
        for (index, entry) in self.entries.iter().enumerate() {
            let is_equal: Choice = entry.hash.ct_eq(hash);
            found.conditional_assign(&(index as u64), is_equal);
        }
        let entry = self.entries.get(usize::try_from(found).ok()?)?;
        Some(TokenRef { role: entry.role, name: &entry.name, bucket: entry.bucket.as_ref() })
    }

    /// Adds the administrator's token of the cluster, of which this is the SHA-256. It may be there
    /// already.
    pub fn admit(&mut self, hash: [u8; 32], name: &str, default: RateLimit) {
        if self.find(&hash).is_none() {
            let bucket = Bucket::new(effective(RateLimit::default(), default));
            self.entries.push(Entry {
                hash,
                role: Role::Admin,
                name: name.to_owned(),
                rate: RateLimit::default(),
                bucket,
            });
        }
    }

    /// The SHA-256 of the only token, if there is just one.
    pub fn only_hash(&self) -> Option<[u8; 32]> {
        match self.entries.as_slice() {
            [only] => Some(only.hash),
            _ => None,
        }
    }

    /// Equal for equal tokens with equal roles, whatever their order and names; nobody learns a
    /// token from it.
    pub fn digest(&self) -> [u8; 32] {
        let mut all: Vec<([u8; 32], Role)> = self.entries.iter().map(|entry| (entry.hash, entry.role)).collect();
        all.sort_unstable();
        let mut digest = Sha256::new();
        for (hash, role) in all {
            digest.update(hash);
            digest.update([role as u8]);
        }
        digest.finalize().into()
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody can do anything.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// What a plain token must be: 16 to 1024 visible ASCII characters, so that it fits in a header as
/// it is.
///
/// # Errors
/// What is wrong with it, without showing it.
pub fn check_token(token: &str) -> Result<(), String> {
    match token.len() {
        0 => Err("the token is empty".to_owned()),
        length if length < TOKEN_CHARS_MIN => {
            Err(format!("the token has {length} characters; at least {TOKEN_CHARS_MIN} are needed"))
        }
        length if length > TOKEN_CHARS_MAX => {
            Err(format!("the token has {length} characters; at most {TOKEN_CHARS_MAX} are allowed"))
        }
        _ if !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err("the token may hold visible ASCII characters only".to_owned())
        }
        _ => Ok(()),
    }
}

/// The SHA-256 of a token as a token file holds it: 64 lowercase hexadecimal characters.
pub fn token_hash_hex(token: &str) -> String {
    hex(&hash_of(token.as_bytes()))
}

/// The SHA-256 that a token is known by.
pub fn hash_of(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// One line; `None` when there is no token on it.
fn parse_line(content: &str, line: usize) -> Result<Option<Entry>, String> {
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
                "the second word must be the SHA-256 of the token, 64 hexadecimal characters (this has {} characters), or plain:TOKEN",
                secret.chars().count()
            )
        })?,
    };
    let (mut name, mut rate) = (None, RateLimit::default());
    for word in words {
        match word.split_once('=') {
            Some((key, value)) => read_limit(&mut rate, key, value)?,
            None if name.is_none() && rate == RateLimit::default() => name = Some(word.to_owned()),
            None => return Err("there is more than a name after the token; a name is one word".to_owned()),
        }
    }
    if rate.burst.is_some() && rate.requests_per_second.is_none() {
        return Err("burst needs requests_per_second=N on the same line".to_owned());
    }
    let name = name.unwrap_or_else(|| format!("line-{line}"));
    Ok(Some(Entry { hash, role, name, rate, bucket: None }))
}

fn read_limit(rate: &mut RateLimit, key: &str, value: &str) -> Result<(), String> {
    let (place, number, parsed) = match key {
        "requests_per_second" => (&mut rate.requests_per_second, REQUESTS, value.parse().ok()),
        "burst" => (&mut rate.burst, REQUESTS, value.parse().ok()),
        "bytes_per_second" => (&mut rate.bytes_per_second, BYTES, size::parse(value)),
        _ => return Err("a limit is requests_per_second=N, burst=N or bytes_per_second=SIZE".to_owned()),
    };
    *place = Some(parsed.filter(|value| number.contains(*value)).ok_or_else(|| format!("{key} must be {number}"))?);
    Ok(())
}

/// What a line says over what is configured for all. A rate of its own comes with a burst of its
/// own.
fn effective(line: RateLimit, default: RateLimit) -> RateLimit {
    let requests = if line.requests_per_second.is_some() { line } else { default };
    RateLimit {
        requests_per_second: requests.requests_per_second,
        burst: requests.burst,
        bytes_per_second: line.bytes_per_second.or(default.bytes_per_second),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                "line 2: the second word must be the SHA-256 of the token, 64 hexadecimal characters (this has 6 characters), or plain:TOKEN"
                    .into(),
            ),
            (
                format!("read {}", hash.replace(&hash[..1], "z")),
                "line 2: the second word must be the SHA-256 of the token, 64 hexadecimal characters (this has 64 characters), or plain:TOKEN"
                    .into(),
            ),
            ("read plain:".into(), "line 2: the token is empty".into()),
            (
                "read plain:fifteen-letters".into(),
                "line 2: the token has 15 characters; at least 16 are needed".into(),
            ),
            (
                format!("read plain:{}", "x".repeat(1025)),
                "line 2: the token has 1025 characters; at most 1024 are allowed".into(),
            ),
            (
                "read plain:schlüssel-für-alles".into(),
                "line 2: the token may hold visible ASCII characters only".into(),
            ),
            (
                format!("read {hash} two names"),
                "line 2: there is more than a name after the token; a name is one word".into(),
            ),
            (
                format!("read {hash} name burst=0 requests_per_second=1"),
                "line 2: burst must be 1..1000000".into(),
            ),
            (format!("read {hash} burst=5"), "line 2: burst needs requests_per_second=N on the same line".into()),
            (
                format!("read {hash} rate=5"),
                "line 2: a limit is requests_per_second=N, burst=N or bytes_per_second=SIZE".into(),
            ),
            (format!("read {hash} bytes_per_second=1"), "line 2: bytes_per_second must be 64KiB..1TiB".into()),
            (
                format!("admin plain:{PLAIN}"),
                "line 2: this token is on line 1 already; remove one of the two".into(),
            ),
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
    fn a_line_may_limit_its_token_and_the_rest_is_as_configured() {
        let text = "read plain:correct-horse-battery a requests_per_second=5 burst=9\nread plain:correct-horse-batterz bytes_per_second=1MiB\n";
        let mut tokens = Tokens::parse(text).expect("valid");
        let default = RateLimit { requests_per_second: Some(100), burst: Some(200), bytes_per_second: None };
        tokens.limit(default);
        let limit = |token: &[u8]| tokens.find(&hash_of(token)).expect("known").bucket.expect("limited").limit();
        let own = RateLimit { requests_per_second: Some(5), burst: Some(9), bytes_per_second: None };
        assert_eq!(limit(b"correct-horse-battery"), own);
        assert_eq!(limit(b"correct-horse-batterz"), RateLimit { bytes_per_second: Some(1 << 20), ..default });
        assert_eq!(tokens.role_of(b"correct-horse-batterz"), Some((Role::Read, "line-2")));
    }

    #[test]
    fn a_reload_goes_on_counting_where_the_limit_is_the_same() {
        let limit = RateLimit { requests_per_second: Some(1), burst: Some(1), bytes_per_second: None };
        let load = |text: &str| {
            let mut tokens = Tokens::parse(text).expect("valid");
            tokens.limit(limit);
            tokens
        };
        let before = load("read plain:correct-horse-battery\nread plain:correct-horse-batterz\n");
        let mut after =
            load("read plain:correct-horse-batterz burst=3 requests_per_second=1\nwrite plain:correct-horse-battery\n");
        after.go_on_from(&before);
        let bucket = |tokens: &Tokens, token: &[u8]| {
            tokens.find(&hash_of(token)).expect("known").bucket.expect("limited").clone()
        };
        assert!(Arc::ptr_eq(&bucket(&before, b"correct-horse-battery"), &bucket(&after, b"correct-horse-battery")));
        assert!(!Arc::ptr_eq(&bucket(&before, b"correct-horse-batterz"), &bucket(&after, b"correct-horse-batterz")));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let mut tokens = Tokens::default();
        tokens.add(PLAIN, Role::Admin, "ops");
        assert_eq!(format!("{tokens:?}"), "[(Admin, \"ops\")]");
    }

    #[test]
    fn a_token_added_twice_keeps_the_last_role() {
        let mut tokens = Tokens::default();
        tokens.add(PLAIN, Role::Admin, "first");
        tokens.add(PLAIN, Role::Read, "second");
        assert_eq!(tokens.len(), 1);
        assert_eq!(tokens.role_of(PLAIN.as_bytes()), Some((Role::Read, "second")));
    }

    #[test]
    fn each_role_includes_the_ones_before_it() {
        assert!(Role::ALL.is_sorted());
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
    }
}
