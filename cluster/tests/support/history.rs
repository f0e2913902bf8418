//! Whether what clients were told is linearizable.
//!
//! Every command sets a setting and is told the version that it made; every read is told the
//! version that it saw. Versions count up by one. So a history of one name is linearizable exactly
//! if each operation's version fits what had ended before it began: a command's is above all of
//! those, a read's not below any.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct History {
    names: BTreeMap<String, Name>,
    pub sets_acknowledged: u64,
    pub sets_in_doubt: u64,
    pub reads: u64,
    pub reads_failed: u64,
    /// A cluster that had lost its majority was recovered: what it had acknowledged may be lost.
    pub is_recovered: bool,
}

#[derive(Default)]
struct Name {
    /// The highest version that any operation that has ended was told.
    highest: u64,
    /// Versions that commands were told.
    set: BTreeSet<u64>,
    in_doubt: u64,
    /// The values that were set, by their versions, as the states of machines say.
    values: BTreeMap<u64, Vec<u8>>,
    begun: u64,
}

/// What an operation must not be told less than.
#[derive(Clone, Debug)]
pub struct Begun {
    name: String,
    above: u64,
}

impl History {
    pub fn begin(&mut self, name: &str, is_set: bool) -> Begun {
        let entry = self.names.entry(name.into()).or_default();
        entry.begun += u64::from(is_set);
        Begun { name: name.into(), above: entry.highest }
    }

    /// A set was acknowledged: the version is its own, and has its value.
    pub fn was_set(&mut self, begun: &Begun, version: u64, value: &[u8]) {
        self.saw(&begun.name, version, value);
        let name = self.names.get_mut(&begun.name).expect("it was begun");
        assert!(version > begun.above, "{}: set made version {version} after {} was there", begun.name, begun.above);
        assert!(name.set.insert(version), "{}: two commands made version {version}", begun.name);
        name.highest = name.highest.max(version);
        self.sets_acknowledged += 1;
    }

    pub fn is_in_doubt(&mut self, begun: &Begun) {
        self.names.get_mut(&begun.name).expect("it was begun").in_doubt += 1;
        self.sets_in_doubt += 1;
    }

    pub fn was_read(&mut self, begun: &Begun, version: u64) {
        let name = self.names.get_mut(&begun.name).expect("it was begun");
        assert!(version >= begun.above, "{}: read saw version {version} after {} was there", begun.name, begun.above);
        name.highest = name.highest.max(version);
        self.reads += 1;
    }

    /// A machine's state has this value.
    pub fn saw(&mut self, name: &str, version: u64, value: &[u8]) {
        let entry = self.names.entry(name.into()).or_default();
        let known = entry.values.entry(version).or_insert_with(|| value.into());
        assert_eq!(known, value, "{name}: two values of version {version}");
    }

    /// The versions at the end are as many as commands were applied: each acknowledged one once,
    /// and of the others some.
    pub fn end(&self, name: &str, version: u64) {
        let Some(entry) = self.names.get(name).filter(|_| !self.is_recovered) else { return };
        let least = entry.set.len() as u64;
        let most = least + entry.in_doubt;
        assert!((least..=most).contains(&version), "{name}: version {version} after {least} to {most} commands");
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }
}
