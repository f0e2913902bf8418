//! TLS of a connection of the load generator, on rustls without its buffers: ciphertext comes from
//! the ring into one buffer and is decrypted there, and leaves from another.
//!
//! Invariants: whatever is encrypted is sent, in that order, since every record has a number; less
//! than a record stays undecrypted between two calls. After an error the session is good for
//! nothing but being dropped. The server learns of that, and of the end, by the end of the
//! connection: HTTP says where an answer ends.

use std::io;
use std::ops::Range;

use nabu_engine::io::{AlignedBuf, Body, WithBuf};
use nabu_engine::runtime::Stream;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::unbuffered::{ConnectionState, EncryptError, UnbufferedStatus, WriteTraffic};

use crate::tls::ClientTls;
use crate::tls::records::{KEY_UPDATE_BYTES, encode, sealed_bytes_max};

/// The least room for what is received: a record behind its header, and the header (RFC 5246,
/// section 6.2.3).
pub const INCOMING_SIZE_MIN: usize = 5 + (16 << 10) + 2048;
/// The most: rustls takes no message of a handshake above 64 KiB.
const INCOMING_SIZE_MAX: usize = 512 << 10;

/// A TLS connection to a server.
pub struct Session {
    stream: Stream,
    connection: UnbufferedClientConnection,
    /// Taken while the kernel has it.
    incoming: Option<AlignedBuf>,
    /// The part of `incoming` that isn't decrypted yet.
    unread: Range<usize>,
    /// Plaintext that nobody asked for yet.
    plain: Vec<u8>,
    /// How much of `plain` was handed out.
    taken: usize,
    /// The server said that nothing more will come.
    ended: bool,
    /// Records to be sent; taken while the kernel has them.
    records: Option<AlignedBuf>,
}

impl Session {
    /// Shakes hands with the server.
    pub async fn open(stream: Stream, tls: &ClientTls, buffer_size: usize) -> io::Result<Self> {
        assert!((INCOMING_SIZE_MIN..=INCOMING_SIZE_MAX).contains(&buffer_size), "a record fits");
        let connection = UnbufferedClientConnection::new(tls.config.clone(), tls.name.clone()).map_err(broken)?;
        let mut session = Self {
            stream,
            connection,
            incoming: Some(AlignedBuf::zeroed(buffer_size)),
            unread: 0..0,
            plain: Vec::new(),
            taken: 0,
            ended: false,
            records: None,
        };
        loop {
            session.proceed(&mut []).await?;
            if !session.connection.is_handshaking() {
                return Ok(session);
            }
            if session.receive_more().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Receives at least one byte into `buf[range]`; 0 means that no more will come.
    pub async fn recv_into(&mut self, mut buf: AlignedBuf, range: Range<usize>) -> WithBuf<usize> {
        assert!(!range.is_empty(), "a receive of no bytes could not be told from the end of the stream");
        let mut count = self.take(&mut buf[range.clone()]);
        while count == 0 && !self.ended {
            match self.receive_more().await {
                // Without a goodbye, too: the framing of HTTP tells what was cut short.
                Ok(0) => self.ended = true,
                Ok(_) => match self.proceed(&mut buf[range.clone()]).await {
                    Ok(decrypted) => count = decrypted,
                    Err(error) => return (Err(error), buf),
                },
                Err(error) => return (Err(error), buf),
            }
        }
        (Ok(count), buf)
    }

    /// Encrypts and sends `head` and `body`; either may be empty.
    pub async fn send(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        let room = sealed_bytes_max(head.len()) + sealed_bytes_max(body.len()) + KEY_UPDATE_BYTES;
        let kept = self.records.take().filter(|records| records.len() >= room);
        let mut records = kept.unwrap_or_else(|| AlignedBuf::zeroed(room));
        let (mut before, mut filled) = (Vec::new(), 0);
        for part in [head, body].into_iter().filter(|part| !part.is_empty()) {
            filled += self.seal(part, &mut records[filled..], &mut before)?;
        }
        let (sent, _, records) = self.stream.send_with_head(before, Body::Owned(records), 0..filled).await;
        self.records = records.into_owned();
        sent
    }

    /// Encrypts `bytes` into the front of `records`; says how much of it they take. What is left in
    /// `before` must be sent before them.
    fn seal(&mut self, bytes: &[u8], records: &mut [u8], before: &mut Vec<u8>) -> io::Result<usize> {
        let (_, sealed) = self.step(&mut [], before, |mut traffic| traffic.encrypt(bytes, records)).map_err(broken)?;
        match sealed {
            Some(Ok(written)) => Ok(written),
            Some(Err(EncryptError::InsufficientSize(size))) => {
                Err(io::Error::other(format!("{} bytes of records", size.required_size)))
            }
            Some(Err(EncryptError::EncryptExhausted)) => Err(io::Error::other("the connection's keys are used up")),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Decrypts what has come in, and sends what the protocol has to answer. Plaintext goes to the
    /// front of `room`, and what doesn't fit is kept; gives how much went there.
    async fn proceed(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let mut outgoing = Vec::new();
        let (count, _) = self.step(room, &mut outgoing, |_| ()).map_err(broken)?;
        if !outgoing.is_empty() {
            self.stream.send(outgoing).await.0?;
        }
        Ok(count)
    }

    /// Goes on with what has come in until the protocol waits for more, and leaves what it has to
    /// say in `outgoing`. Gives how much plaintext went into `room`, and what `write` made of the
    /// writing state, if that was reached.
    fn step<T>(
        &mut self,
        room: &mut [u8],
        outgoing: &mut Vec<u8>,
        write: impl FnOnce(WriteTraffic<'_, ClientConnectionData>) -> T,
    ) -> Result<(usize, Option<T>), rustls::Error> {
        let incoming = self.incoming.as_mut().expect("the buffer is here between receives");
        let (mut write, mut filled) = (Some(write), 0);
        let written = loop {
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(&mut incoming[self.unread.clone()]);
            let outcome = match state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        let (now, later) = record.payload.split_at(record.payload.len().min(room.len() - filled));
                        room[filled..filled + now.len()].copy_from_slice(now);
                        filled += now.len();
                        self.plain.extend_from_slice(later);
                    }
                    None
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    encode(&mut data, outgoing);
                    None
                }
                // What is in `outgoing` goes before everything that is encrypted later.
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    None
                }
                ConnectionState::PeerClosed => {
                    self.ended = true;
                    None
                }
                ConnectionState::WriteTraffic(traffic) => {
                    let write = write.take().expect("the loop ends here");
                    Some(Some(write(traffic)))
                }
                ConnectionState::BlockedHandshake => Some(None),
                ConnectionState::Closed => {
                    self.ended = true;
                    Some(None)
                }
                _ => return Err(rustls::Error::General("early data, which was not offered".to_owned())),
            };
            self.unread.start += discard;
            if let Some(written) = outcome {
                break written;
            }
        };
        Ok((filled, written))
    }

    /// Receives ciphertext once, behind what is there; 0 means that no more will come.
    async fn receive_more(&mut self) -> io::Result<usize> {
        let mut incoming = self.incoming.take().expect("the buffer is here between receives");
        if self.unread.len() == incoming.len() && incoming.len() < INCOMING_SIZE_MAX {
            // A message of the handshake in several records, such as a long chain of certificates.
            let mut larger = AlignedBuf::zeroed(incoming.len() * 2);
            larger[..incoming.len()].copy_from_slice(&incoming);
            incoming = larger;
        } else {
            incoming.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        if self.unread.len() == incoming.len() {
            self.incoming = Some(incoming);
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a handshake that doesn't end"));
        }
        let space = self.unread.end..incoming.len();
        let (received, incoming) = self.stream.recv_into(incoming, space).await;
        self.incoming = Some(incoming);
        let count = received?;
        self.unread.end += count;
        Ok(count)
    }

    /// Kept plaintext for `room`, as much as there is.
    fn take(&mut self, room: &mut [u8]) -> usize {
        let count = room.len().min(self.plain.len() - self.taken);
        room[..count].copy_from_slice(&self.plain[self.taken..self.taken + count]);
        self.taken += count;
        if self.taken == self.plain.len() {
            self.plain.clear();
            self.taken = 0;
        }
        count
    }
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
