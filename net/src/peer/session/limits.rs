//! The bounds of a session.

use crate::peer::frame::{DATA_BYTES_MAX, OPEN_BYTES_MAX};

/// Streams that each side may have open on a connection.
pub const STREAMS_MAX: usize = 1024;
/// Bytes that may be granted on a stream and not be used yet.
pub const CREDIT_BYTES_MAX: u64 = 1 << 30;

const _: () = assert!(DATA_BYTES_MAX as u64 <= CREDIT_BYTES_MAX, "a data frame of any size can be granted");

/// Bytes of the buffer for messages that are kept between two of them.
pub const KEPT_BYTES_MAX: usize = 64 << 10;

const _: () = assert!(OPEN_BYTES_MAX as usize <= KEPT_BYTES_MAX);
