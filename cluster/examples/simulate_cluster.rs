//! Runs scenarios of a simulated cluster from many seeds on all cores:
//! `simulate_cluster [SEEDS] [FIRST]`. See `scripts/simulate-cluster`. Of a single seed it tells
//! what happened. `simulate_cluster --mutants` names the bugs that can be planted.

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Mutex;

use nabu_engine::sim::Seeds;
use support::scenario;
use support::totals::Totals;

/// In so many seeds everything should happen that can.
const ENOUGH: u64 = 1_000;

fn main() {
    if std::env::args().nth(1).is_some_and(|first| first == "--mutants") {
        for (_, name) in nabu_cluster::mutant::Mutant::ALL {
            println!("{name}");
        }
        return;
    }
    let seeds = Seeds::of_arguments("simulate_cluster", 1_000);
    let totals = Mutex::new(Totals::default());
    let replay = |seed| format!("scripts/simulate-cluster 1 {seed}");
    let have_passed = seeds.run(replay, |seed| {
        let counts = scenario::run(seed, seeds.is_one());
        totals.lock().expect("no panic under the lock").add(&counts);
        Ok(())
    });
    let totals = totals.into_inner().expect("no panic under the lock");
    for (name, count) in &totals.counts {
        println!("{name:28} {count}");
    }
    let mut has_failed = !have_passed;
    let never_met = totals.never_met();
    if seeds.count() >= ENOUGH && !never_met.is_empty() && std::env::var_os("NABU_MUTANT").is_none() {
        println!("these seeds prove little, for it never happened: {}", never_met.join(", "));
        has_failed = true;
    }
    if has_failed {
        std::process::exit(1);
    }
}
