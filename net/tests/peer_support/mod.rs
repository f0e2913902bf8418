//! Two nodes for the tests of the wire, and how they talk.

#![allow(dead_code, reason = "each test file uses a part")]

use nabu_net::peer::handshake::{Acceptor, Established, HandshakeError, Initiator, Local, Purpose};
use nabu_net::peer::identity::{ClusterId, Identity, StoreId};
use nabu_net::peer::secrets::{Secret, Secrets};
use nabu_net::peer::version_range::VersionRange;

pub const INITIATOR_NONCE: [u8; 32] = [0x1a; 32];
pub const ACCEPTOR_NONCE: [u8; 32] = [0xac; 32];

pub type Outcome = Result<Established, HandshakeError>;

/// A set of secrets, each named by a byte.
pub fn secrets(names: &[u8]) -> Secrets {
    let second = names.get(1).map(|name| Secret::new([*name; 32]));
    Secrets::new(Secret::new([names[0]; 32]), second).expect("two different secrets")
}

/// The node that opens the connection: one that has everything.
pub fn initiator_identity() -> Identity {
    Identity {
        cluster: Some(ClusterId([0xc1; 16])),
        node_number: Some(7),
        node: "node-7".parse().expect("an id"),
        store: StoreId([0x57; 16]),
        incarnation: 42,
        levels: VersionRange::new(1, 2).expect("a range"),
    }
}

/// The node that is called.
pub fn acceptor_identity() -> Identity {
    Identity {
        cluster: Some(ClusterId([0xc1; 16])),
        node_number: Some(9),
        node: "node-9.rack_2".parse().expect("an id"),
        store: StoreId([0x59; 16]),
        incarnation: 43,
        levels: VersionRange::new(2, 3).expect("a range"),
    }
}

pub fn local(identity: Identity, names: &[u8]) -> Local {
    Local { identity, secrets: secrets(names), binding: None }
}

/// Everything that was said in a handshake, and how it ended on both sides. A side whose peer fails
/// before it is done waits, and has no outcome.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conversation {
    pub to_acceptor: Vec<u8>,
    pub to_initiator: Vec<u8>,
    pub initiator: Option<Outcome>,
    pub acceptor: Option<Outcome>,
}

/// Lets two nodes shake hands.
pub fn shake(initiator: Local, acceptor: Local) -> Conversation {
    let mut said = Conversation { to_acceptor: vec![], to_initiator: vec![], initiator: None, acceptor: None };
    let mut initiator = Initiator::start(initiator, Purpose::Control, INITIATOR_NONCE, &mut said.to_acceptor);
    let mut acceptor = Acceptor::new(acceptor, ACCEPTOR_NONCE);
    let (mut acceptor_read, mut initiator_read) = (0, 0);
    while acceptor_read < said.to_acceptor.len() || initiator_read < said.to_initiator.len() {
        if said.acceptor.is_none() {
            let step = acceptor.feed(&said.to_acceptor[acceptor_read..], &mut said.to_initiator);
            said.acceptor = step.map(|step| step.established).transpose();
        }
        acceptor_read = said.to_acceptor.len();
        if said.initiator.is_none() {
            let step = initiator.feed(&said.to_initiator[initiator_read..], &mut said.to_acceptor);
            said.initiator = step.map(|step| step.established).transpose();
        }
        initiator_read = said.to_initiator.len();
    }
    said
}

/// Whether `bytes` have something of an identity in them.
pub fn shows(bytes: &[u8], identity: &Identity) -> bool {
    let parts = [&identity.store.0[..], &identity.cluster.map_or([0xc1; 16], |cluster| cluster.0)];
    let node = identity.node.as_str().as_bytes();
    parts.into_iter().chain([node]).any(|part| bytes.windows(part.len()).any(|window| window == part))
}
