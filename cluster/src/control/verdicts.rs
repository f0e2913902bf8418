//! The leader's part in noticing failures: whom it has heard, and who counts as offline.
//!
//! Invariants, on which leases of contact rest ([`super::lease`]):
//! - A heartbeat is answered only after a majority has confirmed, since it came, that this node
//!   leads.
//! - A verdict comes [`SILENCE`] after the last heartbeat of the node that was answered, and as
//!   long after this node began to lead or was stopped for a while.
//! - From the moment that a verdict is proposed, its node is not answered before it is applied.

use std::collections::BTreeMap;
use std::time::Duration;

use nabu_engine::io::Instant;

use super::group::Group;
use super::lease::LEASE;
use super::member::Incarnation;
use super::message::{Heard, Heartbeat, HeartbeatAnswer, Load};
use super::state::State;
use crate::mutant::{Mutant, is_planted};
use crate::node::NodeNumber;
use crate::probe::{Event, hit};

/// How long a node may be silent before it counts as offline.
pub const SILENCE: Duration = Duration::from_secs(10);
/// How long a confirmation may take before it is asked for anew.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two confirmations: one serves all heartbeats that came meanwhile.
const CONFIRM_EVERY: Duration = Duration::from_millis(250);
/// Heartbeats that wait for a confirmation; those beyond are lost.
const WAITING_MAX: usize = 4_096;
/// Loads go out with every answer whose number is a multiple of this.
const LOADS_EVERY: u64 = 8;

const _: () = assert!(SILENCE.as_millis() >= 2 * LEASE.as_millis(), "clocks may go up to twice as fast as others");

/// A heartbeat that was not answered yet.
struct Waiting {
    node: NodeNumber,
    address: String,
    heartbeat: Heartbeat,
}

/// An answer that may leave, and where to.
pub struct Answered {
    pub node: NodeNumber,
    pub address: String,
    /// The ring that the node has.
    pub ring_version: u64,
    pub answer: HeartbeatAnswer,
}

#[derive(Default)]
pub struct Verdicts {
    /// Since when this node leads without having been stopped; `None` while it doesn't lead.
    since: Option<Instant>,
    heard: BTreeMap<NodeNumber, Instant>,
    /// Their verdict is proposed.
    doomed: BTreeMap<NodeNumber, Incarnation>,
    waiting: Vec<Waiting>,
    /// A read that confirms that this node leads, when it was asked for, and whom it is for.
    confirming: Option<(Vec<u8>, Instant, Vec<Waiting>)>,
    /// When the last confirmation was asked for.
    asked: Option<Instant>,
    loads: BTreeMap<NodeNumber, Load>,
}

impl Verdicts {
    /// This node leads from now on, or does again after it was stopped.
    pub fn lead(&mut self, now: Instant) {
        self.since = Some(now);
        if is_planted(Mutant::VerdictAtOnce) {
            self.since = Some(Instant(0));
        }
    }

    /// It leads no more.
    pub fn follow(&mut self) {
        *self = Self { loads: std::mem::take(&mut self.loads), ..Self::default() };
    }

    pub fn is_leading(&self) -> bool {
        self.since.is_some()
    }

    pub fn receive(&mut self, node: NodeNumber, address: &str, heartbeat: Heartbeat) {
        self.loads.insert(node, heartbeat.load);
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push(Waiting { node, address: address.into(), heartbeat });
        }
    }

    /// Whether a confirmation is wanted now; then `context` names it.
    pub fn ask(&mut self, now: Instant, context: impl FnOnce() -> Vec<u8>) -> Option<Vec<u8>> {
        let is_lost = |at: Instant| now.since(at) >= CONFIRMATION_TIMEOUT;
        if self.waiting.is_empty() || self.asked.is_some_and(|asked| now.since(asked) < CONFIRM_EVERY) {
            return None;
        }
        if self.confirming.as_ref().is_some_and(|(_, at, _)| !is_lost(*at)) {
            return None;
        }
        let context = context();
        self.asked = Some(now);
        let waiting = std::mem::take(&mut self.waiting);
        if self.confirming.replace((context.clone(), now, waiting)).is_some() {
            hit(Event::ConfirmationLost);
        }
        Some(context)
    }

    /// A majority has confirmed, since the read was asked for, that this node leads: gives the
    /// answers to those who waited for it.
    pub fn confirmed(&mut self, context: &[u8], now: Instant, group: &Group) -> Vec<Answered> {
        if self.confirming.as_ref().is_none_or(|(asked, ..)| asked != context) {
            return Vec::new();
        }
        let (_, _, waiting) = self.confirming.take().expect("it was there");
        waiting.into_iter().filter_map(|waiting| self.answer(waiting, now, group)).collect()
    }

    /// Answers without a confirmation, as a planted bug.
    pub fn unconfirmed(&mut self, now: Instant, group: &Group) -> Vec<Answered> {
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().filter_map(|waiting| self.answer(waiting, now, group)).collect()
    }

    fn answer(&mut self, waiting: Waiting, now: Instant, group: &Group) -> Option<Answered> {
        let state = group.state();
        let Waiting { node, address, heartbeat } = waiting;
        let standing = match state.members.get(&node) {
            // It was removed; told so, somebody may empty its disk, which must not hold a vote
            // then.
            None if group.votes(node) => return None,
            None => Heard::Unknown,
            Some(member) if member.incarnation != heartbeat.incarnation && !is_planted(Mutant::OldIncarnation) => {
                hit(Event::OldIncarnationRefused);
                Heard::Old { current: member.incarnation }
            }
            Some(_) if self.doomed.contains_key(&node) && !is_planted(Mutant::AckDoomed) => {
                hit(Event::DoomedHeard);
                return None;
            }
            Some(member) => {
                self.heard.insert(node, now);
                Heard::Member(member.state)
            }
        };
        let is_telling = heartbeat.sequence.is_multiple_of(LOADS_EVERY);
        let loads = self.loads.iter().filter(|_| is_telling).map(|(node, load)| (*node, *load)).collect();
        let answer =
            HeartbeatAnswer { sequence: heartbeat.sequence, standing, ring_version: state.ring_version, loads };
        Some(Answered { node, address, ring_version: heartbeat.ring_version, answer })
    }

    /// A member is counted on from now on, by agreement.
    pub fn counted_on(&mut self, node: NodeNumber, now: Instant) {
        self.doomed.remove(&node);
        self.heard.insert(node, now);
    }

    /// A node has become a member, or was announced.
    pub fn came(&mut self, node: NodeNumber, now: Instant) {
        self.heard.entry(node).or_insert(now);
    }

    /// A verdict on a member is decided; one on another start of it says nothing of this one.
    pub fn decided(&mut self, node: NodeNumber, incarnation: Incarnation) {
        if self.doomed.get(&node) == Some(&incarnation) {
            self.doomed.remove(&node);
        }
    }

    /// A verdict on a member has been proposed.
    pub fn proposed(&mut self, node: NodeNumber, incarnation: Incarnation) {
        hit(Event::VerdictProposed);
        self.doomed.insert(node, incarnation);
    }

    /// Who has been silent for too long.
    pub fn due(&self, now: Instant, state: &State) -> Vec<(NodeNumber, Incarnation)> {
        let silence = if is_planted(Mutant::VerdictEarly) { SILENCE / 4 } else { SILENCE };
        let counted_on = state.members.iter().filter(|(_, member)| member.is_counted_on());
        counted_on
            .filter(|(node, _)| !self.doomed.contains_key(node) && self.silent_for(**node, now) >= Some(silence))
            .map(|(node, member)| (*node, member.incarnation))
            .collect()
    }

    /// How long this node, as the leader, has not heard a member; `None` if it doesn't lead.
    pub fn silent_for(&self, node: NodeNumber, now: Instant) -> Option<Duration> {
        let since = self.since?;
        Some(now.since(self.heard.get(&node).map_or(since, |heard| since.max(*heard))))
    }

    pub fn loads(&self) -> &BTreeMap<NodeNumber, Load> {
        &self.loads
    }

    /// What the leader told about how full others are.
    pub fn learn_loads(&mut self, loads: Vec<(NodeNumber, Load)>, state: &State) {
        self.loads.extend(loads.into_iter().filter(|(node, _)| state.members.contains_key(node)));
    }

    /// Forgets who is no member.
    pub fn retain(&mut self, state: &State) {
        self.heard.retain(|node, _| state.members.contains_key(node));
        self.loads.retain(|node, _| state.members.contains_key(node));
        self.doomed.retain(|node, _| state.members.contains_key(node));
    }
}
