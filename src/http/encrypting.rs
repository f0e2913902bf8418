//! Large answers over TLS in this process: from the cache's frames straight into records, and the
//! records into the socket.
//!
//! While records wait for room in the socket nothing of the cache is needed for them. So a peer
//! that takes nothing for [`PATIENCE`] holds up no frame, and continues with copies.

use std::ops::Range;
use std::pin::pin;
use std::rc::Rc;

use nabu_engine::content::{Pace, Sendable, Source};
use nabu_engine::io::{Body, Clock, SharedBuf, Spawn};
use nabu_engine::sync::{Either, race};

use super::error::HttpError;
use super::exchange::Exchange;
use super::pace::{PATIENCE, Sent};
use super::phases::Phase;
use super::transport::{SEALED_AT_ONCE, SEALED_HEAD_BYTES_MAX, Session};

/// Sends `buf[range]`, which the source just gave, and what follows it.
pub async fn encrypt<S: Source>(
    exchange: &mut Exchange,
    session: Rc<Session>,
    source: &mut S,
    buf: SharedBuf,
    range: Range<usize>,
) -> Result<Sent, HttpError>
where
    HttpError: From<S::Error>,
{
    let core = exchange.core.clone();
    let Some((mut records, _place)) = core.records_buffer() else {
        source.unread(range.len());
        return Ok(Sent::Slow);
    };
    session.stream().expect_bulk();
    let mut head = exchange.take_head();
    if head.len() > SEALED_HEAD_BYTES_MAX {
        let bytes = head.len();
        let hold = exchange.begin_send(core.io.now(), bytes);
        let result = session.send(&std::mem::take(&mut head), &[]).await;
        exchange.end_send(hold);
        if !exchange.sent(result, bytes) {
            return Ok(Sent::Gone);
        }
    }
    let mut next = Some((buf, range));
    let sent = 'answer: loop {
        let Some((buf, mut range)) = next.take() else { break Sent::Slow };
        let mut frame = Some(buf);
        while let Some(buf) = frame.as_ref().filter(|_| !range.is_empty()) {
            let piece = range.start..range.end.min(range.start + SEALED_AT_ONCE);
            exchange.enter_once(Phase::Encrypt);
            core.io.bulk_turn(piece.len()).await;
            let bytes = head.len() + piece.len();
            let (before, size) = match session.seal_at_once(&head, &buf[piece.clone()], &mut records) {
                Ok(sealed) => sealed,
                Err(error) => {
                    exchange.sent(Err(error), 0);
                    break 'answer Sent::Gone;
                }
            };
            core.recycle(std::mem::take(&mut head));
            range.start = piece.end;
            let now = exchange.departs(piece.len());
            let hold = exchange.begin_send(now, size);
            let mut sending = pin!(session.stream().send_with_head(before, Body::Owned(records), 0..size));
            let (result, _, returned) = match race(sending.as_mut(), core.io.sleep(PATIENCE)).await {
                Either::First(sent) => sent,
                Either::Second(()) => {
                    // Held by nobody but the socket while that waits.
                    frame = None;
                    source.unread(range.len());
                    session.stream().expect_little();
                    sending.await
                }
            };
            exchange.end_send(hold);
            exchange.slack.spend(core.io.now().since(now), bytes);
            records = returned.into_owned().expect("a send gives its buffer back");
            if !exchange.sent(result, bytes) {
                break 'answer Sent::Gone;
            }
        }
        if frame.is_none() {
            break Sent::Slow;
        }
        if exchange.is_shaped() {
            Box::pin(exchange.shape(Phase::Send)).await;
        }
        exchange.enter(Phase::Read);
        next = match source.next(Pace::Fast).await?.map(|chunk| (chunk.len(), chunk.into_sendable())) {
            None => break Sent::All,
            Some((_, Sendable::Large(Body::Shared(buf), range))) => Some((buf, range)),
            Some((length, _)) => {
                source.unread(length);
                None
            }
        };
    };
    session.stream().expect_little();
    core.recycle_records(records);
    Ok(sent)
}
