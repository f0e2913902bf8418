//! What carries the bytes of a connection: a plain socket, or TLS over one.
//!
//! The futures of TLS are boxed, so that the tasks of plain connections stay small.

use std::io;
use std::ops::Range;

use nabu_engine::io::{AlignedBuf, Body, WithBuf};
use nabu_engine::runtime::Stream;

use super::session::Session;
use crate::tls::ClientTls;

pub enum Transport {
    Plain(Stream),
    Tls(Box<Session>),
}

impl Transport {
    /// Shakes hands where `tls` is given, with a buffer of `buffer_size` bytes for what is
    /// received; the deadline of the stream holds for that, too.
    pub async fn open(stream: Stream, tls: Option<&ClientTls>, buffer_size: usize) -> io::Result<Self> {
        match tls {
            None => Ok(Self::Plain(stream)),
            Some(tls) => {
                let session = Box::pin(Session::open(stream, tls, buffer_size)).await?;
                Ok(Self::Tls(Box::new(session)))
            }
        }
    }

    /// The socket, for its deadline.
    pub fn stream(&self) -> &Stream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(session) => session.stream(),
        }
    }

    /// Receives at least one byte into `buf[range]`, as [`Stream::recv_into`].
    pub async fn recv_into(&mut self, buf: AlignedBuf, range: Range<usize>) -> WithBuf<usize> {
        match self {
            Self::Plain(stream) => stream.recv_into(buf, range).await,
            Self::Tls(session) => Box::pin(session.recv_into(buf, range)).await,
        }
    }

    /// Sends all of `bytes`, as [`Stream::send`].
    pub async fn send(&mut self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        match self {
            Self::Plain(stream) => stream.send(bytes).await,
            Self::Tls(session) => {
                let result = Box::pin(session.send(&bytes, &[])).await;
                (result, bytes)
            }
        }
    }

    /// Sends `head` and then `body[range]`, as [`Stream::send_with_head`].
    pub async fn send_with_head(
        &mut self,
        head: Vec<u8>,
        body: Body,
        range: Range<usize>,
    ) -> (io::Result<()>, Vec<u8>, Body) {
        match self {
            Self::Plain(stream) => stream.send_with_head(head, body, range).await,
            Self::Tls(session) => {
                let result = Box::pin(session.send(&head, &body[range])).await;
                (result, head, body)
            }
        }
    }
}
