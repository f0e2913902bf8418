//! The bytes of a ring, as snapshots and messages carry it.
//!
//! Little endian, each field where the one before ends:
//!
//! | bytes | field |
//! | --- | --- |
//! | 2 | the format: 2 |
//! | 2 | nodes *n* |
//! | 4 | versions *v* |
//! | 8 | version of the ring |
//! | 8 × *n* | the numbers of all nodes with a seat, now or in a `from`, in ascending order |
//! | 8 × *v* | all versions that gave an arc its seats or a node its tenure, in ascending order |
//! | then for each of the 4096 arcs: | |
//! | 1 | seats *s*, 1 to 10 |
//! | 1 | seats of `from` *f*, 0 to 10; 0 when the arc stands still |
//! | index | the version that gave the arc its seats, in the list of versions |
//! | 2 indices × *s* | the seats: the node, in the list of nodes, and its tenure, in that of versions |
//! | 2 indices × *f* | `from`, likewise |
//! | 4 if *f* > 0 | bit *i*: seat *i* has reported; bit *s* + *i*: seat *i* of `from` has |
//!
//! An index has 1 byte where the list has at most 256 entries, 2 where it has at most 65,536, and 4
//! otherwise. Every ring has one encoding, and bytes that are no encoding of a ring are refused.

use std::fmt;

use super::arc::{ARCS, ArcId};
use super::ring::{Placement, Ring, unlike_the_last};
use super::seats::{SEATS_MAX, Seats};
use crate::node::NodeNumber;

const FORMAT: u16 = 2;
const HEAD_SIZE: usize = 16;
const NODE_SIZE: usize = 8;
const VERSION_SIZE: usize = 8;
/// The version of an arc and each of its tenures is another one at most.
const VERSIONS_MAX: usize = ARCS * (1 + 2 * SEATS_MAX);
/// The most bytes of what comes before the seats of an arc, and of a seat.
const ARC_HEAD_SIZE: usize = 6;
const SEAT_SIZE: usize = 6;
const REPORTED_SIZE: usize = 4;

/// The most bytes of a ring.
pub const RING_BYTES_MAX: usize = HEAD_SIZE
    + NODE_SIZE * u16::MAX as usize
    + VERSION_SIZE * VERSIONS_MAX
    + ARCS * (ARC_HEAD_SIZE + SEAT_SIZE * 2 * SEATS_MAX + REPORTED_SIZE);

/// Bytes that are no ring.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// They end too early.
    Truncated,
    /// They go on after the ring, by so many bytes.
    Trailing(usize),
    UnknownFormat(u16),
    /// The numbers do not ascend, or some node has no seat.
    BadNodes,
    /// They do not ascend, or nothing has one of them.
    BadVersions,
    BadArc(ArcId),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => write!(formatter, "a ring ends too early"),
            Self::Trailing(count) => write!(formatter, "a ring is followed by {count} bytes"),
            Self::UnknownFormat(format) => {
                write!(formatter, "a ring has format {format}, and this program knows format {FORMAT}")
            }
            Self::BadNodes => write!(formatter, "the nodes of a ring are not in order, or one has no seat"),
            Self::BadVersions => {
                write!(formatter, "the versions of a ring are not in order, or one gave nothing")
            }
            Self::BadArc(arc) => write!(formatter, "arc {arc} of a ring is not sound"),
        }
    }
}

impl std::error::Error for DecodeError {}

impl Ring {
    pub fn encode(&self) -> Vec<u8> {
        let nodes = self.nodes();
        // Nodes beyond NODES_MAX are sources of unsynced arcs only.
        let count = u16::try_from(nodes.len()).expect("no more than 65535 nodes ever had a seat that still counts");
        let versions = versions_of(self.placements());
        let lists = NODE_SIZE * nodes.len() + VERSION_SIZE * versions.len();
        let widths = [nodes.len(), versions.len()].map(index_width);
        let mut bytes = Vec::with_capacity(HEAD_SIZE + lists + ARCS * (ARC_HEAD_SIZE + 6 * SEAT_SIZE));
        let index = |bytes: &mut Vec<u8>, index: usize, width: usize| {
            bytes.extend_from_slice(&(index as u32).to_le_bytes()[..width]);
        };
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&(versions.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.version().to_le_bytes());
        nodes.iter().for_each(|node| bytes.extend_from_slice(&node.0.to_le_bytes()));
        versions.iter().for_each(|version| bytes.extend_from_slice(&version.to_le_bytes()));
        let version_index =
            |version: u64| versions.binary_search(&version).expect("the list has every version that an arc names");
        let mut last: Option<(&Placement, std::ops::Range<usize>)> = None;
        for placement in self.placements() {
            if let Some((_, encoded)) = last.as_ref().filter(|(other, _)| *other == placement) {
                bytes.extend_from_within(encoded.clone());
                continue;
            }
            let start = bytes.len();
            let from = placement.from.as_ref().map_or(&[][..], Seats::nodes);
            let seats = placement.seats.nodes();
            bytes.extend_from_slice(&[seats.len() as u8, from.len() as u8]);
            index(&mut bytes, version_index(placement.since), widths[1]);
            for (node, tenure) in seats.iter().chain(from).zip(placement.tenures) {
                let node = nodes.binary_search(node).expect("the list has every node with a seat");
                index(&mut bytes, node, widths[0]);
                index(&mut bytes, version_index(tenure), widths[1]);
            }
            if !from.is_empty() {
                bytes.extend_from_slice(&placement.reported.to_le_bytes());
            }
            last = Some((placement, start..bytes.len()));
        }
        bytes
    }

    /// # Errors
    /// The bytes are not what [`Ring::encode`] makes of some ring.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Input(bytes);
        let format = u16::from_le_bytes(input.take()?);
        if format != FORMAT {
            return Err(DecodeError::UnknownFormat(format));
        }
        let count = u16::from_le_bytes(input.take()?);
        let versions_count = u32::from_le_bytes(input.take()?) as usize;
        let version = u64::from_le_bytes(input.take()?);
        let nodes = (0..count).map(|_| input.node()).collect::<Result<Vec<_>, _>>()?;
        if !nodes.is_sorted_by(|before, after| before < after) {
            return Err(DecodeError::BadNodes);
        }
        if versions_count > VERSIONS_MAX {
            return Err(DecodeError::BadVersions);
        }
        let versions = (0..versions_count).map(|_| input.version()).collect::<Result<Vec<_>, _>>()?;
        if !versions.is_sorted_by(|before, after| before < after) {
            return Err(DecodeError::BadVersions);
        }
        let placement = |arc| input.placement(arc, &nodes, &versions);
        let placements = ArcId::all().map(placement).collect::<Result<Vec<_>, _>>()?;
        if !input.0.is_empty() {
            return Err(DecodeError::Trailing(input.0.len()));
        }
        let unsound = |placement: &Placement| !Ring::is_sound(version, placement);
        if let Some(arc) = ArcId::all().find(|arc| unsound(&placements[arc.index()])) {
            return Err(DecodeError::BadArc(arc));
        }
        if versions_of(&placements) != versions {
            return Err(DecodeError::BadVersions);
        }
        let ring = Ring::of_parts(version, placements);
        if ring.nodes() == nodes { Ok(ring) } else { Err(DecodeError::BadNodes) }
    }
}

/// Bytes of an index of a list of so many entries.
fn index_width(entries: usize) -> usize {
    match entries {
        0..=0x100 => 1,
        0x101..=0x1_0000 => 2,
        _ => 4,
    }
}

/// All versions that these placements name, in ascending order.
fn versions_of(placements: &[Placement]) -> Vec<u64> {
    let named = |placement: &Placement| placement.tenures.into_iter().take(placement.len()).chain([placement.since]);
    let mut versions: Vec<u64> = unlike_the_last(placements).flat_map(named).collect();
    versions.sort_unstable();
    versions.dedup();
    versions
}

/// What is left of the bytes.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const SIZE: usize>(&mut self) -> Result<[u8; SIZE], DecodeError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn node(&mut self) -> Result<NodeNumber, DecodeError> {
        Ok(NodeNumber(u64::from_le_bytes(self.take()?)))
    }

    fn version(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn placement(&mut self, arc: ArcId, nodes: &[NodeNumber], versions: &[u64]) -> Result<Placement, DecodeError> {
        let bad = DecodeError::BadArc(arc);
        let [seats_count, from_count] = self.take()?.map(usize::from);
        let since = self.listed(versions)?.ok_or(bad.clone())?;
        let mut tenures = [0; 2 * SEATS_MAX];
        let (of_seats, of_from) = match (seats_count, from_count) {
            (0..=SEATS_MAX, 0..=SEATS_MAX) => tenures[..seats_count + from_count].split_at_mut(seats_count),
            _ => return Err(bad),
        };
        let seats = self.seats(of_seats, nodes, versions)?.ok_or(bad.clone())?;
        let (mut from, mut reported) = (None, 0);
        if from_count > 0 {
            from = Some(self.seats(of_from, nodes, versions)?.ok_or(bad)?);
            reported = u32::from_le_bytes(self.take()?);
        }
        Ok(Placement { seats, from, since, tenures, reported })
    }

    /// An entry of a list, by its index.
    fn listed<T: Copy>(&mut self, list: &[T]) -> Result<Option<T>, DecodeError> {
        let width = index_width(list.len());
        let (index, rest) = self.0.split_at_checked(width).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        let mut bytes = [0; 4];
        bytes[..width].copy_from_slice(index);
        Ok(list.get(u32::from_le_bytes(bytes) as usize).copied())
    }

    /// As many seats as there is room for their tenures.
    fn seats(
        &mut self,
        tenures: &mut [u64],
        nodes: &[NodeNumber],
        versions: &[u64],
    ) -> Result<Option<Seats>, DecodeError> {
        let mut numbers = [NodeNumber(0); SEATS_MAX];
        let numbers = &mut numbers[..tenures.len()];
        for (number, tenure) in numbers.iter_mut().zip(tenures) {
            let (Some(node), Some(version)) = (self.listed(nodes)?, self.listed(versions)?) else { return Ok(None) };
            (*number, *tenure) = (node, version);
        }
        Ok(Seats::new(numbers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_as_wide_as_their_list_is_long() {
        assert_eq!([0, 1, 256, 257, 65_536, 65_537].map(index_width), [1, 1, 1, 2, 2, 4]);
        for (nodes_count, versions_count, arc_bytes) in [
            (1, 1, 2 + 1 + 2),
            (256, 256, 2 + 1 + 2),
            (257, 256, 2 + 1 + 3),
            (256, 257, 2 + 2 + 3),
            (4096, 4096, 2 + 2 + 4),
        ] {
            let placement = |arc: ArcId| {
                let node = NodeNumber(7 + (arc.index() % nodes_count) as u64);
                let seats = Seats::new(&[node]).expect("one node is distinct");
                Placement::still(seats, 1 + (arc.index() % versions_count) as u64)
            };
            let ring = Ring::of_parts(versions_count as u64, ArcId::all().map(placement).collect());
            let bytes = ring.encode();
            assert_eq!(bytes.len(), HEAD_SIZE + 8 * (nodes_count + versions_count) + ARCS * arc_bytes);
            assert!(Ring::decode(&bytes).unwrap() == ring, "{nodes_count} nodes, {versions_count} versions");
        }
    }
}
