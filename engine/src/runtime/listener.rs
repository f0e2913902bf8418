//! Accepting connections: one multishot accept per core on a port that all cores share.
//!
//! The accept is armed by the first call and stays armed between calls. When too many connections
//! wait to be taken it is cancelled, and armed again once they are taken; when the listener is
//! dropped, those that wait are closed.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;

use super::{RingIo, Stream};
use crate::ring::request::Request;
use crate::ring::{Key, sys};

/// A listening socket of one core (`SO_REUSEPORT`).
pub struct Listener {
    io: RingIo,
    socket: Rc<TcpListener>,
    accept: Option<Key>,
}

impl Listener {
    /// Binds and listens. With port 0 the kernel picks one: bind the first core, ask
    /// [`Listener::local_addr`], and bind the others to that.
    pub fn bind(io: &RingIo, address: SocketAddr) -> io::Result<Listener> {
        Ok(Listener { io: io.clone(), socket: Rc::new(sys::listen(address)?), accept: None })
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The next connection. Re-arms the multishot accept when the kernel ended it. `EMFILE` and the
    /// like come as errors and leave the listener usable: wait a little, then call again.
    pub async fn accept(&mut self) -> io::Result<Stream> {
        loop {
            let ring = self.io.ring();
            let key = *self.accept.get_or_insert_with(|| ring.start(Request::accept(&self.socket)));
            let Some(completion) = poll_fn(|context| ring.poll_accept(key, context)).await else {
                self.accept = None;
                continue;
            };
            match (completion.value(), completion.descriptor) {
                (Ok(_), Some(descriptor)) => return Ok(Stream::new(&self.io, TcpStream::from(descriptor))),
                (Ok(_), None) => unreachable!("an accept that succeeds has a descriptor"),
                (Err(error), _) => match error.raw_os_error() {
                    // Paused because too many connections waited; a peer that left while it waited;
                    // a signal.
                    Some(libc::ECANCELED | libc::ECONNABORTED | libc::EINTR | libc::EAGAIN) => {}
                    _ => return Err(error),
                },
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(key) = self.accept.take() {
            self.io.ring().orphan(key);
        }
    }
}
