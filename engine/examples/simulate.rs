//! Runs scenarios of the simulated store from many seeds on all cores: `simulate [SEEDS] [FIRST]`.
//! See `scripts/simulate`. Of a single seed it tells what the store logs, and, when it fails, all
//! that its clients did. `simulate --mutants` names the bugs that can be planted.

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use support::scenario::{self, Mode, Twist};
use support::totals::{self, Totals};
use tracing::Subscriber;
use tracing::field::Field;
use tracing::span;

/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);

struct Run {
    next: AtomicU64,
    end: u64,
    failed: AtomicBool,
    twist: Twist,
    totals: Mutex<Totals>,
}

fn main() {
    if std::env::args().nth(1).is_some_and(|first| first == "--mutants") {
        for (_, name) in nabu_engine::mutant::Mutant::ALL {
            println!("{name}");
        }
        return;
    }
    let number = |index: usize, default: u64| match std::env::args().nth(index) {
        Some(text) => text.parse().unwrap_or_else(|_| usage()),
        None => default,
    };
    let (count, first) = (number(1, 100_000), number(2, 0));
    let run = Run {
        next: AtomicU64::new(first),
        end: first.checked_add(count).unwrap_or_else(|| usage()),
        failed: AtomicBool::new(false),
        twist: Twist { is_verbose: count == 1, ..Twist::default() },
        totals: Mutex::default(),
    };
    if count == 1 {
        tracing::subscriber::set_global_default(Log).expect("there is no other");
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&run));
        }
        scope.spawn(|| progress(&run, first, started));
    });
    let totals = run.totals.into_inner().expect("no panic under the lock");
    for (name, count) in totals.named() {
        println!("{name:24} {count}");
    }
    for (event, count) in totals::events() {
        println!("{:24} {count}", format!("{event:?}"));
    }
    println!("{} seeds from {first} in {:.1} s on {threads} threads", totals.seeds, started.elapsed().as_secs_f64());
    let mut failed = run.failed.load(Ordering::Relaxed);
    // With a bug planted something else is to be shown.
    let never_met = totals::never_met(&totals);
    if !never_met.is_empty() && std::env::var_os("NABU_MUTANT").is_none() {
        println!("these seeds prove little, for it never happened: {}", never_met.join(", "));
        failed = true;
    }
    if failed {
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

fn usage() -> ! {
    eprintln!("usage: simulate [SEEDS] [FIRST]");
    std::process::exit(2);
}

fn work(run: &Run) {
    while !run.failed.load(Ordering::Relaxed) {
        let seed = run.next.fetch_add(1, Ordering::Relaxed);
        if seed >= run.end {
            return;
        }
        let mode = Mode::of(seed);
        match std::panic::catch_unwind(|| scenario::run(seed, mode, run.twist.clone())) {
            Ok(outcome) => {
                if let Some(violation) = &outcome.violation {
                    fail(run, seed, mode, violation);
                }
                run.totals.lock().expect("no panic under the lock").add(&outcome.totals);
            }
            Err(_) => fail(run, seed, mode, "it panicked, see above"),
        }
    }
}

fn fail(run: &Run, seed: u64, mode: Mode, what: &str) {
    run.failed.store(true, Ordering::Relaxed);
    println!("seed {seed}, {mode:?}: {}", what.trim());
    println!("replay: {}", scenario::replay(seed, mode));
}

/// One line, rewritten on a terminal.
fn progress(run: &Run, first: u64, started: Instant) {
    let mut told = Instant::now();
    while !run.failed.load(Ordering::Relaxed) && run.next.load(Ordering::Relaxed) < run.end {
        std::thread::park_timeout(Duration::from_millis(200));
        if told.elapsed() < PROGRESS {
            continue;
        }
        told = Instant::now();
        let done = run.next.load(Ordering::Relaxed).min(run.end) - first;
        let rate = done as f64 / started.elapsed().as_secs_f64();
        let line = format!("{done} of {} seeds, {rate:.0} a second", run.end - first);
        if std::io::stderr().is_terminal() {
            eprint!("\r{line}   ");
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("{line}");
        }
    }
}
