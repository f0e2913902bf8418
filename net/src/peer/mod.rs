//! The protocol between nodes, `nabu-peer/1`.
//!
//! | module | the question it answers |
//! | --- | --- |
//! | `frame` | Where does a frame start and end, and is it whole? |
//!
//! Nothing here reads a clock or makes a random number: times and nonces are passed in. What a
//! peer that hasn't proven itself can make this code hold is the buffer of one handshake message.

mod codec;
pub mod frame;

pub use codec::{Crc32c, crc32c, crc32c_joined};
