//! What can come from a peer.

use crate::peer::frame::StreamId;

/// What came next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// All input is consumed; give more.
    NeedMore,
    /// The peer opened a stream; the session's payload says what for.
    Opened { stream: StreamId },
    /// A message, which is the session's payload.
    Message { stream: Option<StreamId> },
    /// The peer granted more; this many bytes may be sent now.
    Credit { stream: StreamId, available: u64 },
    /// A data frame starts, of this many bytes.
    DataStart { stream: StreamId, length: u32 },
    /// The next `count` bytes after the consumed ones belong to it, and are not verified yet: take
    /// them, and continue behind them. Never zero.
    DataBytes { stream: StreamId, count: usize },
    /// All bytes of the data frame came, and their checksum is right.
    DataEnd { stream: StreamId },
    /// The peer sends nothing more on the stream.
    Ended { stream: StreamId },
    /// The peer gave the stream up; nothing more comes or goes on it.
    Reset { stream: StreamId, code: u32 },
    /// The answer to a ping.
    Pong { number: u64 },
    /// The peer is about to close the connection.
    Goodbye { reason: GoodbyeReason },
}

/// Why a node closes a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GoodbyeReason {
    /// It stops.
    Draining,
    /// It knows a later incarnation of the peer.
    OldIncarnation,
    /// The peer belongs to another cluster.
    WrongCluster,
    /// The peer doesn't keep to the protocol.
    ProtocolError,
    /// A reason that this version doesn't know.
    Other(u32),
}

impl GoodbyeReason {
    pub fn code(self) -> u32 {
        match self {
            Self::Draining => 1,
            Self::OldIncarnation => 2,
            Self::WrongCluster => 3,
            Self::ProtocolError => 4,
            Self::Other(code) => code,
        }
    }

    pub fn from_code(code: u32) -> Self {
        let known = [Self::Draining, Self::OldIncarnation, Self::WrongCluster, Self::ProtocolError];
        known.into_iter().find(|reason| reason.code() == code).unwrap_or(Self::Other(code))
    }
}
