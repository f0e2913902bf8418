//! Recently used parts of records, verified and immutable, for all cores.
//!
//! One cache for the whole store, in shards with a lock each that is held for a lookup and no
//! longer. A miss makes its asker the *leader*: it reads, and everybody who asks for the same
//! meanwhile waits for it, so any number of clients that pull one cold model cause one read of each
//! part.
//!
//! Invariants: the bytes charged never pass the budget. A charge is made before the memory is
//! allocated and ends when the memory is free, that is when the entry is evicted *and* its last
//! reader is done. When nothing can be evicted, no charge is available, and the reader does without
//! the cache. What is in here never changes; a key names the same bytes for ever (segments are
//! never used twice).
//!
//! Nothing is evicted while the budget has room. Where memory for it comes from is the business of
//! `ring::frames`, and of [`crate::warmer`].
//!
//! No operation takes longer the more entries there are: a lock is held for the steps that
//! [`policy`] bounds, and a reservation evicts [`EVICTIONS_MAX`] entries at most.
//!
//! Which entry goes is the business of [`policy`]; what the values are, of the store.

mod hash;
#[cfg(all(test, feature = "loom"))]
mod interleavings;
pub mod policy;
mod table;

use std::future::poll_fn;
use std::hash::{BuildHasher, BuildHasherDefault};
use std::sync::{Arc, PoisonError};
use std::task::{Poll, Waker};

use self::hash::{KeyHasher, KeyMap};
use self::policy::S3Fifo;
use crate::atomics::{AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering};
use crate::mutant::{Mutant, is_planted};
use crate::types::SegmentId;

/// Shards of a large cache; a small one has fewer, so that each has room for some of the largest
/// entries.
const SHARDS_MAX: usize = 64;
pub const SHARD_BYTES_MIN: usize = 64 << 20;
/// Entries that one reservation evicts at most, beyond those that make up its size: memory that
/// readers hold does not come free by evicting more.
const FUTILE_EVICTIONS_MAX: usize = 16;
/// Entries that one reservation evicts at most before others have a turn: a large entry may need
/// the room of thousands of small ones.
const EVICTIONS_MAX: usize = 128;
/// What an entry costs beside its value: key, slot, queue place, ghost and allocations.
pub const ENTRY_OVERHEAD: usize = 256;

/// A part of a record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    pub segment: SegmentId,
    /// Where the record starts, in units of [`crate::log::RECORD_ALIGN`].
    pub offset_units: u32,
    /// Which part; the store gives the numbers.
    pub part: u32,
}

/// The cache in numbers, since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheStatus {
    pub budget_bytes: u64,
    /// Charged now, memory that was evicted and is still being read included.
    pub charged_bytes: u64,
    pub entries: u64,
    pub hits: u64,
    pub misses: u64,
    /// Lookups that waited for somebody else's read.
    pub waits: u64,
    pub evictions: u64,
    /// Reads that did without, because the budget was in use.
    pub bypasses: u64,
}

struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    waits: AtomicU64,
    evictions: AtomicU64,
    bypasses: AtomicU64,
}

struct Shared<V> {
    budget: usize,
    charged: Arc<AtomicUsize>,
    shards: Vec<Mutex<Shard<V>>>,
    /// Whose turn to give something up it is.
    next_evicted: AtomicUsize,
    counters: Counters,
}

impl<V> Shared<V> {
    fn shard(&self, key: &Key) -> &Mutex<Shard<V>> {
        let hash = BuildHasherDefault::<KeyHasher>::default().hash_one(key);
        &self.shards[((u128::from(hash) * self.shards.len() as u128) >> 64) as usize]
    }
}

struct Shard<V> {
    entries: S3Fifo<Key, V>,
    flights: KeyMap<Key, Arc<Mutex<Flight<V>>>>,
}

/// A read that is under way.
enum Flight<V> {
    Waiting(Vec<Waker>),
    Landed(V),
    /// The leader has given up.
    Failed,
}

/// The cache; clones share it. Values are cheap to clone.
pub struct Cache<V>(Arc<Shared<V>>);

impl<V> Clone for Cache<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Bytes of the budget; given back when dropped.
#[derive(Debug)]
pub struct Charge {
    bytes: usize,
    charged: Arc<AtomicUsize>,
}

impl Charge {
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.charged.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What a reservation comes to.
#[derive(Debug)]
pub enum Reserved {
    Charged(Charge),
    /// Many entries have gone for it, and more must: to be asked for again after others have had
    /// their turn.
    NotYet,
    /// Readers hold too much of the budget.
    Full,
}

/// What a lookup comes to.
pub enum Lookup<V> {
    Found(V),
    /// The asker reads, and says what it found. Others wait for that.
    Lead(Leader<V>),
}

/// The right and the duty to read what a key names. Dropping it unfilled lets the next one try.
pub struct Leader<V> {
    cache: Cache<V>,
    key: Key,
    flight: Arc<Mutex<Flight<V>>>,
    landed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a lock guards here is whole after each statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl<V: Clone> Cache<V> {
    /// An empty cache that charges up to `budget` bytes.
    pub fn new(budget: usize) -> Self {
        Self::sharded(budget, SHARD_BYTES_MIN)
    }

    /// The same, with a lock for each so many bytes.
    pub fn sharded(budget: usize, shard_bytes_min: usize) -> Self {
        let count = (budget / shard_bytes_min).clamp(1, SHARDS_MAX);
        let shards =
            (0..count).map(|_| Mutex::new(Shard { entries: S3Fifo::default(), flights: KeyMap::default() })).collect();
        let zero = || AtomicU64::new(0);
        let counters = Counters { hits: zero(), misses: zero(), waits: zero(), evictions: zero(), bypasses: zero() };
        let next_evicted = AtomicUsize::new(0);
        Self(Arc::new(Shared { budget, charged: Arc::default(), shards, next_evicted, counters }))
    }

    /// What is there now, counted as a use. Not finding it counts as nothing.
    pub fn peek(&self, key: &Key) -> Option<V> {
        let found = lock(self.0.shard(key)).entries.get(key).cloned();
        if found.is_some() {
            count(&self.0.counters.hits);
        }
        found
    }

    /// What is there, or comes by a read that is under way; else the asker is to read.
    pub async fn lookup(&self, key: Key) -> Lookup<V> {
        let mut has_waited = false;
        loop {
            let flight = {
                let mut shard = lock(self.0.shard(&key));
                if let Some(value) = shard.entries.get(&key) {
                    let value = value.clone();
                    drop(shard);
                    if !has_waited {
                        count(&self.0.counters.hits);
                    }
                    return Lookup::Found(value);
                }
                match shard.flights.get(&key) {
                    Some(flight) => flight.clone(),
                    None => {
                        let flight = Arc::new(Mutex::new(Flight::Waiting(Vec::new())));
                        shard.flights.insert(key, flight.clone());
                        drop(shard);
                        count(&self.0.counters.misses);
                        return Lookup::Lead(Leader { cache: self.clone(), key, flight, landed: false });
                    }
                }
            };
            if !std::mem::replace(&mut has_waited, true) {
                count(&self.0.counters.waits);
            }
            let landed = poll_fn(|context| match &mut *lock(&flight) {
                Flight::Waiting(wakers) => {
                    if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                        wakers.push(context.waker().clone());
                    }
                    Poll::Pending
                }
                Flight::Landed(value) => Poll::Ready(Some(value.clone())),
                Flight::Failed => Poll::Ready(None),
            })
            .await;
            if let Some(value) = landed {
                return Lookup::Found(value);
            }
        }
    }

    /// Bytes for a new entry, of a budget that evicting makes room in. `None` when readers hold too
    /// much of it, or when it would take more evictions than one reservation may make.
    pub fn reserve(&self, bytes: usize) -> Option<Charge> {
        match self.try_reserve(bytes) {
            Reserved::Charged(charge) => Some(charge),
            Reserved::Full => None,
            Reserved::NotYet => {
                count(&self.0.counters.bypasses);
                None
            }
        }
    }

    /// As [`Cache::reserve`], for those who can come again.
    pub fn try_reserve(&self, bytes: usize) -> Reserved {
        let bytes = bytes + ENTRY_OVERHEAD;
        let charged = &self.0.charged;
        let fits = |now: usize| (now + bytes <= self.0.budget).then_some(now + bytes);
        let (mut evicted, mut futile) = (0, 0);
        loop {
            let is_charged = match is_planted(Mutant::RaceReserveTwice) {
                true => fits(charged.load(Ordering::Relaxed)).map(|_| charged.fetch_add(bytes, Ordering::Relaxed)),
                false => charged.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok(),
            };
            if is_charged.is_some() {
                return Reserved::Charged(Charge { bytes, charged: charged.clone() });
            }
            if evicted == EVICTIONS_MAX {
                return Reserved::NotYet;
            }
            let before = charged.load(Ordering::Relaxed);
            if bytes > self.0.budget || futile > FUTILE_EVICTIONS_MAX || !self.evict_one() {
                count(&self.0.counters.bypasses);
                return Reserved::Full;
            }
            evicted += 1;
            if charged.load(Ordering::Relaxed) >= before {
                futile += 1;
            }
        }
    }

    /// Bytes that are charged now, and the most that may be.
    pub fn charged_and_budget(&self) -> (usize, usize) {
        (self.0.charged.load(Ordering::Relaxed), self.0.budget)
    }

    /// Evicts from the shards in turn; false when there is nothing.
    fn evict_one(&self) -> bool {
        let shards = &self.0.shards;
        let first = self.0.next_evicted.fetch_add(1, Ordering::Relaxed);
        let mut order = (0..shards.len()).map(|step| &shards[first.wrapping_add(step) % shards.len()]);
        // The value is dropped after its lock is let go.
        let evicted = order.find_map(|shard| lock(shard).entries.evict());
        if evicted.is_some() {
            count(&self.0.counters.evictions);
        }
        evicted.is_some()
    }

    /// Enters a value whose bytes were reserved. It must hold the charge, or something that does.
    pub fn insert(&self, key: Key, value: V, bytes: usize) {
        let before = lock(self.0.shard(&key)).entries.insert(key, value, bytes + ENTRY_OVERHEAD);
        drop(before);
    }

    /// Gives an entry another key, because the same bytes lie elsewhere now.
    pub fn rekey(&self, from: &Key, to: Key) {
        let taken = lock(self.0.shard(from)).entries.take(from);
        let Some((value, bytes, stays)) = taken else { return };
        let mut shard = lock(self.0.shard(&to));
        let before = match stays {
            true => shard.entries.insert_kept(to, value, bytes),
            false => shard.entries.insert(to, value, bytes),
        };
        drop(shard);
        drop(before);
    }

    pub fn status(&self) -> CacheStatus {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.0.counters;
        CacheStatus {
            budget_bytes: self.0.budget as u64,
            charged_bytes: self.0.charged.load(Ordering::Relaxed) as u64,
            entries: self.0.shards.iter().map(|shard| lock(shard).entries.len() as u64).sum(),
            hits: get(&counters.hits),
            misses: get(&counters.misses),
            waits: get(&counters.waits),
            evictions: get(&counters.evictions),
            bypasses: get(&counters.bypasses),
        }
    }
}

impl<V> Leader<V> {
    fn land(&mut self, outcome: Flight<V>) {
        self.landed = true;
        lock(self.cache.0.shard(&self.key)).flights.remove(&self.key);
        if is_planted(Mutant::RaceWakeEarly)
            && let Flight::Waiting(wakers) = &mut *lock(&self.flight)
        {
            wakers.drain(..).for_each(Waker::wake);
        }
        let before = std::mem::replace(&mut *lock(&self.flight), outcome);
        if let Flight::Waiting(wakers) = before
            && !is_planted(Mutant::RaceWakeEarly)
        {
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

impl<V: Clone> Leader<V> {
    /// Enters what was read, and hands it to those who wait. `bytes` as reserved.
    pub fn fill(mut self, value: V, bytes: usize) {
        if is_planted(Mutant::RaceLandEarly) {
            self.land(Flight::Landed(value.clone()));
            return self.cache.insert(self.key, value, bytes);
        }
        self.cache.insert(self.key, value.clone(), bytes);
        self.land(Flight::Landed(value));
    }
}

impl<V> Drop for Leader<V> {
    fn drop(&mut self) {
        if !self.landed {
            self.land(Flight::Failed);
        }
    }
}

#[cfg(test)]
mod tests;
