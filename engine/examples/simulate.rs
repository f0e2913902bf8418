//! Runs scenarios of the simulated store from many seeds on all cores: `simulate [SEEDS] [FIRST]`.
//! See `scripts/simulate`. Of a single seed it tells what the store logs, and, when it fails, all
//! that its clients did. `simulate --mutants` names the bugs that can be planted.

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Mutex;

use nabu_engine::sim::Seeds;
use support::scenario::{self, Mode, Twist};
use support::totals::{self, Totals};
use tracing::Subscriber;
use tracing::field::Field;
use tracing::span;

fn main() {
    if std::env::args().nth(1).is_some_and(|first| first == "--mutants") {
        for (_, name) in nabu_engine::mutant::Mutant::ALL {
            println!("{name}");
        }
        return;
    }
    let seeds = Seeds::of_arguments("simulate", 100_000);
    let twist = Twist { is_verbose: seeds.is_one(), ..Twist::default() };
    if seeds.is_one() {
        tracing::subscriber::set_global_default(Log).expect("there is no other");
    }
    let totals = Mutex::new(Totals::default());
    let replay = |seed| scenario::replay(seed, Mode::of(seed));
    let have_passed = seeds.run(replay, |seed| {
        let mode = Mode::of(seed);
        let outcome = scenario::run(seed, mode, twist.clone());
        totals.lock().expect("no panic under the lock").add(&outcome.totals);
        outcome.violation.map_or(Ok(()), |what| Err(format!("{mode:?}: {}", what.trim())))
    });
    let totals = totals.into_inner().expect("no panic under the lock");
    for (name, count) in totals.named() {
        println!("{name:24} {count}");
    }
    for (event, count) in totals::events() {
        println!("{:24} {count}", format!("{event:?}"));
    }
    let mut has_failed = !have_passed;
    // With a bug planted something else is to be shown.
    let never_met = totals::never_met(&totals);
    if !never_met.is_empty() && std::env::var_os("NABU_MUTANT").is_none() {
        println!("these seeds prove little, for it never happened: {}", never_met.join(", "));
        has_failed = true;
    }
    if has_failed {
        std::process::exit(1);
    }
}

/// Writes what the store logs to stderr.
struct Log;

impl Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = format!("{}", event.metadata().level());
        event.record(&mut |field: &Field, value: &dyn std::fmt::Debug| {
            line.push_str(&format!(" {}={value:?}", field.name()));
        });
        eprintln!("{line}");
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
