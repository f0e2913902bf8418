//! One setting: everything that is said about it, as a row of the table says it.

use super::kind::Kind;

/// A row of the table.
#[derive(Clone, Copy)]
pub struct Setting {
    /// Its place in the file, such as `limits.idle_timeout_ms`; `None` if it can't be in the file.
    pub key: Option<&'static str>,
    pub variable: Option<&'static str>,
    pub flag: Option<Flag>,
    pub default: DefaultValue,
    pub kind: Kind,
    /// What it is, for `--help` and the documentation, in sentences without the last full stop.
    pub help: &'static str,
}

/// A flag of `start`.
#[derive(Clone, Copy)]
pub struct Flag {
    /// With its hyphens.
    pub name: &'static str,
    /// What `--help` calls its value.
    pub value_name: &'static str,
}

/// What holds when nobody says anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DefaultValue {
    /// This word, read as if the environment had given it.
    Is(&'static str),
    /// Nothing, or what depends on the machine or on other settings; in words.
    Described(&'static str),
}

impl Setting {
    /// A setting with a key in the file. A row gives its default and help too.
    pub const fn new(key: &'static str, kind: Kind) -> Self {
        Self { key: Some(key), variable: None, flag: None, default: DefaultValue::Described(""), kind, help: "" }
    }

    /// A setting that can't be in the file.
    pub const fn outside_the_file(kind: Kind) -> Self {
        Self { key: None, ..Self::new("", kind) }
    }

    pub const fn variable(self, name: &'static str) -> Self {
        Self { variable: Some(name), ..self }
    }

    pub const fn flag(self, name: &'static str, value_name: &'static str) -> Self {
        Self { flag: Some(Flag { name, value_name }), ..self }
    }

    pub const fn default(self, word: &'static str) -> Self {
        Self { default: DefaultValue::Is(word), ..self }
    }

    pub const fn default_described(self, words: &'static str) -> Self {
        Self { default: DefaultValue::Described(words), ..self }
    }

    pub const fn help(self, help: &'static str) -> Self {
        Self { help, ..self }
    }

    /// Its name: its key, or its flag if it has none.
    pub fn name(&self) -> &'static str {
        self.key.or(self.flag.map(|flag| flag.name)).expect("a setting can be set")
    }
}
