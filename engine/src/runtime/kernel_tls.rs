//! Connections of which the kernel makes and opens the TLS records.
//!
//! After [`Stream::give_keys`] everything else that a [`Stream`] does takes and gives plaintext, splices too. What differs: a receive that meets a record
//! which is no application data fails with `EIO`, and [`Stream::receive_control`] gets that record.

use std::io;

use super::Stream;
use crate::ring::kernel_tls::{self, Direction, Keys};

impl Stream {
    /// Puts the kernel's TLS layer on this connection, which passes everything through until it has keys. A failure changes nothing.
    pub fn attach_tls(&self) -> io::Result<()> {
        kernel_tls::attach(&self.0.socket)
    }

    /// From now on the kernel encrypts, or decrypts, with these keys.
    pub fn give_keys(&self, direction: Direction, keys: &Keys) -> io::Result<()> {
        kernel_tls::set_keys(&self.0.socket, direction, keys)
    }

    /// Sends a record that is no application data (an alert, a key update), if there is room for it now. No other send may be in flight.
    pub fn send_control(&self, record_type: u8, bytes: &[u8]) -> io::Result<()> {
        assert!(!self.0.sending.get(), "a control record in the middle of a send");
        kernel_tls::send_control(&self.0.socket, record_type, bytes)
    }

    /// Takes the record that is next, which a receive found to be no application data: its type and its size.
    pub fn receive_control(&self, buf: &mut [u8]) -> io::Result<(u8, usize)> {
        kernel_tls::receive_control(&self.0.socket, buf)
    }
}
