//! Which core owns which ids: each a range of them.

use crate::types::{BlobId, CoreId};

/// The first id that a core owns.
pub(super) fn first_owned(core: CoreId, cores: u16) -> BlobId {
    let prefix = (u128::from(core.0) << 64).div_ceil(u128::from(cores));
    BlobId((prefix << 64).to_be_bytes())
}

/// The last id that a core owns.
pub(super) fn last_owned(core: CoreId, cores: u16) -> BlobId {
    if core.0 + 1 == cores {
        return BlobId([0xff; 16]);
    }
    let next = u128::from_be_bytes(first_owned(CoreId(core.0 + 1), cores).0);
    BlobId((next - 1).to_be_bytes())
}

/// The id after this one; `None` after the last.
pub(super) fn successor(id: BlobId) -> Option<BlobId> {
    u128::from_be_bytes(id.0).checked_add(1).map(|next| BlobId(next.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owned_ranges_join_without_gap_or_overlap() {
        for cores in [1, 2, 3, 5, 7, 16, 64] {
            assert_eq!(first_owned(CoreId(0), cores), BlobId([0; 16]));
            assert_eq!(last_owned(CoreId(cores - 1), cores), BlobId([0xff; 16]));
            for core in 0..cores {
                let (first, last) = (first_owned(CoreId(core), cores), last_owned(CoreId(core), cores));
                assert_eq!(first.owner(cores), CoreId(core));
                assert_eq!(last.owner(cores), CoreId(core));
                if core + 1 < cores {
                    assert_eq!(successor(last), Some(first_owned(CoreId(core + 1), cores)));
                }
            }
        }
    }
}
