//! Why a head is refused, and what the client gets.

use std::fmt;

/// Why a head is refused. The connection must be closed after the answer: what follows can't be
/// trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadError {
    /// Not HTTP; the offset of the first byte that is wrong, and what was expected there.
    Malformed { offset: usize, expected: &'static str },
    /// The head is larger, or has more fields, than the limits allow.
    TooLarge,
    /// The target is longer than the limits allow.
    TargetTooLong,
    /// A version other than 1.0 and 1.1.
    Version,
    /// Framing that request smuggling lives on: says which rule.
    Framing { reason: &'static str },
    /// A transfer coding other than `chunked`: 501.
    TransferCoding,
    /// No `Host` in HTTP/1.1, more than one, or one that is not a host with an optional port.
    Host,
    /// An expectation other than `100-continue`: 417.
    Expectation,
}

impl HeadError {
    /// The status that answers this head.
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed { .. } | Self::Framing { .. } | Self::Host => 400,
            Self::TooLarge => 431,
            Self::TargetTooLong => 414,
            Self::Version => 505,
            Self::TransferCoding => 501,
            Self::Expectation => 417,
        }
    }

    /// What was wrong and what to do, in a sentence for the client.
    pub fn message(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { offset, expected } => {
                write!(formatter, "the request head is not valid HTTP/1.1: byte {offset} should be {expected}")
            }
            Self::TooLarge => formatter.write_str("the request head is too large: send fewer or shorter header fields"),
            Self::TargetTooLong => formatter.write_str("the request target is too long: shorten the path or the query"),
            Self::Version => formatter.write_str("the HTTP version is not served: use HTTP/1.1"),
            Self::Framing { reason } => write!(formatter, "the length of the request body is ambiguous: {reason}"),
            Self::TransferCoding => formatter
                .write_str("the transfer coding is not served: send Transfer-Encoding: chunked, or Content-Length"),
            Self::Host => formatter.write_str("exactly one valid Host field is needed"),
            Self::Expectation => {
                formatter.write_str("the expectation is not served: send Expect: 100-continue, or none")
            }
        }
    }
}

impl std::error::Error for HeadError {}
