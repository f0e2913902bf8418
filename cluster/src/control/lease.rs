//! Contact: whether the group surely still counts this node as active.
//!
//! A node sends the leader heartbeats. An answer to one gives a lease that began when the heartbeat
//! left, since the leader gives its verdict only [`super::verdicts::SILENCE`] after the last
//! heartbeat that it answered. So the lease has ended before the verdict, whatever messages were
//! late, as long as no clock goes twice as fast as another.
//!
//! Times are of a clock that goes on while the machine sleeps (`CLOCK_BOOTTIME`).

use std::collections::VecDeque;
use std::time::Duration;

use nabu_engine::io::Instant;

use super::message::HeartbeatAnswer;
use crate::mutant::{Mutant, is_planted};

/// How long a heartbeat that was answered keeps a node in contact.
pub const LEASE: Duration = Duration::from_secs(5);
/// Between two heartbeats.
pub const HEARTBEAT_EVERY: Duration = Duration::from_millis(500);
/// Heartbeats whose answers are still of use.
const SENT_MAX: usize = 16;

const _: () = assert!(HEARTBEAT_EVERY.as_millis() * SENT_MAX as u128 > LEASE.as_millis());

#[derive(Default)]
pub struct Lease {
    sequence: u64,
    sent: VecDeque<(u64, Instant)>,
    until: Option<Instant>,
    /// The ring version that the leader had when it gave the lease.
    ring_version: u64,
}

impl Lease {
    /// When the next heartbeat is due.
    pub fn next(&self) -> Option<Instant> {
        self.sent.back().map(|(_, at)| at.after(HEARTBEAT_EVERY))
    }

    /// A heartbeat leaves now; the number that it has.
    pub fn send(&mut self, now: Instant) -> u64 {
        self.sequence += 1;
        self.sent.push_back((self.sequence, now));
        if self.sent.len() > SENT_MAX {
            self.sent.pop_front();
        }
        self.sequence
    }

    /// The leader has answered as to an active member.
    pub fn answered(&mut self, answer: &HeartbeatAnswer, now: Instant) {
        let sent = self.sent.iter().find(|(sequence, _)| *sequence == answer.sequence);
        let Some((_, at)) = sent else { return };
        let at = if is_planted(Mutant::LeaseFromAnswer) { now } else { *at };
        self.until = self.until.max(Some(at.after(LEASE)));
        self.ring_version = self.ring_version.max(answer.ring_version);
    }

    /// What was promised to an earlier start of this node, or while it was a member, is void.
    pub fn end(&mut self) {
        self.until = None;
        self.sent.clear();
    }

    /// Until when the node is in contact, with the ring that it has.
    pub fn until(&self, ring_version: u64) -> Option<Instant> {
        self.until.filter(|_| ring_version >= self.ring_version)
    }
}
