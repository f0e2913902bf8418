//! Watching a peer that has no room: whether it takes what lies in its socket, and how fast.
//!
//! What was sent lies in the socket until the peer acknowledges it, and the kernel says how much
//! that is. So a peer that takes little at a time is known to take something long before there is
//! room for more, and one that takes less than it must is cut off in time, however much its socket
//! holds.

use std::io;
use std::time::Duration;

use nabu_engine::io::{Clock, Instant};

use super::exchange::Exchange;
use super::held::Hold;
use super::phases::Phase;

/// How often it is looked at the most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A wait for a peer.
pub struct Watch {
    looked: Instant,
    /// Bytes on their way to the peer, in the process and in the socket.
    untaken: usize,
    _hold: Hold,
}

impl Watch {
    /// Begins a wait, with so many bytes on their way into the socket.
    pub fn begin(exchange: &mut Exchange, on_the_way: usize) -> Self {
        let looked = exchange.enter(Phase::Send);
        let untaken = on_the_way + exchange.stream.unacknowledged();
        Self { looked, untaken, _hold: exchange.core.hold(&exchange.stream, looked, on_the_way) }
    }

    /// How long to wait before the next look.
    pub fn patience(&self, exchange: &Exchange) -> Duration {
        LOOK_EVERY.min(exchange.slack.left())
    }

    /// Looks what the peer took meanwhile; `waited` says whether the wait has come to its end.
    /// Gives the outcome, if that is known: false when the peer is gone, or takes less than it
    /// must.
    pub fn look(&mut self, exchange: &mut Exchange, on_the_way: usize, waited: io::Result<bool>) -> Option<bool> {
        let now = exchange.core.io.now();
        let untaken = on_the_way + exchange.stream.unacknowledged();
        exchange.slack.spend(now.since(self.looked), self.untaken.saturating_sub(untaken));
        (self.looked, self.untaken) = (now, untaken);
        match waited {
            Ok(false) if exchange.slack.left().is_zero() => {
                exchange.stream.abort();
                Some(exchange.sent(Err(io::ErrorKind::TimedOut.into()), 0))
            }
            Ok(false) => None,
            ended => Some(exchange.sent(ended.map(drop), 0)),
        }
    }
}
