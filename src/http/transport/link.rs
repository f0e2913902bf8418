//! TLS of a connection between nodes, from either side. It stays in this process, so records need
//! not be received one by one.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use nabu_engine::io::Spawn;
use nabu_engine::runtime::{Half, RingIo, Stream};

use super::Transport;
use super::refused::Refused;
use super::session::Session;
use super::state::{BULK_BYTES, Protocol, State};
use crate::http::core::Core;
use crate::http::vectors::Vectors;
use crate::tls::{Exporter, PEER_PROTOCOL, PeerTls};

/// The most bytes that one side of such a handshake takes: a hello with keys of post-quantum
/// cryptography, or a short certificate, have a few thousand.
const RECEIVED_BYTES_MAX: usize = 64 << 10;

/// Shakes hands with a node that has connected to a port of plain HTTP, and sent `received` so far.
pub async fn accept_link(
    core: Rc<Core>,
    stream: Stream,
    tls: Arc<PeerTls>,
    received: Vec<u8>,
) -> Result<Transport, Refused> {
    core.set_deadline(&stream, core.limits().head_timeout_ms, Half::Both);
    core.io.bulk_turn(BULK_BYTES).await;
    let (connection, exporter) = tls.accept().map_err(Refused::Protocol)?;
    let mut state = State::new(Protocol::Server(connection));
    state.incoming = received;
    let shaken = shake_hands(&stream, &mut state).await;
    stream.set_deadline(None);
    shaken.map_err(|refused| refused.or_late(&stream))?;
    linked(core.io.clone(), core.vectors().clone(), stream, state, &exporter)
}

/// Shakes hands with a node that this one has connected to. The deadline is the caller's.
pub async fn connect_link(
    io: RingIo,
    vectors: Rc<Vectors>,
    stream: Stream,
    tls: &PeerTls,
) -> Result<Transport, Refused> {
    io.bulk_turn(BULK_BYTES).await;
    let (connection, exporter) = tls.connect().map_err(Refused::Protocol)?;
    let mut state = State::new(Protocol::Client(connection));
    shake_hands(&stream, &mut state).await?;
    linked(io, vectors, stream, state, &exporter)
}

async fn shake_hands(stream: &Stream, state: &mut State) -> Result<(), Refused> {
    let mut received = state.incoming.len();
    loop {
        let mut outgoing = Vec::new();
        let advanced = state.advance(&mut outgoing);
        if !outgoing.is_empty() {
            stream.send(outgoing).await.0.map_err(Refused::Gone)?;
        }
        advanced.map_err(Refused::Protocol)?;
        if !state.protocol.is_handshaking() {
            return Ok(());
        }
        let bytes = stream.recv().await.map_err(Refused::Gone)?;
        received += bytes.len();
        if bytes.is_empty() {
            return Err(Refused::Gone(io::ErrorKind::UnexpectedEof.into()));
        } else if received > RECEIVED_BYTES_MAX {
            return Err(Refused::NoTls);
        }
        state.incoming.extend_from_slice(&bytes);
    }
}

/// The transport of a connection whose hands are shaken.
pub(super) fn linked(
    io: RingIo,
    vectors: Rc<Vectors>,
    stream: Stream,
    state: State,
    exporter: &Exporter,
) -> Result<Transport, Refused> {
    match exporter.binding() {
        Some(binding) if state.protocol.alpn_protocol() == Some(PEER_PROTOCOL) => {
            Ok(Transport::Tls(Rc::new(Session::new(io, vectors, stream, state, Some(binding)))))
        }
        _ => Err(Refused::OtherProtocol),
    }
}
