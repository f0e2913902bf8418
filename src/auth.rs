//! Who may do what: static tokens, kept as SHA-256 and compared in constant time, each with a role.

use std::fmt;

/// What a token may do; each role includes the ones before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    Read,
    Write,
    Admin,
}

/// The tokens that the server knows.
#[derive(Clone, Debug, Default)]
pub struct Tokens(());

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

impl Tokens {
    /// Reads the text of a token file: `ROLE SHA256HEX [NAME]` or `ROLE plain:TOKEN [NAME]` a line; `#` starts a comment.
    pub fn parse(text: &str) -> Result<Tokens, TokenFileError> {
        let _ = text;
        todo!()
    }

    /// Adds one plain token.
    pub fn add(&mut self, token: &str, role: Role, name: &str) {
        let _ = (token, role, name);
        todo!()
    }

    /// The role of a token, and the name it goes by in the logs; `None` when it is unknown. Takes the same time whichever token matches.
    pub fn role_of(&self, token: &[u8]) -> Option<(Role, &str)> {
        let _ = token;
        todo!()
    }
}
