//! TLS in this process, on rustls without its buffers.
//!
//! Ciphertext comes from the ring, is decrypted in place, and what is asked for of the plaintext is
//! handed out; the rest is kept. Plaintext to be sent is encrypted into a buffer that the ring
//! sends, in pieces of at most [`SEALED_AT_ONCE`], each in its turn with the other bulk work of the
//! core.
//!
//! Invariants: the state is never borrowed across an await; whatever is sealed is sent, in the
//! order of sealing, since every record has a number; a session that waits for a request holds no
//! buffer but a record that has partly come.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use nabu_engine::io::{AlignedBuf, Clock, Spawn, WithBuf};
use nabu_engine::runtime::{Half, RingIo, Stream};

use super::state::{Ending, State};
use crate::http::vectors::Vectors;
use crate::tls::Binding;
use crate::tls::records::{KEY_UPDATE_BYTES, RECORD_BYTES_MAX, RECORD_OVERHEAD};

/// Plaintext that is encrypted and sent in one turn: sixteen full records.
pub const SEALED_AT_ONCE: usize = 256 << 10;
/// The longest head that is encrypted in one turn with the first piece of its body.
pub const SEALED_HEAD_BYTES_MAX: usize = 8 << 10;
/// Room for the records of one turn, and a key update before them.
pub const RECORDS_BYTES: usize = SEALED_AT_ONCE
    + SEALED_HEAD_BYTES_MAX
    + (SEALED_AT_ONCE / RECORD_BYTES_MAX + 2) * RECORD_OVERHEAD
    + KEY_UPDATE_BYTES;
/// An answer of at most this many bytes is not kept waiting for its turn; it counts all the same.
const UNBULKY_MAX: usize = 64 << 10;

/// A TLS connection.
pub struct Session {
    io: RingIo,
    vectors: Rc<Vectors>,
    stream: Stream,
    state: RefCell<State>,
    /// Of a connection between nodes.
    binding: Option<Binding>,
}

impl Session {
    pub(super) fn new(
        io: RingIo,
        vectors: Rc<Vectors>,
        stream: Stream,
        state: State,
        binding: Option<Binding>,
    ) -> Self {
        Self { io, vectors, stream, state: RefCell::new(state), binding }
    }

    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// What binds a handshake between nodes to this connection; `None` where other clients speak.
    pub fn binding(&self) -> Option<&Binding> {
        self.binding.as_ref()
    }

    /// Plaintext that came; empty means that no more will come.
    pub async fn recv(&self) -> io::Result<Vec<u8>> {
        loop {
            {
                let mut state = self.state.borrow_mut();
                let plain = state.take_all();
                if !plain.is_empty() || state.ending.is_some() {
                    return Ok(plain);
                }
            }
            self.receive_more().await?;
        }
    }

    /// Plaintext that came, into `buf[range]`: at least a byte, or 0 for none any more.
    pub async fn recv_into(&self, mut buf: AlignedBuf, range: Range<usize>) -> WithBuf<usize> {
        assert!(!range.is_empty(), "a receive of no bytes could not be told from the end of the stream");
        loop {
            {
                let mut state = self.state.borrow_mut();
                let size = state.take(&mut buf[range.clone()]);
                if size > 0 || state.ending.is_some() {
                    return (Ok(size), buf);
                }
            }
            if let Err(error) = self.receive_more().await {
                return (Err(error), buf);
            }
        }
    }

    /// Plaintext that came, into the front of `bytes`: at least a byte, or 0 once the peer has said
    /// that no more will come.
    ///
    /// # Errors
    /// `UnexpectedEof` when the connection ended without that word.
    pub async fn recv_bytes(&self, mut bytes: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        assert!(!bytes.is_empty(), "a receive of no bytes could not be told from the end of the stream");
        loop {
            {
                let mut state = self.state.borrow_mut();
                let size = state.take(&mut bytes);
                match state.ending {
                    _ if size > 0 => return (Ok(size), bytes),
                    Some(Ending::Goodbye) => return (Ok(0), bytes),
                    Some(Ending::Cut) => return (Err(io::ErrorKind::UnexpectedEof.into()), bytes),
                    None => {}
                }
            }
            if let Err(error) = self.receive_more().await {
                return (Err(error), bytes);
            }
        }
    }

    /// Receives ciphertext once and decrypts it; answers what the protocol has to answer.
    async fn receive_more(&self) -> io::Result<()> {
        let bytes = self.stream.recv().await?;
        let mut outgoing = Vec::new();
        let outcome = {
            let mut state = self.state.borrow_mut();
            if bytes.is_empty() {
                // The framing of HTTP tells where it matters.
                state.ending = Some(Ending::Cut);
                return Ok(());
            }
            self.io.count_bulk(bytes.len());
            state.incoming.extend_from_slice(&bytes);
            drop(bytes);
            state.advance(&mut outgoing)
        };
        // What is left to say after a handshake is an alert that ends it all: in the middle of what
        // another task sends it is of no use.
        if !outgoing.is_empty() && !self.stream.is_sending() {
            self.stream.send(outgoing).await.0?;
        }
        outcome.map_err(|error| {
            tracing::debug!(%error, "the peer broke the TLS protocol");
            io::Error::new(io::ErrorKind::InvalidData, error)
        })
    }

    /// Encrypts and sends `head` and `body`, in turns with others where that is much.
    pub async fn send(&self, head: &[u8], body: &[u8]) -> io::Result<()> {
        let mut outgoing = self.vectors.take();
        let total = head.len() + body.len();
        if total <= UNBULKY_MAX {
            self.io.count_bulk(total);
            self.seal(&[head, body], &mut outgoing)?;
            let (result, outgoing) = self.stream.send(outgoing).await;
            self.vectors.give_back(outgoing);
            return result;
        }
        for piece in head.chunks(SEALED_AT_ONCE).chain(body.chunks(SEALED_AT_ONCE)) {
            self.io.bulk_turn(piece.len()).await;
            self.seal(&[piece], &mut outgoing)?;
            let (result, sent) = self.stream.send(outgoing).await;
            outgoing = sent;
            outgoing.clear();
            result?;
        }
        self.vectors.give_back(outgoing);
        Ok(())
    }

    /// Encrypts `parts` behind one another. What this gives must be sent, whole and before anything
    /// else.
    pub fn sealed(&self, parts: &[&[u8]]) -> io::Result<Vec<u8>> {
        let mut outgoing = self.vectors.take();
        self.seal(parts, &mut outgoing)?;
        Ok(outgoing)
    }

    /// Encrypts `parts` behind one another into `outgoing`.
    fn seal(&self, parts: &[&[u8]], outgoing: &mut Vec<u8>) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        parts.iter().try_for_each(|part| state.seal(part, outgoing))
    }

    /// Encrypts `head` and at most [`SEALED_AT_ONCE`] bytes of `body` behind it, into the front of
    /// `records`, a buffer of [`RECORDS_BYTES`]. Gives what must be sent before the records,
    /// usually nothing, and how many bytes of records there are.
    pub fn seal_at_once(&self, head: &[u8], body: &[u8], records: &mut [u8]) -> io::Result<(Vec<u8>, usize)> {
        assert!(head.len() <= SEALED_HEAD_BYTES_MAX && body.len() <= SEALED_AT_ONCE, "more than records have room for");
        let mut state = self.state.borrow_mut();
        let mut before = Vec::new();
        let head_bytes = state.seal_into(head, records, &mut before)?;
        let body_bytes = state.seal_into(body, &mut records[head_bytes..], &mut before)?;
        Ok((before, head_bytes + body_bytes))
    }

    /// Sends the alert that nothing more will come.
    pub async fn say_goodbye(&self) {
        let alert = self.state.borrow_mut().goodbye();
        if !alert.is_empty() {
            // The peer may be gone, and then there is nobody to tell.
            let _ = self.stream.send(alert).await;
        }
    }

    /// The same without waiting, for one that is going away: what finds no room in the socket is
    /// sent behind its back, for as long as `patience`. No send may be in flight.
    pub fn say_goodbye_in_passing(&self, patience: Duration) {
        let alert = self.state.borrow_mut().goodbye();
        let sent = if alert.is_empty() { Ok(0) } else { self.stream.send_now(&alert, false) };
        // Where that fails the peer is gone.
        let Ok(sent) = sent else { return };
        if sent < alert.len() {
            let (stream, rest) = (self.stream.clone(), alert[sent..].to_vec());
            stream.set_deadline(Some((self.io.now().after(patience), Half::Both)));
            self.io.spawn(async move {
                let _ = stream.send(rest).await;
            });
        }
    }
}
