//! Why a connection has no transport.

use std::fmt;
use std::io;

use nabu_engine::runtime::Stream;

/// Why a connection did not become one.
#[derive(Debug)]
pub enum Refused {
    /// The client speaks plain HTTP.
    PlainHttp,
    /// The client speaks something else.
    NoTls,
    /// The client left, or took too long.
    Gone(io::Error),
    /// The two did not agree; the client was told by an alert.
    Protocol(rustls::Error),
    /// They agreed, and not on what nodes speak.
    OtherProtocol,
    /// The kernel took the connection half over.
    Kernel(io::Error),
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PlainHttp => formatter.write_str("the client speaks plain HTTP"),
            Self::NoTls => formatter.write_str("what the client sent is not TLS"),
            Self::Gone(error) if error.kind() == io::ErrorKind::TimedOut => {
                formatter.write_str("the TLS handshake took too long")
            }
            Self::Gone(error) => write!(formatter, "the client left in the TLS handshake: {error}"),
            Self::Protocol(error) => write!(formatter, "the TLS handshake failed: {error}"),
            Self::OtherProtocol => formatter.write_str("the other side does not speak nabu-peer/1"),
            Self::Kernel(error) => write!(formatter, "kernel TLS failed: {error}"),
        }
    }
}

impl Refused {
    /// The same, but that a deadline of the stream which has expired explains why the client left.
    pub fn or_late(self, stream: &Stream) -> Self {
        match self {
            Self::Gone(_) if stream.timed_out() => Self::Gone(io::ErrorKind::TimedOut.into()),
            refused => refused,
        }
    }
}
