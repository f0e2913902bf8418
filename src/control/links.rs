//! How the connections to other nodes do, as core 0 last said.

use nabu_engine::io::Instant;

/// The connection on which this node sends to another one.
#[derive(Clone, Debug)]
pub struct LinkStatus {
    /// Where the other node is reached, `host:port`.
    pub address: String,
    pub is_up: bool,
    /// Since when it is as it is.
    pub since: Instant,
    /// Why it is not there, if an attempt has failed.
    pub error: Option<String>,
    pub bytes_sent: u64,
    pub messages_sent: u64,
    /// Messages that were lost, since the node was not reached or too much waited.
    pub messages_lost: u64,
}
