//! One connection: receives heads, has their requests served one after another, and ends.
//!
//! Its task is small, and it holds no buffer while it waits for a request: what serving a request
//! takes lives in a boxed future that goes with it. Pipelined requests are answered in their order.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use nabu_engine::io::Clock;
use nabu_engine::runtime::{Half, Stream};
use nabu_net::http::head::{HeadLimits, HeadParser};
use nabu_net::http::target::split_query;

use super::client::Client;
use super::connections::Slot;
use super::core::Core;
use super::error::HttpError;
use super::exchange::{Exchange, Finished, refuse, turn_away};
use super::transport::{self, GOODBYE_BYTES, Refused, Transport};
use super::unfinished::HANDSHAKE_BYTES;

/// How long a connection that there is no room for has to say what it wants.
const REFUSED_HEAD_MS: u64 = 1_000;
/// The most bytes of its head: a request for health has fewer.
const REFUSED_HEAD_BYTES_MAX: usize = 2 << 10;

/// A request being served, or refused.
pub type Serving = Pin<Box<dyn Future<Output = Finished>>>;

/// A connection's membership in its core; leaves when dropped.
struct Membership {
    core: Rc<Core>,
    slot: Slot,
    client: Rc<Client>,
}

impl Membership {
    fn new(core: Rc<Core>, stream: Stream, client: Rc<Client>) -> Self {
        let slot = core.connections.add(stream, client.clone());
        Self { core, slot, client }
    }

    /// It holds this many bytes of what is not finished.
    fn hold_unfinished(&self, bytes: usize) {
        self.core.hold_unfinished(self.slot, &self.client, bytes);
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.core.unfinished.release(self.slot);
        self.core.connections.remove(self.slot);
        self.core.shared.admission(self.client.port).leave(&self.client);
    }
}

/// Serves a connection that was counted already, until its end.
pub fn serve(core: Rc<Core>, stream: Stream, client: Rc<Client>) -> impl Future<Output = ()> {
    let membership = Membership::new(core.clone(), stream.clone(), client);
    serve_member(core, stream, membership)
}

/// Serves a connection over the limit: answers its request if that asks for health, and refuses it
/// otherwise. The connection isn't counted, so it gets little time and little memory.
pub fn serve_refused(core: Rc<Core>, stream: Stream, client: Rc<Client>, error: HttpError) -> impl Future<Output = ()> {
    let membership = Membership::new(core.clone(), stream.clone(), client);
    serve_refused_member(core, stream, membership, error)
}

async fn serve_member(core: Rc<Core>, stream: Stream, membership: Membership) {
    let stream = match secure(&core, &stream, &membership) {
        None => Transport::Plain(stream),
        Some(securing) => match securing.await {
            Some(transport) => transport,
            None => return,
        },
    };
    // Made here, as an argument would lie in the task twice.
    let mut parser = HeadParser::new(core.head_limits());
    let mut input = Vec::new();
    // Whether the deadline of the head that is coming in is set.
    let mut head_begun = false;
    loop {
        if let Some(serving) = begin(&core, &stream, &membership.client, &mut parser, &mut input) {
            stream.set_deadline(None);
            core.unfinished.release(membership.slot);
            let finished = serving.await;
            input = finished.input;
            head_begun = false;
            if !finished.keep {
                break;
            }
            continue;
        }
        if core.is_stopping() {
            break;
        }
        if input.is_empty() {
            core.recycle(std::mem::take(&mut input));
            core.set_deadline(&stream, core.limits().idle_timeout_ms, Half::Read);
        } else {
            if !head_begun {
                head_begun = true;
                core.set_deadline(&stream, core.limits().head_timeout_ms, Half::Read);
            }
            membership.hold_unfinished(input.capacity());
        }
        core.connections.set_waiting(membership.slot, true);
        let received = stream.recv().await;
        core.connections.set_waiting(membership.slot, false);
        match received {
            Ok(bytes) if !bytes.is_empty() => {
                if input.capacity() == 0 {
                    input = core.vector();
                }
                input.extend_from_slice(&bytes);
            }
            Ok(_) if !input.is_empty() && stream.timed_out() => {
                refuse_late_head(&core, &stream).await;
                break;
            }
            _ => break,
        }
    }
    core.recycle(input);
    core.set_send_deadline(&stream, core.io.now(), GOODBYE_BYTES);
    stream.say_goodbye().await;
}

/// All that it holds is charged, from its first byte to its end: the connection is one of those
/// that have not finished asking.
async fn serve_refused_member(core: Rc<Core>, stream: Stream, membership: Membership, error: HttpError) {
    let transport = match secure(&core, &stream, &membership) {
        None => Some(Transport::Plain(stream)),
        Some(securing) => securing.await,
    };
    let Some(stream) = transport else { return };
    let limits = core.head_limits();
    let mut parser = HeadParser::new(HeadLimits {
        head_bytes: limits.head_bytes.min(REFUSED_HEAD_BYTES_MAX),
        target_bytes: limits.target_bytes.min(REFUSED_HEAD_BYTES_MAX / 2),
        ..limits
    });
    let mut input = Vec::new();
    core.set_deadline(&stream, REFUSED_HEAD_MS, Half::Read);
    while !core.is_stopping() {
        membership.hold_unfinished(input.capacity());
        match stream.recv().await {
            Ok(bytes) if !bytes.is_empty() => {
                let room = REFUSED_HEAD_BYTES_MAX - input.len();
                input.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            _ => break,
        }
        match parser.parse(&input) {
            Ok(None) if input.len() < REFUSED_HEAD_BYTES_MAX => {}
            Ok(Some(head)) if (core.service.is_always_answered)(split_query(head.target(&input)).0) => {
                stream.set_deadline(None);
                let client = membership.client.clone();
                let mut exchange = Exchange::new(core.clone(), stream.clone(), client, input, head);
                exchange.close_after();
                (core.service.dispatch)(exchange).await;
                return stream.say_goodbye().await;
            }
            _ => break,
        }
    }
    drop(input);
    turn_away(core, stream, error).await;
}

/// The handshake that a connection needs; `None` for plain HTTP. Not `async`, so that nothing of it
/// lies in the task of a plain connection. It gives the transport, or nothing when client and
/// server do not agree on one, and then the client was told. The connection may be ended meanwhile.
fn secure(
    core: &Rc<Core>,
    stream: &Stream,
    membership: &Membership,
) -> Option<Pin<Box<dyn Future<Output = Option<Transport>>>>> {
    let tls = core.shared.tls.as_ref()?.current();
    let (core, stream, slot) = (core.clone(), stream.clone(), membership.slot);
    membership.hold_unfinished(HANDSHAKE_BYTES);
    core.connections.set_waiting(slot, true);
    Some(Box::pin(async move {
        let accepted = transport::accept(core.clone(), stream.clone(), tls).await;
        core.connections.set_waiting(slot, false);
        core.unfinished.release(slot);
        core.recorder.handshake_ended(accepted.is_ok());
        match accepted {
            Ok(transport) => {
                core.recorder.secured(matches!(transport, Transport::Kernel(_)));
                Some(transport)
            }
            Err(refused) => {
                let peer = stream.peer_addr().map_or_else(|_| "unknown".to_owned(), |peer| peer.to_string());
                tracing::debug!(peer, "{refused}");
                if let Refused::PlainHttp = refused {
                    let message = "this port speaks HTTPS alone: use https:// in the address";
                    let error = HttpError::new(400, "plain HTTP on an HTTPS port", message);
                    refuse(core, Transport::Plain(stream), error).await;
                }
                None
            }
        }
    }))
}

/// Starts to serve the request at the start of `input`, which it takes; `None` when the head is not
/// complete. Not `async`, so that nothing of a head lies in the task of the connection.
fn begin(
    core: &Rc<Core>,
    stream: &Transport,
    client: &Rc<Client>,
    parser: &mut HeadParser,
    input: &mut Vec<u8>,
) -> Option<Serving> {
    if input.is_empty() {
        return None;
    }
    match parser.parse(input) {
        Ok(None) => None,
        Ok(Some(head)) => {
            let exchange = Exchange::new(core.clone(), stream.clone(), client.clone(), std::mem::take(input), head);
            Some((core.service.dispatch)(exchange))
        }
        Err(error) => {
            core.recycle(std::mem::take(input));
            Some(Box::pin(refuse(core.clone(), stream.clone(), error.into())))
        }
    }
}

/// Answers a head that did not come in time. Not `async`, for the same reason.
fn refuse_late_head(core: &Rc<Core>, stream: &Transport) -> Serving {
    let milliseconds = core.limits().head_timeout_ms;
    let message = format!("the request head was not complete after {milliseconds} ms");
    Box::pin(refuse(core.clone(), stream.clone(), HttpError::new(408, "request timeout", message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The most bytes of the task of a connection that waits.
    const IDLE_TASK_BYTES_MAX: usize = 768;

    fn size_of_future<A, B, C, Task>(_: impl Fn(A, B, C) -> Task) -> usize {
        size_of::<Task>()
    }

    #[test]
    fn an_idle_connection_is_small() {
        let size = size_of_future(serve_member);
        assert!(size <= IDLE_TASK_BYTES_MAX, "the task of a connection takes {size} bytes");
    }
}
