//! What a node brings to a handshake, and what is established by it.

use super::error::HandshakeError;
use super::message::Purpose;
use super::transcript::BINDING_BYTES;
use crate::peer::identity::Identity;
use crate::peer::secrets::Secrets;

/// What a node brings to a handshake.
#[derive(Clone, Debug)]
pub struct Local {
    pub identity: Identity,
    pub secrets: Secrets,
    /// What TLS 1.3 exports under [`super::BINDING_LABEL`]; `None` on a plain connection.
    pub binding: Option<[u8; BINDING_BYTES]>,
}

/// What both nodes know of each other and agree on after a handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Established {
    pub peer: Identity,
    pub purpose: Purpose,
    /// The version of the protocol: the newest that both speak.
    pub protocol: u16,
    /// The feature level: the newest that both understand.
    pub level: u16,
}

impl Established {
    /// What two identities that were proven to each other have in common. Both sides judge alike,
    /// so that both can say what is wrong.
    pub(super) fn judge(
        own: &Identity,
        peer: &Identity,
        purpose: Purpose,
        protocol: u16,
    ) -> Result<Self, HandshakeError> {
        if own.store == peer.store {
            return Err(HandshakeError::OwnStore);
        }
        if let (Some(ours), Some(theirs)) = (own.cluster, peer.cluster)
            && ours != theirs
        {
            return Err(HandshakeError::OtherCluster { ours, theirs });
        }
        let no_level = HandshakeError::NoCommonLevel { ours: own.levels, theirs: peer.levels };
        let level = own.levels.common(peer.levels).ok_or(no_level)?;
        Ok(Self { peer: *peer, purpose, protocol, level })
    }
}

/// What came of some input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Bytes that were taken off the front of the input. All of them, unless something is
    /// established: what stands behind belongs to the session.
    pub consumed: usize,
    pub established: Option<Established>,
}
