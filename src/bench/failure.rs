//! Why a request of the load failed: the kinds that the report counts.

use std::fmt;
use std::io;

/// Why a request failed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RequestError {
    ConnectionRefused,
    ConnectionReset,
    /// The connection ended before the answer did.
    ClosedEarly,
    /// No byte moved for as long as is allowed.
    TimedOut,
    /// The two sides don't agree on TLS, or the server's certificate isn't trusted; says why.
    Tls(String),
    /// Another error of the connection.
    Io(io::ErrorKind),
    /// No valid HTTP; says what is wrong.
    Protocol(String),
    /// Another status than the operation has on success.
    Status(u16),
    /// A byte of the body is another than was stored, or the hash of an answer is.
    WrongBytes,
    /// The body is longer or shorter than what was stored.
    WrongLength,
}

impl RequestError {
    pub fn of_io(error: &io::Error, timed_out: bool) -> Self {
        if timed_out {
            return Self::TimedOut;
        }
        if let Some(error) = tls_error(error) {
            return Self::Tls(error.to_string());
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::ConnectionRefused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
                Self::ConnectionReset
            }
            io::ErrorKind::TimedOut => Self::TimedOut,
            kind => Self::Io(kind),
        }
    }

    /// Whether the server answered, and answered something else than was stored.
    pub fn is_wrong_content(&self) -> bool {
        matches!(self, Self::WrongBytes | Self::WrongLength)
    }
}

/// The error of TLS that an error of the connection stands for.
pub fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

impl fmt::Display for RequestError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectionRefused => formatter.write_str("connection refused"),
            Self::ConnectionReset => formatter.write_str("connection reset"),
            Self::ClosedEarly => formatter.write_str("closed early"),
            Self::TimedOut => formatter.write_str("timed out"),
            Self::Tls(reason) => write!(formatter, "TLS error: {reason}"),
            Self::Io(kind) => write!(formatter, "{kind}"),
            Self::Protocol(reason) => write!(formatter, "protocol error: {reason}"),
            Self::Status(status) => write!(formatter, "status {status}"),
            Self::WrongBytes => formatter.write_str("wrong bytes"),
            Self::WrongLength => formatter.write_str("wrong length"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_connection_are_told_apart() {
        for (kind, error) in [
            (io::ErrorKind::ConnectionRefused, RequestError::ConnectionRefused),
            (io::ErrorKind::BrokenPipe, RequestError::ConnectionReset),
            (io::ErrorKind::ConnectionReset, RequestError::ConnectionReset),
            (io::ErrorKind::TimedOut, RequestError::TimedOut),
            (io::ErrorKind::OutOfMemory, RequestError::Io(io::ErrorKind::OutOfMemory)),
        ] {
            assert_eq!(RequestError::of_io(&kind.into(), false), error);
            assert_eq!(RequestError::of_io(&kind.into(), true), RequestError::TimedOut);
        }
        let error = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::DecryptError);
        assert!(matches!(RequestError::of_io(&error, false), RequestError::Tls(_)));
    }

    #[test]
    fn only_content_is_wrong_content() {
        assert!(RequestError::WrongBytes.is_wrong_content() && RequestError::WrongLength.is_wrong_content());
        assert!(!RequestError::Status(500).is_wrong_content() && !RequestError::ClosedEarly.is_wrong_content());
    }
}
