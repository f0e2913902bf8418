//! The protocol between nodes, `nabu-peer/1`. `docs/wire.md` has the byte tables, and golden bytes
//! in the tests hold it true.
//!
//! | module | the question it answers |
//! | --- | --- |
//! | `upgrade` | How does an HTTP/1.1 connection become one between nodes? |
//! | `secrets` | Which secrets make a node a member, and what does their file hold? |
//! | `identity` | What does a node say of itself? |
//! | `version_range` | Which versions do two nodes have in common? |
//! | `handshake` | How do two nodes prove to each other that they know the secret? |
//! | `frame` | Where does a frame start and end, and is it whole? |
//! | `session` | What may a peer say now: streams, and credits in bytes? |
//! | `liveness` | When is a ping due, and when does the peer count as silent? |
//!
//! Nothing here reads a clock or makes a random number: times and nonces are passed in. What a
//! peer that hasn't proven itself can make this code hold is the buffer of one handshake message.

mod codec;
pub mod frame;
pub mod handshake;
pub mod identity;
pub mod liveness;
pub mod secrets;
pub mod session;
pub mod upgrade;
pub mod version_range;

pub use codec::{Crc32c, crc32c, crc32c_joined};
