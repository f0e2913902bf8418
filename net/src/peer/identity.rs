//! What a node says of itself in the handshake, and its bytes.
//!
//! Invariants:
//! - An identity has one encoding: what doesn't count is zero, and anything else is refused.
//! - It says nothing that follows from something else it says.
//!
//! An identity proves nothing: whoever knows a secret of the cluster can claim any. Whether the
//! incarnation is an old one, or the node is the one that was called, the layer above judges.

use std::fmt;
use std::str::FromStr;

use super::codec::{get_u16, get_u64, put};
use super::version_range::VersionRange;

/// Bytes of a node's id.
pub const NODE_ID_BYTES_MAX: usize = 64;

const PRESENCE_AT: usize = 0;
const NODE_ID_LENGTH_AT: usize = PRESENCE_AT + 1;
const LEVEL_OLDEST_AT: usize = NODE_ID_LENGTH_AT + 1;
const LEVEL_NEWEST_AT: usize = LEVEL_OLDEST_AT + 2;
const ZERO_AT: usize = LEVEL_NEWEST_AT + 2;
const CLUSTER_AT: usize = ZERO_AT + 2;
const STORE_AT: usize = CLUSTER_AT + 16;
const NODE_NUMBER_AT: usize = STORE_AT + 16;
const INCARNATION_AT: usize = NODE_NUMBER_AT + 8;
const NODE_ID_AT: usize = INCARNATION_AT + 8;
/// Bytes of an encoded identity.
pub const IDENTITY_BYTES: usize = NODE_ID_AT + NODE_ID_BYTES_MAX;

const HAS_CLUSTER: u8 = 1 << 0;
const HAS_NODE_NUMBER: u8 = 1 << 1;

const _: () = assert!(NODE_ID_BYTES_MAX <= u8::MAX as usize, "the length of a node's id is one byte");
const _: () = assert!(IDENTITY_BYTES == 120, "docs/wire.md");

fn write_hex(bytes: &[u8], formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
}

/// Which cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, formatter)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ClusterId({self})")
    }
}

/// Which store: what the node has on disk for the cluster, and loses with it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub [u8; 16]);

impl fmt::Display for StoreId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, formatter)
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "StoreId({self})")
    }
}

/// The id of a node, as people write it: 1 to 64 of `A-Z`, `a-z`, `0-9`, `.`, `_` and `-`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NodeId {
    length: u8,
    /// Zero behind the id.
    bytes: [u8; NODE_ID_BYTES_MAX],
}

impl NodeId {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).expect("only ASCII is let in")
    }

    fn new(text: &[u8]) -> Result<Self, InvalidNodeId> {
        let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
        if !(1..=NODE_ID_BYTES_MAX).contains(&text.len()) || !text.iter().all(is_allowed) {
            return Err(InvalidNodeId);
        }
        let mut bytes = [0; NODE_ID_BYTES_MAX];
        put(&mut bytes, 0, text);
        Ok(Self { length: text.len() as u8, bytes })
    }
}

impl FromStr for NodeId {
    type Err = InvalidNodeId;

    fn from_str(text: &str) -> Result<Self, InvalidNodeId> {
        Self::new(text.as_bytes())
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "NodeId({self})")
    }
}

/// A text that is no node id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidNodeId;

impl fmt::Display for InvalidNodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a node's id is 1 to {NODE_ID_BYTES_MAX} letters, digits, dots, underscores and hyphens")
    }
}

impl std::error::Error for InvalidNodeId {}

/// What a node says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// `None` as long as it belongs to no cluster.
    pub cluster: Option<ClusterId>,
    /// The number that the cluster gave it; `None` as long as it has none.
    pub node_number: Option<u64>,
    pub node: NodeId,
    pub store: StoreId,
    /// Which start of the node.
    pub incarnation: u64,
    /// The feature levels that it understands.
    pub levels: VersionRange,
}

/// The first byte of an encoding that is wrong, and what was expected there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed {
    pub offset: usize,
    pub expected: &'static str,
}

impl Identity {
    pub fn encode(&self) -> [u8; IDENTITY_BYTES] {
        let mut bytes = [0; IDENTITY_BYTES];
        bytes[NODE_ID_LENGTH_AT] = self.node.length;
        put(&mut bytes, LEVEL_OLDEST_AT, &self.levels.oldest().to_le_bytes());
        put(&mut bytes, LEVEL_NEWEST_AT, &self.levels.newest().to_le_bytes());
        if let Some(cluster) = self.cluster {
            bytes[PRESENCE_AT] |= HAS_CLUSTER;
            put(&mut bytes, CLUSTER_AT, &cluster.0);
        }
        put(&mut bytes, STORE_AT, &self.store.0);
        if let Some(number) = self.node_number {
            bytes[PRESENCE_AT] |= HAS_NODE_NUMBER;
            put(&mut bytes, NODE_NUMBER_AT, &number.to_le_bytes());
        }
        put(&mut bytes, INCARNATION_AT, &self.incarnation.to_le_bytes());
        put(&mut bytes, NODE_ID_AT, &self.node.bytes);
        bytes
    }

    pub fn decode(bytes: &[u8; IDENTITY_BYTES]) -> Result<Self, Malformed> {
        let malformed = |offset, expected| Malformed { offset, expected };
        let presence = bytes[PRESENCE_AT];
        if presence & !(HAS_CLUSTER | HAS_NODE_NUMBER) != 0 {
            return Err(malformed(PRESENCE_AT, "no bits but 0 and 1"));
        }
        let length = usize::from(bytes[NODE_ID_LENGTH_AT]);
        let text = bytes[NODE_ID_AT..].get(..length).ok_or(malformed(NODE_ID_LENGTH_AT, "1 to 64"))?;
        let node = NodeId::new(text).map_err(|InvalidNodeId| malformed(NODE_ID_AT, "the id of a node"))?;
        let levels = VersionRange::new(get_u16(bytes, LEVEL_OLDEST_AT), get_u16(bytes, LEVEL_NEWEST_AT))
            .ok_or(malformed(LEVEL_OLDEST_AT, "a range of feature levels"))?;
        let cluster: [u8; 16] = bytes[CLUSTER_AT..STORE_AT].try_into().expect("16 bytes");
        let identity = Self {
            cluster: (presence & HAS_CLUSTER != 0).then_some(ClusterId(cluster)),
            node_number: (presence & HAS_NODE_NUMBER != 0).then(|| get_u64(bytes, NODE_NUMBER_AT)),
            node,
            store: StoreId(bytes[STORE_AT..NODE_NUMBER_AT].try_into().expect("16 bytes")),
            incarnation: get_u64(bytes, INCARNATION_AT),
            levels,
        };
        // What remains to differ from the one encoding is what must be zero.
        let canonical = identity.encode();
        match (0..IDENTITY_BYTES).find(|at| bytes[*at] != canonical[*at]) {
            None => Ok(identity),
            Some(offset) => Err(malformed(offset, "zero")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn full() -> Identity {
        Identity {
            cluster: Some(ClusterId([0xc1; 16])),
            node_number: Some(0x0102_0304_0506_0708),
            node: "node-1.rack_7".parse().expect("an id"),
            store: StoreId([0x57; 16]),
            incarnation: 42,
            levels: VersionRange::new(1, 3).expect("a range"),
        }
    }

    #[test]
    fn identities_come_back_from_their_bytes() {
        let newest = full();
        for cluster in [None, newest.cluster] {
            for node_number in [None, Some(0), newest.node_number] {
                let identity = Identity { cluster, node_number, ..newest };
                assert_eq!(Identity::decode(&identity.encode()), Ok(identity));
            }
        }
    }

    #[test]
    fn what_does_not_count_must_be_zero() {
        let identity = Identity { cluster: None, node_number: None, ..full() };
        for at in [ZERO_AT, CLUSTER_AT, NODE_NUMBER_AT + 7, NODE_ID_AT + 13, IDENTITY_BYTES - 1] {
            let mut bytes = identity.encode();
            bytes[at] = 1;
            assert_eq!(Identity::decode(&bytes), Err(Malformed { offset: at, expected: "zero" }));
        }
    }

    #[test]
    fn ids_of_nodes_have_1_to_64_plain_characters() {
        for text in ["a", "node-1.rack_7", &"x".repeat(64)] {
            assert_eq!(text.parse::<NodeId>().expect("an id").as_str(), text);
        }
        for text in ["", "a b", "a/b", "ä", "a\0", &"x".repeat(65)] {
            assert_eq!(text.parse::<NodeId>(), Err(InvalidNodeId), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn bytes_that_decode_are_the_encoding_of_what_they_decode_to(
            at in 0..IDENTITY_BYTES, value in any::<u8>()
        ) {
            let mut bytes = full().encode();
            bytes[at] = value;
            if let Ok(identity) = Identity::decode(&bytes) {
                prop_assert_eq!(identity.encode(), bytes);
            }
        }
    }
}
