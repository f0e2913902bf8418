//! Runs scenarios of a simulated cluster from many seeds on all cores:
//! `simulate_cluster [SEEDS] [FIRST]`. See `scripts/simulate-cluster`. Of a single seed it tells
//! what happened.

#[path = "../tests/support/mod.rs"]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use support::scenario;
use support::totals::Totals;

/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);

struct Run {
    next: AtomicU64,
    end: u64,
    is_verbose: bool,
    failed: AtomicBool,
    totals: Mutex<Totals>,
}

fn main() {
    if std::env::args().nth(1).is_some_and(|first| first == "--mutants") {
        for (_, name) in nabu_cluster::mutant::Mutant::ALL {
            println!("{name}");
        }
        return;
    }
    let number = |index: usize, default: u64| match std::env::args().nth(index) {
        Some(text) => text.parse().unwrap_or_else(|_| usage()),
        None => default,
    };
    let (count, first) = (number(1, 1_000), number(2, 0));
    let run = Run {
        next: AtomicU64::new(first),
        end: first.checked_add(count).unwrap_or_else(|| usage()),
        is_verbose: count == 1,
        failed: AtomicBool::new(false),
        totals: Mutex::default(),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&run));
        }
        scope.spawn(|| progress(&run, first, started));
    });
    let totals = run.totals.into_inner().expect("no panic under the lock");
    for (name, count) in &totals.counts {
        println!("{name:28} {count}");
    }
    println!("{} seeds from {first} in {:.1} s on {threads} threads", totals.seeds, started.elapsed().as_secs_f64());
    let mut failed = run.failed.load(Ordering::Relaxed);
    let never_met = totals.never_met();
    if count >= 1_000 && !never_met.is_empty() && std::env::var_os("NABU_MUTANT").is_none() {
        println!("these seeds prove little, for it never happened: {}", never_met.join(", "));
        failed = true;
    }
    if failed {
        std::process::exit(1);
    }
}

fn usage() -> ! {
    eprintln!("usage: simulate_cluster [SEEDS] [FIRST]");
    std::process::exit(2);
}

fn work(run: &Run) {
    while !run.failed.load(Ordering::Relaxed) {
        let seed = run.next.fetch_add(1, Ordering::Relaxed);
        if seed >= run.end {
            return;
        }
        match catch_unwind(AssertUnwindSafe(|| scenario::run(seed, run.is_verbose))) {
            Ok(counts) => run.totals.lock().expect("no panic under the lock").add(&counts),
            Err(_) => {
                run.failed.store(true, Ordering::Relaxed);
                println!("seed {seed} failed; replay it with: scripts/simulate-cluster 1 {seed}");
            }
        }
    }
}

fn progress(run: &Run, first: u64, started: Instant) {
    let mut told = Instant::now();
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let next = run.next.load(Ordering::Relaxed);
        if next >= run.end || run.failed.load(Ordering::Relaxed) {
            return;
        }
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            let done = next - first;
            let rate = done as f64 / started.elapsed().as_secs_f64();
            eprintln!("{done} of {} seeds, {rate:.0} a second", run.end - first);
        }
    }
}
