//! A process that is killed right after a dead segment has lost its name, and the power that goes
//! in the life after it.

use crate::support::names;
use crate::support::totals::{self, Totals};

const SEEDS: u64 = 300;

#[test]
fn what_is_concluded_from_the_names_of_segments_outlives_the_power() {
    let mut totals = Totals::default();
    for seed in 0..SEEDS {
        names::run(seed, &mut totals).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
    totals::require(&totals, &["names_cut"], &[]);
}
