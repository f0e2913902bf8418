//! One request and its answer.
//!
//! A handler reads the request, may read the body (in `body.rs`), and writes one answer: small ones
//! into `out`, which is sent when the handler returns; large ones chunk by chunk (`sending`).
//! [`run`] turns an error into its answer, and then sees to the rest of the body and to the
//! connection.

use std::cell::{Cell, OnceCell};
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use nabu_engine::io::{Body as SendBody, Clock, Instant};
use nabu_engine::runtime::{Half, Stream};
use nabu_engine::types::BlobId;
use nabu_net::http::head::{BodyFraming, Method, RequestHead};
use nabu_net::http::response::ResponseHead;
use nabu_net::http::target::split_query;

use super::body::Body;
use super::client::Client;
use super::core::Core;
use super::error::{HttpError, Render};
use super::held::Hold;
use super::pace::Slack;
use super::phases::{Phase, Phases};
use super::report::report_unread;
use super::trace_context::TraceContext;
use super::transport::{GOODBYE_BYTES, Transport};
use super::upgrade::Place;
use crate::auth::rate::Bucket;
use crate::metrics::RouteId;

/// Frames of 1 MiB are sent whole where the limit of a token lets this many bytes a second pass.
const FRAMES_PER_SECOND_MIN: u64 = 32 << 20;
/// How often a transfer that waits for its limit looks whether the server is stopping.
const SHAPE_STEP: Duration = Duration::from_millis(250);

/// The answer so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    /// Nothing is written.
    None,
    /// The head is written; `out` and what follows make the answer.
    Begun,
    /// The peer can't get the rest of the answer: the connection is of no more use.
    Broken,
}

/// A request being served.
pub struct Exchange {
    pub core: Rc<Core>,
    pub stream: Transport,
    pub client: Rc<Client>,
    pub request_id: String,
    /// What was received: the head first, then what is unread of the body and of requests behind
    /// it.
    pub(super) input: Vec<u8>,
    /// Where the unread part of `input` starts.
    pub(super) cursor: usize,
    pub(super) body: Body,
    head: RequestHead,
    /// The bytes of the answer that are not sent yet.
    pub(super) out: Vec<u8>,
    answer: Answer,
    status: u16,
    close: bool,
    sent_bytes: u64,
    /// Whose limit of bytes this request counts against.
    charged: OnceCell<Arc<Bucket>>,
    /// Bytes that were charged so far.
    charged_bytes: u64,
    /// Bytes of the head of the answer, once it is known how many.
    head_bytes: u64,
    /// Bytes of the body that lie in `out`.
    body_in_out: u64,
    pub(super) received_body_bytes: u64,
    pub(super) phases: Phases,
    /// How much longer the peer may take.
    pub(super) slack: Slack,
    /// When the answer began to leave.
    pub(super) first_byte: Option<Instant>,
    /// What the request is counted as.
    pub route: Cell<RouteId>,
    /// How an error becomes a body.
    pub render: Cell<Render>,
    /// The caller's name for the log; set only if a log may want it.
    pub caller: OnceCell<String>,
    /// The blob that it is about.
    pub blob_id: Cell<Option<BlobId>>,
}

/// What is left for the connection to continue with.
pub struct Finished {
    /// Received bytes that belong to later requests.
    pub input: Vec<u8>,
    pub keep: bool,
    /// Where the connection continues as one between nodes.
    pub upgrade: Option<Place>,
}

impl Exchange {
    pub fn new(core: Rc<Core>, stream: Transport, client: Rc<Client>, input: Vec<u8>, head: RequestHead) -> Self {
        let request_id = core.request_ids.choose(head.field(&input, "x-request-id"));
        let close = !head.keep_alive() || core.is_stopping() || stream.is_worn();
        core.recorder.request_began();
        Self {
            phases: Phases::begin(core.io.now()),
            slack: Slack::new(core.limits()),
            cursor: head.size(),
            body: Body::new(&head),
            out: core.vector(),
            stream,
            client,
            request_id,
            input,
            head,
            answer: Answer::None,
            status: 0,
            close,
            sent_bytes: 0,
            charged: OnceCell::new(),
            charged_bytes: 0,
            head_bytes: 0,
            body_in_out: 0,
            received_body_bytes: 0,
            first_byte: None,
            route: Cell::default(),
            render: Cell::new(core.service.render),
            caller: OnceCell::new(),
            blob_id: Cell::default(),
            core,
        }
    }

    /// The connection ends after this answer.
    pub fn close_after(&mut self) {
        self.close = true;
    }

    pub fn method(&self) -> Method {
        self.head.method()
    }

    pub(super) fn method_name(&self) -> &str {
        self.head.method_name(&self.input)
    }

    pub fn target(&self) -> &str {
        self.head.target(&self.input)
    }

    /// The target without its query.
    pub(super) fn path(&self) -> &str {
        split_query(self.target()).0
    }

    /// The value of the first field of this name, in lowercase.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.head.field(&self.input, name)
    }

    /// The trace that the request belongs to, if its caller says so.
    pub(super) fn trace(&self) -> Option<TraceContext<'_>> {
        self.field("traceparent").and_then(TraceContext::parse)
    }

    pub fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.head.fields(&self.input)
    }

    /// How the head frames the body.
    pub fn framing(&self) -> BodyFraming {
        self.head.framing()
    }

    /// Whether a body may come in chunks (RFC 9112, section 6.1).
    pub(super) fn takes_chunks(&self) -> bool {
        !self.head.is_http_10()
    }

    pub(super) fn head_size(&self) -> usize {
        self.head.size()
    }

    /// Whether a log will ask who made this request, if it is let in.
    pub fn wants_caller(&self) -> bool {
        self.core.access_log.is_on() || self.core.audit.wants_name(self.method())
    }

    /// What this request moves is to be charged to a token.
    pub fn charge_bytes_to(&self, bucket: Arc<Bucket>) {
        assert!(self.charged.set(bucket).is_ok(), "a request has one token");
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// Bytes of the body that were sent.
    pub(super) fn sent_body_bytes(&self) -> u64 {
        self.sent_bytes.saturating_sub(self.head_bytes)
    }

    /// From now on the time of this request counts for a phase. Returns the time.
    pub fn enter(&mut self, phase: Phase) -> Instant {
        let now = self.core.io.now();
        self.phases.enter(phase, now);
        now
    }

    /// The same, where what came before took next to no time: without a look at the clock.
    pub fn enter_at_once(&mut self, phase: Phase) {
        self.phases.rename(phase);
    }

    /// The same, without a look at the clock when that phase lasts already.
    pub fn enter_once(&mut self, phase: Phase) {
        if self.phases.current() != phase {
            self.enter(phase);
        }
    }

    /// So many bytes are about to be sent. They are charged before they leave: who has the last one
    /// may ask again at once. Returns the time.
    pub fn departs(&mut self, bytes: usize) -> Instant {
        let now = self.enter(Phase::Send);
        self.charge(now, bytes);
        now
    }

    /// Charges what was received and sent, and what is about to be sent.
    fn charge(&mut self, now: Instant, leaving: usize) {
        let Some(bucket) = self.charged.get() else { return };
        let moved = self.received_body_bytes + self.sent_bytes + leaving as u64;
        // A send that failed was charged whole.
        bucket.charge_bytes(now, moved.saturating_sub(self.charged_bytes));
        self.charged_bytes = self.charged_bytes.max(moved);
    }

    /// Whether what this request moves counts against a limit of bytes a second.
    pub fn is_shaped(&self) -> bool {
        self.charged.get().is_some()
    }

    /// Whether that limit is so low that a whole frame at once would come in jerks.
    pub fn is_shaped_finely(&self) -> bool {
        let rate = self.charged.get().and_then(|bucket| bucket.bytes_per_second());
        rate.is_some_and(|rate| rate < FRAMES_PER_SECOND_MIN)
    }

    /// Waits until the token may move more bytes; the time counts for `phase`. Hold nothing that
    /// others want meanwhile.
    pub async fn shape(&mut self, phase: Phase) {
        let Some(bucket) = self.charged.get().cloned() else { return };
        loop {
            let now = self.enter(phase);
            self.charge(now, 0);
            match bucket.bytes_wait(now) {
                // A stop lets what is under way end at its own speed.
                Some(wait) if !self.core.is_stopping() => self.core.io.sleep(wait.min(SHAPE_STEP)).await,
                _ => return,
            }
        }
    }

    /// What is written is about to leave, with `behind` bytes after it. Returns the time.
    pub(super) fn leaves(&mut self, behind: usize) -> Instant {
        let now = self.departs(self.out.len() + behind);
        if self.first_byte.is_none() {
            self.first_byte = Some(now);
            self.head_bytes = self.out.len() as u64 - self.body_in_out;
        }
        now
    }

    /// Starts the answer: the status and the fields that every answer has. The caller adds its own,
    /// and ends the head.
    pub fn begin(&mut self, status: u16) -> ResponseHead<'_> {
        assert_eq!(self.answer, Answer::None, "a request has one answer");
        self.answer = Answer::Begun;
        self.status = status;
        self.close |= self.core.is_stopping() || !self.body.can_be_drained();
        let seconds = self.core.io.wall_clock_ns() / 1_000_000_000;
        let head = ResponseHead::new(&mut self.out, status)
            .field_date("Date", seconds)
            .field("X-Request-Id", &self.request_id);
        if self.close {
            head.field("Connection", "close")
        } else if self.head.is_http_10() {
            head.field("Connection", "keep-alive")
        } else {
            head
        }
    }

    /// Answers with a body that lies in memory.
    pub fn answer_bytes(&mut self, status: u16, content_type: &str, fields: &[(&str, &str)], body: &[u8]) {
        let mut head = self.begin(status).field("Content-Type", content_type);
        for (name, value) in fields {
            head = head.field(name, value);
        }
        head.field_u64("Content-Length", body.len() as u64).end();
        if self.method() != Method::Head {
            self.put(body);
        }
    }

    fn answer_error(&mut self, error: &HttpError) {
        self.core.recorder.failed(error.error);
        if error.status >= 500 {
            tracing::warn!(
                request_id = self.request_id,
                trace_id = self.trace().map(|trace| trace.trace_id),
                status = error.status,
                method = self.head.method_name(&self.input),
                path = self.path(),
                cause = error.cause.as_deref(),
                "{}",
                error.message
            );
        }
        if self.answer != Answer::None {
            // Too late to say so: the peer sees a body that is shorter than promised.
            self.answer = Answer::Broken;
            return;
        }
        let fields: Vec<(&str, &str)> = error.fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (media_type, body) = (self.render.get())(error);
        self.answer_bytes(error.status, media_type, &fields, &body);
    }

    /// Takes an answer back that was begun and not sent, to put another in its place.
    pub fn take_back(&mut self) {
        assert_eq!((self.answer, self.sent_bytes), (Answer::Begun, 0), "what is sent can't be taken back");
        self.out.clear();
        self.body_in_out = 0;
        self.answer = Answer::None;
    }

    /// Puts few bytes of the body behind the head that is written.
    pub fn put(&mut self, bytes: &[u8]) {
        assert_eq!(self.answer, Answer::Begun, "the head comes first");
        self.out.extend_from_slice(bytes);
        self.body_in_out += bytes.len() as u64;
    }

    /// Sends what is written of the head, and a part of the body behind it, in one operation.
    /// `None` when the peer is gone.
    pub async fn send_body(&mut self, body: SendBody, range: Range<usize>) -> Option<SendBody> {
        assert_eq!(self.answer, Answer::Begun, "the head comes first");
        let now = self.leaves(range.len());
        let head = std::mem::take(&mut self.out);
        let bytes = head.len() + range.len();
        let hold = self.begin_send(now, bytes);
        let (result, head, body) = self.stream.send_with_head(head, body, range).await;
        self.end_send(hold);
        self.core.recycle(head);
        self.sent(result, bytes).then_some(body)
    }

    /// A send begins that holds these bytes until the peer has taken them.
    pub fn begin_send(&self, now: Instant, bytes: usize) -> Hold {
        self.stream.set_deadline(Some((self.slack.deadline(now, bytes), Half::Both)));
        self.core.hold(&self.stream, now, bytes)
    }

    /// The send is over.
    pub fn end_send(&self, hold: Hold) {
        drop(hold);
        self.stream.set_deadline(None);
    }

    /// Books a send; false when the peer is gone.
    pub fn sent(&mut self, result: io::Result<()>, bytes: usize) -> bool {
        match result {
            Ok(()) => self.sent_bytes += bytes as u64,
            Err(error) => {
                tracing::debug!(request_id = self.request_id, %error, "the peer left in the middle of the answer");
                self.answer = Answer::Broken;
            }
        }
        self.answer != Answer::Broken
    }

    /// Whether nothing of the answer has left yet, so that it can still be taken back.
    pub fn is_unsent(&self) -> bool {
        self.sent_bytes == 0 && !self.out.is_empty()
    }

    /// Takes the head that is written, for a sender of its own.
    pub fn take_head(&mut self) -> Vec<u8> {
        assert_eq!(self.answer, Answer::Begun, "the head comes first");
        self.leaves(0);
        std::mem::take(&mut self.out)
    }

    /// Sends `out`; false when the peer is gone.
    pub(super) async fn flush(&mut self) -> bool {
        if self.answer == Answer::Broken || self.out.is_empty() {
            return self.answer != Answer::Broken;
        }
        let now = self.leaves(0);
        let out = std::mem::take(&mut self.out);
        let bytes = out.len();
        let hold = self.begin_send(now, bytes);
        let (result, out) = self.stream.send(out).await;
        self.end_send(hold);
        self.core.recycle(out);
        self.sent(result, bytes)
    }

    /// Sends what is left to send, and brings the connection to where the next request starts, or
    /// to its end.
    async fn finish(&mut self) -> Finished {
        assert_ne!(self.answer, Answer::None, "a handler answers, or fails");
        self.flush().await;
        self.report(self.answer == Answer::Begun);
        let mut keep = !self.close;
        if self.answer == Answer::Broken {
            self.stream.shutdown(Half::Both);
            keep = false;
        } else if !self.body.is_finished() {
            if keep {
                keep = Box::pin(self.drain_body()).await;
            } else {
                Box::pin(linger(&self.core, &self.stream)).await;
            }
            self.charge(self.core.io.now(), 0);
        }
        let mut input = std::mem::take(&mut self.input);
        if keep {
            input.drain(..self.cursor);
        } else {
            input.clear();
        }
        Finished { input, keep, upgrade: None }
    }
}

/// Serves one request: runs its handler and finishes the exchange.
pub async fn run<Handler>(mut exchange: Exchange, handler: Handler) -> Finished
where
    Handler: AsyncFnOnce(&mut Exchange) -> Result<(), HttpError>,
{
    if let Err(error) = handler(&mut exchange).await {
        exchange.answer_error(&error);
    }
    exchange.finish().await
}

/// Answers a request whose head can't be read, and ends the connection.
pub async fn refuse(core: Rc<Core>, stream: Transport, error: HttpError) -> Finished {
    answer_and_end(core, stream, error, true).await
}

/// Answers on a connection that is not wanted before it has asked for anything, and ends it.
pub async fn turn_away(core: Rc<Core>, stream: Transport, error: HttpError) -> Finished {
    answer_and_end(core, stream, error, false).await
}

async fn answer_and_end(core: Rc<Core>, stream: Transport, error: HttpError, is_request: bool) -> Finished {
    core.recorder.failed(error.error);
    let request_id = core.request_ids.fresh();
    tracing::debug!(request_id, status = error.status, "{}", error.message);
    let (media_type, body) = (core.service.render)(&error);
    let mut out = core.vector();
    let mut head = ResponseHead::new(&mut out, error.status)
        .field_date("Date", core.io.wall_clock_ns() / 1_000_000_000)
        .field("X-Request-Id", &request_id)
        .field("Connection", "close")
        .field("Content-Type", media_type);
    for (name, value) in &error.fields {
        head = head.field(name, value);
    }
    head.field_u64("Content-Length", body.len() as u64).end();
    out.extend_from_slice(&body);
    let now = core.io.now();
    core.set_send_deadline(&stream, now, out.len());
    let hold = core.hold(&stream, now, out.len());
    let (result, out) = stream.send(out).await;
    drop(hold);
    core.recycle(out);
    if is_request {
        report_unread(&core, &stream, &request_id, &error, result.is_ok());
    }
    if result.is_ok() && !stream.timed_out() {
        linger(&core, &stream).await;
    }
    Finished { input: Vec::new(), keep: false, upgrade: None }
}

/// For how long a closing connection reads what the peer still sends, in all and without any
/// coming. Many clients look for the answer only when all of their body is sent.
const LINGER_MS: u64 = 30_000;
const LINGER_IDLE_MS: u64 = 2_000;

/// Ends the writing side and discards what still comes: closing with bytes unread would reset the
/// connection, and the peer might lose the answer (RFC 9112, section 9.6).
async fn linger(core: &Core, stream: &Transport) {
    core.set_send_deadline(stream, core.io.now(), GOODBYE_BYTES);
    stream.end_writing().await;
    // What comes is thrown away as it is, so nothing is decrypted.
    let stream: &Stream = stream;
    let started = core.io.now();
    while core.io.now().since(started) < Duration::from_millis(LINGER_MS) && !core.is_stopping() {
        core.set_deadline(stream, LINGER_IDLE_MS, Half::Read);
        match stream.recv().await {
            Ok(bytes) if !bytes.is_empty() => {}
            _ => return,
        }
    }
}
