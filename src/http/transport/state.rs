//! The TLS protocol of a connection, without its I/O: bytes in, bytes and plaintext out.
//!
//! Invariant: whatever is sealed must be sent, in the order of sealing, since every record has a
//! number.

use std::io;
use std::ops::Deref;

use rustls::CommonState;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncryptError, UnbufferedStatus, WriteTraffic};

use super::GOODBYE_BYTES;
use crate::tls::records::{encode, sealed_bytes_max};

/// What the cryptography of a handshake counts as, in bytes of other bulk work: some 100 to 700 µs.
pub const BULK_BYTES: usize = 256 << 10;

/// The protocol on the side that this process is of a connection.
pub enum Protocol {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

impl Deref for Protocol {
    type Target = CommonState;

    fn deref(&self) -> &CommonState {
        match self {
            Self::Server(connection) => connection,
            Self::Client(connection) => connection,
        }
    }
}

/// What both sides do, each with data of its own.
trait Side {
    type Data;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ServerConnectionData> {
        self.process_tls_records(incoming)
    }
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ClientConnectionData> {
        self.process_tls_records(incoming)
    }
}

/// The writing state, of either side.
trait Writing {
    fn encrypt(&mut self, bytes: &[u8], outgoing: &mut [u8]) -> Result<usize, EncryptError>;
    fn queue_close_notify(&mut self, outgoing: &mut [u8]) -> Result<usize, EncryptError>;
}

impl<Data> Writing for WriteTraffic<'_, Data> {
    fn encrypt(&mut self, bytes: &[u8], outgoing: &mut [u8]) -> Result<usize, EncryptError> {
        WriteTraffic::encrypt(self, bytes, outgoing)
    }

    fn queue_close_notify(&mut self, outgoing: &mut [u8]) -> Result<usize, EncryptError> {
        WriteTraffic::queue_close_notify(self, outgoing)
    }
}

/// How the receiving direction has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The peer said so.
    Goodbye,
    /// The socket ended without a word: what came may have been cut short by anybody on the way.
    Cut,
}

/// The protocol, and the bytes that are between two steps of it.
pub struct State {
    pub protocol: Protocol,
    /// Ciphertext that is not decrypted yet: less than a record, between steps.
    pub incoming: Vec<u8>,
    /// Plaintext that nobody asked for yet.
    plain: Vec<u8>,
    /// How much of `plain` was handed out.
    taken: usize,
    /// Once nothing more will come.
    pub ending: Option<Ending>,
    /// The peer broke the protocol: nothing more is sent or received.
    failed: bool,
    /// The peer knows that nothing more will come from us.
    said_goodbye: bool,
}

impl State {
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            incoming: Vec::new(),
            plain: Vec::new(),
            taken: 0,
            ending: None,
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
            let is_encoded = match &mut self.protocol {
                Protocol::Server(connection) => encode_next(connection, &mut self.incoming, outgoing),
                Protocol::Client(connection) => encode_next(connection, &mut self.incoming, outgoing),
            };
            if !is_encoded || is_alert(&outgoing[start..]) {
                return;
            }
        }
    }

    /// As [`State::advance`], and gives the writing state to `write` where it is reached: after the
    /// handshake, before the end.
    fn step<T>(
        &mut self,
        outgoing: &mut Vec<u8>,
        write: impl FnOnce(&mut dyn Writing, &mut Vec<u8>) -> T,
    ) -> Result<Option<T>, rustls::Error> {
        if self.failed {
            return Ok(None);
        }
        let Self { protocol, incoming, plain, ending, .. } = self;
        let mut step = Step { incoming, plain, ending, outgoing, done: 0 };
        let outcome = match protocol {
            Protocol::Server(connection) => step.take(connection, write),
            Protocol::Client(connection) => step.take(connection, write),
        };
        let done = step.done;
        self.incoming.drain(..done);
        if self.incoming.is_empty() {
            self.incoming = Vec::new();
        }
        outcome
    }

    /// Encrypts `bytes` behind what is in `outgoing`.
    pub fn seal(&mut self, bytes: &[u8], outgoing: &mut Vec<u8>) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let sealed = self.step(outgoing, |traffic, outgoing| {
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
    pub fn seal_into(&mut self, bytes: &[u8], records: &mut [u8], before: &mut Vec<u8>) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let sealed = self.step(before, |traffic, _| match traffic.encrypt(bytes, records) {
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
    pub fn goodbye(&mut self) -> Vec<u8> {
        let mut outgoing = Vec::new();
        if !std::mem::replace(&mut self.said_goodbye, true) {
            let _ = self.step(&mut outgoing, |traffic, outgoing| {
                let start = outgoing.len();
                outgoing.resize(start + GOODBYE_BYTES, 0);
                let written = traffic.queue_close_notify(&mut outgoing[start..]).unwrap_or(0);
                outgoing.truncate(start + written);
            });
        }
        outgoing
    }

    /// Plaintext for `buf`, as much as there is.
    pub fn take(&mut self, buf: &mut [u8]) -> usize {
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
    pub fn take_all(&mut self) -> Vec<u8> {
        let mut plain = std::mem::take(&mut self.plain);
        plain.drain(..std::mem::take(&mut self.taken));
        plain
    }
}

/// A step of the protocol, and what it takes and leaves.
struct Step<'s> {
    incoming: &'s mut Vec<u8>,
    plain: &'s mut Vec<u8>,
    ending: &'s mut Option<Ending>,
    outgoing: &'s mut Vec<u8>,
    /// Bytes of `incoming` that are done with.
    done: usize,
}

impl Step<'_> {
    fn take<S: Side, T>(
        &mut self,
        connection: &mut S,
        write: impl FnOnce(&mut dyn Writing, &mut Vec<u8>) -> T,
    ) -> Result<Option<T>, rustls::Error> {
        let mut write = Some(write);
        loop {
            let UnbufferedStatus { mut discard, state } = connection.process(&mut self.incoming[self.done..]);
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
                    encode(&mut data, self.outgoing);
                    None
                }
                // What is in `outgoing` goes before everything that is sealed later.
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::PeerClosed) => {
                    *self.ending = Some(Ending::Goodbye);
                    None
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let write = write.take().expect("the loop ends here");
                    Some(Ok(Some(write(&mut traffic, self.outgoing))))
                }
                Ok(ConnectionState::BlockedHandshake) => Some(Ok(None)),
                Ok(ConnectionState::Closed) => {
                    *self.ending = Some(Ending::Goodbye);
                    Some(Ok(None))
                }
                Ok(_) => Some(Err(rustls::Error::General("early data, which was not offered".to_owned()))),
            };
            self.done += discard;
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
    }
}

/// Encodes the next record that a failed connection has to say; false when there is none.
fn encode_next(connection: &mut impl Side, incoming: &mut [u8], outgoing: &mut Vec<u8>) -> bool {
    match connection.process(incoming).state {
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            encode(&mut data, outgoing);
            true
        }
        _ => false,
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
