//! A range of versions that a node understands: of the protocol, or of features.

use std::fmt;

/// From the oldest to the newest version, both included; versions start at 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VersionRange {
    oldest: u16,
    newest: u16,
}

impl VersionRange {
    /// `None` for version 0, and for an empty range.
    pub const fn new(oldest: u16, newest: u16) -> Option<Self> {
        if 1 <= oldest && oldest <= newest { Some(Self { oldest, newest }) } else { None }
    }

    pub const fn oldest(self) -> u16 {
        self.oldest
    }

    pub const fn newest(self) -> u16 {
        self.newest
    }

    /// The newest version that is in both ranges.
    pub fn common(self, other: Self) -> Option<u16> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.oldest == self.newest {
            write!(formatter, "{}", self.oldest)
        } else {
            write!(formatter, "{} to {}", self.oldest, self.newest)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_version_is_the_newest_that_both_ranges_hold() {
        for (oldest, newest) in (1..6).flat_map(|oldest| (oldest..6).map(move |newest| (oldest, newest))) {
            for (first, last) in (1..6).flat_map(|first| (first..6).map(move |last| (first, last))) {
                let (ours, theirs) = (VersionRange { oldest, newest }, VersionRange { oldest: first, newest: last });
                let common = (1..6)
                    .rev()
                    .find(|version| (oldest..=newest).contains(version) && (first..=last).contains(version));
                assert_eq!(ours.common(theirs), common, "{ours}, {theirs}");
            }
        }
    }

    #[test]
    fn version_0_and_empty_ranges_do_not_exist() {
        assert_eq!(VersionRange::new(0, 1), None);
        assert_eq!(VersionRange::new(2, 1), None);
        assert!(VersionRange::new(1, u16::MAX).is_some());
    }
}
