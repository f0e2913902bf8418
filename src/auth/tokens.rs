//! The static tokens that the server knows, and what each may do.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use nabu_engine::sha256::Sha256;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::rate::Bucket;
use super::token_file::{self, Token, TokenFileError};
use super::{Role, check_token, hash_of};
use crate::config::RateLimit;
use crate::private_file::read_private;

/// The tokens that the server knows.
#[derive(Clone, Default)]
pub struct Tokens {
    entries: Vec<Entry>,
}

#[derive(Clone)]
struct Entry {
    token: Token,
    bucket: Option<Arc<Bucket>>,
}

/// A token that is known.
#[derive(Clone, Copy)]
pub struct TokenRef<'t> {
    pub role: Role,
    pub may_delete: bool,
    /// In seconds since 1970; `None` when it is good for ever.
    pub expires_at: Option<u64>,
    /// As the log names it.
    pub name: &'t str,
    /// What it may ask for; `None` when nothing is limited.
    pub bucket: Option<&'t Arc<Bucket>>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.entries.iter().map(|entry| (entry.token.role, &entry.token.name))).finish()
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
                "{name}: holds no token, so nobody could do anything; add a line that `nabu-store token new --role \
                 admin` prints"
            ));
        }
        tokens.limit(default);
        tracing::info!(file = %name, tokens = tokens.len(), "tokens read");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        for token in tokens.expired(now) {
            tracing::warn!(token, "this token has expired: remove its line, or give it a new date");
        }
        Ok(tokens)
    }

    /// Reads the text of a token file.
    ///
    /// # Errors
    /// The first line that is wrong. A file without a token is not an error here: see
    /// [`Tokens::is_empty`].
    pub fn parse(text: &str) -> Result<Tokens, TokenFileError> {
        let with = |token| Entry { token, bucket: None };
        Ok(Self { entries: token_file::parse(text)?.into_iter().map(with).collect() })
    }

    /// The names of those that are good no more, `now` in seconds since 1970.
    fn expired(&self, now: u64) -> impl Iterator<Item = &str> {
        let tokens = self.entries.iter().map(|entry| &entry.token);
        tokens.filter(move |token| token.expires_at.is_some_and(|at| at <= now)).map(|token| token.name.as_str())
    }

    /// Counts what each token asks for against `default` or what its line says.
    pub fn limit(&mut self, default: RateLimit) {
        for entry in &mut self.entries {
            entry.bucket = Bucket::new(effective(entry.token.rate, default));
        }
    }

    /// Goes on counting for the tokens that were there before under the same limit.
    pub fn go_on_from(&mut self, before: &Tokens) {
        for entry in &mut self.entries {
            let same = before.entries.iter().find(|other| other.token.hash == entry.token.hash);
            if let (Some(bucket), Some(before)) = (&mut entry.bucket, same.and_then(|same| same.bucket.as_ref()))
                && bucket.limit() == before.limit()
            {
                *bucket = before.clone();
            }
        }
    }

    /// Adds one plain token. One that is there already gets this role and name instead.
    ///
    /// # Panics
    /// When the token is one that [`check_token`] refuses.
    pub fn add(&mut self, token: &str, role: Role, name: &str) {
        assert_eq!(check_token(token), Ok(()), "the caller checks the token");
        let token = Token::plain(hash_of(token.as_bytes()), role, name);
        self.entries.retain(|entry| entry.token.hash != token.hash);
        self.entries.push(Entry { token, bucket: None });
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
            let is_equal: Choice = entry.token.hash.ct_eq(hash);
            found.conditional_assign(&(index as u64), is_equal);
        }
        let entry = self.entries.get(usize::try_from(found).ok()?)?;
        let Token { role, may_delete, expires_at, name, .. } = &entry.token;
        Some(TokenRef {
            role: *role,
            may_delete: *may_delete,
            expires_at: *expires_at,
            name,
            bucket: entry.bucket.as_ref(),
        })
    }

    /// Adds the administrator's token of the cluster, of which this is the SHA-256. It may be there
    /// already.
    pub fn admit(&mut self, hash: [u8; 32], name: &str, default: RateLimit) {
        if self.find(&hash).is_none() {
            let bucket = Bucket::new(effective(RateLimit::default(), default));
            self.entries.push(Entry { token: Token::plain(hash, Role::Admin, name), bucket });
        }
    }

    /// The SHA-256 of the only token, if there is just one.
    pub fn only_hash(&self) -> Option<[u8; 32]> {
        match self.entries.as_slice() {
            [only] => Some(only.token.hash),
            _ => None,
        }
    }

    /// Equal for equal tokens that may do the same, whatever their order and names; nobody learns a
    /// token from it.
    pub fn digest(&self) -> [u8; 32] {
        let mut all: Vec<&Token> = self.entries.iter().map(|entry| &entry.token).collect();
        all.sort_unstable_by_key(|token| token.hash);
        let mut digest = Sha256::new();
        for token in all {
            digest.update(&token.hash);
            digest.update(&[token.role as u8]);
            // What most tokens don't have is left out, as nodes of the last version do.
            if !token.may_delete || token.expires_at.is_some() {
                digest.update(&[u8::from(token.may_delete)]);
                digest.update(&token.expires_at.unwrap_or(u64::MAX).to_le_bytes());
            }
        }
        digest.finalize()
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
    fn a_line_may_limit_its_token_and_the_rest_is_as_configured() {
        let text = "read plain:correct-horse-battery a requests_per_second=5 burst=9\n\
                    read plain:correct-horse-batterz bytes_per_second=1MiB\n";
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
    fn nodes_tell_tokens_apart_by_all_that_they_may_do() {
        let digest = |text: &str| Tokens::parse(text).expect("valid").digest();
        let of = |rest: &str| digest(&format!("write plain:{PLAIN} {rest}\n"));
        assert_eq!(of("ci"), of("builder"), "names are only shown");
        let all = ["", "delete=no", "expires_at=2030-01-01T00:00:00Z", "expires_at=2030-01-01T00:00:01Z"].map(of);
        for (index, one) in all.iter().enumerate() {
            assert!(!all[..index].contains(one), "{index}");
        }
        let two = format!("read plain:{PLAIN}z\nwrite plain:{PLAIN}\n");
        assert_eq!(digest(&two), digest(&format!("write plain:{PLAIN}\nread plain:{PLAIN}z\n")));
    }

    #[test]
    fn a_token_is_named_from_the_second_on_in_which_it_expires() {
        let text = format!("read plain:{PLAIN} ci expires_at=1970-01-01T00:01:40Z\nread plain:{PLAIN}z\n");
        let tokens = Tokens::parse(&text).expect("valid");
        assert_eq!(tokens.expired(99).count(), 0);
        assert_eq!(tokens.expired(100).collect::<Vec<_>>(), ["ci"]);
    }
}
