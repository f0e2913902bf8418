//! What a core's link is made of.

use std::io;
use std::rc::Rc;

use nabu_engine::link::{Connection, Link};
use nabu_engine::runtime::RingIo;

use super::dial::Dialer;
use super::halves::{RingReader, RingWriter, halves};
use super::incoming::Incoming;
use super::options::LinkOptions;
use crate::http::{Upgraded, Upgrades};

/// What the clones of a link share.
struct Shared {
    dialer: Dialer,
    incoming: Rc<Incoming>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // What waits there knows the core of HTTP, which knows the places: nobody else would end
        // it.
        self.incoming.close();
    }
}

/// The link of one core to other nodes; clones are the same link. When the last one is gone, what
/// waits to be accepted is ended. Connections live as long as their halves.
#[derive(Clone)]
pub struct RingLink(Rc<Shared>);

impl RingLink {
    pub fn new(io: RingIo, options: LinkOptions) -> Self {
        Self(Rc::new(Shared { dialer: Dialer::new(io, options), incoming: Rc::default() }))
    }

    /// What the core of HTTP needs to hand connections over to this link: for
    /// [`crate::http::Core::with_upgrades`].
    pub fn upgrades(&self) -> Upgrades {
        let (options, incoming) = (self.0.dialer.options(), self.0.incoming.clone());
        Upgrades {
            tls: options.tls.clone(),
            allows_plaintext: options.allow_plaintext,
            reserve: Box::new(move || incoming.reserve()),
        }
    }
}

impl Link for RingLink {
    type Reader = RingReader;
    type Writer = RingWriter;

    /// Connects to the node at `host:port`, and through its upgrade.
    ///
    /// # Errors
    /// Besides those of [`Link::connect`], with times that are shorter: `InvalidInput` for what is
    /// no address, `PermissionDenied` when the node wants TLS and this one has none,
    /// `InvalidData` when what answers is no node of a cluster.
    async fn connect(&self, address: &str) -> io::Result<Connection<RingReader, RingWriter>> {
        self.0.dialer.dial(address).await
    }

    async fn accept(&self) -> io::Result<Connection<RingReader, RingWriter>> {
        let Upgraded { transport, early, membership } = self.0.incoming.take().await;
        let peer_address = transport.peer_addr().map_or_else(|_| "unknown".to_owned(), |peer| peer.to_string());
        Ok(halves(transport, early, Some(membership), peer_address))
    }
}
