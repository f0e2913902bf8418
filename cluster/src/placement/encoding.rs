//! The bytes of a ring, as snapshots and messages carry it.
//!
//! Little endian, each field where the one before ends:
//!
//! | bytes | field |
//! | --- | --- |
//! | 2 | the format: 1 |
//! | 2 | nodes *n* |
//! | 8 | version of the ring |
//! | 8 × *n* | the numbers of all nodes with a seat, now or in a `from`, in ascending order |
//! | then for each of the 4096 arcs: | |
//! | 1 | seats *s*, 1 to 10 |
//! | 1 | seats of `from` *f*, 0 to 10; 0 when the arc stands still |
//! | 8 | the version that gave the arc its seats |
//! | 2 × *s* | the seats, as indices of the list of nodes |
//! | 2 × *f* | `from`, likewise |
//!
//! Every ring has one encoding, and bytes that are no encoding of a ring are refused.

use std::fmt;

use super::arc::{ARCS, ArcId};
use super::ring::{Placement, Ring};
use super::seats::{SEATS_MAX, Seats};
use crate::node::NodeNumber;

const FORMAT: u16 = 1;
const HEAD_SIZE: usize = 12;
const NODE_SIZE: usize = 8;
const ARC_HEAD_SIZE: usize = 10;
const SEAT_SIZE: usize = 2;

/// The most bytes of a ring.
pub const RING_BYTES_MAX: usize =
    HEAD_SIZE + NODE_SIZE * u16::MAX as usize + ARCS * (ARC_HEAD_SIZE + SEAT_SIZE * 2 * SEATS_MAX);

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
        let mut bytes = Vec::with_capacity(HEAD_SIZE + NODE_SIZE * nodes.len() + ARCS * (ARC_HEAD_SIZE + 20));
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&self.version().to_le_bytes());
        nodes.iter().for_each(|node| bytes.extend_from_slice(&node.0.to_le_bytes()));
        for placement in self.placements() {
            let from = placement.from.as_ref().map_or(&[][..], Seats::nodes);
            let seats = placement.seats.nodes();
            bytes.extend_from_slice(&[seats.len() as u8, from.len() as u8]);
            bytes.extend_from_slice(&placement.since.to_le_bytes());
            for node in seats.iter().chain(from) {
                let index = nodes.binary_search(node).expect("the list has every node with a seat");
                bytes.extend_from_slice(&(index as u16).to_le_bytes());
            }
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
        let version = u64::from_le_bytes(input.take()?);
        let nodes = (0..count).map(|_| input.node()).collect::<Result<Vec<_>, _>>()?;
        if !nodes.is_sorted_by(|before, after| before < after) {
            return Err(DecodeError::BadNodes);
        }
        let placement = |arc| input.placement(arc, &nodes);
        let placements = ArcId::all().map(placement).collect::<Result<Vec<_>, _>>()?;
        if !input.0.is_empty() {
            return Err(DecodeError::Trailing(input.0.len()));
        }
        let unsound = |placement: &Placement| !Ring::is_sound(version, placement);
        if let Some(arc) = ArcId::all().find(|arc| unsound(&placements[arc.index()])) {
            return Err(DecodeError::BadArc(arc));
        }
        let ring = Ring::of_parts(version, placements);
        if ring.nodes() == nodes { Ok(ring) } else { Err(DecodeError::BadNodes) }
    }
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

    fn placement(&mut self, arc: ArcId, nodes: &[NodeNumber]) -> Result<Placement, DecodeError> {
        let [seats, from] = self.take()?;
        let since = u64::from_le_bytes(self.take()?);
        let seats = self.seats(seats, nodes)?.ok_or(DecodeError::BadArc(arc))?;
        let from = match from {
            0 => None,
            from => Some(self.seats(from, nodes)?.ok_or(DecodeError::BadArc(arc))?),
        };
        Ok(Placement { seats, from, since })
    }

    fn seats(&mut self, count: u8, nodes: &[NodeNumber]) -> Result<Option<Seats>, DecodeError> {
        let mut numbers = [NodeNumber(0); SEATS_MAX];
        let Some(numbers) = numbers.get_mut(..usize::from(count)) else { return Ok(None) };
        for number in &mut *numbers {
            let index = usize::from(u16::from_le_bytes(self.take()?));
            let Some(node) = nodes.get(index) else { return Ok(None) };
            *number = *node;
        }
        Ok(Seats::new(numbers))
    }
}
