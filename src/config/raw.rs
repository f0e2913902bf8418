//! A value as it was found, before anybody asks whether it is right.

use std::ffi::{OsStr, OsString};
use std::fmt;

use super::document::Value;

/// A word of the environment or the command line, all words of a flag that may be repeated, or a
/// typed value of a file.
#[derive(Clone, Copy)]
pub enum Raw<'a> {
    Word(&'a OsStr),
    Words(&'a [OsString]),
    Value(&'a Value),
}

impl<'a> Raw<'a> {
    /// A text; in a file also one that looks like nothing else.
    pub fn text(self) -> Option<&'a str> {
        match self {
            Self::Word(word) => word.to_str(),
            Self::Value(Value::Text(text)) => Some(text),
            Self::Words(_) | Self::Value(_) => None,
        }
    }

    /// A text, where `off` may be one: readers of YAML take it for a truth value.
    pub fn text_or_off(self) -> Option<&'a str> {
        match self {
            Self::Value(Value::Bool(false)) => Some("off"),
            raw => raw.text(),
        }
    }

    pub fn integer(self) -> Option<i128> {
        match self {
            Self::Word(word) => word.to_str()?.trim().parse().ok(),
            Self::Value(Value::Integer(integer)) => Some(*integer),
            Self::Words(_) | Self::Value(_) => None,
        }
    }

    /// The value for the log: what a list holds, too.
    pub fn in_full(self) -> String {
        match self {
            Self::Word(word) => word.display().to_string(),
            Self::Words(words) => words.iter().map(|word| word.display().to_string()).collect::<Vec<_>>().join(", "),
            Self::Value(Value::Text(text)) => text.clone(),
            Self::Value(Value::List(nodes)) => {
                nodes.iter().map(|node| Raw::Value(&node.value).in_full()).collect::<Vec<_>>().join(", ")
            }
            Self::Value(value) => value.to_string(),
        }
    }
}

/// As messages show it.
impl fmt::Display for Raw<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => word.display().fmt(formatter),
            Self::Words(_) => formatter.write_str(&self.in_full()),
            Self::Value(value) => value.fmt(formatter),
        }
    }
}
