//! Accepting connections: one multishot accept per core on a port that all cores share.

use std::io;
use std::net::SocketAddr;

use super::{RingIo, Stream};

/// A listening socket of one core (`SO_REUSEPORT`).
pub struct Listener(());

impl Listener {
    /// Binds and listens. With port 0 the kernel picks one: bind the first core, ask [`Listener::local_addr`], and bind the
    /// others to that.
    pub fn bind(io: &RingIo, address: SocketAddr) -> io::Result<Listener> {
        let _ = (io, address);
        todo!()
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        todo!()
    }

    /// The next connection. Re-arms the multishot accept when the kernel ended it. `EMFILE` and the like come as errors and
    /// leave the listener usable: wait a little, then call again.
    pub async fn accept(&mut self) -> io::Result<Stream> {
        todo!()
    }
}
