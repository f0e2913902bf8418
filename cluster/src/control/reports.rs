//! What a node has pulled from others, told to the group until it has counted it: that it has
//! caught up after it was offline, and that it has what its new seats hold.
//!
//! The node pulls by the state as it knows it, so a report names what it is about: the return, or
//! the seats. The group takes none that has been overtaken.

use std::collections::{BTreeMap, BTreeSet};

use nabu_engine::io::Instant;

use super::command::Change;
use super::member::{Incarnation, MemberState};
use super::requests::RETRY_AFTER;
use super::state::State;
use crate::node::NodeNumber;
use crate::placement::ArcId;

#[derive(Default)]
pub struct Reports {
    /// The return after which everything was pulled that was missed.
    caught_up: Option<u64>,
    /// Arcs to report on, by the version that gave them their seats.
    synced: BTreeMap<u64, BTreeSet<ArcId>>,
    sent: Option<Instant>,
    /// The versions of members and table by which was last looked at what still counts.
    looked_at: Option<(u64, u64)>,
}

impl Reports {
    pub fn caught_up(&mut self, since: u64) {
        // Whoever says so again and again is heard once.
        if self.caught_up.replace(since) != Some(since) {
            (self.sent, self.looked_at) = (None, None);
        }
    }

    pub fn synced(&mut self, since: u64, arcs: impl IntoIterator<Item = ArcId>) {
        // What comes within a short time goes together.
        self.synced.entry(since).or_default().extend(arcs);
        self.looked_at = None;
    }

    /// What the group is to be told now.
    pub fn due(&mut self, me: NodeNumber, incarnation: Incarnation, state: &State, now: Instant) -> Vec<Change> {
        let versions = Some((state.ring_version, state.ring.as_ref().map_or(0, |ring| ring.version())));
        if self.looked_at != versions {
            self.looked_at = versions;
            self.forget_counted(me, state);
        }
        // The group takes none from a node that it doesn't count on.
        let member = state.members.get(&me).filter(|member| member.incarnation == incarnation);
        if member.is_none_or(|member| matches!(member.state, MemberState::Joining | MemberState::Offline)) {
            return Vec::new();
        }
        let is_idle = self.caught_up.is_none() && self.synced.is_empty();
        if is_idle || self.sent.is_some_and(|sent| now.since(sent) < RETRY_AFTER) {
            return Vec::new();
        }
        self.sent = Some(now);
        let caught_up = self.caught_up.map(|since| Change::CaughtUp { node: me, incarnation, since });
        let synced = self.synced.iter().map(|(since, arcs)| {
            let arcs = ranges(arcs.iter().copied());
            Change::Report { node: me, incarnation, since: *since, arcs }
        });
        caught_up.into_iter().chain(synced).collect()
    }

    /// What has been counted, or overtaken.
    fn forget_counted(&mut self, me: NodeNumber, state: &State) {
        let returning = state.members.get(&me).filter(|member| member.state == MemberState::Returning);
        self.caught_up = self.caught_up.filter(|since| returning.is_some_and(|member| member.state_since == *since));
        let Some(ring) = &state.ring else { return };
        self.synced.retain(|since, arcs| {
            arcs.retain(|arc| {
                let placement = ring.placement(*arc);
                placement.since == *since && placement.awaits(me)
            });
            !arcs.is_empty()
        });
    }
}

/// Ascending arcs as ranges.
fn ranges(arcs: impl Iterator<Item = ArcId>) -> Vec<(ArcId, ArcId)> {
    let mut ranges: Vec<(ArcId, ArcId)> = Vec::new();
    for arc in arcs {
        match ranges.last_mut() {
            Some((_, last)) if last.index() + 1 == arc.index() => *last = arc,
            _ => ranges.push((arc, arc)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::super::command::{Command, Outcome};
    use super::super::member::{ClusterId, Profile, StoreId};
    use super::*;

    const ME: NodeNumber = NodeNumber(1);

    /// A cluster of this node, which was offline and is back; and its incarnation.
    fn returning() -> (State, Incarnation) {
        let profile = Profile {
            address: "a:1".into(),
            client_address: "a:1".into(),
            zone: "z".into(),
            capacity_bytes: 1 << 40,
            version: "1".into(),
            levels: (1, 1),
        };
        let (node, store) = (ME, StoreId([1; 16]));
        let mut state = State::default();
        let mut change = |change| state.apply(&Command { origin: None, change }, &mut Vec::new());
        let (cluster, node_id) = (ClusterId([1; 16]), "n".to_owned());
        change(Change::Bootstrap { cluster, node_id, store, profile: profile.clone() });
        let started = change(Change::Start { node, store, nonce: 1, profile });
        let Outcome::Started { incarnation } = started else { panic!("{started:?}") };
        change(Change::Offline { node, incarnation });
        change(Change::Back { node, incarnation });
        (state, incarnation)
    }

    #[test]
    fn what_is_said_again_and_again_is_sent_now_and_then_until_it_is_counted() {
        let (mut state, incarnation) = returning();
        let since = state.members[&ME].state_since;
        let (mut reports, mut now, mut sent) = (Reports::default(), Instant(0), 0);
        let step = RETRY_AFTER / 100;
        for _ in 0..250 {
            reports.caught_up(since);
            sent += reports.due(ME, incarnation, &state, now).len();
            now = now.after(step);
        }
        assert_eq!(sent, 3, "at once, and after each pause");
        let change = Change::CaughtUp { node: ME, incarnation, since };
        state.apply(&Command { origin: None, change }, &mut Vec::new());
        assert_eq!(reports.due(ME, incarnation, &state, now.after(RETRY_AFTER)), []);
        assert_eq!(reports.caught_up, None, "it was counted");
    }

    #[test]
    fn nothing_is_sent_that_would_be_refused() {
        let (mut state, incarnation) = returning();
        let since = state.members[&ME].state_since;
        let mut reports = Reports::default();
        reports.caught_up(since);
        assert_eq!(reports.due(ME, Incarnation(incarnation.0 + 1), &state, Instant(0)), [], "another start");
        assert_eq!(reports.due(NodeNumber(9), incarnation, &state, Instant(0)), [], "no member");
        reports.caught_up(since);
        state.apply(&Command { origin: None, change: Change::Offline { node: ME, incarnation } }, &mut Vec::new());
        assert_eq!(reports.due(ME, incarnation, &state, Instant(0)), [], "it counts as offline");
        reports.synced(1, [ArcId::new(0).unwrap()]);
        assert_eq!(reports.due(ME, incarnation, &state, Instant(0)), [], "the arc does not move");
        assert!(reports.synced.is_empty());
    }

    #[test]
    fn neighbours_make_one_range() {
        let arc = |index| ArcId::new(index).unwrap();
        let of = |indices: &[u16]| {
            let ranges = ranges(indices.iter().map(|index| arc(*index)));
            ranges.into_iter().map(|(first, last)| (first.index(), last.index())).collect::<Vec<_>>()
        };
        assert_eq!(of(&[]), []);
        assert_eq!(of(&[3]), [(3, 3)]);
        assert_eq!(of(&[0, 1, 2, 4, 6, 7]), [(0, 2), (4, 4), (6, 7)]);
        assert_eq!(ranges(ArcId::all()), [(arc(0), arc(4095))]);
    }
}
