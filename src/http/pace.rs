//! How fast a peer takes what it is sent, as far as the ways of sending agree on it.

use std::time::Duration;

/// How long a peer may take nothing before it counts as slow.
pub const PATIENCE: Duration = Duration::from_millis(250);

/// How sending fast ended.
pub enum Sent {
    All,
    /// The peer is gone, and the exchange knows.
    Gone,
    /// The peer is slow, or there are too many transfers: the rest goes another way.
    Slow,
}
