//! Reads the layers of a configuration by the table: the command line, the environment, the file.
//!
//! Every value of every layer is checked, also one that a higher layer overrides.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::document::{self, Entry, Value};
use super::effective::Effective;
use super::flags::{Environment, Flags};
use super::keys;
use super::kind::FlagForm;
use super::nearest::nearest;
use super::problem::{Problem, Source};
use super::raw::Raw;
use super::setting::{DefaultValue, Setting};
use super::table::SETTINGS;
use super::unset::Unset;
use super::values::Values;

/// The most bytes of a configuration file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What was read so far, the highest layer first.
pub struct Layers {
    pub values: Values,
    pub problems: Vec<Problem>,
    pub effective: Vec<Effective>,
    /// Where each setting, and each group above one, is given by the highest layer.
    sources: BTreeMap<&'static str, Source>,
}

impl Layers {
    /// Before anything was read.
    pub fn new() -> Self {
        Self { values: Values::unset(), problems: Vec::new(), effective: Vec::new(), sources: BTreeMap::new() }
    }

    /// Where a setting or a group is given, if it is. Panics on a name that the table doesn't have.
    pub fn source(&self, name: &str) -> Option<&Source> {
        assert!(
            SETTINGS.iter().any(|setting| setting.name() == name) || keys::group(name).is_some(),
            "{name} is in the table"
        );
        self.sources.get(name)
    }

    pub fn read_flags(&mut self, flags: &Flags) {
        for setting in SETTINGS {
            let Some(flag) = setting.flag else { continue };
            match flags.words(flag.name) {
                [] => {}
                words if setting.kind.flag_form() == FlagForm::Repeated => {
                    self.read_word(setting, Raw::Words(words), Source::flag(flag.name));
                }
                words => {
                    let word = words.last().expect("not empty");
                    self.read_word(setting, Raw::Word(word), Source::flag(flag.name).with_value(word));
                }
            }
        }
    }

    pub fn read_environment(&mut self, environment: &Environment<'_>) {
        for setting in SETTINGS {
            let Some(name) = setting.variable else { continue };
            // An empty variable is one that isn't set, as with `NABU_CORES= nabu-store start`.
            let Some(word) = environment(name).filter(|word| !word.is_empty()) else { continue };
            self.read_word(setting, Raw::Word(&word), Source::environment(name).with_value(&word));
        }
    }

    /// Reads a file; `named_by` says where its path stands.
    pub fn read_file(&mut self, path: &Path, named_by: &Source) {
        let text = match read_text(path) {
            Ok(text) => text,
            Err(reason) => return self.problems.push(Problem::new(named_by, reason)),
        };
        let place = |line| Source::File { path: path.to_owned(), line: Some(line), key: None };
        match document::parse(&text) {
            Err(error) => {
                let message = format!("not valid YAML: {}", error.reason);
                self.problems.push(Problem::new(&place(error.line), message));
            }
            Ok(root) => match &root.value {
                Value::Null => {}
                Value::Map(entries) => self.read_entries(path, "", entries),
                other => {
                    let message = "must be a map of keys such as `listen: 127.0.0.1:7070`";
                    self.problems.push(Problem::new(&place(root.line), message).got(other));
                }
            },
        }
    }

    /// Fills in the defaults of the table.
    pub fn read_defaults(&mut self) {
        for setting in SETTINGS {
            if let DefaultValue::Is(word) = setting.default {
                self.apply(setting, Raw::Word(OsStr::new(word)), None);
            }
        }
    }

    /// Reads the entries of a map: of the whole file (`group` is empty), or of a group.
    fn read_entries(&mut self, path: &Path, group: &str, entries: &[Entry]) {
        for entry in entries {
            let key = if group.is_empty() { entry.key.clone() } else { format!("{group}.{}", entry.key) };
            let source = Source::File { path: path.to_owned(), line: Some(entry.line), key: Some(key.clone()) };
            // A key with a dot in it is not the key of a group and one below it.
            let is_plain = !entry.key.contains('.');
            if let Some(setting) = keys::with_key(&key).filter(|_| is_plain) {
                match &entry.value.value {
                    Value::Null => {
                        self.problems.push(Problem::new(&source, "has no value; give it one or remove the line"));
                    }
                    value => self.apply(setting, Raw::Value(value), Some(source)),
                }
            } else if let Some(group) = keys::group(&key).filter(|_| is_plain) {
                self.sources.entry(group).or_insert(source.clone());
                match &entry.value.value {
                    Value::Map(entries) => self.read_entries(path, group, entries),
                    other => {
                        self.problems.push(Problem::new(&source, "must be a map of keys below it").got(other));
                    }
                }
            } else {
                let message = match nearest(group, &entry.key) {
                    Some(near) => format!("unknown key; did you mean {near}?"),
                    None => format!("unknown key; known keys are {}", keys::names_below(group).join(", ")),
                };
                self.problems.push(Problem::new(&source, message));
            }
        }
    }

    /// Reads a word, or words, of the environment or the command line.
    fn read_word(&mut self, setting: &Setting, raw: Raw<'_>, source: Source) {
        for group in setting.key.into_iter().flat_map(keys::groups_of) {
            self.sources.entry(group).or_insert(source.clone());
        }
        self.apply(setting, raw, Some(source));
    }

    /// Checks a value, and keeps it unless a higher layer gave one.
    fn apply(&mut self, setting: &Setting, raw: Raw<'_>, source: Option<Source>) {
        let name = setting.name();
        match (setting.kind.read(raw), source) {
            (Err(requirement), Some(source)) => self.problems.push(Problem::new(&source, requirement).got(raw)),
            (Err(requirement), None) => panic!("the default of {name} {requirement}"),
            (Ok(change), source) => {
                let Place::Vacant(place) = self.sources.entry(name) else { return };
                change(&mut self.values);
                self.effective.push(Effective { name, value: setting.kind.show(raw), source: source.clone() });
                if let Some(source) = source {
                    place.insert(source);
                }
            }
        }
    }
}

/// The whole file, or why it can't be read.
fn read_text(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| format!("cannot be read: {error}"))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("is not a configuration file: it has more than {FILE_BYTES_MAX} bytes"));
    }
    Ok(text)
}
