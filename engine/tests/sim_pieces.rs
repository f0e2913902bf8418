//! Blobs in pieces, when the power goes in the moment in which one is acknowledged or was moved.

mod support;

use support::pieces;
use support::totals::{self, Totals};

const SEEDS: u64 = 300;

#[test]
fn a_blob_in_pieces_outlives_the_power_from_the_moment_it_is_stored_or_moved() {
    let mut totals = Totals::default();
    for seed in 0..SEEDS {
        pieces::run(seed, &mut totals).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
    totals::require(&totals, &["pieces_stored", "pieces_moved"], &[]);
}
