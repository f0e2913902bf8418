//! What the command line and the environment say, unchecked.

use std::collections::BTreeMap;
use std::ffi::OsString;

/// What the command line says, unchecked.
#[derive(Clone, Default, Debug)]
pub struct Flags {
    /// Give up the data directories that are missing. A deed and no setting: it is done once, so
    /// neither a file nor the environment can say it.
    pub forget_missing: bool,
    words: BTreeMap<&'static str, Vec<OsString>>,
}

impl Flags {
    /// Gives a flag one more value.
    pub fn give(&mut self, name: &'static str, word: impl Into<OsString>) {
        self.words.entry(name).or_default().push(word.into());
    }

    /// The values of a flag, none if it was not given.
    pub fn words(&self, name: &str) -> &[OsString] {
        self.words.get(name).map_or(&[], Vec::as_slice)
    }
}

/// Looks up a variable.
pub type Environment<'a> = dyn Fn(&str) -> Option<OsString> + 'a;
