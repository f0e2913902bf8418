//! The order of what is written about one id.
//!
//! Versions count up: 0 is absent, an even one is a blob, an odd one is a tombstone. So a delete
//! goes above the blob that it deletes, and an upload after it above the tombstone. What uploads
//! write at one version holds the same bytes, since the id is their hash; which of them wins is
//! decided by policy and author, and the others' parts go.

use crate::node::NodeNumber;

/// How often an id was deleted and stored again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Version(pub u64);

impl Version {
    pub const ABSENT: Self = Self(0);
    /// That of a blob which was never deleted.
    pub const FIRST: Self = Self(2);

    pub fn is_absent(self) -> bool {
        self == Self::ABSENT
    }

    pub fn is_tombstone(self) -> bool {
        self.0 % 2 == 1
    }

    pub fn is_blob(self) -> bool {
        !self.is_absent() && !self.is_tombstone()
    }

    /// The lowest of a blob above this.
    pub fn next_blob(self) -> Self {
        Self((self.0 / 2 + 1) * 2)
    }

    /// The lowest of a tombstone that is not below this.
    pub fn tombstone(self) -> Self {
        Self(self.0 | 1)
    }

    /// The lowest of a tombstone above this.
    pub fn next_tombstone(self) -> Self {
        Self(self.0 + 1).tombstone()
    }
}

/// Which of the uploads that wrote at one version this is. The greater one wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Mark {
    /// The number of the policy: the stronger one wins.
    pub policy: u8,
    pub node: NodeNumber,
    /// Tells the uploads of the node apart, over all its starts.
    pub upload: u64,
}

/// What is written about an id. The order is that in which records replace one another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Standing {
    pub version: Version,
    /// `None` where there is no blob: tombstones of one version are all alike.
    pub mark: Option<Mark>,
}

impl Standing {
    pub fn blob(version: Version, mark: Mark) -> Self {
        assert!(version.is_blob(), "{version:?} is no blob's");
        Self { version, mark: Some(mark) }
    }

    pub fn tombstone(version: Version) -> Self {
        assert!(version.is_tombstone(), "{version:?} is no tombstone's");
        Self { version, mark: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_alternate_between_blobs_and_tombstones() {
        assert!(Version::ABSENT.is_absent() && !Version::ABSENT.is_blob() && !Version::ABSENT.is_tombstone());
        for (version, blob, tombstone, above) in [(0, 2, 1, 1), (1, 2, 1, 3), (2, 4, 3, 3), (3, 4, 3, 5), (4, 6, 5, 5)]
        {
            let version = Version(version);
            assert_eq!(version.next_blob(), Version(blob), "{version:?}");
            assert_eq!(version.tombstone(), Version(tombstone), "{version:?}");
            assert_eq!(version.next_tombstone(), Version(above), "{version:?}");
        }
        assert!(Version::FIRST.is_blob());
    }

    #[test]
    fn a_record_replaces_a_lower_version_then_a_weaker_policy_then_an_earlier_author() {
        let mark = |policy, node, upload| Mark { policy, node: NodeNumber(node), upload };
        let ordered = [
            Standing::default(),
            Standing::tombstone(Version(1)),
            Standing::blob(Version(2), mark(1, 9, 9)),
            Standing::blob(Version(2), mark(3, 1, 7)),
            Standing::blob(Version(2), mark(3, 1, 8)),
            Standing::blob(Version(2), mark(3, 2, 1)),
            Standing::tombstone(Version(3)),
            Standing::blob(Version(4), mark(0, 1, 1)),
        ];
        assert!(ordered.is_sorted_by(|one, other| one < other));
    }
}
