//! Which entry of a cache goes next: S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023).
//!
//! New entries go to a small queue. Who is not asked for again while there leaves after one pass, so a scan of the whole store moves only a tenth of
//! the cache; who is, moves on to the main queue, where each use buys another round, up to [`USES_MAX`]. The keys of those that left the
//! small queue unasked are remembered for a while: if one comes back soon, it goes to the main queue at once.
//!
//! Pure bookkeeping of keys and bytes; values, budget and locks are the cache's.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// The share of the bytes that the small queue may take before it gives entries up, as a divisor.
const SMALL_DIVISOR: usize = 10;
/// Rounds in the main queue that uses can buy.
const USES_MAX: u8 = 3;
/// Ghosts that are remembered for each entry of the cache, at least [`GHOSTS_MIN`].
const GHOSTS_PER_ENTRY: usize = 1;
const GHOSTS_MIN: usize = 64;

/// Hashes small fixed-size keys of our own making: multiply and rotate, as in FxHash. Nobody outside picks these keys.
#[derive(Default, Clone, Copy)]
pub struct KeyHasher(u64);

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        // The high bits are the good ones, and a hash map takes the low ones too.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(MULTIPLIER);
    }
}

pub type KeyMap<K, V> = HashMap<K, V, BuildHasherDefault<KeyHasher>>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Queue {
    Small,
    Main,
}

struct Slot<V> {
    value: V,
    bytes: usize,
    uses: u8,
    queue: Queue,
    /// Tells an entry in a queue from an earlier one of the same key.
    ticket: u64,
}

/// Entries of one part of a cache.
pub struct S3Fifo<K, V> {
    slots: KeyMap<K, Slot<V>>,
    small: VecDeque<(K, u64)>,
    main: VecDeque<(K, u64)>,
    small_bytes: usize,
    bytes: usize,
    /// Keys that left the small queue unasked, each with the ticket it left with.
    ghosts: KeyMap<K, u64>,
    ghost_order: VecDeque<(K, u64)>,
    next_ticket: u64,
}

impl<K, V> Default for S3Fifo<K, V> {
    fn default() -> Self {
        Self {
            slots: KeyMap::default(),
            small: VecDeque::new(),
            main: VecDeque::new(),
            small_bytes: 0,
            bytes: 0,
            ghosts: KeyMap::default(),
            ghost_order: VecDeque::new(),
            next_ticket: 0,
        }
    }
}

impl<K: Copy + Eq + Hash, V> S3Fifo<K, V> {
    /// The value of a key, counted as a use.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        let slot = self.slots.get_mut(key)?;
        slot.uses = (slot.uses + 1).min(USES_MAX);
        Some(&slot.value)
    }

    /// Enters a value; one that was there under the key goes, and is returned.
    pub fn insert(&mut self, key: K, value: V, bytes: usize) -> Option<V> {
        let before = self.remove(&key);
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let queue = if self.ghosts.remove(&key).is_some() { Queue::Main } else { Queue::Small };
        match queue {
            Queue::Small => {
                self.small.push_back((key, ticket));
                self.small_bytes += bytes;
            }
            Queue::Main => self.main.push_back((key, ticket)),
        }
        self.bytes += bytes;
        self.slots.insert(key, Slot { value, bytes, uses: 0, queue, ticket });
        before
    }

    /// Takes an entry out. Its place in a queue is skipped later.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let slot = self.slots.remove(key)?;
        self.bytes -= slot.bytes;
        if slot.queue == Queue::Small {
            self.small_bytes -= slot.bytes;
        }
        Some(slot.value)
    }

    /// Takes an entry out, with its bytes, and whether it had been asked for often enough to stay.
    pub fn take(&mut self, key: &K) -> Option<(V, usize, bool)> {
        let slot = self.slots.get(key)?;
        let (bytes, stays) = (slot.bytes, slot.queue == Queue::Main || slot.uses > 0);
        self.remove(key).map(|value| (value, bytes, stays))
    }

    /// Enters a value among those that stay.
    pub fn insert_kept(&mut self, key: K, value: V, bytes: usize) -> Option<V> {
        let before = self.insert(key, value, bytes);
        let slot = self.slots.get_mut(&key).expect("just entered");
        if slot.queue == Queue::Small {
            // Its place in the small queue is skipped: the ticket is another one.
            slot.queue = Queue::Main;
            slot.ticket = self.next_ticket;
            self.main.push_back((key, self.next_ticket));
            self.next_ticket += 1;
            self.small_bytes -= bytes;
        }
        before
    }

    /// Takes out the entry that should go next; `None` when there is none.
    pub fn evict(&mut self) -> Option<V> {
        loop {
            let from_small = self.small_bytes * SMALL_DIVISOR >= self.bytes || self.main.is_empty();
            let (key, ticket) = if from_small {
                self.small.pop_front().or_else(|| self.main.pop_front())?
            } else {
                self.main.pop_front()?
            };
            let Some(slot) = self.slots.get_mut(&key).filter(|slot| slot.ticket == ticket) else { continue };
            if slot.uses == 0 {
                if slot.queue == Queue::Small {
                    self.remember(key, ticket);
                }
                return self.remove(&key);
            }
            if slot.queue == Queue::Small {
                slot.queue = Queue::Main;
                slot.uses = 0;
                self.small_bytes -= slot.bytes;
            } else {
                slot.uses -= 1;
            }
            self.main.push_back((key, ticket));
        }
    }

    fn remember(&mut self, key: K, ticket: u64) {
        self.ghosts.insert(key, ticket);
        self.ghost_order.push_back((key, ticket));
        let ghosts_max = (self.slots.len() * GHOSTS_PER_ENTRY).max(GHOSTS_MIN);
        while self.ghost_order.len() > ghosts_max {
            let (oldest, ticket) = self.ghost_order.pop_front().expect("longer than its bound");
            if self.ghosts.get(&oldest) == Some(&ticket) {
                self.ghosts.remove(&oldest);
            }
        }
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes of all entries.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache of this many entries of one byte: evicts before it inserts.
    struct Model {
        queues: S3Fifo<u64, u64>,
        size: usize,
        hits: usize,
    }

    impl Model {
        fn new(size: usize) -> Self {
            Self { queues: S3Fifo::default(), size, hits: 0 }
        }

        fn ask(&mut self, key: u64) -> bool {
            if self.queues.get(&key).is_some() {
                self.hits += 1;
                return true;
            }
            while self.queues.bytes() >= self.size {
                self.queues.evict().expect("something is there");
            }
            self.queues.insert(key, key, 1);
            false
        }
    }

    #[test]
    fn what_is_asked_for_again_survives_a_scan_of_everything() {
        let mut model = Model::new(100);
        for _ in 0..4 {
            for key in 0..50 {
                model.ask(key);
            }
        }
        for key in 1000..11_000 {
            model.ask(key);
        }
        let kept = (0..50).filter(|key| model.queues.get(key).is_some()).count();
        assert!(kept >= 45, "{kept} of 50 hot entries survived");
    }

    #[test]
    fn who_comes_back_soon_after_leaving_unasked_stays() {
        let mut model = Model::new(100);
        for key in 0..200 {
            model.ask(key);
        }
        let ghost = (0..200).rev().find(|key| model.queues.ghosts.contains_key(key)).expect("somebody left");
        assert!(!model.ask(ghost));
        for key in 1000..1100 {
            model.ask(key);
        }
        assert!(model.ask(ghost), "it went to the main queue at its return");
    }

    #[test]
    fn a_skewed_load_hits_more_often_than_plain_fifo_would() {
        // Popularity falls with the square of the rank; a multiplicative generator with a fixed seed makes the requests.
        let mut model = Model::new(100);
        let (mut fifo, mut fifo_hits) = (VecDeque::new(), 0);
        let mut state = 0x1234_5678_9abc_def1_u64;
        for _ in 0..100_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let uniform = (state >> 11) as f64 / (1u64 << 53) as f64;
            let key = (1000.0 * uniform * uniform * uniform) as u64;
            model.ask(key);
            if fifo.contains(&key) {
                fifo_hits += 1;
            } else {
                if fifo.len() == 100 {
                    fifo.pop_front();
                }
                fifo.push_back(key);
            }
        }
        assert!(model.hits > fifo_hits * 11 / 10, "{} hits against {fifo_hits}", model.hits);
    }

    #[test]
    fn bytes_and_entries_add_up_whatever_is_done() {
        let mut queues: S3Fifo<u64, usize> = S3Fifo::default();
        let mut model: HashMap<u64, usize> = HashMap::new();
        let mut state = 7u64;
        for step in 0..50_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = (state >> 33) % 200;
            match (state >> 60) % 4 {
                0 => assert_eq!(queues.remove(&key), model.remove(&key)),
                1 => {
                    if let Some(value) = queues.evict() {
                        let evicted = *model.iter().find(|(_, model)| **model == value).expect("it was there").0;
                        model.remove(&evicted);
                    } else {
                        assert!(model.is_empty());
                    }
                }
                2 => assert_eq!(queues.get(&key), model.get(&key)),
                _ => assert_eq!(queues.insert(key, step, step % 7 + 1), model.insert(key, step)),
            }
            assert_eq!(queues.len(), model.len());
            assert_eq!(queues.bytes(), model.values().map(|step| step % 7 + 1).sum::<usize>());
            assert!(queues.ghosts.len() <= queues.ghost_order.len());
        }
        while queues.evict().is_some() {}
        assert_eq!((queues.len(), queues.bytes(), queues.small_bytes), (0, 0, 0));
    }
}
