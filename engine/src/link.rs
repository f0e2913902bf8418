//! The seam to other machines: byte streams between a node and its peers.
//!
//! It stands beside [`crate::io`], which is the seam to disk, clock and scheduler.
//! [`crate::sim::SimLink`] implements it on a simulated network. Code above this line is generic
//! over [`Link`] and never sees a socket.
//!
//! Laws:
//! - Bytes of one direction arrive in order and unaltered, or not at all. Nothing is said of the
//!   order across directions or connections. Reads see a stream: they split and merge writes.
//! - A write that succeeded was taken over, and that is all: only an answer says what arrived. An
//!   error says nothing of what arrived before it. After an error the connection is of no use.
//! - Silence is no error. A peer that has lost its power, is cut off or has stopped is told from a
//!   slow one by a clock alone, and that clock is the caller's.
//! - Buffers are owned by the operation and come back with its result, also on errors.
//! - Dropping a pending read or write spoils the connection: bytes may be lost or half sent. All
//!   that may be done with it then is to drop it. Dropping a pending connect or accept may lose a
//!   connection, which its other side then sees closed.
//! - Dropping both halves closes the connection. The other side reads what was written and then the
//!   end of the stream, or a reset if bytes were left unread here. Dropping one half says nothing
//!   to it.

use std::future::Future;
use std::io;

/// How a machine reaches others, and is reached by them.
pub trait Link: Clone + 'static {
    type Reader: LinkReader;
    type Writer: LinkWriter;

    /// Connects to the listener at `host:port`. The name is resolved at each call.
    ///
    /// # Errors
    /// `ConnectionRefused` where nobody listens, `TimedOut` when nobody has answered for minutes,
    /// `NotFound` for a name that nobody has.
    fn connect(&self, address: &str) -> impl Future<Output = io::Result<Connection<Self::Reader, Self::Writer>>>;

    /// The next connection that another machine has made to this one. Any core may wait for it.
    fn accept(&self) -> impl Future<Output = io::Result<Connection<Self::Reader, Self::Writer>>>;
}

/// The two halves of a connection, which may go to different tasks of one core.
#[derive(Debug)]
pub struct Connection<R, W> {
    pub reader: R,
    pub writer: W,
    /// What binds a handshake to this very connection, the same on both sides (the exporter of TLS:
    /// RFC 9266); `None` without TLS.
    pub binding: Option<[u8; 32]>,
    /// For messages: where the other side is, as `host:port`.
    pub peer_address: String,
}

pub trait LinkReader {
    /// Fills the buffer from its start with what has arrived: at least one byte, 0 at the end of
    /// the stream, once there and from then on.
    ///
    /// # Panics
    /// When the buffer is empty, or a read was dropped while it was pending.
    fn read(&mut self, buf: Vec<u8>) -> impl Future<Output = (io::Result<usize>, Vec<u8>)>;
}

pub trait LinkWriter {
    /// Writes all bytes, or fails. It waits while the other side doesn't read.
    ///
    /// # Panics
    /// After [`LinkWriter::close`], or when a write was dropped while it was pending.
    fn write(&mut self, bytes: Vec<u8>) -> impl Future<Output = (io::Result<()>, Vec<u8>)>;

    /// Ends the stream in this direction, after all that was written. The other one continues.
    fn close(&mut self) -> impl Future<Output = io::Result<()>>;
}
