//! Why a session refuses what came, and why it can't send.

use std::fmt;

use super::limits::{CREDIT_BYTES_MAX, STREAMS_MAX};
use crate::peer::frame::{FrameError, FrameKind, StreamId};

/// Why what came is refused: the peer doesn't keep to the protocol, or bytes broke on the way. The
/// connection must be closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionError {
    Frame(FrameError),
    /// A stream is opened with another number than the next of its side; `None` when all are used.
    OpenNumber {
        expected: Option<u32>,
        got: StreamId,
    },
    TooManyStreams {
        stream: StreamId,
    },
    /// A frame of a stream that was never opened, or that is forgotten.
    UnknownStream {
        kind: FrameKind,
        stream: StreamId,
    },
    /// A frame of a stream behind its sender's last.
    EndedStream {
        kind: FrameKind,
        stream: StreamId,
    },
    /// More data than was granted.
    FlowViolation {
        stream: StreamId,
        granted: u64,
        got: u32,
    },
    /// A credit of nothing, or of more than a stream can have.
    Credit {
        stream: StreamId,
        available: u64,
        got: u32,
    },
}

impl From<FrameError> for SessionError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(error) => error.fmt(formatter),
            Self::OpenNumber { expected: Some(expected), got } => {
                write!(formatter, "the peer opens stream {got} where {expected} is next")
            }
            Self::OpenNumber { expected: None, got } => {
                write!(formatter, "the peer opens stream {got} where all numbers are used up")
            }
            Self::TooManyStreams { stream } => {
                write!(formatter, "the peer opens stream {stream} while it has {STREAMS_MAX} open")
            }
            Self::UnknownStream { kind, stream } => {
                write!(formatter, "a {kind} frame names stream {stream}, which isn't open")
            }
            Self::EndedStream { kind, stream } => {
                write!(formatter, "a {kind} frame follows the end of stream {stream}")
            }
            Self::FlowViolation { stream, granted, got } => {
                write!(formatter, "the peer sends {got} bytes on stream {stream}, where it was granted {granted}")
            }
            Self::Credit { stream, available, got } => write!(
                formatter,
                "the peer grants {got} bytes on stream {stream} in addition to {available}: it should be more than \
                 none, and at most {CREDIT_BYTES_MAX} in all"
            ),
        }
    }
}

impl std::error::Error for SessionError {}

/// Why something isn't sent. Nothing was appended, and the connection continues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendError {
    /// The stream was ended or given up, by either side.
    StreamGone,
    /// The stream has less credit than the data has bytes.
    NoCredit { available: u64 },
    /// As many streams are open as may be: wait until one is over.
    TooManyStreams,
    /// All numbers of streams are used up: open another connection.
    NumbersUsedUp,
    /// The peer said goodbye: open another connection.
    PeerLeaves,
}

impl fmt::Display for SendError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StreamGone => formatter.write_str("the stream is over"),
            Self::NoCredit { available } => {
                write!(formatter, "the peer takes no more than {available} bytes on the stream now")
            }
            Self::TooManyStreams => write!(formatter, "{STREAMS_MAX} streams are open on the connection already"),
            Self::NumbersUsedUp => formatter.write_str("the connection has no numbers left for streams"),
            Self::PeerLeaves => formatter.write_str("the peer is about to close the connection"),
        }
    }
}

impl std::error::Error for SendError {}
