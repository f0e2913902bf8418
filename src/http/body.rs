//! The body of a request: received only when a handler asks for it, straight into the buffers of a
//! sink where its length is known.
//!
//! `100 Continue` is sent when the first byte is asked for, so every check that can refuse comes
//! before.

use std::ops::Range;
use std::rc::Rc;

use nabu_engine::content::Sink;
use nabu_engine::io::Clock;
use nabu_engine::runtime::Half;
use nabu_net::http::body::{ChunkDecoder, ChunkEvent};
use nabu_net::http::head::{BodyFraming, RequestHead};

use super::core::Core;
use super::error::HttpError;
use super::exchange::Exchange;
use super::phases::Phase;

/// The most bytes of an unwanted body that are read so that the connection can be kept.
const DRAIN_BYTES_MAX: u64 = 256 << 10;
/// The longest time for that.
const DRAIN_MS: u64 = 2_000;

/// The most bytes that a handler takes of a body, and the error for a client that sends more.
#[derive(Clone, Copy)]
pub struct SizeLimit {
    pub bytes: u64,
    pub refusal: fn(u64) -> HttpError,
}

impl SizeLimit {
    /// # Errors
    /// The refusal, for more bytes than that.
    pub fn check(self, bytes: u64) -> Result<(), HttpError> {
        if bytes > self.bytes { Err((self.refusal)(self.bytes)) } else { Ok(()) }
    }
}

/// How far the body is read.
pub struct Body {
    framing: Framing,
    /// The peer waits for a `100 Continue`.
    continue_pending: bool,
    /// The most bytes that the handler takes.
    limit: Option<SizeLimit>,
    /// The body can't be read on: it is malformed, or the peer stopped sending.
    failed: bool,
}

enum Framing {
    /// Bytes that are left.
    Length(u64),
    Chunked {
        decoder: ChunkDecoder,
        ended: bool,
    },
}

impl Body {
    pub fn new(head: &RequestHead) -> Self {
        let framing = match head.framing() {
            BodyFraming::None => Framing::Length(0),
            BodyFraming::Length(length) => Framing::Length(length),
            BodyFraming::Chunked => Framing::Chunked { decoder: ChunkDecoder::default(), ended: false },
        };
        let continue_pending = head.expects_continue() && !head.is_http_10();
        let mut body = Self { framing, continue_pending, limit: None, failed: false };
        body.continue_pending &= !body.is_finished();
        body
    }

    pub fn is_finished(&self) -> bool {
        match &self.framing {
            Framing::Length(left) => *left == 0,
            Framing::Chunked { ended, .. } => *ended,
        }
    }

    /// Whether what is left is little enough to be read and thrown away. A peer that waits for
    /// `100 Continue` may or may not send its body after another answer, so the connection has to
    /// end.
    pub fn can_be_drained(&self) -> bool {
        if self.failed || (self.continue_pending && !self.is_finished()) {
            return false;
        }
        match &self.framing {
            Framing::Length(left) => *left <= DRAIN_BYTES_MAX,
            Framing::Chunked { ended, .. } => *ended,
        }
    }

    /// The bytes that are left, if known.
    pub fn length(&self) -> Option<u64> {
        match &self.framing {
            Framing::Length(left) => Some(*left),
            Framing::Chunked { .. } => None,
        }
    }
}

/// Memory of a request, charged to its core until dropped.
pub struct Charge {
    core: Rc<Core>,
    bytes: u64,
}

impl Charge {
    /// Charges as many bytes as are needed now.
    ///
    /// # Errors
    /// 503 where too many requests need memory.
    pub fn need(&mut self, bytes: u64) -> Result<(), HttpError> {
        if bytes <= self.bytes {
            return Ok(());
        }
        // Released first, so that a request never waits for itself.
        self.core.release_body(std::mem::take(&mut self.bytes));
        if !self.core.charge_body(bytes) {
            return Err(HttpError::unavailable("busy", "too many requests need memory; try again"));
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.core.release_body(self.bytes);
    }
}

impl Exchange {
    /// The length of the body, if it is known before it is read.
    pub fn body_length(&self) -> Option<u64> {
        self.body.length()
    }

    /// Refuses a body over this limit as soon as it is announced.
    ///
    /// # Errors
    /// The refusal, where the length of the body is known and over it.
    pub fn limit_body(&mut self, limit: SizeLimit) -> Result<(), HttpError> {
        self.body.limit = Some(limit);
        limit.check(self.body.length().unwrap_or(0))
    }

    /// Receives the whole body into a sink.
    pub async fn receive_into<S: Sink>(&mut self, sink: &mut S) -> Result<(), HttpError>
    where
        HttpError: From<S::Error>,
    {
        while let Some(piece) = self.buffered_piece(true).await? {
            self.enter_once(Phase::Hash);
            sink.write(&self.input[piece]).await?;
        }
        while let Framing::Length(left) = self.body.framing
            && left > 0
        {
            if self.body.continue_pending {
                self.enter(Phase::Receive);
                self.send_continue().await?;
            }
            if self.is_shaped() {
                Box::pin(self.shape(Phase::Receive)).await;
            }
            self.enter(Phase::Buffer);
            let (buf, mut range) = sink.space().await?;
            // Never past the body: what follows belongs to the next request.
            range.end = range.start + (range.len() as u64).min(left) as usize;
            self.enter(Phase::Receive);
            self.set_progress_deadline();
            let (result, buf) = self.stream.recv_into(buf, range).await;
            self.stream.set_deadline(None);
            let count = result.unwrap_or(0);
            if count == 0 {
                return Err(self.broken_body());
            }
            self.body.framing = Framing::Length(left - count as u64);
            self.received_body_bytes += count as u64;
            self.enter(Phase::Hash);
            sink.fill(buf, count).await?;
        }
        Ok(())
    }

    /// The memory that this request holds beside its buffers: none yet.
    pub fn hold_memory(&self) -> Charge {
        Charge { core: self.core.clone(), bytes: 0 }
    }

    /// Received bytes of the body, as [`Exchange::next_piece`] gave them.
    pub fn bytes(&self, piece: Range<usize>) -> &[u8] {
        &self.input[piece]
    }

    /// Reads what is left of the body, within its bounds; false when the connection can't be kept.
    pub(super) async fn drain_body(&mut self) -> bool {
        self.core.set_deadline(&self.stream, DRAIN_MS, Half::Read);
        loop {
            if let Framing::Length(left) = &mut self.body.framing {
                let here = (*left).min((self.input.len() - self.cursor) as u64);
                *left -= here;
                self.cursor += here as usize;
            }
            if self.body.is_finished() {
                self.stream.set_deadline(None);
                return true;
            }
            if !self.refill().await {
                return false;
            }
        }
    }

    /// The next bytes of the body, as a range for [`Exchange::bytes`]; `None` at its end. They stay
    /// there until the next call.
    pub async fn next_piece(&mut self) -> Result<Option<Range<usize>>, HttpError> {
        loop {
            if let Some(piece) = self.buffered_piece(false).await? {
                return Ok(Some(piece));
            }
            if self.body.is_finished() {
                return Ok(None);
            }
            self.receive_more().await?;
        }
    }

    /// The next bytes of the body among those received already. For a chunked body it receives more
    /// where it may `wait`.
    async fn buffered_piece(&mut self, wait: bool) -> Result<Option<Range<usize>>, HttpError> {
        loop {
            let unread = self.input.len() - self.cursor;
            match &mut self.body.framing {
                Framing::Length(left) => {
                    let size = (*left).min(unread as u64) as usize;
                    *left -= size as u64;
                    let piece = self.cursor..self.cursor + size;
                    self.cursor = piece.end;
                    self.received_body_bytes += size as u64;
                    return Ok((size > 0).then_some(piece));
                }
                Framing::Chunked { ended: true, .. } => return Ok(None),
                Framing::Chunked { decoder, ended } => match decoder.next(&self.input[self.cursor..]) {
                    Ok((skipped, event)) => {
                        self.cursor += skipped;
                        if let Some(limit) = self.body.limit {
                            // A chunk tells its size before its data.
                            let coming = if let ChunkEvent::Data(size) = event { size as u64 } else { 0 };
                            let announced = decoder.remaining().saturating_add(coming);
                            limit.check(self.received_body_bytes.saturating_add(announced))?;
                        }
                        match event {
                            ChunkEvent::Data(size) => {
                                let piece = self.cursor..self.cursor + size;
                                self.cursor = piece.end;
                                self.received_body_bytes += size as u64;
                                return Ok(Some(piece));
                            }
                            ChunkEvent::End => {
                                *ended = true;
                                return Ok(None);
                            }
                            ChunkEvent::NeedMore if !wait => return Ok(None),
                            ChunkEvent::NeedMore => {}
                        }
                    }
                    Err(error) => {
                        self.body.failed = true;
                        let message = format!("the chunked body is malformed: {}", error.reason);
                        return Err(HttpError::new(400, "malformed chunked body", message));
                    }
                },
            }
            self.receive_more().await?;
        }
    }

    async fn receive_more(&mut self) -> Result<(), HttpError> {
        self.enter(Phase::Receive);
        self.send_continue().await?;
        if self.is_shaped() {
            Box::pin(self.shape(Phase::Receive)).await;
        }
        self.set_progress_deadline();
        let more = self.refill().await;
        self.stream.set_deadline(None);
        if more { Ok(()) } else { Err(self.broken_body()) }
    }

    /// Receives into `input`, whose read part makes room; false at the end of the stream. The head
    /// stays.
    async fn refill(&mut self) -> bool {
        match self.stream.recv().await {
            Ok(bytes) if !bytes.is_empty() => {
                let head_size = self.head_size();
                self.input.drain(head_size..self.cursor);
                self.cursor = head_size;
                self.input.extend_from_slice(&bytes);
                true
            }
            _ => false,
        }
    }

    async fn send_continue(&mut self) -> Result<(), HttpError> {
        if !std::mem::take(&mut self.body.continue_pending) || self.cursor < self.input.len() {
            return Ok(());
        }
        let mut line = self.core.vector();
        line.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        self.core.set_send_deadline(&self.stream, self.core.io.now(), line.len());
        let (result, line) = self.stream.send(line).await;
        self.stream.set_deadline(None);
        self.core.recycle(line);
        result.map_err(|_| self.broken_body())
    }

    fn set_progress_deadline(&self) {
        self.core.set_deadline(&self.stream, self.core.limits().progress_timeout_ms, Half::Read);
    }

    /// Why the body ended early.
    fn broken_body(&mut self) -> HttpError {
        self.body.failed = true;
        if self.stream.timed_out() {
            let milliseconds = self.core.limits().progress_timeout_ms;
            return HttpError::new(
                408,
                "request timeout",
                format!("no part of the body arrived for {milliseconds} ms"),
            );
        }
        HttpError::new(400, "incomplete body", "the connection ended before the body was complete; nothing was stored")
    }
}
