//! Which members vote: a pure function of the members and of who votes now.
//!
//! Up to five, an odd number, so that one more machine never means one less that may fail; spread
//! over zones. A voter that is gone for good is replaced as soon as another can take its place, and
//! not before: without it fewer would have to fail.

use std::collections::{BTreeMap, BTreeSet};

use raft::prelude::ConfState;

use crate::node::NodeNumber;

/// The most that vote.
pub const VOTERS_MAX: usize = 5;

/// A member, as a voter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Elector<'zone> {
    pub node: NodeNumber,
    pub zone: &'zone str,
    pub votes: bool,
    /// It is there.
    pub is_active: bool,
    /// It has been away for so long that nobody counts on it any more.
    pub is_gone: bool,
}

/// Who decides, while the voters change: still those of before, without a majority of whom nothing
/// is decided. The new ones can't be counted on before the change is over.
pub fn counted_on(conf: &ConfState) -> BTreeSet<NodeNumber> {
    let voters = if conf.voters_outgoing.is_empty() { &conf.voters } else { &conf.voters_outgoing };
    voters.iter().copied().map(NodeNumber).collect()
}

/// Who is to vote. `leader` stays if it can.
pub fn choose(electors: &[Elector<'_>], leader: NodeNumber) -> BTreeSet<NodeNumber> {
    let able = electors.iter().filter(|elector| elector.is_active || elector.votes).count();
    let target = odd_at_most(able.min(VOTERS_MAX));
    let mut chosen = BTreeSet::new();
    let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
    while chosen.len() < target {
        let rank = |elector: &&Elector<'_>| {
            let in_zone = zones.get(elector.zone).copied().unwrap_or_default();
            (elector.node != leader, class(elector) == AWAY, in_zone, class(elector), elector.node)
        };
        let rest = electors.iter().filter(|elector| !chosen.contains(&elector.node) && class(elector) < UNABLE);
        let Some(next) = rest.min_by_key(rank) else { break };
        chosen.insert(next.node);
        *zones.entry(next.zone).or_default() += 1;
    }
    chosen
}

/// A voter that nobody counts on.
const AWAY: u8 = 2;
const UNABLE: u8 = 3;

/// Lower goes first.
fn class(elector: &Elector<'_>) -> u8 {
    match elector {
        Elector { votes: true, is_gone: false, .. } => 0,
        Elector { is_active: true, .. } => 1,
        Elector { votes: true, .. } => AWAY,
        _ => UNABLE,
    }
}

fn odd_at_most(count: usize) -> usize {
    if count == 0 { 0 } else { (count - 1) | 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elector(node: u64, zone: &str, votes: bool, is_active: bool, is_gone: bool) -> Elector<'_> {
        Elector { node: NodeNumber(node), zone, votes, is_active, is_gone }
    }

    fn chosen(electors: &[Elector<'_>]) -> Vec<u64> {
        choose(electors, NodeNumber(1)).into_iter().map(|node| node.0).collect()
    }

    #[test]
    fn voters_are_counted_on_when_their_change_is_over() {
        let conf = |voters: &[u64], outgoing: &[u64]| ConfState {
            voters: voters.to_vec(),
            voters_outgoing: outgoing.to_vec(),
            ..ConfState::default()
        };
        let of = |numbers: &[u64]| numbers.iter().copied().map(NodeNumber).collect::<BTreeSet<_>>();
        assert_eq!(counted_on(&conf(&[1, 2, 3], &[1])), of(&[1]));
        assert_eq!(counted_on(&conf(&[1, 2, 3], &[])), of(&[1, 2, 3]));
    }

    #[test]
    fn an_odd_number_votes() {
        let mut electors = vec![elector(1, "a", true, true, false)];
        for (count, expected) in [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (6, 5), (7, 5)] {
            electors.truncate(1);
            electors.extend((2..=count).map(|node| elector(node, "a", false, true, false)));
            assert_eq!(chosen(&electors).len(), expected, "of {count}");
        }
    }

    #[test]
    fn voters_lie_in_as_many_zones_as_there_are() {
        let zones = ["a", "a", "a", "b", "b", "c"];
        let electors: Vec<_> =
            zones.iter().zip(1..).map(|(zone, node)| elector(node, zone, node == 1, true, false)).collect();
        assert_eq!(chosen(&electors[..5]), [1, 2, 3, 4, 5]);
        let three: Vec<_> = [0, 1, 3, 5].map(|index| electors[index]).into();
        assert_eq!(chosen(&three), [1, 4, 6]);
    }

    #[test]
    fn a_voter_that_is_away_stays_until_another_can_take_its_place() {
        let gone = elector(3, "a", true, false, true);
        let mut electors = vec![elector(1, "a", true, true, false), elector(2, "a", true, true, false), gone];
        assert_eq!(chosen(&electors), [1, 2, 3]);
        electors.push(elector(4, "a", false, true, false));
        assert_eq!(chosen(&electors), [1, 2, 4]);
        electors[2].is_gone = false;
        assert_eq!(chosen(&electors), [1, 2, 3], "it was away for a short time only");
    }

    #[test]
    fn who_neither_votes_nor_is_there_is_not_chosen() {
        let electors = [elector(1, "a", true, true, false), elector(2, "a", false, false, false)];
        assert_eq!(chosen(&electors), [1]);
    }
}
