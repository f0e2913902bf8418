//! How a connection of HTTP becomes one between nodes: `GET /v1/peer` with `Upgrade: nabu-peer/1`
//! (`nabu_net::peer::upgrade`).
//!
//! HTTP answers it and hands the connection over, with everything that it counts as. The new owner
//! gives that back when it knows who speaks, or with the connection. A core that has no
//! [`Upgrades`] knows nothing of all this, and such a request is like any other.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use nabu_engine::io::Clock;
use nabu_net::http::head::{BodyFraming, Method, RequestHead};
use nabu_net::peer::upgrade::{UPGRADE_ANSWER, UPGRADE_PROTOCOL, UPGRADE_TARGET, is_upgrade};

use super::error::HttpError;
use super::membership::Membership;
use super::transport::Transport;
use super::unfinished::HANDSHAKE_BYTES;
use crate::tls::PeerTls;

/// What takes connections between nodes on one core.
pub struct Upgrades {
    /// How nodes encrypt.
    pub tls: Arc<PeerTls>,
    /// Whether a connection may do without.
    pub allows_plaintext: bool,
    /// A place for one more connection; `None` while too many wait to be taken.
    pub reserve: Box<dyn Fn() -> Option<Place>>,
}

/// Takes the connection that it was reserved for; dropped, it is free again.
pub type Place = Box<dyn FnOnce(Upgraded)>;

/// A connection between nodes that has been answered, without any deadline.
pub struct Upgraded {
    pub transport: Transport,
    /// What came behind the head of the request.
    pub early: Vec<u8>,
    /// What it counts as until it has shown who speaks: dropping this says that it has.
    pub membership: Membership,
}

/// What a request is to [`Upgrades`].
pub enum Asked {
    /// None of theirs.
    Nothing,
    Refused(HttpError),
    Granted(Place),
}

impl Upgrades {
    /// Judges the request at the start of `input`, on a connection to the main port.
    pub fn judge(&self, head: &RequestHead, input: &[u8], transport: &Transport, is_stopping: bool) -> Asked {
        let is_of_node = transport.binding().is_some();
        if head.target(input) != UPGRADE_TARGET {
            return if is_of_node { Asked::Refused(misdirected()) } else { Asked::Nothing };
        }
        match self.check(head, input, transport, is_of_node) {
            Err(error) => Asked::Refused(error),
            Ok(()) if is_stopping => {
                Asked::Refused(HttpError::unavailable("shutting down", "this node is shutting down"))
            }
            Ok(()) => match (self.reserve)() {
                Some(place) => Asked::Granted(place),
                None => Asked::Refused(HttpError::unavailable(
                    "too many connections",
                    "too many connections of other nodes wait to be taken; try again",
                )),
            },
        }
    }

    fn check(
        &self,
        head: &RequestHead,
        input: &[u8],
        transport: &Transport,
        is_of_node: bool,
    ) -> Result<(), HttpError> {
        if head.method() != Method::Get {
            return Err(
                HttpError::new(405, "method not allowed", "this resource allows GET").with_field("Allow", "GET")
            );
        }
        if head.is_http_10() || !head.wants_upgrade() || !asks_for_protocol(head, input) {
            let message =
                format!("this is where the nodes of a cluster connect to each other, with Upgrade: {UPGRADE_PROTOCOL}");
            return Err(HttpError::new(426, "upgrade required", message)
                .with_field("Connection", "Upgrade")
                .with_field("Upgrade", UPGRADE_PROTOCOL));
        }
        if head.framing() != BodyFraming::None {
            let message = "a request that upgrades its connection has no body: what follows is for the new protocol";
            return Err(HttpError::new(400, "bad message framing", message));
        }
        let is_allowed = is_of_node || self.allows_plaintext && matches!(transport, Transport::Plain(_));
        if is_allowed { Ok(()) } else { Err(unbound(transport)) }
    }
}

/// Whether the fields of a request, joined as they may be (RFC 9110, section 5.3), ask for it.
fn asks_for_protocol(head: &RequestHead, input: &[u8]) -> bool {
    let joined = |name: &str| {
        let mut joined = Vec::new();
        for (_, value) in head.fields(input).filter(|(other, _)| other.eq_ignore_ascii_case(name)) {
            joined.extend_from_slice(value);
            joined.push(b',');
        }
        joined
    };
    is_upgrade(&joined("connection"), &joined("upgrade"))
}

fn misdirected() -> HttpError {
    let message = format!(
        "TLS that names {UPGRADE_PROTOCOL} as its protocol (ALPN) is for nodes, and for GET {UPGRADE_TARGET} alone: \
         name http/1.1, or none"
    );
    HttpError::new(421, "misdirected request", message)
}

fn unbound(transport: &Transport) -> HttpError {
    let message = match transport {
        Transport::Plain(_) => format!(
            "nodes connect to this one over TLS with {UPGRADE_PROTOCOL} as its protocol (ALPN); plaintext is accepted \
             where cluster.allow_plaintext is set"
        ),
        Transport::Tls(_) | Transport::Kernel(_) => format!(
            "nodes connect to this one over TLS with {UPGRADE_PROTOCOL} as its protocol (ALPN), and this connection \
             named another, or none"
        ),
    };
    HttpError::new(403, "plaintext between nodes", message)
}

/// Answers that the connection is one between nodes, and puts it into its place. What it holds is
/// unfinished until the nodes have proven themselves. Not `async`, so that nothing of it lies in
/// the task of a connection.
pub fn upgrade(
    transport: &Transport,
    membership: Membership,
    early: Vec<u8>,
    place: Place,
) -> Pin<Box<dyn Future<Output = ()>>> {
    membership.leave_http();
    membership.hold_unfinished(HANDSHAKE_BYTES);
    let (core, transport) = (membership.core.clone(), transport.clone());
    Box::pin(async move {
        let answer = UPGRADE_ANSWER.as_bytes().to_vec();
        core.set_send_deadline(&transport, core.io.now(), answer.len());
        let (sent, answer) = transport.send(answer).await;
        transport.set_deadline(None);
        core.recycle(answer);
        if sent.is_ok() && !transport.timed_out() {
            place(Upgraded { transport, early, membership });
        }
    })
}
