//! TLS in the kernel, after a handshake in this process: plaintext goes through the socket as on a plain connection.
//!
//! What is left to do here are the records that are no application data. A receive that meets one fails with `EIO`; an alert then ends the reading, and a
//! key update changes the keys of the kernel, which takes new ones from Linux 6.14 on. Before, the connection ends there: only peers that send hundreds
//! of gigabytes over one connection update their keys.
//!
//! Sent records are counted, since AES-GCM keys are good for 2^24 of them: then this side updates its keys, or ends the connection where the kernel can't.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Range;

use nabu_engine::io::{AlignedBuf, WithBuf};
use nabu_engine::ring::kernel_tls::{Cipher, Direction, Keys};
use nabu_engine::runtime::{ReceivedBytes, Stream};
use rustls::ConnectionTrafficSecrets;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;

/// Types of records (RFC 8446, section 5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// An alert that ends the writing side: level warning, `close_notify` (section 6.1).
const CLOSE_NOTIFY: [u8; 2] = [1, 0];
/// A handshake message that announces new keys of its sender (section 4.6.3), without and with the wish that the other side does the same.
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
const KEY_UPDATE_REQUESTED: [u8; 5] = [24, 0, 0, 1, 1];

/// The most bytes of a record that is no application data: an alert has 2, a key update 5.
const CONTROL_BYTES_MAX: usize = 256;
/// Records that a key encrypts (RFC 8446, section 5.5, rounded down to a power of two), and full records of plaintext.
const RECORDS_MAX: u64 = 1 << 24;
const RECORD_BYTES: u64 = 16 << 10;
/// Key updates of the peer before the connection ends: each costs this side more than the peer.
const KEY_UPDATES_MAX: u32 = 1024;

/// A TLS connection whose records the kernel makes and opens.
pub struct KernelSession {
    stream: Stream,
    connection: RefCell<KernelConnection<ServerConnectionData>>,
    /// Records sent with the key in use, at the most.
    records: Cell<u64>,
    key_updates: Cell<u32>,
    said_goodbye: Cell<bool>,
}

/// What a control record means for the reading.
enum Control {
    /// Go on reading.
    Handled,
    /// Nothing more will come.
    Ended,
}

/// The keys of one direction as the kernel takes them; `None` for a cipher that it is not offered.
pub fn kernel_keys(sequence: u64, secrets: &ConnectionTrafficSecrets) -> Option<Keys> {
    let (cipher, key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Cipher::Aes128Gcm, key, iv),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Cipher::Aes256Gcm, key, iv),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Cipher::ChaCha20Poly1305, key, iv),
        _ => return None,
    };
    let iv = iv.as_ref().try_into().ok()?;
    (key.as_ref().len() == cipher.key_bytes()).then(|| Keys::new(cipher, key.as_ref(), iv, sequence))
}

impl KernelSession {
    /// A connection that the kernel has the keys of already; `records` were sent with them.
    pub fn new(stream: Stream, connection: KernelConnection<ServerConnectionData>, records: u64) -> Self {
        Self {
            stream,
            connection: RefCell::new(connection),
            records: Cell::new(records),
            key_updates: Cell::new(0),
            said_goodbye: Cell::new(false),
        }
    }

    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// `None` when no more will come.
    pub async fn recv(&self) -> io::Result<Option<ReceivedBytes>> {
        loop {
            match self.stream.recv().await {
                Err(error) if is_control(&error) => {
                    if let Control::Ended = self.handle_control()? {
                        return Ok(None);
                    }
                }
                received => return received.map(Some),
            }
        }
    }

    pub async fn recv_into(&self, mut buf: AlignedBuf, range: Range<usize>) -> WithBuf<usize> {
        loop {
            let (received, returned) = self.stream.recv_into(buf, range.clone()).await;
            buf = returned;
            match received {
                Err(error) if is_control(&error) => match self.handle_control() {
                    Ok(Control::Handled) => {}
                    Ok(Control::Ended) => return (Ok(0), buf),
                    Err(error) => return (Err(error), buf),
                },
                received => return (received, buf),
            }
        }
    }

    fn handle_control(&self) -> io::Result<Control> {
        let mut bytes = [0; CONTROL_BYTES_MAX];
        let (record_type, size) = self.stream.receive_control(&mut bytes)?;
        match (record_type, &bytes[..size]) {
            // A fatal alert ends the connection too; the next send finds out.
            (ALERT, _) => Ok(Control::Ended),
            (HANDSHAKE, message) if *message == KEY_UPDATE || *message == KEY_UPDATE_REQUESTED => {
                self.key_updates.set(self.key_updates.get() + 1);
                if self.key_updates.get() > KEY_UPDATES_MAX {
                    return Err(refused("too many key updates"));
                }
                self.update_receive_key()?;
                if *message == KEY_UPDATE_REQUESTED {
                    self.update_transmit_key()?;
                }
                Ok(Control::Handled)
            }
            (APPLICATION_DATA, _) => Err(refused("application data where a control record was")),
            (record_type, _) => {
                tracing::debug!(record_type, "the peer sent a TLS record that has no place after the handshake");
                Err(refused("an unexpected record"))
            }
        }
    }

    fn update_receive_key(&self) -> io::Result<()> {
        let (sequence, secrets) = self.connection.borrow_mut().update_rx_secret().map_err(io::Error::other)?;
        let keys = kernel_keys(sequence, &secrets).ok_or_else(|| refused("a cipher that the kernel has not"))?;
        self.stream.give_keys(Direction::Receive, &keys)
    }

    /// Announces new keys with the old ones, and goes on with the new ones.
    fn update_transmit_key(&self) -> io::Result<()> {
        let (sequence, secrets) = self.connection.borrow_mut().update_tx_secret().map_err(io::Error::other)?;
        let keys = kernel_keys(sequence, &secrets).ok_or_else(|| refused("a cipher that the kernel has not"))?;
        self.stream.send_control(HANDSHAKE, &KEY_UPDATE)?;
        self.records.set(0);
        self.stream.give_keys(Direction::Transmit, &keys)
    }

    /// Counts a send of this many bytes, before it.
    ///
    /// # Errors
    /// The keys are used up, and the kernel takes no new ones.
    pub fn count_sent(&self, bytes: usize) -> io::Result<()> {
        if !self.count_if_good(bytes) {
            self.update_transmit_key().inspect_err(|error| {
                tracing::debug!(%error, "the keys of a connection are used up, and the kernel takes no new ones");
            })?;
            assert!(self.count_if_good(bytes), "new keys are good for any send");
        }
        Ok(())
    }

    /// Counts a send of this many bytes, if the keys are good for it.
    pub fn count_if_good(&self, bytes: usize) -> bool {
        let records = self.records.get() + bytes as u64 / RECORD_BYTES + 1;
        let is_good = records <= RECORDS_MAX;
        if is_good {
            self.records.set(records);
        }
        is_good
    }

    pub fn say_goodbye(&self) {
        if self.said_goodbye.replace(true) {
            return;
        }
        // The peer may be gone, or take nothing: then there is nobody to tell.
        let _ = self.stream.send_control(ALERT, &CLOSE_NOTIFY);
    }
}

/// Whether a receive failed because the next record is no application data.
fn is_control(error: &io::Error) -> bool {
    /// `EIO`, on every architecture of Linux.
    const EIO: i32 = 5;
    error.raw_os_error() == Some(EIO)
}

fn refused(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
