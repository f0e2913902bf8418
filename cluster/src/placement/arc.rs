//! An arc of the ring: the ids that share their top 12 bits, a contiguous range as in the index.

use std::fmt;

/// The bits of an id that name its arc. Fewer in long simulations, in which every node writes the
/// whole table to its simulated disk again and again.
const ARC_BITS: u32 = if cfg!(feature = "few-arcs") { 6 } else { 12 };
/// The arcs of a ring.
pub const ARCS: usize = 1 << ARC_BITS;

const _: () = assert!(ARC_BITS <= u16::BITS);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ArcId(u16);

impl ArcId {
    /// The arc of an id, or of the key of a part.
    pub fn of(id: &[u8; 16]) -> Self {
        Self(u16::from_be_bytes([id[0], id[1]]) >> (u16::BITS - ARC_BITS))
    }

    pub fn new(index: u16) -> Option<Self> {
        (usize::from(index) < ARCS).then_some(Self(index))
    }

    /// All arcs, in the order of their ids.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator {
        (0..ARCS as u16).map(Self)
    }

    /// From the first to the last of them, both inclusive.
    pub fn range(first: Self, last: Self) -> impl Iterator<Item = Self> {
        (first.0..=last.0).map(Self)
    }

    /// Below [`ARCS`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for ArcId {
    /// Three hexadecimal digits: what the ids of this arc begin with.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:03x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arc_is_what_its_ids_begin_with_and_keeps_their_order() {
        for (id, arc) in [([0x00, 0x0f], 0x000), ([0x00, 0x10], 0x001), ([0xab, 0xcd], 0xabc), ([0xff, 0xff], 0xfff)] {
            let mut bytes = [0x55; 16];
            bytes[..2].copy_from_slice(&id);
            assert_eq!(ArcId::of(&bytes).index(), arc);
            assert_eq!(ArcId::of(&bytes).to_string(), format!("{arc:03x}"));
        }
        assert_eq!(ArcId::all().len(), ARCS);
        assert!(ArcId::all().enumerate().all(|(index, arc)| ArcId::new(index as u16) == Some(arc)));
        assert_eq!(ArcId::new(ARCS as u16), None);
    }
}
