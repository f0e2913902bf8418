//! The store against its model on a simulated disk: whatever fails and whenever it crashes, what was acknowledged is there, what was deleted
//! is gone, and no byte is wrong.
//!
//! `scripts/simulate` runs the same scenarios by the hundred thousand. A failure prints the command that replays its seed.

mod support;

use std::panic;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use nabu_engine::probe::Event;
use nabu_engine::sim::Faults;
use support::scenario::{self, Mode, Twist};
use support::totals::{self, Totals};

/// Seeds of each mode in an ordinary test run.
const SEEDS: u64 = 400;

fn replay(seed: u64, mode: Mode) -> String {
    format!("NABU_SEED={seed} NABU_MODE={mode:?} cargo test -p nabu-engine --test sim_store one_seed -- --nocapture")
}

fn check(mode: Mode, seeds: u64) -> Totals {
    let mut totals = Totals::default();
    for seed in 0..seeds {
        let outcome = panic::catch_unwind(|| scenario::run(seed, mode, Twist::default()));
        match outcome {
            Ok(outcome) => {
                if let Some(violation) = outcome.violation {
                    panic!("seed {seed}: {violation}\nreplay: {}", replay(seed, mode));
                }
                totals.add(&outcome.totals);
            }
            Err(cause) => {
                eprintln!("replay: {}", replay(seed, mode));
                panic::resume_unwind(cause);
            }
        }
    }
    println!("{mode:?}: {totals:?}");
    totals
}

/// Replays a seed with everything its clients did; without `NABU_SEED`, a first one of each mode.
#[test]
fn one_seed() {
    let seed = std::env::var("NABU_SEED").ok().map(|text| text.parse().expect("NABU_SEED is a number"));
    let wanted = std::env::var("NABU_MODE").ok();
    for mode in Mode::ALL.into_iter().filter(|mode| wanted.as_ref().is_none_or(|name| *name == format!("{mode:?}"))) {
        let outcome = scenario::run(seed.unwrap_or(0), mode, Twist { is_verbose: true, ..Twist::default() });
        println!("{mode:?}: {:?}", outcome.totals);
        assert!(outcome.violation.is_none(), "{}", outcome.violation.unwrap_or_default());
    }
}

#[test]
fn nothing_acknowledged_is_lost_in_crashes() {
    check(Mode::Crashes, SEEDS);
}

#[test]
fn nothing_acknowledged_is_lost_when_the_disk_refuses_writes() {
    check(Mode::WriteErrors, SEEDS);
}

#[test]
fn a_full_disk_loses_nothing_and_works_again_with_space() {
    check(Mode::FullDisk, SEEDS);
}

#[test]
fn nothing_is_lost_when_reads_fail_for_a_while() {
    check(Mode::ReadErrors, SEEDS);
}

#[test]
fn a_disk_that_lies_never_makes_the_store_serve_wrong_bytes() {
    check(Mode::Corruption, SEEDS);
}

#[test]
fn nothing_is_lost_under_all_errors_together() {
    check(Mode::AllErrors, SEEDS);
}
