//! Connections of which the kernel makes and opens the TLS records.
//!
//! After [`Stream::give_keys`] everything else that a [`Stream`] does takes and gives plaintext,
//! splices too. What differs: a receive that meets a record which is no application data fails with
//! `EIO`, and [`Stream::receive_control`] gets that record.

use std::io;
use std::time::Duration;

use super::Stream;
use super::stream::{Busy, Socket};
use crate::io::Clock;
use crate::ring::kernel_tls::{self, Direction, Keys};
use crate::ring::request::{Request, SendUntil};

/// How long a control record waits that a socket with room for it does not take: the kernel is
/// short of memory for all sockets then.
const NO_MEMORY_PAUSE: Duration = Duration::from_millis(10);

impl Stream {
    /// Puts the kernel's TLS layer on this connection, which passes everything through until it has
    /// keys. A failure changes nothing.
    pub fn attach_tls(&self) -> io::Result<()> {
        kernel_tls::attach(&self.0.socket)
    }

    /// From now on the kernel encrypts, or decrypts, with these keys.
    pub fn give_keys(&self, direction: Direction, keys: &Keys) -> io::Result<()> {
        kernel_tls::set_keys(&self.0.socket, direction, keys)?;
        if direction == Direction::Transmit {
            self.0.send_until.set(SendUntil::Part);
        }
        Ok(())
    }

    /// Sends a record that is no application data (an alert, a key update), once there is room for
    /// it; the stream's deadline ends the waiting. No other send may be in flight.
    pub async fn send_control(&self, record_type: u8, bytes: &[u8]) -> io::Result<()> {
        let Socket { io, socket, sending, .. } = &*self.0;
        let _busy = Busy::new(sending, "send");
        loop {
            io.ring().submit(Request::wait_writable(socket)).await.value()?;
            match kernel_tls::send_control(socket, record_type, bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => io.sleep(NO_MEMORY_PAUSE).await,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => return sent,
            }
        }
    }

    /// Sends the record that ends the writing, as [`Stream::send_control`], and sees to it that
    /// everything before it is TCP's: what the TLS layer itself still holds is lost when the socket
    /// is closed or its writing side is shut down.
    ///
    /// A send leaves a part with the layer, and says that all is well, where the socket fills up on
    /// the way. One that begins with a third of the socket free, which is what writable means, and
    /// ends with the socket still writable, has left nothing. Until it is so, the record is sent
    /// again: a peer ignores what follows it (RFC 8446, section 6.1).
    pub async fn send_last_control(&self, record_type: u8, bytes: &[u8]) -> io::Result<()> {
        loop {
            self.send_control(record_type, bytes).await?;
            if kernel_tls::is_writable(&self.0.socket)? {
                return Ok(());
            }
        }
    }

    /// Takes the record that is next, which a receive found to be no application data: its type and
    /// its size.
    pub fn receive_control(&self, buf: &mut [u8]) -> io::Result<(u8, usize)> {
        kernel_tls::receive_control(&self.0.socket, buf)
    }
}
