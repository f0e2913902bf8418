//! The kinds of frames, and what each may carry.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

/// Bytes of the payload that opens a stream.
pub const OPEN_BYTES_MAX: u32 = 64 << 10;
/// Bytes of a message. Messages aren't split: what is longer is several messages, or a stream.
pub const MESSAGE_BYTES_MAX: u32 = 1 << 20;
/// Bytes of the payload of a data frame: a cell of an erasure code, or a frame of the store with
/// its head, which fills a huge page.
pub const DATA_BYTES_MAX: u32 = 2 << 20;
/// Bytes of the payload of a frame that is skipped because its kind isn't known.
pub const IGNORED_BYTES_MAX: u32 = 64 << 10;
/// Bytes of the number that a ping and its pong carry.
pub const NUMBER_BYTES: u32 = 8;
/// Bytes that a credit carries: by how many bytes it raises what may be sent.
pub const CREDIT_BYTES: u32 = 4;
/// Bytes of the code of a reset.
pub const RESET_CODE_BYTES: u32 = 4;
/// Bytes of the reason of a goodbye.
pub const REASON_BYTES: u32 = 4;

const _: () = assert!(OPEN_BYTES_MAX <= MESSAGE_BYTES_MAX, "one buffer holds either");

/// A stream of a connection. The initiator's have odd numbers, the acceptor's even ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(NonZeroU32);

impl StreamId {
    /// `None` for 0, which stands for the connection.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameKind {
    /// Asks for a pong with the same number.
    Ping,
    Pong,
    /// The sender is about to leave, and says why.
    Goodbye,
    /// A message to the layer above, of the connection or of a stream.
    Message,
    /// Opens a stream; the payload is for the layer above.
    Open,
    /// Allows the peer to send more bytes of data on a stream.
    Credit,
    /// Bytes of a stream.
    Data,
    /// The sender sends nothing more on a stream.
    End,
    /// The sender gives a stream up, in both directions.
    Reset,
}

impl FrameKind {
    pub const ALL: [Self; 9] = [
        Self::Ping,
        Self::Pong,
        Self::Goodbye,
        Self::Message,
        Self::Open,
        Self::Credit,
        Self::Data,
        Self::End,
        Self::Reset,
    ];

    pub fn code(self) -> u8 {
        match self {
            Self::Ping => 1,
            Self::Pong => 2,
            Self::Goodbye => 3,
            Self::Message => 4,
            Self::Open => 5,
            Self::Credit => 6,
            Self::Data => 7,
            Self::End => 8,
            Self::Reset => 9,
        }
    }

    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Pong => "pong",
            Self::Goodbye => "goodbye",
            Self::Message => "message",
            Self::Open => "open",
            Self::Credit => "credit",
            Self::Data => "data",
            Self::End => "end",
            Self::Reset => "reset",
        }
    }

    /// Whether a frame of this kind may be about that stream; `None` is the connection.
    pub fn allows_stream(self, stream: Option<StreamId>) -> bool {
        match self {
            Self::Ping | Self::Pong | Self::Goodbye => stream.is_none(),
            Self::Message => true,
            Self::Open | Self::Credit | Self::Data | Self::End | Self::Reset => stream.is_some(),
        }
    }

    /// Bytes that the payload may have.
    pub fn payload_bytes(self, limits: &PayloadLimits) -> RangeInclusive<u32> {
        match self {
            Self::Ping | Self::Pong => NUMBER_BYTES..=NUMBER_BYTES,
            Self::Goodbye => REASON_BYTES..=REASON_BYTES,
            Self::Message => 0..=limits.message_bytes,
            Self::Open => 0..=limits.open_bytes,
            Self::Credit => CREDIT_BYTES..=CREDIT_BYTES,
            // A frame without data would cost no credit.
            Self::Data => 1..=limits.data_bytes,
            Self::End => 0..=0,
            Self::Reset => RESET_CODE_BYTES..=RESET_CODE_BYTES,
        }
    }
}

impl fmt::Display for FrameKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// What a receiver takes at most in one payload. The peer isn't told: limits below those of the
/// protocol are for two ends that are set up alike, as those of the simulation are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PayloadLimits {
    pub open_bytes: u32,
    pub message_bytes: u32,
    pub data_bytes: u32,
}

impl PayloadLimits {
    /// What the protocol allows.
    pub const PROTOCOL: Self =
        Self { open_bytes: OPEN_BYTES_MAX, message_bytes: MESSAGE_BYTES_MAX, data_bytes: DATA_BYTES_MAX };

    /// Whether they are within those of the protocol.
    pub(super) fn is_within_protocol(&self) -> bool {
        self.open_bytes <= OPEN_BYTES_MAX
            && self.message_bytes <= MESSAGE_BYTES_MAX
            && (1..=DATA_BYTES_MAX).contains(&self.data_bytes)
    }
}
