//! The bytes of a blob behind the head of the answer, by the cheapest way that the peer and the
//! kernel allow.
//!
//! | what | how |
//! | --- | --- |
//! | a few KiB | copied behind the head, one send |
//! | below [`SPLICE_MIN`] | head and body in one vectored send |
//! | more | head by a plain send, pages of the cache spliced, or encrypted (`encrypting`) |
//! | a peer that takes nothing for [`PATIENCE`] | copies of 64 KiB (`copying`), so that it holds no frame |
//!
//! Nothing is sent before the first bytes are read, so an error there still gets an answer of its
//! own.

use std::ops::Range;
use std::time::Duration;

use nabu_engine::content::{Pace, Sendable, Source};
use nabu_engine::io::{Body, Clock, SharedBuf};
use nabu_engine::runtime::{Half, Splice, Taken};

use super::copying::copy;
use super::encrypting::encrypt;
use super::error::HttpError;
use super::exchange::Exchange;
use super::pace::{PATIENCE, Sent};
use super::phases::Phase;
use super::watch::Watch;

/// Less than this is cheaper to copy than to splice (measured with `engine/benches/send.rs`).
const SPLICE_MIN: u64 = 48 << 10;
/// Within this a slow peer must take 64 KiB to count as fast again.
const FAST_AGAIN: Duration = Duration::from_millis(20);

/// Sends everything that the source has.
pub async fn send<S: Source>(exchange: &mut Exchange, mut source: S) -> Result<(), HttpError>
where
    HttpError: From<S::Error>,
{
    let first = if exchange.is_shaped_finely() { Pace::Slow } else { Pace::Fast };
    let mut pace = first;
    loop {
        if exchange.is_shaped() {
            Box::pin(exchange.shape(Phase::Send)).await;
        }
        exchange.enter_once(Phase::Read);
        let large = pace == Pace::Fast && source.remaining() >= SPLICE_MIN;
        let chunk = match source.next(pace).await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Ok(()),
            Err(error) => {
                if exchange.is_unsent() {
                    exchange.take_back();
                }
                return Err(error.into());
            }
        };
        match chunk.into_sendable() {
            Sendable::Small(chunk) => exchange.put(chunk.bytes()),
            Sendable::Large(Body::Shared(buf), range) if large && buf.can_be_spliced() => {
                let sent = match exchange.stream.session().cloned() {
                    None => splice(exchange, &mut source, buf, range).await?,
                    Some(session) => Box::pin(encrypt(exchange, session, &mut source, buf, range)).await?,
                };
                match sent {
                    Sent::All | Sent::Gone => return Ok(()),
                    Sent::Slow => pace = Pace::Slow,
                }
            }
            Sendable::Large(Body::Owned(buf), range) => {
                let began = exchange.enter(Phase::Send);
                match copy(exchange, &mut source, buf, range).await {
                    Sent::Gone => return Ok(()),
                    Sent::Slow => pace = Pace::Slow,
                    Sent::All if exchange.enter(Phase::Read).since(began) < FAST_AGAIN => pace = first,
                    Sent::All => {}
                }
            }
            Sendable::Large(body, range) => {
                let bytes = range.len();
                let started = exchange.enter(Phase::Send);
                let Some(body) = exchange.send_body(body, range).await else { return Ok(()) };
                source.recycle(body);
                let duration = exchange.enter(Phase::Read).since(started);
                exchange.slack.spend(duration, bytes);
                if duration > PATIENCE {
                    pace = Pace::Slow;
                } else if duration < FAST_AGAIN {
                    pace = first;
                }
            }
        }
    }
}

/// Splices `buf[range]`, which the source just gave, and what follows it.
async fn splice<S: Source>(
    exchange: &mut Exchange,
    source: &mut S,
    buf: SharedBuf,
    range: Range<usize>,
) -> Result<Sent, HttpError>
where
    HttpError: From<S::Error>,
{
    let stream = exchange.stream.clone();
    let Some(mut splice) = stream.begin_splice() else {
        source.unread(range.len());
        return Ok(Sent::Slow);
    };
    let head = exchange.take_head();
    let head_bytes = head.len();
    let hold = exchange.begin_send(exchange.core.io.now(), head_bytes);
    let result = splice.send_head(&head).await;
    exchange.end_send(hold);
    exchange.core.recycle(head);
    if !exchange.sent(result, head_bytes) {
        return Ok(Sent::Gone);
    }
    let mut next = Some((buf, range));
    while let Some((buf, range)) = next {
        let length = range.len();
        let now = exchange.departs(length);
        stream.set_deadline(Some((exchange.slack.deadline(now, length), Half::Both)));
        if !stream.count_spliced(length) {
            source.unread(length);
            let is_flushed = flush(exchange, &mut splice, true).await;
            return Ok(if is_flushed { Sent::Slow } else { Sent::Gone });
        }
        let taken = splice.send(&buf, range, source.remaining() > 0, PATIENCE).await;
        // Held by nobody but the socket while that waits.
        drop(buf);
        let taken = match taken {
            Ok(Taken::All) => length,
            Ok(Taken::Stalled(taken)) => {
                source.unread(length - taken);
                exchange.sent(Ok(()), taken);
                let is_flushed = flush(exchange, &mut splice, source.remaining() > 0).await;
                return Ok(if is_flushed { Sent::Slow } else { Sent::Gone });
            }
            Err(error) => {
                exchange.sent(Err(error), length);
                return Ok(Sent::Gone);
            }
        };
        stream.set_deadline(None);
        exchange.sent(Ok(()), taken);
        let duration = exchange.enter(Phase::Read).since(now);
        exchange.slack.spend(duration, taken);
        if exchange.is_shaped() {
            Box::pin(exchange.shape(Phase::Send)).await;
            exchange.enter(Phase::Read);
        }
        next = match source.next(Pace::Fast).await?.map(|chunk| (chunk.len(), chunk.into_sendable())) {
            None => return Ok(Sent::All),
            Some((_, Sendable::Large(Body::Shared(buf), range))) if buf.can_be_spliced() => Some((buf, range)),
            Some((length, _)) => {
                source.unread(length);
                None
            }
        };
    }
    Ok(Sent::Slow)
}

/// Waits until what is in the pipe is in the socket; false when the peer is gone, or takes less
/// than it must.
async fn flush(exchange: &mut Exchange, splice: &mut Splice<'_>, more: bool) -> bool {
    exchange.stream.set_deadline(None);
    let mut watch = Watch::begin(exchange, splice.held());
    loop {
        let result = splice.flush(more, watch.patience(exchange)).await;
        if let Some(outcome) = watch.look(exchange, splice.held(), result) {
            return outcome;
        }
    }
}
