//! The longest step of each kind that a client core may have to take, at the sizes of a large
//! store.
//!
//! ```text
//! cargo bench -p nabu-engine --bench pauses
//! ```
//!
//! A mean says nothing of pauses. So every operation of a fixed sequence is timed alone, the
//! sequence is run [`RUNS`] times, and what counts for an operation is its fastest run: what only
//! the machine did to it (another thread's turn, an interrupt) does not come at the same operation
//! each time. Printed is the longest of these.

mod support;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use nabu_engine::cache::policy::S3Fifo;
use nabu_engine::cache::{Cache, Charge, ENTRY_OVERHEAD, Key, Lookup, Reserved};
use nabu_engine::types::SegmentId;

const RUNS: usize = 5;
/// Entries of one shard of the cache: 64 shards of as many are 25 million blobs in memory.
const ENTRIES: u64 = 400_000;
/// Operations that are timed once all is there.
const OPERATIONS: u64 = 100_000;
const SMALL_BYTES: usize = 64;
const LARGE_BYTES: usize = 2 << 20;

/// The fastest run of each operation, by kind.
#[derive(Default)]
struct Steps {
    kinds: Vec<(&'static str, Vec<Duration>)>,
    /// Operations of each kind that this run has timed.
    done: Vec<usize>,
}

impl Steps {
    fn begin_run(&mut self) {
        self.done.fill(0);
    }

    fn time<T>(&mut self, kind: &'static str, step: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let outcome = step();
        let took = began.elapsed();
        let found = self.kinds.iter().position(|(name, _)| *name == kind);
        let index = found.unwrap_or_else(|| {
            self.kinds.push((kind, Vec::new()));
            self.done.push(0);
            self.kinds.len() - 1
        });
        let (steps, done) = (&mut self.kinds[index].1, &mut self.done[index]);
        match steps.get_mut(*done) {
            Some(fastest) => *fastest = took.min(*fastest),
            None => steps.push(took),
        }
        *done += 1;
        outcome
    }

    fn print(&mut self, title: &str) {
        println!("\n{title}");
        println!("{:>44}  {:>9}  {:>10}  {:>10}", "step", "times", "median ns", "longest ns");
        for (kind, steps) in &mut self.kinds {
            steps.sort_unstable();
            let longest = steps.last().expect("timed").as_nanos();
            println!("{kind:>44}  {:>9}  {:>10}  {longest:>10}", steps.len(), steps[steps.len() / 2].as_nanos());
        }
    }
}

fn policy_of_the_cache() {
    let mut steps = Steps::default();
    for _ in 0..RUNS {
        steps.begin_run();
        let mut queues: S3Fifo<u64, u64> = S3Fifo::default();
        for key in 0..ENTRIES {
            steps.time("insert while it grows", || queues.insert(key, key, 1));
        }
        for key in (0..3).flat_map(|_| 0..ENTRIES) {
            queues.get(&key);
        }
        for key in ENTRIES..ENTRIES + OPERATIONS {
            steps.time("evict when all is hot", || queues.evict().expect("it is full"));
            steps.time("insert when it is full", || queues.insert(key, key, 1));
        }
        for key in 0..OPERATIONS {
            steps.time("remove", || queues.remove(&key));
        }
        let mut left = 0;
        while steps.time("evict until it is empty", || queues.evict()).is_some() {
            left += 1;
        }
        assert!(left > 0);
    }
    steps.print(&format!("One shard's queues, {ENTRIES} entries"));
}

type Value = Arc<Charge>;

fn key_of(number: u64) -> Key {
    Key { segment: SegmentId((number >> 16) as u32), offset_units: number as u32 & 0xffff, part: 0 }
}

/// What a future comes to that never has to wait.
fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nobody else reads"),
    }
}

fn ask(cache: &Cache<Value>, number: u64) -> Value {
    match at_once(cache.lookup(key_of(number))) {
        Lookup::Found(value) => value,
        Lookup::Lead(leader) => {
            let value = Arc::new(cache.reserve(SMALL_BYTES).expect("what nobody holds can be evicted"));
            leader.fill(value.clone(), SMALL_BYTES);
            value
        }
    }
}

fn whole_cache() {
    let mut steps = Steps::default();
    for _ in 0..RUNS {
        steps.begin_run();
        // Too small for a second shard.
        let cache: Cache<Value> = Cache::new(ENTRIES as usize * (SMALL_BYTES + ENTRY_OVERHEAD));
        for number in 0..ENTRIES {
            steps.time("miss and fill while there is room", || ask(&cache, number));
        }
        for number in (0..3).flat_map(|_| 0..ENTRIES) {
            ask(&cache, number);
        }
        for number in ENTRIES..ENTRIES + OPERATIONS {
            steps.time("miss, evict and fill when all is hot", || ask(&cache, number));
        }
        let mut large = Vec::new();
        while large.len() < 16 {
            match steps.time("a turn of a reservation of 2 MiB", || cache.try_reserve(LARGE_BYTES)) {
                Reserved::Charged(charge) => large.push(charge),
                Reserved::NotYet => {}
                Reserved::Full => panic!("nobody holds memory"),
            }
        }
    }
    steps.print(&format!("A cache of one shard, {ENTRIES} entries"));
}

fn main() {
    support::print_machine();
    policy_of_the_cache();
    whole_cache();
}
