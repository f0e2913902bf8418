//! What the value of a setting may be: how it is read, what its bounds are, and which field it goes
//! to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::bounds::{
    DATA_DIRS_MAX, JOIN_MAX, LOG_FILTER_BYTES_MAX, NAME_BYTES_MAX, NAMES_MAX, PATH_BYTES_MAX, SCRUB_DAYS_MAX,
    TEXT_BYTES_MAX,
};
use super::network::Network;
use super::node_address::NodeAddress;
use super::number::{Number, Unit};
use super::raw::Raw;
use super::security::JwtAlgorithm;
use super::span::Span;
use super::values::{Field, Values};
use super::words;

/// A valid value, on its way to its field.
pub type Change = Box<dyn FnOnce(&mut Values)>;

/// A word that a setting may be, and what it does.
pub type Choice = (&'static str, fn(&mut Values));

/// What a value may be, with the field that holds it.
#[derive(Clone, Copy)]
pub enum Kind {
    Number(Number, Field<u64>),
    /// A part of all, from 0 to 1; the field has it in parts of
    /// [`SAMPLE_ALWAYS`](super::bounds::SAMPLE_ALWAYS).
    Part(Field<u32>),
    /// A duration, or `off`.
    Interval(Field<Option<Duration>>),
    Duration(Span, Field<Duration>),
    Switch(Field<bool>),
    Choice(&'static [Choice]),
    Path(Field<PathBuf>),
    Paths(Field<Vec<PathBuf>>),
    Listen(Field<SocketAddr>),
    LogFilter(Field<String>),
    Text(Field<String>),
    Texts(Field<Vec<String>>),
    Algorithms(Field<Vec<JwtAlgorithm>>),
    Networks(Field<Vec<Network>>),
    NodeAddress(Field<NodeAddress>),
    NodeAddresses(Field<Vec<NodeAddress>>),
    /// Of a node or a zone.
    Name(Field<String>),
}

/// How a flag is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlagForm {
    /// `--flag VALUE`
    Value,
    /// `--flag VALUE`, where a value may begin with a hyphen, so that the message about `-1` is
    /// ours.
    SignedValue,
    /// `--flag` or `--flag=BOOL`
    Switch,
    /// `--flag VALUE --flag VALUE`
    Repeated,
}

impl Kind {
    pub const fn count(min: u64, max: u64, field: Field<u64>) -> Self {
        Self::Number(Number::count(min, max), field)
    }

    pub const fn bytes(min: u64, max: u64, field: Field<u64>) -> Self {
        Self::Number(Number::bytes(min, max), field)
    }

    pub const fn milliseconds(min: u64, max: u64, field: Field<u64>) -> Self {
        Self::Number(Number::of(Unit::Milliseconds, min, max), field)
    }

    pub const fn seconds(min: u64, max: u64, field: Field<u64>) -> Self {
        Self::Number(Number::of(Unit::Seconds, min, max), field)
    }

    /// The value, or what it must be ("must be …").
    pub fn read(&self, raw: Raw<'_>) -> Result<Change, String> {
        Ok(match *self {
            Self::Number(number, field) => put(field, number.read(raw)?),
            Self::Part(field) => put(field, words::part(raw)?),
            Self::Interval(field) => put(field, words::interval(raw)?),
            Self::Duration(bounds, field) => put(field, words::duration(raw, bounds)?),
            Self::Switch(field) => put(field, words::switch(raw)?),
            Self::Choice(choices) => {
                let word = words::choice(raw, choices.iter().map(|(word, _)| *word))?;
                let (_, choose) = choices.iter().find(|(known, _)| *known == word).expect("it is one of them");
                Box::new(choose)
            }
            Self::Path(field) => put(field, words::path(raw)?),
            Self::Paths(field) => put(field, words::paths(raw)?),
            Self::Listen(field) => put(field, words::listen(raw)?),
            Self::LogFilter(field) => put(field, words::log_filter(raw)?),
            Self::Text(field) => put(field, words::text(raw)?),
            Self::Texts(field) => put(field, words::texts(raw)?),
            Self::Algorithms(field) => put(field, words::algorithms(raw)?),
            Self::Networks(field) => put(field, words::networks(raw)?),
            Self::NodeAddress(field) => put(field, words::node_address(raw)?),
            Self::NodeAddresses(field) => put(field, words::node_addresses(raw)?),
            Self::Name(field) => put(field, words::name(raw)?),
        })
    }

    /// The bounds, as documentation writes them.
    pub fn bounds(&self) -> String {
        match self {
            Self::Number(number, _) => number.bounds(),
            Self::Part(_) => "0, or 0.000001..1".to_owned(),
            Self::Interval(_) => format!("off, or 1s..{SCRUB_DAYS_MAX}d in s, m, h or d"),
            Self::Duration(bounds, _) => format!("{bounds} in s, m, h or d"),
            Self::Switch(_) => "true, false".to_owned(),
            Self::Choice(choices) => choices.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", "),
            Self::Path(_) => format!("a path of 1..{PATH_BYTES_MAX} bytes"),
            Self::Paths(_) => format!("1..{DATA_DIRS_MAX} different paths of 1..{PATH_BYTES_MAX} bytes"),
            Self::Listen(_) => "HOST:PORT, a port of 0..65535; 0 takes a free one".to_owned(),
            Self::LogFilter(_) => format!(
                "{}, or a list such as `warn,nabu_store=debug` of at most {LOG_FILTER_BYTES_MAX} bytes",
                words::LOG_LEVELS.join(", ")
            ),
            Self::Text(_) => format!("1..{TEXT_BYTES_MAX} bytes"),
            Self::Texts(_) => format!("one or a list of 1..{NAMES_MAX}, each of 1..{TEXT_BYTES_MAX} bytes"),
            Self::Algorithms(_) => format!("one or a list of {}", JwtAlgorithm::names()),
            Self::Networks(_) => format!("one or a list of 1..{NAMES_MAX} addresses or networks"),
            Self::NodeAddress(_) => "HOST:PORT, a port of 1..65535".to_owned(),
            Self::NodeAddresses(_) => format!("1..{JOIN_MAX} different HOST:PORT, a port of 1..65535"),
            Self::Name(_) => format!("1..{NAME_BYTES_MAX} of `A-Z`, `a-z`, `0-9`, `.`, `_` and `-`"),
        }
    }

    /// A value that is right, for the log.
    pub fn show(&self, raw: Raw<'_>) -> String {
        match self {
            Self::Switch(_) => raw.in_full(),
            _ => raw.text_or_off().map_or_else(|| raw.in_full(), str::to_owned),
        }
    }

    pub fn is_path(&self) -> bool {
        matches!(self, Self::Path(_) | Self::Paths(_))
    }

    /// Whether the name of the value alone, such as `FILE`, says what it may be.
    pub fn explains_itself(&self) -> bool {
        self.is_path() || matches!(self, Self::Listen(_) | Self::NodeAddress(_) | Self::NodeAddresses(_))
    }

    pub fn flag_form(&self) -> FlagForm {
        match self {
            Self::Number(..) | Self::Part(_) => FlagForm::SignedValue,
            Self::Switch(_) => FlagForm::Switch,
            Self::Paths(_) | Self::NodeAddresses(_) => FlagForm::Repeated,
            _ => FlagForm::Value,
        }
    }
}

fn put<T: 'static>(field: Field<T>, value: T) -> Change {
    Box::new(move |values| field(values).put(value))
}
