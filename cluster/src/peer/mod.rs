//! The control lane: how the messages of control planes get from node to node, on connections whose
//! two ends have proven that they are members.
//!
//! | file | question it answers |
//! | --- | --- |
//! | [`host`] | what does the lane need of its node, and what does it tell it? |
//! | [`peers`] | what is the lane from outside: send, keep, accept, stop? |
//! | [`limits`] | how much may it hold, and how long may things take? |
//! | [`lane`] | what do all connections of a core share? |
//! | [`outgoing`] | how do messages get to an address? |
//! | [`incoming`] | what becomes of a connection that another node made? |
//! | [`greeting`] | how is a handshake driven over a link? |
//! | [`pieces`] | how do long messages fit into frames? |
//! | [`queue`], [`backoff`] | what waits for an address, and when is it tried again? |
//! | [`status`] | what is known of each address, and what was counted? |
//!
//! A node dials each address that it has something to say to, and holds a connection to each
//! member. Messages go from the node that dialled to the one that accepted, never back: an answer
//! travels on the other node's own connection. So each direction between two nodes has one
//! connection, one queue and one order.
//!
//! Invariants:
//! - Whom a message is from was proven by the handshake of the very connection that it came on.
//!   Only where its sender is reached the sender says itself, in the first message of that
//!   connection.
//! - What a node says of itself is what it was when it sent: after its identity or its secrets have
//!   changed, nothing more leaves on a connection that was made before.
//! - A message arrives whole or not at all. Those that arrive on one connection do so in the order
//!   in which they were sent, each once.
//! - Nothing that a peer does makes a node hold more than [`Limits`] says, or longer. One that has
//!   proven nothing yet costs a socket and the buffer of one handshake message.
//! - A connection on which something came that the protocol doesn't have is closed, and what came
//!   is not passed on.
//! - Whatever couldn't be sent is lost, and the node is told that the address can't be reached.
//!   Raft and the control plane repeat what matters.
//!
//! A peer that vanished without a word is noticed by [`nabu_net::peer::liveness`] on the side that
//! dialled: it hears nothing but pongs, so it sends a ping each second. The side that accepted only
//! has to wait for them.

pub mod backoff;
pub mod greeting;
pub mod host;
mod incoming;
pub mod lane;
pub mod limits;
mod outgoing;
pub mod peers;
pub mod pieces;
pub mod queue;
pub mod status;

pub use host::Host;
pub use limits::Limits;
pub use peers::Peers;
pub use status::{AddressStatus, Counts};
