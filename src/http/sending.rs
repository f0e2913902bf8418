//! The bytes of a blob behind the head of the answer, by the cheapest way that the peer and the
//! kernel allow.
//!
//! | what | how |
//! | --- | --- |
//! | a few KiB | copied behind the head, one send |
//! | below [`SPLICE_MIN`], or memory that can't be spliced | head and body in one vectored send |
//! | more | head by a plain send, pages of the cache spliced, or encrypted (`encrypting`) |
//! | a peer that takes nothing for [`PATIENCE`] | copies of 64 KiB, so that it holds no frame |
//!
//! Nothing is sent before the first bytes are read, so an error there still gets an answer of its
//! own.

use std::ops::Range;
use std::time::Duration;

use nabu_engine::content::{Pace, Sendable, Source};
use nabu_engine::io::{Body, Clock, SharedBuf};
use nabu_engine::runtime::Taken;

use super::encrypting::encrypt;
use super::error::HttpError;
use super::exchange::Exchange;
use super::pace::{PATIENCE, Sent};
use super::phases::Phase;

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
            Sendable::Large(body, range) => {
                let started = exchange.enter(Phase::Send);
                let Some(body) = exchange.send_body(body, range).await else { return Ok(()) };
                source.recycle(body);
                let duration = exchange.enter(Phase::Read).since(started);
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
    exchange.core.set_send_deadline(&stream, exchange.core.io.now(), head_bytes);
    let result = splice.send_head(&head).await;
    exchange.core.recycle(head);
    if !exchange.sent(result, head_bytes) {
        return Ok(Sent::Gone);
    }
    let mut next = Some((buf, range));
    while let Some((buf, range)) = next {
        let length = range.len();
        let now = exchange.departs(length);
        exchange.core.set_send_deadline(&stream, now, length);
        if !stream.count_spliced(length) {
            source.unread(length);
            let result = splice.flush(true).await;
            return Ok(if exchange.sent(result, 0) { Sent::Slow } else { Sent::Gone });
        }
        let taken = splice.send(&buf, range, source.remaining() > 0, PATIENCE).await;
        // Held by nobody but the socket while that waits.
        drop(buf);
        let stalled = match taken {
            Ok(Taken::Stalled(taken)) => Some(taken),
            Ok(Taken::All) | Err(_) => None,
        };
        let mut result = taken.map(drop);
        if let Some(taken) = stalled {
            source.unread(length - taken);
            result = splice.flush(source.remaining() > 0).await;
        }
        stream.set_deadline(None);
        if !exchange.sent(result, stalled.unwrap_or(length)) {
            return Ok(Sent::Gone);
        }
        if stalled.is_some() {
            return Ok(Sent::Slow);
        }
        if exchange.is_shaped() {
            Box::pin(exchange.shape(Phase::Send)).await;
        }
        exchange.enter(Phase::Read);
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
