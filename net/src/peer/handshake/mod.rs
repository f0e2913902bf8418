//! How two nodes prove to each other that they know a secret of the cluster, before either says who
//! it is.
//!
//! ```text
//! initiator                                              acceptor
//!   hello:  protocols, purpose, nonce            ->
//!                                                <-        challenge: protocols, nonce, two proofs
//!   introduction: identity, proof                ->
//!                                                <-        introduction: identity, proof
//! ```
//!
//! | file | the question it answers |
//! | --- | --- |
//! | `initiator` | What does the node say that opened the connection? |
//! | `acceptor` | What does the node say that is called? |
//! | `message` | Which byte of a message means what? |
//! | `transcript` | What is a proof computed over? |
//! | `intake` | Is a message complete? |
//! | `outcome` | What does a node bring, and what is established? |
//! | `error` | Why does a handshake fail? |
//!
//! Invariants:
//! - A proof is an HMAC-SHA256 over everything that was said before it on this connection, both
//!   nonces included, over the TLS connection it was said on, and over a label of its own. So it
//!   is good for nothing on another connection, in the other direction, or for another message.
//! - No byte of an identity leaves a node before the peer has proven that it knows a secret.
//! - Two nodes connect exactly when they have a secret in common. The acceptor proves each of its
//!   secrets, and from then on both use the one that the initiator found among its own.
//! - Every message has a fixed length, so nothing is allocated for a peer. The verdict depends on
//!   the bytes alone, never on how they were split into calls, and an error is final.
//!
//! Deadlines are the caller's business, and so is whether this incarnation of this node is welcome.

mod acceptor;
mod error;
mod initiator;
mod intake;
mod message;
mod outcome;
mod transcript;

pub use acceptor::Acceptor;
pub use error::HandshakeError;
pub use initiator::Initiator;
pub use message::{CHALLENGE_BYTES, HELLO_BYTES, INTRODUCTION_BYTES, NONCE_BYTES, PROTOCOLS, Purpose, SENT_BYTES_MAX};
pub use outcome::{Established, Local, Step};
pub use transcript::{BINDING_BYTES, BINDING_LABEL};
