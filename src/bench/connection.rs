//! One connection of the load generator: a request out, its answer in, nothing pipelined.
//!
//! Invariants: no bytes of an answer are left behind when the next request goes out, because a
//! server that sends more than it announced breaks the connection. After any error of the
//! connection itself it is good for nothing but being dropped.
//!
//! Bodies are received into one large buffer that is used over and over, and copied nowhere but
//! where they are decrypted; heads stand at its beginning.

use std::time::Duration;

use nabu_engine::io::{AlignedBuf, Body, Clock};
use nabu_engine::runtime::{Half, RingIo, Stream};
use nabu_engine::types::{ContentHash, unhex};
use nabu_net::http::body::{ChunkDecoder, ChunkEvent};
use nabu_net::http::response_head::{AnswerTo, ResponseFraming, ResponseHead, ResponseHeadLimits, ResponseHeadParser};

use super::content::{Contents, TILE_SIZE};
use super::failure::RequestError;
use super::session::INCOMING_SIZE_MIN;
use super::target::Target;
use super::transport::Transport;

/// The largest buffer of a connection: those of 16 fit a cache together. Four times as much cost
/// the client a tenth more.
pub const RECEIVE_SIZE_MAX: usize = 256 << 10;
/// The smallest: a head fits, and a record of TLS. Ten thousand connections hold 200 MB; over
/// https:// twice as much, because ciphertext has a buffer of the same size.
const RECEIVE_SIZE_MIN: usize = 20 << 10;
const LIMITS: ResponseHeadLimits = ResponseHeadLimits { head_bytes: 16 << 10, fields: 128 };
/// The most bytes of an answer that is kept.
const KEPT_BYTES_MAX: usize = 64 << 10;
/// Interim answers before the final one.
const INTERIM_MAX: usize = 8;
/// Bytes thrown away in one go.
const DISCARD_SIZE: usize = 64 << 20;

const _: () = assert!(LIMITS.head_bytes <= RECEIVE_SIZE_MIN && INCOMING_SIZE_MIN <= RECEIVE_SIZE_MIN);

/// What happens with the body of an answer.
pub enum BodyUse<'b> {
    /// It is received and not looked at.
    Ignore,
    /// The kernel throws it away; over TLS it must be decrypted, so it is only ignored.
    Discard,
    Keep(&'b mut Vec<u8>),
    /// It must be the part of the object that starts at `offset`.
    Verify {
        contents: &'b Contents,
        object: u64,
        offset: u64,
    },
}

/// The answer to a request, its body received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    pub status: u16,
    /// Of the body as it came.
    pub body_size: u64,
    /// Of the head, also where no body follows.
    pub content_length: Option<u64>,
    /// The hash that the entity tag is, if it is one.
    pub hash: Option<ContentHash>,
    /// A byte was another than expected.
    pub is_wrong: bool,
    /// Another request may follow.
    pub keep_alive: bool,
}

/// Told of bytes as they move.
pub trait Meter {
    fn received(&self, bytes: u64);
    fn sent(&self, bytes: u64);
}

/// An open connection.
pub struct Connection<M> {
    io: RingIo,
    transport: Transport,
    parser: ResponseHeadParser,
    /// Taken while the kernel has it.
    input: Option<AlignedBuf>,
    /// Of uploads; made when the first one comes.
    output: Option<AlignedBuf>,
    head: Vec<u8>,
    progress_timeout: Duration,
    meter: M,
}

/// What a connection needs to know.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionOptions<'t> {
    pub target: &'t Target,
    pub progress_timeout: Duration,
    /// The largest body that is expected; the buffer is no larger than it needs to be.
    pub body_size_max: u64,
}

impl<M: Meter> Connection<M> {
    pub async fn open(io: &RingIo, options: &ConnectionOptions<'_>, meter: M) -> Result<Self, RequestError> {
        let Target { address, tls, .. } = options.target;
        let stream = Stream::connect(io, *address).await.map_err(|error| RequestError::of_io(&error, false))?;
        let wanted = options.body_size_max.saturating_add(LIMITS.head_bytes as u64);
        let size = wanted.clamp(RECEIVE_SIZE_MIN as u64, RECEIVE_SIZE_MAX as u64) as usize;
        stream.set_deadline(Some((io.now().after(options.progress_timeout), Half::Both)));
        let opened = Transport::open(stream.clone(), tls.as_ref(), size).await;
        let transport = opened.map_err(|error| RequestError::of_io(&error, stream.timed_out()))?;
        Ok(Self {
            io: io.clone(),
            transport,
            parser: ResponseHeadParser::new(LIMITS),
            input: Some(AlignedBuf::zeroed(size)),
            output: None,
            head: Vec::new(),
            progress_timeout: options.progress_timeout,
            meter,
        })
    }

    /// The head of the next request, to be written.
    pub fn head(&mut self) -> &mut Vec<u8> {
        self.head.clear();
        &mut self.head
    }

    /// Sends only the head and receives the answer.
    pub async fn ask(&mut self, to: AnswerTo, body: BodyUse<'_>) -> Result<Answer, RequestError> {
        self.extend_deadline();
        let (sent, head) = self.transport.send(std::mem::take(&mut self.head)).await;
        self.head = head;
        sent.map_err(|error| self.error_of(&error))?;
        self.receive(to, body).await
    }

    /// Sends the head and an object, and receives the answer.
    pub async fn upload(
        &mut self,
        contents: &Contents,
        object: u64,
        size: u64,
        answer: &mut Vec<u8>,
    ) -> Result<Answer, RequestError> {
        let mut output = self.output.take().unwrap_or_else(|| contents.buffer());
        let mut head = std::mem::take(&mut self.head);
        let mut offset = 0;
        let outcome = loop {
            self.extend_deadline();
            let count = (size - offset).min(TILE_SIZE as u64) as usize;
            contents.fill(&mut output, object, offset);
            let (sent, sent_head, body) = self.transport.send_with_head(head, Body::Owned(output), 0..count).await;
            output = body.into_owned().expect("what was given owned comes back owned");
            head = sent_head;
            head.clear();
            if let Err(error) = sent {
                break Err(self.error_of(&error));
            }
            self.meter.sent(count as u64);
            offset += count as u64;
            if offset == size {
                break Ok(());
            }
        };
        self.head = head;
        self.output = Some(output);
        match outcome {
            Ok(()) => self.receive(AnswerTo::Other, BodyUse::Keep(answer)).await,
            // A server that refuses an upload answers and closes: what it said is worth more than
            // that the rest could not be sent.
            Err(error) => match self.receive(AnswerTo::Other, BodyUse::Keep(answer)).await {
                Ok(refusal) => Ok(Answer { keep_alive: false, ..refusal }),
                Err(_) => Err(error),
            },
        }
    }

    async fn receive(&mut self, to: AnswerTo, mut body: BodyUse<'_>) -> Result<Answer, RequestError> {
        let (head, mut filled) = self.receive_head(to).await?;
        let mut answer = Answer {
            status: head.status(),
            body_size: 0,
            content_length: head.content_length(),
            hash: head.field(self.input(), "etag").and_then(hash_of_etag),
            is_wrong: false,
            keep_alive: head.keep_alive(),
        };
        if !(200..300).contains(&head.status()) && !matches!(body, BodyUse::Keep(_)) {
            // An error's body isn't an object.
            body = BodyUse::Ignore;
        }
        let mut decoder = ChunkDecoder::new();
        let mut unread = head.size();
        loop {
            let left = match head.framing() {
                ResponseFraming::None => Some(0),
                ResponseFraming::Length(length) => Some(length - answer.body_size),
                ResponseFraming::Chunked => {
                    if self.take_chunks(&mut decoder, unread..filled, &mut body, &mut answer)? {
                        return Ok(answer);
                    }
                    unread = filled;
                    None
                }
                ResponseFraming::UntilClose => None,
            };
            let count = left.map_or(filled - unread, |left| left.min((filled - unread) as u64) as usize);
            self.take_body(unread..unread + count, &mut body, &mut answer);
            if left.is_some_and(|left| left < (filled - unread) as u64) {
                return Err(RequestError::Protocol("bytes follow the answer".to_owned()));
            }
            let left = left.map(|left| left - count as u64);
            if left == Some(0) {
                return Ok(answer);
            }
            (unread, filled) = (0, 0);
            self.extend_deadline();
            if let (BodyUse::Discard, Some(left), Transport::Plain(_)) = (&body, left, &self.transport) {
                let count = self.discard(left).await?;
                answer.body_size += count;
                continue;
            }
            filled = match self.receive_more(0, left).await? {
                0 if head.framing() == ResponseFraming::UntilClose => return Ok(answer),
                0 => return Err(RequestError::ClosedEarly),
                count => count,
            };
        }
    }

    /// The final head, and how far the buffer is filled.
    async fn receive_head(&mut self, to: AnswerTo) -> Result<(ResponseHead, usize), RequestError> {
        let mut filled = 0;
        let mut interim_left = INTERIM_MAX;
        loop {
            if filled > 0 {
                let input = self.input.as_ref().expect("the buffer is here between receives");
                match self.parser.parse(&input[..filled], to) {
                    Ok(Some(head)) if head.is_interim() && interim_left > 0 => {
                        interim_left -= 1;
                        self.input_mut().copy_within(head.size()..filled, 0);
                        filled -= head.size();
                        continue;
                    }
                    Ok(Some(head)) if head.is_interim() => {
                        return Err(RequestError::Protocol("interim answers do not end".to_owned()));
                    }
                    Ok(Some(head)) => return Ok((head, filled)),
                    Ok(None) => {}
                    Err(error) => return Err(RequestError::Protocol(error.to_string())),
                }
            }
            filled += match self.receive_more(filled, None).await? {
                0 => return Err(RequestError::ClosedEarly),
                count => count,
            };
        }
    }

    /// Receives behind the first `from` bytes of the buffer, at most `left` bytes; 0 at the end of
    /// the stream.
    async fn receive_more(&mut self, from: usize, left: Option<u64>) -> Result<usize, RequestError> {
        let input = self.input.take().expect("the buffer is here between receives");
        let space = (input.len() - from) as u64;
        let end = from + left.unwrap_or(space).min(space) as usize;
        let (received, input) = self.transport.recv_into(input, from..end).await;
        self.input = Some(input);
        let count = received.map_err(|error| self.error_of(&error))?;
        if count == 0 && self.transport.stream().timed_out() {
            return Err(RequestError::TimedOut);
        }
        Ok(count)
    }

    async fn discard(&mut self, left: u64) -> Result<u64, RequestError> {
        let count = self.transport.stream().discard(left.min(DISCARD_SIZE as u64) as usize).await;
        let count = count.map_err(|error| self.error_of(&error))? as u64;
        match count {
            0 if self.transport.stream().timed_out() => Err(RequestError::TimedOut),
            0 => Err(RequestError::ClosedEarly),
            _ => {
                self.meter.received(count);
                Ok(count)
            }
        }
    }

    /// Takes chunks out of the buffer; true at the end of the body.
    fn take_chunks(
        &self,
        decoder: &mut ChunkDecoder,
        within: std::ops::Range<usize>,
        body: &mut BodyUse<'_>,
        answer: &mut Answer,
    ) -> Result<bool, RequestError> {
        let mut at = within.start;
        loop {
            let (skipped, event) = decoder
                .next(&self.input()[at..within.end])
                .map_err(|error| RequestError::Protocol(error.to_string()))?;
            at += skipped;
            match event {
                ChunkEvent::Data(count) => {
                    self.take_body(at..at + count, body, answer);
                    at += count;
                }
                ChunkEvent::NeedMore => return Ok(false),
                ChunkEvent::End if at == within.end => return Ok(true),
                ChunkEvent::End => return Err(RequestError::Protocol("bytes follow the answer".to_owned())),
            }
        }
    }

    /// Uses a part of the body that stands in the buffer.
    fn take_body(&self, within: std::ops::Range<usize>, body: &mut BodyUse<'_>, answer: &mut Answer) {
        if within.is_empty() {
            return;
        }
        let bytes = &self.input()[within];
        match body {
            BodyUse::Ignore | BodyUse::Discard => {}
            BodyUse::Keep(kept) => {
                let room = KEPT_BYTES_MAX.saturating_sub(kept.len());
                kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            BodyUse::Verify { contents, object, offset } => {
                let at = *offset + answer.body_size;
                answer.is_wrong |= contents.first_difference(*object, at, bytes).is_some();
            }
        }
        answer.body_size += bytes.len() as u64;
        self.meter.received(bytes.len() as u64);
    }

    fn input(&self) -> &AlignedBuf {
        self.input.as_ref().expect("the buffer is here between receives")
    }

    fn input_mut(&mut self) -> &mut AlignedBuf {
        self.input.as_mut().expect("the buffer is here between receives")
    }

    /// From now on the connection may be silent for as long as is allowed.
    fn extend_deadline(&self) {
        self.transport.stream().set_deadline(Some((self.io.now().after(self.progress_timeout), Half::Both)));
    }

    fn error_of(&self, error: &std::io::Error) -> RequestError {
        RequestError::of_io(error, self.transport.stream().timed_out())
    }
}

/// A strong entity tag that is a SHA-256.
fn hash_of_etag(etag: &[u8]) -> Option<ContentHash> {
    unhex(etag.strip_prefix(b"\"")?.strip_suffix(b"\"")?).map(ContentHash)
}
