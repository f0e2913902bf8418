//! How much the lane may hold, and how long things may take.

use std::time::Duration;

use nabu_net::peer::frame;

use super::pieces::PIECE_HEAD_BYTES_MAX;
use crate::control::message::MESSAGE_BYTES_MAX;

/// How much a lane may hold. Each core of a node has a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of a control message in one frame. So a ping never waits behind more.
    pub piece_bytes: usize,
    /// Messages that wait for one address, and their bytes.
    pub queue_messages: usize,
    pub queue_bytes: usize,
    /// Bytes that wait for all addresses.
    pub queued_bytes: usize,
    /// Addresses that are known.
    pub addresses: usize,
    /// Accepted connections whose handshake is not over; of more the oldest goes.
    pub handshakes: usize,
    /// Accepted connections whose handshake is over; of more the one goes that was quiet the
    /// longest.
    pub incoming: usize,
    /// The same, of one store: more than one only while a new one replaces an old one.
    pub incoming_of_store: usize,
    /// Bytes of messages that have come in part, on all accepted connections.
    pub assembled_bytes: usize,
}

impl Limits {
    pub const DEFAULT: Limits = Limits {
        piece_bytes: 64 << 10,
        queue_messages: 1_024,
        queue_bytes: 2 * MESSAGE_BYTES_MAX,
        queued_bytes: 8 * MESSAGE_BYTES_MAX,
        addresses: 2_048,
        handshakes: 64,
        incoming: 2_048,
        incoming_of_store: 4,
        assembled_bytes: 4 * MESSAGE_BYTES_MAX,
    };

    /// # Panics
    /// When the longest message couldn't be sent within them.
    pub const fn check(&self) {
        assert!(self.piece_bytes > 0 && self.piece_bytes + PIECE_HEAD_BYTES_MAX <= frame::MESSAGE_BYTES_MAX as usize);
        assert!(self.queue_messages > 0 && self.queue_bytes >= MESSAGE_BYTES_MAX);
        assert!(self.queued_bytes >= self.queue_bytes);
        assert!(self.addresses > 0 && self.handshakes > 0 && self.incoming >= self.incoming_of_store);
        assert!(self.incoming_of_store >= 2, "a new connection stands beside the old one for a while");
        assert!(self.assembled_bytes >= MESSAGE_BYTES_MAX);
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

const _: () = Limits::DEFAULT.check();

/// How long a dial may take.
pub const DIAL_WITHIN: Duration = Duration::from_secs(3);
/// How long a handshake may take, on either side.
pub const HANDSHAKE_WITHIN: Duration = Duration::from_secs(3);
/// How often the lane looks after its connections.
pub const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// Sweeps in which nothing came on an accepted connection, after which it is closed. The node that
/// dialled sends a ping each second. They are counted, and not the time, because a node that was
/// itself stopped knows nothing of the time between.
pub const QUIET_SWEEPS_MAX: u32 = 40;
/// How long an address to which no connection is to be held may be left unused.
pub const IDLE_AFTER: Duration = Duration::from_secs(60);
/// How long the peer may take to read the rest, after it was told that a connection ends.
pub const PARTING_WITHIN: Duration = Duration::from_secs(1);
/// Bytes of frames that are written at once.
pub const WRITE_BYTES: usize = 64 << 10;
/// Bytes that answer a peer by themselves and wait to be written; beyond it nothing more is read.
pub const ANSWER_BYTES_MAX: usize = 4 << 10;

/// The first pause after a failure, up to the longest.
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A connection that has lasted so long was no failure: the pauses start over.
pub const PROVEN_AFTER: Duration = Duration::from_secs(2);
