//! Which key somebody may have meant.

use super::keys::groups_of;
use super::table::SETTINGS;

/// Longer keys than this are no slip of the pen, and comparing them takes time.
const KEY_BYTES_MAX: usize = 64;
/// The most letters that may be wrong.
const DISTANCE_MAX: usize = 3;

/// What to write in place of the unknown key `key` in the group `parent` (`""`: the file itself);
/// `None` when nothing is near.
pub fn nearest(parent: &str, key: &str) -> Option<String> {
    if key.len() > KEY_BYTES_MAX {
        return None;
    }
    let path = if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") };
    let keys = SETTINGS.iter().filter_map(|setting| setting.key);
    let (distance, known) = keys
        .flat_map(|key| std::iter::once(key).chain(groups_of(key)))
        .map(|known| (how_far(parent, &path, known), known))
        .min_by_key(|(distance, _)| *distance)?;
    // One letter of three may be wrong.
    if distance > DISTANCE_MAX.min(key.len() / 3).max(1) {
        return None;
    }
    let (group, name) = split(known);
    Some(if group == parent {
        name.to_owned()
    } else if group.is_empty() {
        format!("{name} at the top of the file")
    } else {
        format!("{name} below {group}")
    })
}

/// How much is wrong with a path, if this known one was meant: letters, or that it is in another
/// place.
fn how_far(parent: &str, path: &str, known: &str) -> usize {
    let (known_parent, known_name) = split(known);
    let (_, name) = split(path);
    let elsewhere = usize::from(known_parent != parent);
    // `tls_cert` for `cert` below `tls`.
    let joined = |path: &str| path.replace('.', "_");
    (distance(name, known_name) + elsewhere).min(distance(&joined(path), &joined(known)) + elsewhere)
}

fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}

/// Levenshtein's distance: the fewest letters to insert, remove or replace.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for column in 0..other.len() {
            let replaced = diagonal + usize::from(letter != other[column]);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_counts_letters() {
        for (one, other, expected) in
            [("", "", 0), ("abc", "abc", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("memroy", "memory", 2)]
        {
            assert_eq!((distance(one, other), distance(other, one)), (expected, expected), "{one} {other}");
        }
    }

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        for (parent, key, expected) in [
            ("", "core", Some("cores")),
            ("", "limit", Some("limits")),
            ("limits", "conections_max", Some("connections_max")),
            ("", "connections_max", Some("connections_max below limits")),
            ("limits", "connection_max", Some("connections_max")),
            ("", "limits.head_bytes_max", Some("head_bytes_max below limits")),
            ("", "log_level", Some("level below log")),
            ("", "tls_cert", Some("cert below tls")),
            ("log", "memory", Some("memory at the top of the file")),
            ("", "jwt", Some("jwt below auth")),
            ("", "port", None),
            ("log", "colour", None),
            ("tls", "x", None),
            ("", &"cores".repeat(20), None),
        ] {
            assert_eq!(nearest(parent, key).as_deref(), expected, "{parent:?} {key:?}");
        }
    }
}
