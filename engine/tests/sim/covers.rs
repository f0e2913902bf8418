//! Checkpoints beside uploads, and the power that goes right after a file got its name.

use crate::support::covers;
use crate::support::totals::{self, Totals};
use nabu_engine::probe::Event;

const SEEDS: u64 = 300;

#[test]
fn what_a_checkpoint_stands_for_is_in_it() {
    let mut totals = Totals::default();
    for seed in 0..SEEDS {
        covers::run(seed, &mut totals).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
    totals::require(&totals, &["covers_cut"], &[Event::CheckpointUsed, Event::CoverRefused]);
}
