//! A TCP connection on the ring.
//!
//! One receive and one send may be in flight at a time; a second of the same kind is an assertion. Deadlines are coarse (swept
//! at most once a second, and not at all while no stream has one): an expired deadline shuts the socket's half down, which ends
//! the operation in flight, so nothing is ever cancelled half done.

use std::io;
use std::net::SocketAddr;
use std::ops::{Deref, Range};

use crate::io::{AlignedBuf, Instant, WithBuf};

/// A connection; clones share it. The descriptor closes when the last clone and the last operation are gone.
#[derive(Clone)]
pub struct Stream(());

/// Bytes in a buffer that the kernel picked from the core's provided-buffer ring; the buffer goes back when dropped, so keep it
/// short. Empty means end of stream.
pub struct ReceivedBytes(());

impl Deref for ReceivedBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        todo!()
    }
}

/// Which direction a shutdown or deadline is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Half {
    Read,
    Write,
    Both,
}

#[allow(unused_variables)]
impl Stream {
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        todo!()
    }

    /// Receives what is there, at most one provided buffer. While it waits, no buffer is bound to this connection: ten thousand idle
    /// connections cost none. When the buffers have run out it waits for one.
    pub async fn recv(&self) -> io::Result<ReceivedBytes> {
        todo!()
    }

    /// Receives at least one byte into `buf[range]`; 0 means end of stream. Any range; no alignment needed.
    pub async fn recv_into(&self, buf: AlignedBuf, range: Range<usize>) -> WithBuf<usize> {
        todo!()
    }

    /// Sends all of `bytes`, and hands the vector back for reuse.
    pub async fn send(&self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        todo!()
    }

    /// Sends `head` and then `buf[range]`, whole, in one operation; either may be empty. No alignment needed.
    pub async fn send_with_head(
        &self,
        head: Vec<u8>,
        buf: AlignedBuf,
        range: Range<usize>,
    ) -> (io::Result<()>, Vec<u8>, AlignedBuf) {
        todo!()
    }

    /// Shuts a half down; an operation in flight on it ends (a receive with 0 bytes, a send with `EPIPE`).
    pub fn shutdown(&self, half: Half) {
        todo!()
    }

    /// From `deadline` on, `half` is shut down and [`Stream::timed_out`] is true. A later call replaces the deadline; `None`
    /// clears it. Costs a store, so call it as often as you like.
    pub fn set_deadline(&self, deadline: Option<(Instant, Half)>) {
        todo!()
    }

    /// Whether a deadline expired on this stream.
    pub fn timed_out(&self) -> bool {
        todo!()
    }
}
