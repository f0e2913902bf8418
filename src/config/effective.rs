//! What each setting is and by what, for the log.

use std::fmt;

use super::problem::Source;

/// A setting and what it is, for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Effective {
    pub name: &'static str,
    pub value: String,
    /// `None` is the default.
    pub source: Option<Source>,
}

impl fmt::Display for Effective {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, .. } = self;
        match &self.source {
            None => write!(formatter, "{name} is {value}, by default"),
            Some(Source::File { path, line: Some(line), .. }) => {
                write!(formatter, "{name} is {value}, by {}:{line}", path.display())
            }
            Some(Source::File { path, line: None, .. }) => {
                write!(formatter, "{name} is {value}, by {}", path.display())
            }
            Some(Source::Environment { name: by, .. } | Source::Flag { name: by, .. }) => {
                write!(formatter, "{name} is {value}, by {by}")
            }
        }
    }
}
