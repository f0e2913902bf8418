//! What carries the bytes of a connection: a plain socket, TLS in this process, or TLS in the
//! kernel.
//!
//! | file | what it holds |
//! | --- | --- |
//! | this one | the choice, once per connection, and what an exchange may do with each kind |
//! | `handshake` | from an accepted socket to a transport |
//! | `hello` | what a TLS client asks for first |
//! | `link` | TLS of connections between nodes |
//! | `refused` | why a connection has no transport |
//! | `session` | TLS in this process: encrypting, decrypting, ending |
//! | `state` | the protocol of TLS without its I/O |
//! | `kernel` | TLS in the kernel: the records that are no application data |
//!
//! Plain and kernel transports send and receive plaintext on the socket itself, so everything that
//! holds there (no copies, deadlines, half-closing) holds for both. The futures of the third kind
//! are boxed, so that the tasks of the others stay small.
//!
//! It dereferences to the socket for what is the same for all: deadlines, breaking off, and reading
//! bytes only to throw them away.

mod handshake;
mod hello;
mod kernel;
mod link;
mod refused;
mod session;
mod state;

use std::io;
use std::ops::{Deref, Range};
use std::rc::Rc;

use nabu_engine::io::{AlignedBuf, Body, WithBuf};
use nabu_engine::runtime::{Half, ReceivedBytes, Splice, Stream};

pub use self::handshake::accept;
pub use self::hello::offers;
use self::kernel::KernelSession;
pub use self::link::{accept_link, connect_link};
pub use self::refused::Refused;
pub use self::session::{RECORDS_BYTES, SEALED_AT_ONCE, SEALED_HEAD_BYTES_MAX, Session};
use crate::tls::Binding;

/// What saying goodbye takes at most, for its deadline.
pub const GOODBYE_BYTES: usize = 64;

/// A connection's transport; clones share it.
#[derive(Clone)]
pub enum Transport {
    Plain(Stream),
    Tls(Rc<Session>),
    Kernel(Rc<KernelSession>),
}

/// Received bytes of the request; empty means that no more will come.
pub enum Received {
    /// In a buffer of the ring, so keep them short.
    Provided(ReceivedBytes),
    Decrypted(Vec<u8>),
    Ended,
}

impl Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Received::Provided(bytes) => bytes,
            Received::Decrypted(bytes) => bytes,
            Received::Ended => &[],
        }
    }
}

impl Deref for Transport {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        match self {
            Transport::Plain(stream) => stream,
            Transport::Tls(session) => session.stream(),
            Transport::Kernel(session) => session.stream(),
        }
    }
}

impl Transport {
    /// TLS in this process, where large bodies are encrypted on their way; elsewhere they can be
    /// spliced.
    pub fn session(&self) -> Option<&Rc<Session>> {
        match self {
            Transport::Tls(session) => Some(session),
            Transport::Plain(_) | Transport::Kernel(_) => None,
        }
    }

    /// What binds a handshake of nodes to this connection, where it speaks the TLS of nodes. Such a
    /// connection has shown no client certificate, and so is good for nothing else.
    pub fn binding(&self) -> Option<&Binding> {
        self.session().and_then(|session| session.binding())
    }

    /// Receives what is there, as [`Stream::recv`].
    pub async fn recv(&self) -> io::Result<Received> {
        match self {
            Transport::Plain(stream) => stream.recv().await.map(Received::Provided),
            Transport::Tls(session) => Box::pin(session.recv()).await.map(Received::Decrypted),
            Transport::Kernel(session) => {
                Box::pin(session.recv()).await.map(|bytes| bytes.map_or(Received::Ended, Received::Provided))
            }
        }
    }

    /// Receives at least one byte into `buf[range]`, as [`Stream::recv_into`].
    pub async fn recv_into(&self, buf: AlignedBuf, range: Range<usize>) -> WithBuf<usize> {
        match self {
            Transport::Plain(stream) => stream.recv_into(buf, range).await,
            Transport::Tls(session) => Box::pin(session.recv_into(buf, range)).await,
            Transport::Kernel(session) => Box::pin(session.recv_into(buf, range)).await,
        }
    }

    /// Receives at least one byte into the front of `bytes`, as [`Stream::recv_bytes`]; for a
    /// connection between nodes, which is never in the kernel. Under TLS an end that the peer has
    /// not announced is an error.
    pub async fn recv_bytes(&self, bytes: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        match self {
            Transport::Plain(stream) => stream.recv_bytes(bytes).await,
            Transport::Tls(session) => session.recv_bytes(bytes).await,
            Transport::Kernel(_) => unreachable!("no connection between nodes is given to the kernel"),
        }
    }

    /// Sends all of `bytes`, as [`Stream::send`].
    pub async fn send(&self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        match self {
            Transport::Plain(stream) => stream.send(bytes).await,
            Transport::Tls(session) => {
                let result = Box::pin(session.send(&bytes, &[])).await;
                (result, bytes)
            }
            Transport::Kernel(session) => match counted(session, bytes.len()).await {
                Ok(()) => session.stream().send(bytes).await,
                Err(error) => (Err(error), bytes),
            },
        }
    }

    /// Sends `head` and then `body[range]`, as [`Stream::send_with_head`].
    pub async fn send_with_head(
        &self,
        head: Vec<u8>,
        body: Body,
        range: Range<usize>,
    ) -> (io::Result<()>, Vec<u8>, Body) {
        match self {
            Transport::Plain(stream) => stream.send_with_head(head, body, range).await,
            Transport::Tls(session) => {
                let result = Box::pin(session.send(&head, &body[range])).await;
                (result, head, body)
            }
            Transport::Kernel(session) => match counted(session, head.len() + range.len()).await {
                Ok(()) => session.stream().send_with_head(head, body, range).await,
                Err(error) => (Err(error), head, body),
            },
        }
    }

    /// Sends what fits into the socket now, as [`Stream::send_now`]; never where this process
    /// encrypts, as records leave whole.
    pub async fn send_now(&self, bytes: &[u8], more: bool) -> io::Result<usize> {
        match self {
            Transport::Plain(stream) => stream.send_now(bytes, more),
            Transport::Tls(_) => unreachable!("what this process encrypts is sealed first"),
            Transport::Kernel(session) => {
                counted(session, bytes.len()).await?;
                session.stream().send_now(bytes, more)
            }
        }
    }

    /// Starts to send without copying, as [`Stream::begin_splice`]; never where this process
    /// encrypts.
    pub fn begin_splice(&self) -> Option<Splice<'_>> {
        match self {
            Transport::Plain(stream) => stream.begin_splice(),
            Transport::Tls(_) => None,
            Transport::Kernel(session) => session.stream().begin_splice(),
        }
    }

    /// Counts bytes that are about to be spliced; false, and not counted, when something else must
    /// be sent before: then the splice has to end, and the next send sees to it.
    pub fn count_spliced(&self, bytes: usize) -> bool {
        match self {
            Transport::Kernel(session) => session.count_if_good(bytes),
            Transport::Plain(_) | Transport::Tls(_) => true,
        }
    }

    /// Whether the connection should end after this answer.
    pub fn is_worn(&self) -> bool {
        match self {
            Transport::Kernel(session) => session.is_worn(),
            Transport::Plain(_) | Transport::Tls(_) => false,
        }
    }

    /// Tells the peer that nothing more will come, as far as the transport has a word for it
    /// besides closing. It may take as long as the deadline.
    pub async fn say_goodbye(&self) {
        match self {
            Transport::Plain(_) => {}
            Transport::Tls(session) => Box::pin(session.say_goodbye()).await,
            Transport::Kernel(session) => Box::pin(session.say_goodbye()).await,
        }
    }

    /// Says goodbye and ends the writing side.
    pub async fn end_writing(&self) {
        self.say_goodbye().await;
        self.shutdown(Half::Write);
    }
}

/// Counts a send of the kernel, which usually takes no waiting.
async fn counted(session: &KernelSession, bytes: usize) -> io::Result<()> {
    if session.count_if_good(bytes) { Ok(()) } else { Box::pin(session.count_sent(bytes)).await }
}
