//! The keys of the pairs that a state is made of.
//!
//! A key begins with a byte for its kind. What follows is big-endian, so that keys sort like what
//! they name.

use crate::bytes::Writer;
use crate::node::NodeNumber;

/// A pair that changed: its key, and its value if it is still there.
pub type Write = (Vec<u8>, Option<Vec<u8>>);

/// The first bytes of keys.
pub mod key {
    pub const HEADER: u8 = b'h';
    pub const MEMBER: u8 = b'm';
    pub const OUTCOME: u8 = b'o';
    pub const RING: u8 = b'r';
    pub const SETTING: u8 = b's';
    pub const RETIRED: u8 = b't';
    pub const WINDOW: u8 = b'w';
}

pub fn key_of(kind: u8, node: NodeNumber) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(&node.0.to_be_bytes());
    key
}

pub fn outcome_key(node: NodeNumber, sequence: u64) -> Vec<u8> {
    let mut key = key_of(key::OUTCOME, node);
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

pub fn setting_key(name: &str) -> Vec<u8> {
    [&[key::SETTING], name.as_bytes()].concat()
}

/// What a value is in bytes.
pub fn encoded(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    write(&mut writer);
    writer.into_bytes()
}
