//! What is known of each address, and what a lane has counted: for metrics and for people.

use nabu_engine::io::Instant;

/// What a lane has counted since it began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    pub messages_sent: u64,
    pub bytes_sent: u64,
    /// Messages that couldn't be sent.
    pub messages_lost: u64,
    pub messages_received: u64,
    pub bytes_received: u64,
    /// Connections that this node made and that were established, and those that failed before.
    pub dials_established: u64,
    pub dials_failed: u64,
    /// The same of connections that others made.
    pub accepts_established: u64,
    pub accepts_failed: u64,
    /// Connections whose peer fell silent.
    pub silences: u64,
    /// Connections that were closed for what came on them.
    pub violations: u64,
}

/// What is known of one address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddressStatus {
    pub address: String,
    /// This node has a connection to it, and was answered on it.
    pub is_connected: bool,
    /// Since when that is so, or not so.
    pub since: Instant,
    /// A connection to it is to be held.
    pub is_kept: bool,
    /// What went wrong last, and when.
    pub last_error: Option<(Instant, String)>,
    /// Messages that wait for it, and their bytes.
    pub waiting: (usize, usize),
    pub messages_sent: u64,
    pub bytes_sent: u64,
    pub messages_lost: u64,
    /// What came on the connections that a node at this address has made and that are open.
    pub messages_received: u64,
    pub bytes_received: u64,
}
