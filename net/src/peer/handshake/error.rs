//! Why a handshake fails.

use std::fmt;

use crate::peer::identity::{ClusterId, Malformed};
use crate::peer::version_range::VersionRange;

/// Why a handshake fails. The connection must be closed, after what was to be sent is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandshakeError {
    /// What came isn't this handshake, or not this side of it.
    NoPeer {
        expected: [u8; 8],
        got: [u8; 8],
    },
    NoCommonProtocol {
        ours: VersionRange,
        theirs: VersionRange,
    },
    Malformed {
        message: &'static str,
        at: Malformed,
    },
    /// Our own nonce came back.
    OwnNonce,
    /// The proof doesn't hold: another secret, or somebody in between.
    Unproven,
    /// The peer has our own store.
    OwnStore,
    OtherCluster {
        ours: ClusterId,
        theirs: ClusterId,
    },
    NoCommonLevel {
        ours: VersionRange,
        theirs: VersionRange,
    },
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPeer { expected, got } => write!(
                formatter,
                "this is not the handshake of a node: it should start with \"{}\", and starts with \"{}\"",
                expected.escape_ascii(),
                got.escape_ascii()
            ),
            Self::NoCommonProtocol { ours, theirs } => write!(
                formatter,
                "the peer speaks version {theirs} of the protocol, and this node {ours}: upgrade the older of the two"
            ),
            Self::Malformed { message, at } => write!(
                formatter,
                "the {message} of the peer is not valid: byte {} should be {}",
                at.offset, at.expected
            ),
            Self::OwnNonce => {
                formatter.write_str("the peer sent this node's own nonce back: something echoes what it is sent")
            }
            Self::Unproven => formatter.write_str(
                "the peer didn't prove that it knows a secret of this cluster: compare the secret files of both \
                 nodes, and look for a proxy between them that terminates TLS",
            ),
            Self::OwnStore => formatter.write_str(
                "the peer has the store of this node: its address leads back here, or a data directory was copied",
            ),
            Self::OtherCluster { ours, theirs } => write!(
                formatter,
                "the peer belongs to cluster {theirs}, and this node to {ours}: give each cluster a secret of its own"
            ),
            Self::NoCommonLevel { ours, theirs } => write!(
                formatter,
                "the peer understands feature level {theirs}, and this node {ours}: upgrade the older of the two, one \
                 minor version at a time"
            ),
        }
    }
}

impl std::error::Error for HandshakeError {}
