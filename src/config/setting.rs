//! One setting: everything that is said about it, as a row of the table ([`SETTINGS`]) says it.

use super::kind::Kind;
use super::table::SETTINGS;

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

/// The groups above a key, from the inside: `log.access`, `log` for `log.access.sample`.
pub fn groups_of(key: &'static str) -> impl Iterator<Item = &'static str> {
    std::iter::successors(parent(key), |group| parent(group))
}

fn parent(key: &'static str) -> Option<&'static str> {
    key.rsplit_once('.').map(|(parent, _)| parent)
}

/// The setting with this key.
pub fn with_key(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == Some(key))
}

/// The group of this name, if keys lie below it.
pub fn group(name: &str) -> Option<&'static str> {
    SETTINGS.iter().filter_map(|setting| setting.key).flat_map(groups_of).find(|group| *group == name)
}

/// The keys and groups right below a group (`""`: the file itself), by their own names, in the
/// order of the table.
pub fn names_below(group: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    for key in SETTINGS.iter().filter_map(|setting| setting.key) {
        let below =
            if group.is_empty() { Some(key) } else { key.strip_prefix(group).and_then(|key| key.strip_prefix('.')) };
        if let Some(name) = below.and_then(|below| below.split('.').next())
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}
