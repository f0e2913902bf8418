//! What two nodes may say to each other on an established connection: messages, streams of data,
//! and the credits that bound them.
//!
//! | file | the question it answers |
//! | --- | --- |
//! | this one | What came, and what is sent? |
//! | `streams` | Which streams are open, and what may be sent on each? |
//! | `event` | What can come? |
//! | `limits` | How much may a session hold and a peer be granted? |
//! | `error` | Why is something refused, or not sent? |
//!
//! Invariants:
//! - A sender never has more data under way on a stream than the receiver granted, and a receiver
//!   refuses the first byte beyond it before it takes it.
//! - Each direction of a stream ends with one `end` or `reset`, and a stream is forgotten when both
//!   have: its sender's last frame tells the receiver that nothing is under way any more.
//! - The session holds the payload of one message; bytes of streams lie where the caller puts them.
//!
//! A stream is opened by an `open` frame, whose payload tells the layer above what it is for. It
//! starts without credit. Its side that gives it up sends a `reset`, and drops what still comes;
//! the other side answers with its own `reset`, unless it had ended already.

mod error;
mod event;
mod limits;
mod streams;

use super::codec::{get_u32, get_u64};
use super::frame::{FrameDecoder, FrameEncoder, FrameEvent, FrameHead, FrameKind, PayloadLimits, StreamId};
pub use error::{SendError, SessionError};
pub use event::{Event, GoodbyeReason};
use limits::KEPT_BYTES_MAX;
pub use limits::{CREDIT_BYTES_MAX, STREAMS_MAX};
pub use streams::Side;
use streams::{Reset, Streams};

/// Where the payload of the frame goes that is coming in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Destination {
    /// Into the buffer of the session.
    Buffer,
    /// To the caller, piece by piece.
    Caller(StreamId),
    /// Nowhere: its stream was given up.
    Nowhere,
}

/// One established connection, from this node's side.
#[derive(Debug)]
pub struct Session {
    decoder: FrameDecoder,
    encoder: FrameEncoder,
    streams: Streams,
    /// The frame that is coming in, or came last.
    head: Option<FrameHead>,
    destination: Destination,
    payload: Vec<u8>,
    /// Goes into every frame that is sent.
    ring_version: u64,
    /// The peer said goodbye.
    peer_leaves: bool,
    failed: Option<SessionError>,
}

impl Session {
    /// # Panics
    /// When the limits are beyond those of the protocol.
    pub fn new(side: Side, limits: PayloadLimits) -> Self {
        Self {
            decoder: FrameDecoder::new(limits),
            encoder: FrameEncoder::new(),
            streams: Streams::new(side),
            head: None,
            destination: Destination::Nowhere,
            payload: Vec::new(),
            ring_version: 0,
            peer_leaves: false,
            failed: None,
        }
    }

    /// Looks at `input`; returns how many bytes to skip first, and what follows them. With
    /// `Event::DataBytes` the caller's next input starts `count` bytes behind the skipped ones.
    /// What answers the peer by itself (a pong, a reset for a reset) is appended to `output`: a
    /// caller that can't send it stops reading. An error is final, and comes again; the caller says
    /// [`GoodbyeReason::ProtocolError`] and closes the connection.
    pub fn receive(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(usize, Event), SessionError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.advance(input, output).inspect_err(|error| self.failed = Some(*error))
    }

    fn advance(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(usize, Event), SessionError> {
        let mut at = 0;
        loop {
            let (skip, event) = self.decoder.next(&input[at..])?;
            at += skip;
            let found = match event {
                FrameEvent::NeedMore => Some(Event::NeedMore),
                FrameEvent::Head(head) => self.begin(head)?,
                FrameEvent::Payload(count) => {
                    // The stream may have been given up since its frame began.
                    if let Destination::Caller(stream) = self.destination
                        && self.streams.is_wanted(stream)
                    {
                        return Ok((at, Event::DataBytes { stream, count }));
                    }
                    if self.destination == Destination::Buffer {
                        self.payload.extend_from_slice(&input[at..at + count]);
                    }
                    at += count;
                    None
                }
                FrameEvent::End => self.complete(output)?,
            };
            if let Some(event) = found {
                return Ok((at, event));
            }
        }
    }

    /// A frame begins: whether it may come, before anything is taken of it.
    fn begin(&mut self, head: FrameHead) -> Result<Option<Event>, SessionError> {
        self.head = Some(head);
        self.payload.clear();
        self.payload.shrink_to(KEPT_BYTES_MAX);
        self.destination = Destination::Buffer;
        match (head.kind, head.stream) {
            (FrameKind::Data, Some(stream)) => {
                if self.streams.receive_data(stream, head.length)? {
                    self.destination = Destination::Caller(stream);
                    return Ok(Some(Event::DataStart { stream, length: head.length }));
                }
                self.destination = Destination::Nowhere;
            }
            (FrameKind::Message, Some(stream)) => {
                let is_wanted = self.streams.receive_message(stream)?;
                self.destination = if is_wanted { Destination::Buffer } else { Destination::Nowhere };
            }
            (FrameKind::Open, Some(stream)) => self.streams.check_open(stream)?,
            _ => {}
        }
        if self.destination == Destination::Buffer {
            self.payload.reserve_exact(head.length as usize);
        }
        Ok(None)
    }

    /// A frame is complete and verified: what it means.
    fn complete(&mut self, output: &mut Vec<u8>) -> Result<Option<Event>, SessionError> {
        let head = self.head.expect("a frame began");
        let Some(stream) = head.stream else { return Ok(self.complete_of_connection(head, output)) };
        let event = match head.kind {
            FrameKind::Open => {
                self.streams.receive_open(stream)?;
                Some(Event::Opened { stream })
            }
            FrameKind::Message => {
                let is_wanted = self.destination == Destination::Buffer && self.streams.is_wanted(stream);
                is_wanted.then_some(Event::Message { stream: Some(stream) })
            }
            FrameKind::Credit => {
                let available = self.streams.receive_credit(stream, get_u32(&self.payload, 0))?;
                available.map(|available| Event::Credit { stream, available })
            }
            FrameKind::Data => {
                let is_wanted = self.destination == Destination::Caller(stream) && self.streams.is_wanted(stream);
                is_wanted.then_some(Event::DataEnd { stream })
            }
            FrameKind::End => self.streams.receive_end(stream)?.then_some(Event::Ended { stream }),
            FrameKind::Reset => {
                let code = get_u32(&self.payload, 0);
                let reset = self.streams.receive_reset(stream)?;
                if reset == Reset::Answer {
                    self.frame(FrameKind::Reset, Some(stream), &code.to_le_bytes(), output);
                }
                (reset != Reset::Known).then_some(Event::Reset { stream, code })
            }
            FrameKind::Ping | FrameKind::Pong | FrameKind::Goodbye => unreachable!("they are about no stream"),
        };
        Ok(event)
    }

    fn complete_of_connection(&mut self, head: FrameHead, output: &mut Vec<u8>) -> Option<Event> {
        match head.kind {
            FrameKind::Ping => {
                let number = get_u64(&self.payload, 0);
                self.frame(FrameKind::Pong, None, &number.to_le_bytes(), output);
                None
            }
            FrameKind::Pong => Some(Event::Pong { number: get_u64(&self.payload, 0) }),
            FrameKind::Goodbye => {
                self.peer_leaves = true;
                Some(Event::Goodbye { reason: GoodbyeReason::from_code(get_u32(&self.payload, 0)) })
            }
            FrameKind::Message => Some(Event::Message { stream: None }),
            kind => unreachable!("a {kind} frame is about a stream"),
        }
    }

    /// The payload of the message or the open frame that came last, until more is received.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The same, to keep.
    pub fn take_payload(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.payload)
    }

    /// Bytes that the session holds for the peer.
    pub fn held_bytes(&self) -> usize {
        self.payload.capacity()
    }

    /// The version of the ring that the peer had when it sent the last frame; `None` before the
    /// first.
    pub fn peer_ring_version(&self) -> Option<u64> {
        self.head.map(|head| head.ring_version)
    }

    /// The version of the ring that goes into the frames from now on.
    pub fn set_ring_version(&mut self, ring_version: u64) {
        self.ring_version = ring_version;
    }

    /// Streams that count against [`STREAMS_MAX`], of this side and of the peer's.
    pub fn open_streams(&self) -> (usize, usize) {
        self.streams.counts()
    }

    /// Opens a stream, and tells the peer what it is for.
    ///
    /// # Panics
    /// When `payload` has more than [`super::frame::OPEN_BYTES_MAX`] bytes.
    pub fn open(&mut self, payload: &[u8], output: &mut Vec<u8>) -> Result<StreamId, SendError> {
        if self.peer_leaves {
            return Err(SendError::PeerLeaves);
        }
        let stream = self.streams.open()?;
        self.frame(FrameKind::Open, Some(stream), payload, output);
        Ok(stream)
    }

    /// Sends a message, of a stream or of the connection.
    ///
    /// # Panics
    /// When `payload` has more than [`super::frame::MESSAGE_BYTES_MAX`] bytes.
    pub fn message(&mut self, stream: Option<StreamId>, payload: &[u8], output: &mut Vec<u8>) -> Result<(), SendError> {
        if let Some(stream) = stream {
            self.streams.check_sending(stream)?;
        }
        self.frame(FrameKind::Message, stream, payload, output);
        Ok(())
    }

    /// Bytes of data that may be sent on a stream now; none when it can't be sent on.
    pub fn credit(&self, stream: StreamId) -> u64 {
        self.streams.credit(stream)
    }

    /// Appends the head of a data frame. Its payload, of this length and CRC32C, must be sent right
    /// behind it, before anything that is appended to an output later.
    ///
    /// # Panics
    /// When `length` is 0 or more than [`super::frame::DATA_BYTES_MAX`].
    pub fn data(
        &mut self,
        stream: StreamId,
        length: u32,
        checksum: u32,
        output: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        self.streams.send_data(stream, length)?;
        let head = self.encoder.head(FrameKind::Data, Some(stream), self.ring_version, length, checksum);
        output.extend_from_slice(&head);
        Ok(())
    }

    /// Grants the peer `bytes` more on a stream, which the caller has set aside.
    ///
    /// # Panics
    /// When `bytes` is 0, or the peer would have more than [`CREDIT_BYTES_MAX`].
    pub fn grant(&mut self, stream: StreamId, bytes: u32, output: &mut Vec<u8>) -> Result<(), SendError> {
        self.streams.grant(stream, bytes)?;
        self.frame(FrameKind::Credit, Some(stream), &bytes.to_le_bytes(), output);
        Ok(())
    }

    /// Ends this side's direction of a stream.
    pub fn end(&mut self, stream: StreamId, output: &mut Vec<u8>) -> Result<(), SendError> {
        self.streams.end(stream)?;
        self.frame(FrameKind::End, Some(stream), &[], output);
        Ok(())
    }

    /// Gives a stream up; what still comes on it is dropped. The code is the layer above's.
    pub fn reset(&mut self, stream: StreamId, code: u32, output: &mut Vec<u8>) -> Result<(), SendError> {
        self.streams.reset(stream)?;
        self.frame(FrameKind::Reset, Some(stream), &code.to_le_bytes(), output);
        Ok(())
    }

    /// Asks for a pong with the same number.
    pub fn ping(&mut self, number: u64, output: &mut Vec<u8>) {
        self.frame(FrameKind::Ping, None, &number.to_le_bytes(), output);
    }

    /// Says that this node is about to close the connection. The peer opens no stream after that;
    /// those that are open continue until either side closes.
    pub fn goodbye(&mut self, reason: GoodbyeReason, output: &mut Vec<u8>) {
        self.frame(FrameKind::Goodbye, None, &reason.code().to_le_bytes(), output);
    }

    fn frame(&mut self, kind: FrameKind, stream: Option<StreamId>, payload: &[u8], output: &mut Vec<u8>) {
        self.encoder.frame(kind, stream, self.ring_version, payload, output);
    }
}
