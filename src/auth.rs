//! Who may do what: static tokens, kept as SHA-256 and compared in constant time, each with a role;
//! and JWTs.
//!
//! | room | question it answers |
//! | --- | --- |
//! | this one | what is a role, and a token? |
//! | `tokens` | which static tokens are there, and what may they do? |
//! | `token_file` | what does a line of the token file say? |
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
mod token_file;
mod tokens;
pub mod verified;

use std::fmt;
use std::str::FromStr;

use nabu_engine::sha256::Sha256;
use nabu_engine::types::hex;

pub use self::access::{Access, Authority, CoreAuthority};
pub use self::token_file::{NO_DELETE, expiry};
pub use self::tokens::{TokenRef, Tokens};

/// The fewest characters of a plain token; shorter ones can be guessed.
pub const TOKEN_CHARS_MIN: usize = 16;
/// The most characters of a token: it travels in a header.
pub const TOKEN_CHARS_MAX: usize = 1024;

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
            Err("the token may contain only visible ASCII characters".to_owned())
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
    Sha256::digest(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_includes_the_ones_before_it() {
        assert!(Role::ALL.is_sorted());
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
    }
}
