//! One connection: receives heads, has their requests served one after another, and ends.
//!
//! Its task is small, and it holds no buffer while it waits for a request: what serving a request
//! takes lives in a boxed future that goes with it. Pipelined requests are answered in their order.

use std::future::{Future, ready};
use std::pin::Pin;
use std::rc::Rc;

use nabu_engine::io::Clock;
use nabu_engine::runtime::{Half, Stream};
use nabu_net::http::head::{HeadLimits, HeadParser};
use nabu_net::http::target::split_query;

use super::client::{Client, Port};
use super::core::Core;
use super::error::HttpError;
use super::exchange::{Exchange, Finished, refuse, run, turn_away};
use super::membership::Membership;
use super::transport::{self, GOODBYE_BYTES, Refused, Transport};
use super::unfinished::HANDSHAKE_BYTES;
use super::upgrade::{Asked, Upgrades, upgrade};
use crate::tls::PEER_PROTOCOL;

/// How long a connection that there is no room for has to say what it wants.
const REFUSED_HEAD_MS: u64 = 1_000;
/// The most bytes of its head: a request for health has fewer.
const REFUSED_HEAD_BYTES_MAX: usize = 2 << 10;

/// A request being served, or refused.
pub type Serving = Pin<Box<dyn Future<Output = Finished>>>;

/// Serves a connection that was counted already, until its end.
pub fn serve(core: Rc<Core>, stream: Stream, client: Rc<Client>) -> impl Future<Output = ()> {
    let membership = Membership::new(core, stream.clone(), client);
    serve_member(stream, membership)
}

/// Serves a connection over the limit: answers its request if that asks for health, and refuses it
/// otherwise. The connection isn't counted, so it gets little time and little memory.
pub fn serve_refused(core: Rc<Core>, stream: Stream, client: Rc<Client>, error: HttpError) -> impl Future<Output = ()> {
    let membership = Membership::new(core.clone(), stream.clone(), client);
    serve_refused_member(core, stream, membership, error)
}

/// It has the core from the membership alone: whatever is an argument lies in the task twice.
async fn serve_member(stream: Stream, membership: Membership) {
    let mut stream = match secure(&membership.core, &stream, &membership) {
        None => Transport::Plain(stream),
        Some(securing) => match securing.await {
            Some(transport) => transport,
            None => return,
        },
    };
    // Made here, as an argument would lie in the task twice.
    let mut parser = HeadParser::new(membership.core.head_limits());
    let mut input = Vec::new();
    // Whether the deadline of the head that is coming in is set.
    let mut head_begun = false;
    // What a plain connection begins with may be the TLS of a node.
    let mut may_be_hello = matches!(stream, Transport::Plain(_));
    let upgraded = loop {
        let hello = may_be_hello.then(|| hello_of_node(&membership.core, &membership.client, &input)).flatten();
        if let Some(is_complete) = hello {
            if is_complete {
                may_be_hello = false;
                head_begun = false;
                match secure_link(&membership.core, &stream, &membership, std::mem::take(&mut input)).await {
                    Some(transport) => stream = transport,
                    None => return,
                }
            }
        } else if let Some(serving) = begin(&membership.core, &stream, &membership.client, &mut parser, &mut input) {
            stream.set_deadline(None);
            membership.core.unfinished.release(membership.slot);
            let finished = serving.await;
            input = finished.input;
            head_begun = false;
            may_be_hello = false;
            if !finished.keep {
                break finished.upgrade;
            }
            continue;
        }
        if membership.core.is_stopping() {
            break None;
        }
        if input.is_empty() {
            membership.core.recycle(std::mem::take(&mut input));
            membership.core.set_deadline(&stream, membership.core.limits().idle_timeout_ms, Half::Read);
        } else {
            if !head_begun {
                head_begun = true;
                membership.core.set_deadline(&stream, membership.core.limits().head_timeout_ms, Half::Read);
            }
            membership.hold_unfinished(input.capacity());
        }
        membership.core.connections.set_waiting(membership.slot, true);
        let received = stream.recv().await;
        membership.core.connections.set_waiting(membership.slot, false);
        match received {
            Ok(bytes) if !bytes.is_empty() => {
                if input.capacity() == 0 {
                    input = membership.core.vector();
                }
                input.extend_from_slice(&bytes);
            }
            Ok(_) if !input.is_empty() && stream.timed_out() => {
                refuse_late_head(&membership.core, &stream).await;
                break None;
            }
            _ => break None,
        }
    };
    if let Some(place) = upgraded {
        return upgrade(&stream, membership, input, place).await;
    }
    membership.core.recycle(input);
    membership.core.set_send_deadline(&stream, membership.core.io.now(), GOODBYE_BYTES);
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
            Ok(Some(head))
                if stream.binding().is_none()
                    && (core.service.is_always_answered)(split_query(head.target(&input)).0) =>
            {
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
    let peers = upgrades(core, &membership.client).map(|upgrades| upgrades.tls.clone());
    let shaking = transport::accept(core.clone(), stream.clone(), tls, peers);
    Some(shake_hands(core, stream, membership, shaking))
}

/// The same for a node that speaks TLS on a port of plain HTTP, and has sent `received`.
fn secure_link(
    core: &Rc<Core>,
    stream: &Stream,
    membership: &Membership,
    received: Vec<u8>,
) -> Pin<Box<dyn Future<Output = Option<Transport>>>> {
    let upgrades = core.upgrades.as_ref().expect("a hello of a node is looked for where nodes may connect");
    let shaking = transport::accept_link(core.clone(), stream.clone(), upgrades.tls.clone(), received);
    shake_hands(core, stream, membership, shaking)
}

fn shake_hands(
    core: &Rc<Core>,
    stream: &Stream,
    membership: &Membership,
    shaking: impl Future<Output = Result<Transport, Refused>> + 'static,
) -> Pin<Box<dyn Future<Output = Option<Transport>>>> {
    let (core, stream, slot) = (core.clone(), stream.clone(), membership.slot);
    membership.hold_unfinished(HANDSHAKE_BYTES);
    core.connections.set_waiting(slot, true);
    Box::pin(async move {
        let accepted = shaking.await;
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
                    let message = "this port speaks only HTTPS: use https:// in the address";
                    let error = HttpError::new(400, "plain HTTP on an HTTPS port", message);
                    refuse(core, Transport::Plain(stream), error).await;
                }
                None
            }
        }
    })
}

/// What takes connections between nodes from this client.
fn upgrades<'c>(core: &'c Core, client: &Client) -> Option<&'c Upgrades> {
    core.upgrades.as_ref().filter(|_| client.port == Port::Main)
}

/// Whether `input`, the first that came, is the hello of a node, and if it can be one, whether it
/// is complete.
fn hello_of_node(core: &Core, client: &Client, input: &[u8]) -> Option<bool> {
    upgrades(core, client)?;
    match transport::offers(input, PEER_PROTOCOL) {
        None if input.is_empty() => None,
        None => Some(false),
        Some(true) => Some(true),
        Some(false) => None,
    }
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
            let asked = upgrades(core, client)
                .map_or(Asked::Nothing, |upgrades| upgrades.judge(&head, input, stream, core.is_stopping()));
            if let Asked::Granted(place) = asked {
                let input = input.split_off(head.size());
                let finished = Finished { input, keep: false, upgrade: Some(place) };
                return Some(Box::pin(ready(finished)));
            }
            let mut exchange = Exchange::new(core.clone(), stream.clone(), client.clone(), std::mem::take(input), head);
            match asked {
                Asked::Refused(error) => {
                    exchange.close_after();
                    Some(Box::pin(run(exchange, async move |_| Err(error))))
                }
                _ => Some((core.service.dispatch)(exchange)),
            }
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

    fn size_of_future<A, B, Task>(_: impl Fn(A, B) -> Task) -> usize {
        size_of::<Task>()
    }

    #[test]
    fn an_idle_connection_is_small() {
        let size = size_of_future(serve_member);
        assert!(size <= IDLE_TASK_BYTES_MAX, "the task of a connection takes {size} bytes");
    }
}
