//! Blobs in pieces, when the power goes in the moment in which one is acknowledged or was moved,
//! and when the lists of their pieces are lost.

use crate::support::pieces;
use crate::support::totals::{self, Totals};
use nabu_engine::probe::Event;

const SEEDS: u64 = 300;

#[test]
fn a_blob_in_pieces_outlives_the_power_and_its_space_a_lost_list() {
    let mut totals = Totals::default();
    for seed in 0..SEEDS {
        pieces::run(seed, &mut totals).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
    totals::require(&totals, &["pieces_stored", "pieces_moved", "lists_damaged"], &[Event::PiecesOfNoList]);
}
