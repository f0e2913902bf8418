//! The streams of a connection: which are open, in which direction, and what may be sent on each.
//!
//! Invariants:
//! - A side numbers its streams one after another, so that a number below the next was used.
//! - What was on its way when a stream was forgotten can only be a credit or a reset; both are
//!   dropped. Anything else of a forgotten stream breaks the protocol.
//! - Both sides forget a stream before a frame can reach them that was sent after the other did. So
//!   a side that counts its own streams never exceeds what the peer counts.

use std::collections::BTreeMap;

use super::error::{SendError, SessionError};
use super::limits::{CREDIT_BYTES_MAX, STREAMS_MAX};
use crate::peer::frame::{FrameKind, StreamId};

/// Which side of a connection a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// It opened the connection; its streams have odd numbers.
    Initiator,
    /// It was called; its streams have even numbers.
    Acceptor,
}

impl Side {
    fn first_number(self) -> u32 {
        match self {
            Self::Initiator => 1,
            Self::Acceptor => 2,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Initiator => Self::Acceptor,
            Self::Acceptor => Self::Initiator,
        }
    }

    fn opens(self, stream: StreamId) -> bool {
        stream.get() % 2 == self.first_number() % 2
    }
}

/// The streams that one side opened.
#[derive(Debug)]
struct Opened {
    /// The number that it uses next; `None` when they are used up.
    next: Option<u32>,
    /// How many are open.
    count: usize,
}

impl Opened {
    fn new(side: Side) -> Self {
        Self { next: Some(side.first_number()), count: 0 }
    }

    fn take_next(&mut self) {
        self.next = self.next.and_then(|next| next.checked_add(2));
        self.count += 1;
    }

    fn has_used(&self, stream: StreamId) -> bool {
        self.next.is_none_or(|next| stream.get() < next)
    }
}

#[derive(Debug)]
struct Stream {
    /// This side hasn't sent its last frame.
    is_sending: bool,
    /// The peer hasn't sent its last frame.
    is_receiving: bool,
    /// This side gave it up: what still comes is dropped.
    is_given_up: bool,
    /// Bytes that this side may send.
    credit: u64,
    /// Bytes that the peer may send.
    granted: u64,
}

/// What a reset that came asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reset {
    /// The caller is to learn of it, and the peer is to get a reset.
    Answer,
    /// The caller is to learn of it.
    Tell,
    /// Nothing: the stream was given up here, or is forgotten.
    Known,
}

/// The streams of one connection.
#[derive(Debug)]
pub struct Streams {
    side: Side,
    open: BTreeMap<StreamId, Stream>,
    ours: Opened,
    theirs: Opened,
}

impl Streams {
    pub fn new(side: Side) -> Self {
        Self { side, open: BTreeMap::new(), ours: Opened::new(side), theirs: Opened::new(side.other()) }
    }

    /// How many are open, of this side and of the peer's.
    pub fn counts(&self) -> (usize, usize) {
        (self.ours.count, self.theirs.count)
    }

    pub fn open(&mut self) -> Result<StreamId, SendError> {
        if self.ours.count == STREAMS_MAX {
            return Err(SendError::TooManyStreams);
        }
        let stream = self.ours.next.and_then(StreamId::new).ok_or(SendError::NumbersUsedUp)?;
        self.ours.take_next();
        self.insert(stream);
        Ok(stream)
    }

    fn insert(&mut self, stream: StreamId) {
        let fresh = Stream { is_sending: true, is_receiving: true, is_given_up: false, credit: 0, granted: 0 };
        self.open.insert(stream, fresh);
    }

    /// Whether this side can still send on a stream.
    pub fn check_sending(&self, stream: StreamId) -> Result<(), SendError> {
        self.open.get(&stream).filter(|found| found.is_sending).map(|_| ()).ok_or(SendError::StreamGone)
    }

    fn sending(&mut self, stream: StreamId) -> Result<&mut Stream, SendError> {
        self.open.get_mut(&stream).filter(|found| found.is_sending).ok_or(SendError::StreamGone)
    }

    pub fn credit(&self, stream: StreamId) -> u64 {
        self.open.get(&stream).filter(|found| found.is_sending).map_or(0, |found| found.credit)
    }

    pub fn send_data(&mut self, stream: StreamId, length: u32) -> Result<(), SendError> {
        let found = self.sending(stream)?;
        let no_credit = SendError::NoCredit { available: found.credit };
        found.credit = found.credit.checked_sub(u64::from(length)).ok_or(no_credit)?;
        Ok(())
    }

    pub fn grant(&mut self, stream: StreamId, bytes: u32) -> Result<(), SendError> {
        let found = self.open.get_mut(&stream).filter(|found| found.is_receiving && !found.is_given_up);
        let found = found.ok_or(SendError::StreamGone)?;
        found.granted += u64::from(bytes);
        assert!(bytes > 0 && found.granted <= CREDIT_BYTES_MAX, "stream {stream}: {} bytes", found.granted);
        Ok(())
    }

    pub fn end(&mut self, stream: StreamId) -> Result<(), SendError> {
        self.sending(stream)?.is_sending = false;
        self.forget_if_over(stream);
        Ok(())
    }

    /// Gives a stream up, also where this side has ended it.
    pub fn reset(&mut self, stream: StreamId) -> Result<(), SendError> {
        let found = self.open.get_mut(&stream).filter(|found| !found.is_given_up).ok_or(SendError::StreamGone)?;
        (found.is_sending, found.is_given_up) = (false, true);
        self.forget_if_over(stream);
        Ok(())
    }

    fn forget_if_over(&mut self, stream: StreamId) {
        if self.open.get(&stream).is_some_and(|found| !found.is_sending && !found.is_receiving) {
            self.open.remove(&stream);
            let opened = if self.side.opens(stream) { &mut self.ours } else { &mut self.theirs };
            opened.count -= 1;
        }
    }

    /// Whether what comes on a stream is for the caller.
    pub fn is_wanted(&self, stream: StreamId) -> bool {
        self.open.get(&stream).is_some_and(|found| !found.is_given_up)
    }

    /// Whether the peer may open a stream of this number.
    pub fn check_open(&self, stream: StreamId) -> Result<(), SessionError> {
        if self.theirs.next != Some(stream.get()) {
            return Err(SessionError::OpenNumber { expected: self.theirs.next, got: stream });
        }
        if self.theirs.count == STREAMS_MAX {
            return Err(SessionError::TooManyStreams { stream });
        }
        Ok(())
    }

    pub fn receive_open(&mut self, stream: StreamId) -> Result<(), SessionError> {
        self.check_open(stream)?;
        self.theirs.take_next();
        self.insert(stream);
        Ok(())
    }

    /// The stream that a frame came on which its sender may send until its last.
    fn receiving(&mut self, kind: FrameKind, stream: StreamId) -> Result<&mut Stream, SessionError> {
        let found = self.open.get_mut(&stream).ok_or(SessionError::UnknownStream { kind, stream })?;
        if found.is_receiving { Ok(found) } else { Err(SessionError::EndedStream { kind, stream }) }
    }

    /// The stream that a credit or a reset came on; `None` if it is forgotten.
    fn known(&mut self, kind: FrameKind, stream: StreamId) -> Result<Option<&mut Stream>, SessionError> {
        let opened = if self.side.opens(stream) { &self.ours } else { &self.theirs };
        if !opened.has_used(stream) {
            return Err(SessionError::UnknownStream { kind, stream });
        }
        Ok(self.open.get_mut(&stream))
    }

    /// Whether the message is for the caller.
    pub fn receive_message(&mut self, stream: StreamId) -> Result<bool, SessionError> {
        Ok(!self.receiving(FrameKind::Message, stream)?.is_given_up)
    }

    /// Whether the data is for the caller.
    pub fn receive_data(&mut self, stream: StreamId, length: u32) -> Result<bool, SessionError> {
        let found = self.receiving(FrameKind::Data, stream)?;
        let violation = SessionError::FlowViolation { stream, granted: found.granted, got: length };
        found.granted = found.granted.checked_sub(u64::from(length)).ok_or(violation)?;
        Ok(!found.is_given_up)
    }

    /// What may be sent now, if anything can be.
    pub fn receive_credit(&mut self, stream: StreamId, bytes: u32) -> Result<Option<u64>, SessionError> {
        let Some(found) = self.known(FrameKind::Credit, stream)? else { return Ok(None) };
        let sum = found.credit + u64::from(bytes);
        if bytes == 0 || sum > CREDIT_BYTES_MAX {
            return Err(SessionError::Credit { stream, available: found.credit, got: bytes });
        }
        if !found.is_sending {
            return Ok(None);
        }
        found.credit = sum;
        Ok(Some(sum))
    }

    /// Whether the caller is to learn of it.
    pub fn receive_end(&mut self, stream: StreamId) -> Result<bool, SessionError> {
        let found = self.receiving(FrameKind::End, stream)?;
        found.is_receiving = false;
        let is_wanted = !found.is_given_up;
        self.forget_if_over(stream);
        Ok(is_wanted)
    }

    pub fn receive_reset(&mut self, stream: StreamId) -> Result<Reset, SessionError> {
        let Some(found) = self.known(FrameKind::Reset, stream)? else { return Ok(Reset::Known) };
        let reset = match (found.is_given_up, found.is_sending) {
            (true, _) => Reset::Known,
            (false, true) => Reset::Answer,
            (false, false) => Reset::Tell,
        };
        (found.is_sending, found.is_receiving) = (false, false);
        self.forget_if_over(stream);
        Ok(reset)
    }
}
