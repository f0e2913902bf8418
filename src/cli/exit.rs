//! How a command ends: its exit code, and the failure it reports.

use std::fmt;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

/// What `--help` says about exit codes.
pub const HELP: &str = "\
Exit codes:
  0  done
  1  something failed: a file, the disk, or the server sent an invalid answer
  2  the command line, the environment or the configuration is wrong
  3  not found
  4  no token, a wrong token, or one without permission for this
  5  verification failed: the bytes are not the ones that were asked for
  6  the server has too little space, or too few nodes for the policy
  7  the server can't be reached, or is not ready or too busy (503, 429)
  8  the cluster is not whole (cluster status)";

/// The exit codes. Public: scripts depend on them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Denied = 4,
    Verification = 5,
    NoSpace = 6,
    Unreachable = 7,
    NotWhole = 8,
}

impl Exit {
    /// The code for a response of the server that is not a success.
    pub fn of_status(status: u16) -> Self {
        match status {
            404 => Self::NotFound,
            401 | 403 => Self::Denied,
            412 | 507 => Self::NoSpace,
            429 | 503 => Self::Unreachable,
            _ => Self::Failed,
        }
    }
}

/// Why a command ended without what was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub exit: Exit,
    /// A short stable phrase that a program can match on.
    pub error: String,
    /// Names the value that was wrong and what to do.
    pub message: String,
    /// The status the server answered with.
    pub status: Option<u16>,
    /// Another attempt may succeed, after this long at the earliest; `None` when it would not.
    pub retry_after: Option<Duration>,
}

impl Failure {
    pub fn new(exit: Exit, error: &str, message: impl Into<String>) -> Self {
        Self { exit, error: error.to_owned(), message: message.into(), status: None, retry_after: None }
    }

    /// The same, when another attempt may succeed.
    pub fn passing(exit: Exit, error: &str, message: impl Into<String>) -> Self {
        Self { retry_after: Some(Duration::ZERO), ..Self::new(exit, error, message) }
    }

    /// The command line or the configuration is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// A file could not be read, written or the like: `what` says which and how.
    pub fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        Self::new(Exit::Failed, "I/O error", format!("{what}: {error}"))
    }

    /// Nobody reads what this command prints. Not an error worth a message: `nabu-store ls | head`
    /// is common.
    pub fn reader_gone() -> Self {
        Self::new(Exit::Failed, READER_GONE, "nobody reads the output any more")
    }

    /// Whether this is no error worth a message: nobody reads what the command prints.
    pub fn is_reader_gone(&self) -> bool {
        self.error == READER_GONE
    }
}

const READER_GONE: &str = "reader gone";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_the_documented_code() {
        for (status, code) in [
            (404, 3),
            (401, 4),
            (403, 4),
            (412, 6),
            (507, 6),
            (503, 7),
            (429, 7),
            (400, 1),
            (409, 1),
            (413, 1),
            (500, 1),
            (302, 1),
        ] {
            assert_eq!(Exit::of_status(status) as u8, code, "{status}");
        }
    }

    #[test]
    fn help_names_every_code() {
        use Exit::{Denied, Failed, NoSpace, NotFound, NotWhole, Unreachable, Usage, Verification};
        for exit in [Failed, Usage, NotFound, Denied, Verification, NoSpace, Unreachable, NotWhole] {
            assert!(HELP.contains(&format!("\n  {}  ", exit as u8)), "{exit:?}");
        }
    }
}
