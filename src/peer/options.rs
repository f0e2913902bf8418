//! How connections to and from other nodes are made.

use std::sync::Arc;
use std::time::Duration;

use crate::tls::PeerTls;

/// How long a name may take to be resolved, and how long each address of a node has from the first
/// packet to the answer to the upgrade.
const PATIENCE: Duration = Duration::from_secs(10);

/// How connections to and from other nodes are made.
#[derive(Clone)]
pub struct LinkOptions {
    /// One for the whole process.
    pub tls: Arc<PeerTls>,
    /// Connections to other nodes are made without TLS, and those from others may be.
    pub allow_plaintext: bool,
    /// The time for each step of a dial.
    pub patience: Duration,
}

impl LinkOptions {
    pub fn new(tls: Arc<PeerTls>, allow_plaintext: bool) -> Self {
        Self { tls, allow_plaintext, patience: PATIENCE }
    }
}
