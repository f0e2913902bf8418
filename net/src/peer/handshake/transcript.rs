//! What was said so far, and the proofs over it.
//!
//! Invariants:
//! - Messages have fixed lengths and come in one order, so that a transcript is said in one way
//!   only.
//! - A proof is the HMAC-SHA256, with the secret as the key, of a label and the SHA-256 of the
//!   transcript, which is as long for all: no label and transcript pass for another pair.
//! - Proofs are compared in constant time.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::message::PROOF_BYTES;
use crate::peer::secrets::Secret;

/// Bytes of the value that binds a handshake to its TLS connection.
pub const BINDING_BYTES: usize = 32;
/// The label under which TLS 1.3 exports that value, with an empty context (RFC 9266).
pub const BINDING_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// What every transcript starts with.
const DOMAIN: &[u8] = b"nabu-peer handshake";
const PLAIN: u8 = 0;
const BOUND: u8 = 1;

/// Who proves what. A label for each message: nothing that was proven passes for another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Label {
    /// In the challenge: the acceptor knows this secret.
    Challenge,
    /// In the challenge, where a node has no second secret: nobody accepts it, and nobody without
    /// the secret can tell it from a proof.
    Absent,
    /// The initiator knows the secret, and says who it is.
    Initiator,
    /// The acceptor says who it is.
    Acceptor,
}

impl Label {
    fn bytes(self) -> &'static [u8] {
        match self {
            Self::Challenge => b"challenge",
            Self::Absent => b"absent",
            Self::Initiator => b"initiator",
            Self::Acceptor => b"acceptor",
        }
    }
}

/// What both sides said so far, and over which TLS connection.
#[derive(Clone)]
pub struct Transcript(Sha256);

impl Transcript {
    pub fn new(binding: Option<&[u8; BINDING_BYTES]>) -> Self {
        let transcript = Sha256::new().chain_update(DOMAIN);
        Self(match binding {
            None => transcript.chain_update([PLAIN]),
            Some(binding) => transcript.chain_update([BOUND]).chain_update(binding),
        })
    }

    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The proof over what was added.
    pub fn proof(&self, label: Label, secret: &Secret) -> [u8; PROOF_BYTES] {
        self.authenticator(label, secret).finalize().into_bytes().into()
    }

    /// Whether this is the proof over what was added.
    pub fn is_proven(&self, label: Label, secret: &Secret, proof: &[u8]) -> bool {
        self.authenticator(label, secret).verify_slice(proof).is_ok()
    }

    fn authenticator(&self, label: Label, secret: &Secret) -> Hmac<Sha256> {
        Hmac::<Sha256>::new_from_slice(secret.bytes())
            .expect("a key may have any length")
            .chain_update(label.bytes())
            .chain_update(self.0.clone().finalize())
    }
}
