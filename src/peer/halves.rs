//! The two halves of a connection, for different tasks of one core, and how it ends.
//!
//! Nothing here has a deadline: silence is no error ([`nabu_engine::link`]).
//!
//! A connection that another node has made counts among those of strangers until this node says who
//! it is. The handshake does that only when the other node has proven that it knows a secret of the
//! cluster ([`nabu_net::peer::handshake`]), and nothing else is sent before but the challenge: so
//! the first byte beyond the challenge tells.

use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use nabu_engine::link::{Connection, LinkReader, LinkWriter};
use nabu_net::peer::handshake::CHALLENGE_BYTES;

use crate::http::Membership;
use crate::http::transport::Transport;

/// How long the end of a connection may take to reach a peer that reads slowly.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(30);

/// A connection; its halves share it, and the last one ends it.
struct Shared {
    transport: Transport,
    /// A write was dropped in the middle: the peer must not take what it got for all.
    is_cut: Cell<bool>,
    /// What the connection counts as until the other node has proven itself.
    stranger: Cell<Option<Membership>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.is_cut.get() {
            self.transport.reset_at_close();
        } else if let Transport::Tls(session) = &self.transport {
            session.say_goodbye_in_passing(GOODBYE_PATIENCE);
        }
    }
}

/// What came behind the head of the upgrade, and is read before anything else.
struct Early {
    bytes: Vec<u8>,
    unread: Range<usize>,
}

impl Early {
    fn take(&mut self, buf: &mut [u8]) -> usize {
        let count = buf.len().min(self.unread.len());
        let start = self.unread.start;
        buf[..count].copy_from_slice(&self.bytes[start..start + count]);
        self.unread.start += count;
        if self.unread.is_empty() {
            self.bytes = Vec::new();
            self.unread = 0..0;
        }
        count
    }
}

/// The halves of a connection, on which `early` has come already. `stranger` is what it counts as
/// until the other node has proven itself, if that one has made it.
pub fn halves(
    transport: Transport,
    early: Vec<u8>,
    stranger: Option<Membership>,
    peer_address: String,
) -> Connection<RingReader, RingWriter> {
    let binding = transport.binding().copied();
    let shared = Rc::new(Shared { transport, is_cut: Cell::new(false), stranger: Cell::new(stranger) });
    let early = Early { unread: 0..early.len(), bytes: early };
    let reader = RingReader { shared: shared.clone(), early, has_ended: false, is_pending: false };
    let writer = RingWriter { shared, sent_bytes: 0, is_closed: false, is_pending: false };
    Connection { reader, writer, binding, peer_address }
}

/// What arrives on a connection.
pub struct RingReader {
    shared: Rc<Shared>,
    early: Early,
    has_ended: bool,
    /// A read has begun and not ended.
    is_pending: bool,
}

impl LinkReader for RingReader {
    async fn read(&mut self, mut buf: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        assert!(!buf.is_empty(), "a read has room for something");
        assert!(!self.is_pending, "a read was dropped while it was pending");
        if self.has_ended {
            return (Ok(0), buf);
        }
        let count = self.early.take(&mut buf);
        if count > 0 {
            return (Ok(count), buf);
        }
        self.is_pending = true;
        let (result, buf) = self.shared.transport.recv_bytes(buf).await;
        self.is_pending = false;
        self.has_ended = matches!(result, Ok(0));
        (result, buf)
    }
}

/// What is sent on a connection.
pub struct RingWriter {
    shared: Rc<Shared>,
    sent_bytes: u64,
    is_closed: bool,
    /// A write has begun and not ended.
    is_pending: bool,
}

impl RingWriter {
    fn begin(&mut self) {
        assert!(!self.is_pending, "a write was dropped while it was pending");
        assert!(!self.is_closed, "something is written after the end");
        self.is_pending = true;
    }
}

impl LinkWriter for RingWriter {
    async fn write(&mut self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        self.begin();
        self.sent_bytes = self.sent_bytes.saturating_add(bytes.len() as u64);
        if self.sent_bytes > CHALLENGE_BYTES as u64 {
            drop(self.shared.stranger.take());
        }
        let (result, bytes) = self.shared.transport.send(bytes).await;
        self.is_pending = false;
        (result, bytes)
    }

    async fn close(&mut self) -> io::Result<()> {
        self.begin();
        self.shared.transport.end_writing().await;
        self.is_pending = false;
        self.is_closed = true;
        Ok(())
    }
}

impl Drop for RingWriter {
    fn drop(&mut self) {
        if self.is_pending {
            self.shared.is_cut.set(true);
        }
    }
}

#[cfg(test)]
impl RingReader {
    /// The socket below, to do to it what others may.
    pub fn stream(&self) -> &nabu_engine::runtime::Stream {
        &self.shared.transport
    }
}
