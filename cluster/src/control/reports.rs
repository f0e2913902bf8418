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
    use super::*;

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
