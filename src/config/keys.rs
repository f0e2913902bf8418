//! The keys of the file: which settings and groups have one, and which lies below which.

use super::setting::Setting;
use super::table::SETTINGS;

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

/// The keys below a group, in the order of the table.
pub fn below(group: &str) -> impl Iterator<Item = &'static str> {
    let keys = SETTINGS.iter().filter_map(|setting| setting.key);
    keys.filter(move |key| groups_of(key).any(|above| above == group))
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
