//! The loads of whole tables against the shares that nodes should have.

use super::members::Members;
use super::plan::plan;
use super::share::{Shares, UNIT};
use super::{ARCS, Candidate, Seats};
use crate::node::NodeNumber;

/// Steps of each history.
const STEPS: u64 = 60;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ (value >> 31)) % bound
    }
}

/// How far a load is from the node's share of the first seats, at worst. One arc is forgiven, since
/// arcs are whole.
#[derive(Clone, Copy, Default)]
struct Miss {
    /// In thousandths of the share.
    of_share: u64,
    /// In thousandths of all arcs.
    of_arcs: u64,
}

impl Miss {
    fn of(table: &[Seats], candidates: &[Candidate]) -> Self {
        let members = Members::new(candidates).unwrap();
        let shares = Shares::new(&members);
        let mut had = vec![0; members.count()];
        let mut worst = Self::default();
        for rank in 0..shares.ranks {
            table.iter().for_each(|seats| had[members.index_of(seats.nodes()[rank]).unwrap()] += UNIT);
            for (&had, &share) in had.iter().zip(&shares.nodes[rank + 1]) {
                let off = had.abs_diff(share).saturating_sub(UNIT) * 1000;
                let miss = Self { of_share: off / share.max(UNIT), of_arcs: off / (ARCS as u64 * UNIT) };
                worst = worst.or(miss);
            }
        }
        worst
    }

    fn or(self, other: Self) -> Self {
        Self { of_share: self.of_share.max(other.of_share), of_arcs: self.of_arcs.max(other.of_arcs) }
    }
}

/// The worst in a history of joins and leaves, with `zones` zones, weights from 1 to `weight_max`,
/// and at most `nodes_max` nodes.
fn worst_of_history(zones: u64, weight_max: u64, nodes_max: usize) -> Miss {
    let mut random = Random(zones << 32 | weight_max << 16 | nodes_max as u64);
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut table = Vec::new();
    let mut worst = Miss::default();
    for step in 0..STEPS {
        let joins = candidates.len() < 3 || candidates.len() < nodes_max && random.below(100) < 65;
        if joins {
            let weight = 1 + random.below(weight_max) as u32;
            candidates.push(Candidate { number: NodeNumber(step), weight, zone: random.below(zones).to_string() });
        } else {
            candidates.remove(random.below(candidates.len() as u64) as usize);
        }
        table = plan(&table, &candidates).unwrap();
        worst = worst.or(Miss::of(&table, &candidates));
    }
    worst
}

#[test]
fn after_any_history_loads_follow_the_shares() {
    // Where uneven nodes fill a small zone, a light one has what a heavy one misses: many times
    // less of all arcs, and much of its own share. So those are held to all arcs.
    for (zones, weight_max, nodes_max, of_share, of_arcs) in [
        (1, 1, 12, 40, 30),
        (1, 4, 12, 60, 30),
        (1, 4, 30, 50, 30),
        (3, 1, 12, 100, 70),
        (3, 1, 30, 100, 70),
        (3, 4, 30, 500, 100),
        (5, 1, 30, 150, 70),
        (5, 4, 16, 500, 150),
        (20, 1, 40, 80, 70),
        (20, 4, 40, 500, 100),
    ] {
        let worst = worst_of_history(zones, weight_max, nodes_max);
        let found = format!(
            "{zones} zones, weights to {weight_max}, {nodes_max} nodes: {} thousandths of a share, {} of all arcs",
            worst.of_share, worst.of_arcs
        );
        println!("{found}");
        assert!(worst.of_share <= of_share && worst.of_arcs <= of_arcs, "{found}");
    }
}
