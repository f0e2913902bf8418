//! Scenarios from many seeds on all cores, with progress on stderr, until the first that fails:
//! what the programs share that simulate (`scripts/simulate`, `scripts/simulate-cluster`).

use std::io::{IsTerminal, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);

/// The seeds that are to be run.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    first: u64,
    end: u64,
}

impl Seeds {
    /// By the arguments of the program, `[SEEDS] [FIRST]`: so many, or `count`, from 0 unless
    /// given. Ends the process when they are anything else.
    pub fn of_arguments(program: &str, count: u64) -> Self {
        let usage = || -> ! {
            eprintln!("usage: {program} [SEEDS] [FIRST]");
            std::process::exit(2);
        };
        let number = |index: usize, default: u64| match std::env::args().nth(index) {
            Some(text) => text.parse().unwrap_or_else(|_| usage()),
            None => default,
        };
        let (count, first) = (number(1, count), number(2, 0));
        Self { first, end: first.checked_add(count).unwrap_or_else(|| usage()) }
    }

    pub fn count(&self) -> u64 {
        self.end - self.first
    }

    /// Whether there is one, of which all is to be told.
    pub fn is_one(&self) -> bool {
        self.count() == 1
    }

    /// Runs `scenario` with each seed, and gives whether all passed. It fails when it panics, or
    /// gives what to say of it; `replay` gives the command that does the same again.
    pub fn run(
        &self,
        replay: impl Fn(u64) -> String + Sync,
        scenario: impl Fn(u64) -> Result<(), String> + Sync,
    ) -> bool {
        let (next, passed, has_failed) = (AtomicU64::new(self.first), AtomicU64::new(0), AtomicBool::new(false));
        let is_over = || has_failed.load(Ordering::Relaxed) || next.load(Ordering::Relaxed) >= self.end;
        let work = || {
            while !has_failed.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= self.end {
                    return;
                }
                let came = catch_unwind(AssertUnwindSafe(|| scenario(seed)));
                match came.unwrap_or_else(|_| Err("it panicked, see above".into())) {
                    Ok(()) => {
                        passed.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(what) => {
                        has_failed.store(true, Ordering::Relaxed);
                        println!("seed {seed}: {what}");
                        println!("replay: {}", replay(seed));
                    }
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let started = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
            scope.spawn(|| self.progress(started, is_over, || next.load(Ordering::Relaxed)));
        });
        let (passed, elapsed) = (passed.into_inner(), started.elapsed().as_secs_f64());
        println!("{passed} seeds from {} passed in {elapsed:.1} s on {threads} threads", self.first);
        !has_failed.into_inner()
    }

    /// One line, rewritten on a terminal.
    fn progress(&self, started: Instant, is_over: impl Fn() -> bool, next: impl Fn() -> u64) {
        let mut told = Instant::now();
        while !is_over() {
            std::thread::park_timeout(Duration::from_millis(50));
            if told.elapsed() < PROGRESS {
                continue;
            }
            told = Instant::now();
            let done = next().min(self.end) - self.first;
            let rate = done as f64 / started.elapsed().as_secs_f64();
            let line = format!("{done} of {} seeds, {rate:.0} a second", self.count());
            if std::io::stderr().is_terminal() {
                eprint!("\r{line}   ");
                let _ = std::io::stderr().flush();
            } else {
                eprintln!("{line}");
            }
        }
    }
}
