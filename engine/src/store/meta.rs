//! What is known of a stored blob beside its content, and the limits of both.
//!
//! Not here: a blob that was opened ([`super::blob`]), and how all this lies on the disk
//! ([`crate::log::record`]).

use std::collections::BTreeMap;

use crate::types::{BlobId, ContentHash};

/// The most bytes of one blob: 5 TiB.
pub const BLOB_SIZE_MAX: u64 = 5 << 40;
/// The most bytes of all labels of a blob, names and values together.
pub const LABELS_BYTES_MAX: usize = 2048;
/// The most labels of a blob.
pub const LABELS_MAX: usize = 64;

/// What is known of a stored blob.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlobMeta {
    pub id: BlobId,
    pub hash: ContentHash,
    pub size: u64,
    /// Nanoseconds since 1970.
    pub created_at_ns: u64,
    /// The effective policy: 1 (`NONE`) on a standalone node.
    pub policy: u8,
    /// By name, ascending.
    pub labels: Vec<(String, String)>,
}

/// The labels of a blob after more were given to it, by name: a name that is there gets the new
/// value. `None` when they are more than a blob may have.
pub(super) fn merge_labels(stored: &[(String, String)], given: &[(String, String)]) -> Option<Vec<(String, String)>> {
    let merged: BTreeMap<&str, &str> =
        stored.iter().chain(given).map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let bytes: usize = merged.iter().map(|(name, value)| name.len() + value.len()).sum();
    let fits = merged.len() <= LABELS_MAX && bytes <= LABELS_BYTES_MAX;
    fits.then(|| merged.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn labels_are_added_and_replaced_and_stay_in_order() {
        let stored = labels(&[("b", "1"), ("d", "1")]);
        let given = labels(&[("d", "2"), ("a", "2"), ("c", "2")]);
        let merged = labels(&[("a", "2"), ("b", "1"), ("c", "2"), ("d", "2")]);
        assert_eq!(merge_labels(&stored, &given), Some(merged));
        assert_eq!(merge_labels(&stored, &[]), Some(stored.clone()));
    }

    #[test]
    fn merged_labels_have_the_bounds_of_one_upload() {
        let many: Vec<_> = (0..LABELS_MAX).map(|number| (format!("n{number:02}"), String::new())).collect();
        assert_eq!(merge_labels(&many[..LABELS_MAX - 1], &many[LABELS_MAX - 1..]), Some(many.clone()));
        assert_eq!(merge_labels(&many, &labels(&[("one-more", "")])), None);
        assert_eq!(merge_labels(&many, &labels(&[("n00", "new")])).map(|merged| merged.len()), Some(LABELS_MAX));
        let long = labels(&[("a", &"v".repeat(LABELS_BYTES_MAX - 1))]);
        assert_eq!(merge_labels(&long, &labels(&[("b", "")])), None);
    }
}
