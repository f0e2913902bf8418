//! The link of a node to the others, on real sockets: [`RingLink`] is the
//! [`nabu_engine::link::Link`] of one core.
//!
//! | file | the question it answers |
//! | --- | --- |
//! | `link` | What is a core's link made of? |
//! | `options` | How are connections to and from other nodes made? |
//! | `dial` | How does a connection to another node come about? |
//! | `address` | What does `host:port` name? |
//! | `incoming` | Where do connections of other nodes wait until somebody takes them? |
//! | `halves` | How are bytes read and written, and how does a connection end? |
//! | `secrets` | Which secrets make this node a member, and what is wrong with their file? |
//!
//! Connections of other nodes come in by the port of HTTP ([`crate::http`], `upgrade`), which hands
//! them over. What is said on a connection is not known here: the handshake and all behind it are
//! the business of `cluster`.

mod address;
mod dial;
mod halves;
mod incoming;
mod link;
mod options;
pub mod secrets;
#[cfg(test)]
mod tests;

pub use self::halves::{RingReader, RingWriter};
pub use self::incoming::WAITING_MAX;
pub use self::link::RingLink;
pub use self::options::LinkOptions;
pub use crate::tls::PeerTls;
