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

use nabu_engine::io::{AlignedBuf, Spawn, WithBuf};
use nabu_engine::runtime::Stream;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncryptError, UnbufferedStatus, WriteTraffic};

use super::GOODBYE_BYTES;
use crate::http::core::Core;
use crate::tls::records::{KEY_UPDATE_BYTES, RECORD_BYTES_MAX, RECORD_OVERHEAD, encode, sealed_bytes_max};

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
    core: Rc<Core>,
    stream: Stream,
    state: RefCell<State>,
}

/// The protocol, and the bytes that are between two steps of it.
pub(super) struct State {
    pub connection: UnbufferedServerConnection,
    /// Ciphertext that is not decrypted yet: less than a record, between steps.
    pub incoming: Vec<u8>,
    /// Plaintext that nobody asked for yet.
    plain: Vec<u8>,
    /// How much of `plain` was handed out.
    taken: usize,
    /// Nothing more will come.
    ended: bool,
    /// The peer broke the protocol: nothing more is sent or received.
    failed: bool,
    /// The peer knows that nothing more will come from us.
    said_goodbye: bool,
}

impl State {
    pub fn new(connection: UnbufferedServerConnection) -> Self {
        Self {
            connection,
            incoming: Vec::new(),
            plain: Vec::new(),
            taken: 0,
            ended: false,
            failed: false,
            said_goodbye: false,
        }
    }

    /// Whether received bytes wait for something.
    pub fn holds_bytes(&self) -> bool {
        !self.incoming.is_empty() || self.taken < self.plain.len()
    }

    /// Goes on with what has come in, until the protocol waits for more, and leaves what it has to
    /// say in `outgoing`, which is to be sent in any case.
    pub fn advance(&mut self, outgoing: &mut Vec<u8>) -> Result<(), rustls::Error> {
        match self.step(outgoing, |_, _| ()) {
            Ok(_) => Ok(()),
            Err(error) => {
                self.fail(outgoing);
                Err(error)
            }
        }
    }

    /// Leaves what was said before an error, and the alert that tells of it, in `outgoing`. When it
    /// is asked for more than that, rustls looks at what has come in once more, which it does not
    /// expect after an error. So the alert ends the asking.
    fn fail(&mut self, outgoing: &mut Vec<u8>) {
        /// More records than the answer to a hello has.
        const RECORDS_MAX: usize = 16;
        if std::mem::replace(&mut self.failed, true) {
            return;
        }
        for _ in 0..RECORDS_MAX {
            let start = outgoing.len();
            match self.connection.process_tls_records(&mut self.incoming).state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, outgoing),
                _ => return,
            }
            if is_alert(&outgoing[start..]) {
                return;
            }
        }
    }

    /// As [`State::advance`], and gives the writing state to `write` where it is reached: after the
    /// handshake, before the end.
    fn step<T>(
        &mut self,
        outgoing: &mut Vec<u8>,
        write: impl FnOnce(WriteTraffic<'_, ServerConnectionData>, &mut Vec<u8>) -> T,
    ) -> Result<Option<T>, rustls::Error> {
        if self.failed {
            return Ok(None);
        }
        let (mut write, mut done) = (Some(write), 0);
        let outcome = loop {
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(&mut self.incoming[done..]);
            let outcome = match state {
                Err(error) => Some(Err(error)),
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    let mut failed = None;
                    while let Some(record) = traffic.next_record() {
                        match record {
                            Ok(record) => {
                                discard += record.discard;
                                self.plain.extend_from_slice(record.payload);
                            }
                            Err(error) => {
                                failed = Some(Err(error));
                                break;
                            }
                        }
                    }
                    failed
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut data, outgoing);
                    None
                }
                // What is in `outgoing` goes before everything that is sealed later.
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.ended = true;
                    None
                }
                Ok(ConnectionState::WriteTraffic(traffic)) => {
                    let write = write.take().expect("the loop ends here");
                    Some(Ok(Some(write(traffic, outgoing))))
                }
                Ok(ConnectionState::BlockedHandshake) => Some(Ok(None)),
                Ok(ConnectionState::Closed) => {
                    self.ended = true;
                    Some(Ok(None))
                }
                Ok(_) => Some(Err(rustls::Error::General("early data, which was not offered".to_owned()))),
            };
            done += discard;
            if let Some(outcome) = outcome {
                break outcome;
            }
        };
        self.incoming.drain(..done);
        if self.incoming.is_empty() {
            self.incoming = Vec::new();
        }
        outcome
    }

    /// Encrypts `bytes` behind what is in `outgoing`.
    fn seal(&mut self, bytes: &[u8], outgoing: &mut Vec<u8>) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let sealed = self.step(outgoing, |mut traffic, outgoing| {
            let start = outgoing.len();
            let mut size = sealed_bytes_max(bytes.len());
            loop {
                outgoing.resize(start + size, 0);
                match traffic.encrypt(bytes, &mut outgoing[start..]) {
                    Ok(written) => {
                        outgoing.truncate(start + written);
                        return Ok(());
                    }
                    Err(EncryptError::InsufficientSize(more)) => size = more.required_size,
                    Err(EncryptError::EncryptExhausted) => return Err(used_up()),
                }
            }
        });
        writing(sealed)
    }

    /// Encrypts `bytes` into the front of `records`; says how much of it they take. What is left in
    /// `before` goes before them.
    fn seal_into(&mut self, bytes: &[u8], records: &mut [u8], before: &mut Vec<u8>) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let sealed = self.step(before, |mut traffic, _| match traffic.encrypt(bytes, records) {
            Ok(written) => Ok(written),
            Err(EncryptError::InsufficientSize(size)) => {
                Err(io::Error::other(format!("{} bytes of records", size.required_size)))
            }
            Err(EncryptError::EncryptExhausted) => Err(used_up()),
        });
        writing(sealed)
    }

    /// The alert that nothing more will come; empty when it was sent, or the session has failed and
    /// said so.
    fn goodbye(&mut self) -> Vec<u8> {
        let mut outgoing = Vec::new();
        if !std::mem::replace(&mut self.said_goodbye, true) {
            let _ = self.step(&mut outgoing, |mut traffic, outgoing| {
                let start = outgoing.len();
                outgoing.resize(start + GOODBYE_BYTES, 0);
                let written = traffic.queue_close_notify(&mut outgoing[start..]).unwrap_or(0);
                outgoing.truncate(start + written);
            });
        }
        outgoing
    }

    /// Plaintext for `buf`, as much as there is.
    fn take(&mut self, buf: &mut [u8]) -> usize {
        let size = buf.len().min(self.plain.len() - self.taken);
        buf[..size].copy_from_slice(&self.plain[self.taken..self.taken + size]);
        self.taken += size;
        if self.taken == self.plain.len() {
            self.plain.clear();
            self.taken = 0;
        }
        size
    }

    /// All plaintext that there is.
    fn take_all(&mut self) -> Vec<u8> {
        let mut plain = std::mem::take(&mut self.plain);
        plain.drain(..std::mem::take(&mut self.taken));
        plain
    }
}

/// Whether a record is an alert: by its type, or by its length where TLS 1.3 hides the type (5
/// header, 2 alert, 1 type, 16 tag); no handshake message is as short as that.
fn is_alert(record: &[u8]) -> bool {
    const ALERT: u8 = 21;
    const APPLICATION_DATA: u8 = 23;
    const HIDDEN_ALERT_BYTES: usize = 24;
    match record.first() {
        Some(&ALERT) => true,
        Some(&APPLICATION_DATA) => record.len() == HIDDEN_ALERT_BYTES,
        _ => false,
    }
}

fn used_up() -> io::Error {
    io::Error::other("the keys of the connection are used up")
}

/// The result of a step that was to write.
fn writing<T>(stepped: Result<Option<io::Result<T>>, rustls::Error>) -> io::Result<T> {
    match stepped {
        Ok(Some(written)) => written,
        Ok(None) => Err(io::ErrorKind::BrokenPipe.into()),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

impl Session {
    pub(super) fn new(core: Rc<Core>, stream: Stream, state: State) -> Self {
        Self { core, stream, state: RefCell::new(state) }
    }

    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Plaintext that came; empty means that no more will come.
    pub async fn recv(&self) -> io::Result<Vec<u8>> {
        loop {
            {
                let mut state = self.state.borrow_mut();
                let plain = state.take_all();
                if !plain.is_empty() || state.ended {
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
                if size > 0 || state.ended {
                    return (Ok(size), buf);
                }
            }
            if let Err(error) = self.receive_more().await {
                return (Err(error), buf);
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
                // Without a goodbye it may be cut short, which the framing of HTTP tells where it
                // matters.
                state.ended = true;
                return Ok(());
            }
            self.core.io.count_bulk(bytes.len());
            state.incoming.extend_from_slice(&bytes);
            drop(bytes);
            state.advance(&mut outgoing)
        };
        if !outgoing.is_empty() {
            self.stream.send(outgoing).await.0?;
        }
        outcome.map_err(|error| {
            tracing::debug!(%error, "the peer broke the TLS protocol");
            io::Error::new(io::ErrorKind::InvalidData, error)
        })
    }

    /// Encrypts and sends `head` and `body`, in turns with others where that is much.
    pub async fn send(&self, head: &[u8], body: &[u8]) -> io::Result<()> {
        let mut outgoing = self.core.vector();
        let total = head.len() + body.len();
        if total <= UNBULKY_MAX {
            self.core.io.count_bulk(total);
            self.seal(&[head, body], &mut outgoing)?;
            let (result, outgoing) = self.stream.send(outgoing).await;
            self.core.recycle(outgoing);
            return result;
        }
        for piece in head.chunks(SEALED_AT_ONCE).chain(body.chunks(SEALED_AT_ONCE)) {
            self.core.io.bulk_turn(piece.len()).await;
            self.seal(&[piece], &mut outgoing)?;
            let (result, sent) = self.stream.send(outgoing).await;
            outgoing = sent;
            outgoing.clear();
            result?;
        }
        self.core.recycle(outgoing);
        Ok(())
    }

    /// Encrypts `parts` behind one another. What this gives must be sent, whole and before anything
    /// else.
    pub fn sealed(&self, parts: &[&[u8]]) -> io::Result<Vec<u8>> {
        let mut outgoing = self.core.vector();
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
}
