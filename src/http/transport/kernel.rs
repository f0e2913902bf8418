//! TLS in the kernel, after a handshake in this process: plaintext goes through the socket as on a
//! plain connection.
//!
//! What is left to do here are the records that are no application data. A receive that meets one
//! fails with `EIO`; an alert then ends the reading, and a key update changes the keys of the
//! kernel, which takes new ones from Linux 6.14 on. Before, the connection ends there: only peers
//! that send hundreds of gigabytes over one connection update their keys.
//!
//! Sent records are counted, since AES-GCM keys are good for 2^24 of them. Then this side updates
//! its keys; where the kernel takes no new ones, the connection ends after the answer in which half
//! of them were used ([`KernelSession::is_worn`]).
//!
//! Invariant: what is sent after a key change that failed half way could be read by nobody, so
//! nothing is (`broken`).

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
/// A handshake message that announces new keys of its sender (section 4.6.3), without and with the
/// wish that the other side does the same.
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
const KEY_UPDATE_REQUESTED: [u8; 5] = [24, 0, 0, 1, 1];

/// The most bytes of a record that isn't application data: an alert has 2, a key update 5.
const CONTROL_BYTES_MAX: usize = 256;
/// Records that a key encrypts (RFC 8446, section 5.5, rounded down to a power of two), and full
/// records of plaintext.
const RECORDS_MAX: u64 = 1 << 24;
const RECORD_BYTES: u64 = 16 << 10;
/// Key updates of the peer before the connection ends: each costs this side more than the peer.
const KEY_UPDATES_MAX: u32 = 1024;

/// A TLS connection whose records the kernel makes and opens.
pub struct KernelSession {
    stream: Stream,
    connection: RefCell<KernelConnection<ServerConnectionData>>,
    /// Whether the kernel takes new keys.
    takes_new_keys: bool,
    sent: Sent,
    key_updates: Cell<u32>,
    /// The peer wants new keys before anything else is sent.
    update_requested: Cell<bool>,
    /// A change of the sending key was begun and not finished.
    broken: Cell<bool>,
    said_goodbye: Cell<bool>,
}

/// Records sent with the key in use, at the most.
struct Sent(Cell<u64>);

impl Sent {
    /// Counts a send of this many bytes, if the key is good for it.
    fn count_if_good(&self, bytes: usize) -> bool {
        let records = self.0.get() + bytes as u64 / RECORD_BYTES + 1;
        let is_good = records <= RECORDS_MAX;
        if is_good {
            self.0.set(records);
        }
        is_good
    }

    /// Whether what is left should be kept for the answer in progress.
    fn is_worn(&self) -> bool {
        self.0.get() >= RECORDS_MAX / 2
    }
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
    pub fn new(
        stream: Stream,
        connection: KernelConnection<ServerConnectionData>,
        records: u64,
        takes_new_keys: bool,
    ) -> Self {
        Self {
            stream,
            connection: RefCell::new(connection),
            takes_new_keys,
            sent: Sent(Cell::new(records)),
            key_updates: Cell::new(0),
            update_requested: Cell::new(false),
            broken: Cell::new(false),
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
                    // An answer may be on its way now. The next send sees to it, which is early
                    // enough (RFC 8446, section 4.6.3).
                    self.update_requested.set(true);
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
        if !self.takes_new_keys {
            return Err(refused("a key update, for which the kernel takes no new keys"));
        }
        let (sequence, secrets) = self.connection.borrow_mut().update_rx_secret().map_err(io::Error::other)?;
        let keys = kernel_keys(sequence, &secrets).ok_or_else(|| refused("a cipher that the kernel does not have"))?;
        self.stream.give_keys(Direction::Receive, &keys)
    }

    /// Announces new keys with the old ones, and continues with the new ones.
    async fn update_transmit_key(&self) -> io::Result<()> {
        if !self.takes_new_keys {
            return Err(refused("the keys are used up, and the kernel takes no new ones"));
        }
        assert!(!self.broken.replace(true), "nothing is sent on a broken connection");
        let (sequence, secrets) = self.connection.borrow_mut().update_tx_secret().map_err(io::Error::other)?;
        let keys = kernel_keys(sequence, &secrets).ok_or_else(|| refused("a cipher that the kernel does not have"))?;
        self.stream.send_control(HANDSHAKE, &KEY_UPDATE).await?;
        self.stream.give_keys(Direction::Transmit, &keys)?;
        self.broken.set(false);
        self.update_requested.set(false);
        self.sent.0.set(0);
        Ok(())
    }

    /// Counts a send of this many bytes, before it; changes the keys before if that is due.
    ///
    /// # Errors
    /// The keys are used up, and the kernel takes no new ones; or a change of them failed.
    pub async fn count_sent(&self, bytes: usize) -> io::Result<()> {
        if self.count_if_good(bytes) {
            return Ok(());
        }
        if self.broken.get() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.update_transmit_key().await.inspect_err(|error| {
            tracing::debug!(%error, "the keys of a connection could not be changed");
        })?;
        assert!(self.count_if_good(bytes), "new keys are good for any send");
        Ok(())
    }

    /// Counts a send of this many bytes, if it may be sent with the keys as they are.
    pub fn count_if_good(&self, bytes: usize) -> bool {
        !self.broken.get() && !self.update_requested.get() && self.sent.count_if_good(bytes)
    }

    /// Whether the connection should end after the answer in progress, as the kernel takes no new
    /// keys when these are used up.
    pub fn is_worn(&self) -> bool {
        !self.takes_new_keys && self.sent.is_worn()
    }

    /// Tells the peer that nothing more will come, once everything before that is TCP's; as long as
    /// the deadline lets it.
    pub async fn say_goodbye(&self) {
        if self.said_goodbye.replace(true) || self.broken.get() {
            return;
        }
        // The peer may be gone, or take nothing: then there is nobody to tell.
        let _ = self.stream.send_last_control(ALERT, &CLOSE_NOTIFY).await;
    }
}

/// Whether a receive failed because the next record isn't application data.
fn is_control(error: &io::Error) -> bool {
    /// `EIO`, on every architecture of Linux.
    const EIO: i32 = 5;
    error.raw_os_error() == Some(EIO)
}

fn refused(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_good_for_its_records_and_no_more_and_worn_at_half_of_them() {
        let sent = Sent(Cell::new(0));
        assert!(sent.count_if_good(1) && sent.count_if_good(RECORD_BYTES as usize));
        assert_eq!(sent.0.get(), 3, "a send may share none of its records, and begin in the middle of one");
        assert!(!sent.is_worn());
        sent.0.set(RECORDS_MAX / 2);
        assert!(sent.is_worn());
        sent.0.set(RECORDS_MAX - 1);
        assert!(!sent.count_if_good(RECORD_BYTES as usize), "two records are too many");
        assert_eq!(sent.0.get(), RECORDS_MAX - 1, "what is not sent is not counted");
        assert!(sent.count_if_good(1) && !sent.count_if_good(1));
    }
}
