//! The store against its model on a simulated disk: whatever fails and whenever it crashes, what
//! was acknowledged is there, what was deleted is gone, and no byte is wrong.
//!
//! `scripts/simulate` runs the same scenarios by the hundred thousand. A failure prints the command
//! that replays its seed.

use std::panic;

use crate::support::scenario::{self, Mode, Twist};
use crate::support::totals::{self, Totals};
use nabu_engine::probe::Event;
use nabu_engine::sim::Faults;

/// Seeds of each mode in an ordinary test run.
const SEEDS: u64 = 300;

fn check(mode: Mode, seeds: u64) -> Totals {
    let mut totals = Totals::default();
    for seed in 0..seeds {
        match panic::catch_unwind(|| scenario::run(seed, mode, Twist::default())) {
            Ok(outcome) => {
                if let Some(violation) = outcome.violation {
                    panic!("seed {seed}: {violation}\nreplay: {}", scenario::replay(seed, mode));
                }
                totals.add(&outcome.totals);
            }
            Err(cause) => {
                eprintln!("replay: {}", scenario::replay(seed, mode));
                panic::resume_unwind(cause);
            }
        }
    }
    totals
}

/// Replays a seed with everything its clients did; without `NABU_SEED`, a first one of each mode.
#[test]
fn one_seed() {
    let seed = std::env::var("NABU_SEED").ok().map(|text| text.parse().expect("NABU_SEED is a number"));
    let wanted = std::env::var("NABU_MODE").ok();
    let modes = Mode::ALL.into_iter().filter(|mode| wanted.as_ref().is_none_or(|name| *name == format!("{mode:?}")));
    for mode in modes {
        let outcome = scenario::run(seed.unwrap_or(0), mode, Twist { is_verbose: true, ..Twist::default() });
        println!("{mode:?}: {:?}", outcome.totals);
        assert!(outcome.violation.is_none(), "{}", outcome.violation.unwrap_or_default());
    }
}

#[test]
fn nothing_acknowledged_is_lost_in_crashes() {
    let totals = check(Mode::Crashes, SEEDS);
    totals::require(
        &totals,
        &[
            "crashes_process",
            "crashes_power",
            "crashes_in_recovery",
            "crashes_in_close",
            "clean_closes",
            "puts_existing",
            "puts_dropped",
            "uploads_aborted",
            "deletes",
            "deletes_of_nothing",
            "torn_writes",
            "vanished_pages",
            "clock_jumps",
        ],
        &[
            Event::TornTailCut,
            Event::SegmentCutShort,
            Event::SegmentRetired,
            Event::FileReused,
            Event::CheckpointUsed,
            Event::CheckpointOutrun,
            Event::SliceMetOperation,
            Event::CoverRefused,
            Event::RetiredAfterUse,
            Event::HashedElsewhere,
            Event::TombstoneCarried,
            Event::RecordMoved,
            Event::PiecesMoved,
            Event::SegmentEmptied,
            Event::MoveOvertaken,
            Event::MoveRefused,
        ],
    );
}

#[test]
fn nothing_acknowledged_is_lost_when_the_disk_refuses_writes() {
    let totals = check(Mode::WriteErrors, SEEDS);
    totals::require(
        &totals,
        &[
            "write_errors",
            "sync_errors",
            "dir_sync_errors",
            "metadata_errors",
            "write_failed",
            "opens_refused",
            "rests",
        ],
        &[Event::SegmentFenced, Event::SliceMetDoubt, Event::DoubtOverruled],
    );
}

#[test]
fn a_full_disk_loses_nothing_and_works_again_with_space() {
    let totals = check(Mode::FullDisk, SEEDS);
    totals::require(&totals, &["no_space", "full_puts", "deletes", "uneven_dirs", "rests"], &[]);
}

#[test]
fn nothing_is_lost_when_reads_fail_for_a_while() {
    let totals = check(Mode::ReadErrors, SEEDS);
    totals::require(&totals, &["read_errors", "read_failed", "recoveries_incomplete"], &[Event::SegmentUnreadable]);
}

#[test]
fn a_disk_that_lies_never_makes_the_store_serve_wrong_bytes() {
    let totals = check(Mode::Corruption, SEEDS);
    totals::require(
        &totals,
        &["lost_writes", "misdirected_writes", "sync_lies", "flipped_bits", "damaged"],
        &[Event::DamageFound, Event::CheckpointRefused],
    );
}

#[test]
fn nothing_is_lost_under_all_errors_together() {
    let totals = check(Mode::AllErrors, SEEDS);
    totals::require(&totals, &["write_errors", "sync_errors", "read_errors", "slow_operations"], &[]);
}

#[test]
fn nothing_is_lost_when_operations_hang_and_writes_of_a_killed_process_come_late() {
    let totals = check(Mode::Stalls, SEEDS);
    totals::require(&totals, &["stuck_operations", "slow_operations", "late_writes", "clock_jumps"], &[]);
}

#[test]
fn one_flipped_bit_costs_one_blob_at_most() {
    check(Mode::BitRot, 4 * SEEDS);
    totals::require(
        &Totals::default(),
        &[],
        &[Event::ScrubPassed, Event::ScrubFound, Event::Quarantined, Event::ScrubMended],
    );
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..12 {
        for mode in [Mode::Crashes, Mode::AllErrors, Mode::Corruption, Mode::Stalls] {
            let first = scenario::run(seed, mode, Twist::default());
            let second = scenario::run(seed, mode, Twist::default());
            assert_eq!(first.trace_hash, second.trace_hash, "seed {seed}, {mode:?}");
            assert_eq!(first.totals, second.totals, "seed {seed}, {mode:?}");
        }
    }
}

/// A suite that can't fail proves nothing: on a disk whose syncs lie behind the checker's back,
/// acknowledged blobs are lost, and it must say so. It is what a store that forgets to sync would
/// do; `scripts/mutants` plants that and other bugs in the store itself.
#[test]
fn the_checker_finds_what_a_lying_sync_loses() {
    let lying = || Twist { undeclared: Some(Faults { sync_lie: 1.0, ..Faults::default() }), is_verbose: false };
    let found = (0..60).filter(|seed| scenario::run(*seed, Mode::Crashes, lying()).violation.is_some()).count();
    assert!(found > 0, "60 seeds on a disk that never syncs, and nothing was missed");
}
