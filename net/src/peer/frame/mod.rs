//! Frames: what nodes say to each other after the handshake. A head of 32 bytes, and a payload.
//!
//! | file | the question it answers |
//! | --- | --- |
//! | `kind` | Which kinds of frames are there, and what may each carry? |
//! | `head` | Which byte of a head means what? |
//! | `error` | Why is a frame refused? |
//! | `encoder` | Which bytes stand for a frame? |
//! | `decoder` | Where does a frame start and end, and is it whole? |
//!
//! Invariants:
//! - A length is believed only after the checksum of its head holds and it is within the limits.
//! - Each frame carries its number in its direction, so that one that is missing, repeated or out
//!   of order is refused.
//! - Neither side allocates: payloads lie where the caller puts them.
//!
//! Checksums find bytes that broke on the way, and number and checksum find a peer or a proxy that
//! mixes frames up. Against an attacker only TLS protects: anybody can compute a checksum.

mod decoder;
mod encoder;
mod error;
mod head;
mod kind;

pub use decoder::{FrameDecoder, FrameEvent};
pub use encoder::FrameEncoder;
pub use error::FrameError;
pub use head::{FrameHead, HEAD_BYTES};
pub use kind::{
    DATA_BYTES_MAX, FrameKind, IGNORED_BYTES_MAX, MESSAGE_BYTES_MAX, NUMBER_BYTES, OPEN_BYTES_MAX, PayloadLimits,
    RESET_CODE_BYTES, StreamId,
};
