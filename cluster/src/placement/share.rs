//! How many arcs each node should have in its first *k* seats, for every *k*.
//!
//! Seats are given in *rounds*: in each round every zone that has a node left gets one seat of the
//! arc, so at any *k* the copies lie in as many zones as there are, and no zone has two more than
//! another that has a node left. That leaves open which zone is served earlier in a round, and
//! which nodes of a zone are taken. Both follow capacity, as far as a node can have an arc only
//! once:
//!
//! - a node has `min(1, c × weight)` of all arcs in the first *k* seats, with one factor *c* for
//!   the ring (*water filling*: nodes that have every arc drop out, the others share the rest);
//! - a zone that would have less than its complete rounds give it, or more than the round that is
//!   under way allows, is set to that bound, and has a factor of its own.
//!
//! This is the fairest division that those rules allow: no node could have less per weight without
//! another having more that has more already. With no more seats than each node can take, it is
//! plain proportion.
//!
//! Shares are integers of `1 / `[`UNIT`] arcs, and they never shrink as *k* grows.

use super::arc::ARCS;
use super::members::Members;
use super::seats::SEATS_MAX;

/// One arc.
pub const UNIT: u64 = 1 << 20;
/// All arcs once.
const FULL: u64 = ARCS as u64 * UNIT;
/// The bits after the point of a factor.
const FACTOR_BITS: u32 = 32;
/// A factor with which a node of weight 1 has every arc.
const FACTOR_MAX: u128 = (FULL as u128) << FACTOR_BITS;

/// The part of a node's share of one rank by which its load may miss it before seats are moved to
/// mend that. Changes spread seats by chance, so without slack every change would move more than
/// its own share. The seats before may have missed as much, so a rank is off by twice of it at
/// most.
const RANK_SLACK_DIVISOR: u64 = 32;
/// The same, as a part of the share of all seats up to a rank, where zones bind.
const ZONED_SLACK_DIVISOR: u64 = 16;

pub struct Shares {
    /// Seats of each arc.
    pub ranks: usize,
    /// By *k*, from 0 to `ranks`, and member.
    pub nodes: Vec<Vec<u64>>,
    /// By *k* and zone.
    zones: Vec<Vec<u64>>,
    zone_sizes: Vec<usize>,
}

impl Shares {
    pub fn new(members: &Members) -> Self {
        let ranks = members.count().min(SEATS_MAX);
        let mut shares = Self {
            ranks,
            nodes: vec![vec![0; members.count()]],
            zones: vec![vec![0; members.zone_sizes.len()]],
            zone_sizes: members.zone_sizes.clone(),
        };
        for seats in 1..=ranks {
            let round = shares.round(seats - 1);
            let zones = zone_shares(members, seats, round);
            let mut nodes = vec![0; members.count()];
            for (zone, &share) in zones.iter().enumerate() {
                let factor = largest(|factor| zone_sum(members, zone, factor) <= share);
                for member in (0..nodes.len()).filter(|&member| members.zones[member] == zone) {
                    nodes[member] = node_share(members.weights[member], factor);
                }
            }
            // Rounding may take a unit back.
            for (node, before) in nodes.iter_mut().zip(&shares.nodes[seats - 1]) {
                *node = (*node).max(*before);
            }
            shares.nodes.push(nodes);
            shares.zones.push(zones);
        }
        shares
    }

    /// The complete rounds before this rank: what every open zone has got in the ranks below.
    pub fn round(&self, rank: usize) -> usize {
        (0..=SEATS_MAX).take_while(|&rounds| self.seats_in(rounds) <= rank).count() - 1
    }

    /// The seats of so many complete rounds.
    pub fn seats_in(&self, rounds: usize) -> usize {
        self.zone_sizes.iter().map(|&size| size.min(rounds)).sum()
    }

    /// By how much of its share up to this rank a node may miss it before seats are moved.
    ///
    /// Where there are fewer zones than seats, each node that comes or goes shifts which zone is
    /// served first in *every* round, by a little. Following at once would move several times the
    /// share of that node from one seat to another, so there the slack is that of all seats so far,
    /// which is what fills a node.
    pub fn slack(&self, rank: usize, member: usize) -> u64 {
        let (before, with) = (self.nodes[rank][member], self.nodes[rank + 1][member]);
        let zones = self.seats_in(1);
        if zones > 1 && zones < self.ranks { with / ZONED_SLACK_DIVISOR } else { (with - before) / RANK_SLACK_DIVISOR }
    }

    /// Whether every arc has this node among its first seats.
    pub fn is_everywhere(&self, seats: usize, member: usize) -> bool {
        self.nodes[seats][member] + UNIT / 2 >= FULL
    }

    /// How many nodes of this zone an arc has among its first seats, at most.
    pub fn zone_seats(&self, seats: usize, zone: usize) -> usize {
        self.zones[seats][zone].saturating_sub(UNIT / 2).div_ceil(FULL) as usize
    }

    /// Whether every arc has as many nodes of this zone among its first seats as any arc has.
    pub fn is_zone_even(&self, seats: usize, zone: usize) -> bool {
        self.zones[seats][zone] + UNIT / 2 >= self.zone_seats(seats, zone) as u64 * FULL
    }
}

/// What each zone has in the first seats, whose last is in this round.
fn zone_shares(members: &Members, seats: usize, round: usize) -> Vec<u64> {
    let at = |factor: u128| {
        let bounded = |(zone, &size): (usize, &usize)| {
            let bounds = (size.min(round) as u64 * FULL, size.min(round + 1) as u64 * FULL);
            zone_sum(members, zone, factor).clamp(bounds.0, bounds.1)
        };
        members.zone_sizes.iter().enumerate().map(bounded).collect::<Vec<u64>>()
    };
    at(largest(|factor| at(factor).iter().sum::<u64>() <= seats as u64 * FULL))
}

fn zone_sum(members: &Members, zone: usize, factor: u128) -> u64 {
    let of_zone = |member: &usize| members.zones[*member] == zone;
    (0..members.count()).filter(of_zone).map(|member| node_share(members.weights[member], factor)).sum()
}

fn node_share(weight: u32, factor: u128) -> u64 {
    ((factor * u128::from(weight)) >> FACTOR_BITS).min(u128::from(FULL)) as u64
}

/// The largest factor that holds, of a condition that holds at 0 and up to some factor.
fn largest(holds: impl Fn(u128) -> bool) -> u128 {
    let (mut low, mut high) = (0, FACTOR_MAX + 1);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

const _: () = assert!((FULL as u128) < 1 << (FACTOR_BITS + 1));
const _: () = assert!(FACTOR_MAX.checked_mul(u32::MAX as u128).is_some());

#[cfg(test)]
mod tests {
    use super::super::members::Candidate;
    use super::*;
    use crate::node::NodeNumber;

    fn shares(nodes: &[(u32, &str)]) -> Shares {
        let of = |(number, &(weight, zone)): (usize, &(u32, &str))| {
            let number = NodeNumber(number as u64);
            Candidate { number, weight, zone: zone.to_owned() }
        };
        let candidates: Vec<Candidate> = nodes.iter().enumerate().map(of).collect();
        Shares::new(&Members::new(&candidates).unwrap())
    }

    /// A share in percent of all arcs, rounded.
    fn percent(share: u64) -> u64 {
        (share * 100 + FULL / 2) / FULL
    }

    fn percents(shares: &Shares, seats: usize) -> Vec<u64> {
        shares.nodes[seats].iter().map(|&share| percent(share)).collect()
    }

    #[test]
    fn shares_are_proportional_until_a_node_has_every_arc() {
        let shares = shares(&[(2, ""), (1, ""), (1, "")]);
        assert_eq!(percents(&shares, 1), [50, 25, 25]);
        assert_eq!(percents(&shares, 2), [100, 50, 50]);
        assert_eq!(percents(&shares, 3), [100, 100, 100]);
        assert!(shares.is_everywhere(2, 0) && !shares.is_everywhere(1, 0) && !shares.is_everywhere(2, 1));
    }

    #[test]
    fn each_zone_gets_a_seat_before_one_gets_two() {
        let shares = shares(&[(4, "a"), (4, "a"), (4, "a"), (1, "b"), (1, "c")]);
        assert_eq!(percents(&shares, 1), [29, 29, 29, 7, 7]);
        assert_eq!(percents(&shares, 2), [33, 33, 33, 50, 50]);
        assert_eq!(percents(&shares, 3), [33, 33, 33, 100, 100]);
        assert_eq!(percents(&shares, 4), [67, 67, 67, 100, 100]);
        assert_eq!((0..5).map(|rank| shares.round(rank)).collect::<Vec<_>>(), [0, 0, 0, 1, 2]);
        assert_eq!((0..4).map(|rounds| shares.seats_in(rounds)).collect::<Vec<_>>(), [0, 3, 4, 5]);
    }

    #[test]
    fn what_a_round_left_uneven_the_next_one_mends() {
        // The large zone deserves 2 of 3 seats, has 1 of 2 after the first round, and so the third.
        let shares = shares(&[(2, "a"), (2, "a"), (1, "b"), (1, "b")]);
        assert_eq!(percents(&shares, 2), [50, 50, 50, 50]);
        assert_eq!(percents(&shares, 3), [100, 100, 50, 50]);
    }

    #[test]
    fn shares_of_the_first_seats_add_up_and_never_shrink() {
        for nodes in 1..40 {
            let weights =
                |node: u32| (1 + node * 7 % 4, ["a", "b", "c", "d", "e"][node as usize * 3 % (1 + nodes % 5)]);
            let shares = shares(&(0..nodes as u32).map(weights).collect::<Vec<_>>());
            assert_eq!(shares.ranks, nodes.min(SEATS_MAX));
            for seats in 1..=shares.ranks {
                let sum: u64 = shares.nodes[seats].iter().sum();
                assert!((seats as u64 * FULL).abs_diff(sum) < UNIT / 1024, "{seats} seats of {nodes} nodes");
                let pairs = shares.nodes[seats].iter().zip(&shares.nodes[seats - 1]);
                assert!(pairs.clone().all(|(with, before)| before <= with && *with <= FULL));
            }
        }
    }
}
