//! From an accepted socket to a transport: the TLS handshake, and the handover to the kernel where
//! it does TLS.
//!
//! Records are received one by one, never a byte beyond: what follows the last record of the
//! handshake stays in the socket, where the kernel finds it when it takes over. The whole handshake
//! has one deadline. Its cryptography takes a turn like other bulk work, so that a storm of
//! handshakes does not hold up the requests of those who are in.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use nabu_engine::io::{AlignedBuf, Spawn};
use nabu_engine::ring::kernel_tls::Direction;
use nabu_engine::runtime::{Half, Stream};
use rustls::server::UnbufferedServerConnection;
use rustls::{ConnectionTrafficSecrets, ProtocolVersion};

use super::Transport;
use super::hello::{HANDSHAKE, HEADER_BYTES, RECORD_BYTES_MAX, offers};
use super::kernel::{KernelSession, kernel_keys};
use super::link::linked;
use super::refused::Refused;
use super::session::Session;
use super::state::{BULK_BYTES, Protocol, State};
use crate::http::core::Core;
use crate::tls::{Exporter, PEER_PROTOCOL, PeerTls, ServerTls};

/// The most records of a client's side: certificates may take several.
const RECORDS_MAX: usize = 64;

/// Shakes hands with a client, or with another node where `peers` says how nodes do that.
pub async fn accept(
    core: Rc<Core>,
    stream: Stream,
    tls: Arc<ServerTls>,
    peers: Option<Arc<PeerTls>>,
) -> Result<Transport, Refused> {
    core.set_deadline(&stream, core.limits().head_timeout_ms, Half::Both);
    let shaken = shake_hands(&core, &stream, &tls, peers.as_deref()).await;
    stream.set_deadline(None);
    let (state, exporter) = shaken.map_err(|refused| refused.or_late(&stream))?;
    if let Some(exporter) = exporter {
        return linked(core.io.clone(), core.vectors().clone(), stream, state, &exporter);
    }
    // Bytes that are left would be lost to the kernel. A client sends none before it has our
    // answer, or more than it may.
    if tls.offload.is_on()
        && !state.holds_bytes()
        && state.protocol.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    {
        return hand_over(&core, stream, state, &tls);
    }
    Ok(in_this_process(&core, stream, state))
}

fn in_this_process(core: &Core, stream: Stream, state: State) -> Transport {
    Transport::Tls(Rc::new(Session::new(core.io.clone(), core.vectors().clone(), stream, state, None)))
}

/// The protocol of a connection by the first record that came, and the exporter of a node's.
fn begin(
    hello: &[u8],
    tls: &ServerTls,
    peers: Option<&PeerTls>,
) -> Result<(UnbufferedServerConnection, Option<Exporter>), rustls::Error> {
    match peers {
        Some(peers) if offers(hello, PEER_PROTOCOL) == Some(true) => {
            peers.accept().map(|(connection, exporter)| (connection, Some(exporter)))
        }
        _ => Ok((UnbufferedServerConnection::new(tls.config.clone())?, None)),
    }
}

async fn shake_hands(
    core: &Core,
    stream: &Stream,
    tls: &ServerTls,
    peers: Option<&PeerTls>,
) -> Result<(State, Option<Exporter>), Refused> {
    let mut begun = None;
    let mut buf = AlignedBuf::zeroed(1);
    for record in 0..RECORDS_MAX {
        buf = receive(stream, buf, 0, HEADER_BYTES).await.map_err(Refused::Gone)?;
        if record == 0 && buf[0] != HANDSHAKE {
            return Err(if buf[..HEADER_BYTES].iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ') {
                Refused::PlainHttp
            } else {
                Refused::NoTls
            });
        }
        let length = usize::from(u16::from_be_bytes([buf[3], buf[4]]));
        if length > RECORD_BYTES_MAX {
            return Err(Refused::NoTls);
        }
        let total = HEADER_BYTES + length;
        if buf.capacity() < total {
            let mut larger = AlignedBuf::zeroed(total);
            larger[..HEADER_BYTES].copy_from_slice(&buf[..HEADER_BYTES]);
            buf = larger;
        }
        if length > 0 {
            buf = receive(stream, buf, HEADER_BYTES, total).await.map_err(Refused::Gone)?;
        }
        if record == 0 {
            core.io.bulk_turn(BULK_BYTES).await;
            let (connection, exporter) = begin(&buf[..total], tls, peers).map_err(Refused::Protocol)?;
            begun = Some((State::new(Protocol::Server(connection)), exporter));
        }
        let (state, _) = begun.as_mut().expect("it begins with the first record");
        state.incoming.extend_from_slice(&buf[..total]);
        let mut outgoing = Vec::new();
        let advanced = state.advance(&mut outgoing);
        if !outgoing.is_empty() {
            stream.send(outgoing).await.0.map_err(Refused::Gone)?;
        }
        advanced.map_err(Refused::Protocol)?;
        if !state.protocol.is_handshaking() {
            return Ok(begun.expect("it has begun"));
        }
    }
    Err(Refused::NoTls)
}

/// Receives until `buf[from..to]` is full.
async fn receive(stream: &Stream, mut buf: AlignedBuf, mut from: usize, to: usize) -> io::Result<AlignedBuf> {
    while from < to {
        let (received, returned) = stream.recv_into(buf, from..to).await;
        buf = returned;
        match received? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => from += count,
        }
    }
    Ok(buf)
}

/// Gives the connection's keys to the kernel. If its TLS layer isn't available, the connection
/// stays in this process: a client that has ended its sending is served here, since the kernel
/// takes established connections alone (`ENOTCONN`). After that there is no way back, as rustls
/// gives the keys away with the connection.
fn hand_over(core: &Core, stream: Stream, state: State, tls: &ServerTls) -> Result<Transport, Refused> {
    if let Err(error) = stream.attach_tls() {
        tls.offload.refused(&error);
        return Ok(in_this_process(core, stream, state));
    }
    let Protocol::Server(connection) = state.protocol else { unreachable!("this side is the server") };
    let (secrets, connection) = connection.dangerous_into_kernel_connection().map_err(Refused::Protocol)?;
    let give = |direction, (sequence, secrets): &(u64, ConnectionTrafficSecrets)| {
        let given = match kernel_keys(*sequence, secrets) {
            Some(keys) => stream.give_keys(direction, &keys),
            None => Err(io::Error::other("a cipher that was not offered")),
        };
        given.map_err(|error| {
            tls.offload.refused(&error);
            Refused::Kernel(error)
        })
    };
    give(Direction::Receive, &secrets.rx)?;
    give(Direction::Transmit, &secrets.tx)?;
    let session = KernelSession::new(stream, connection, secrets.tx.0, tls.offload.takes_new_keys());
    Ok(Transport::Kernel(Rc::new(session)))
}
