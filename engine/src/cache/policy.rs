//! Which entry of a cache goes next: S3-FIFO (Yang et al., "FIFO queues are all you need for cache
//! eviction", SOSP 2023).
//!
//! New entries go to a small queue. Who is not asked for again while there leaves after one pass,
//! so a scan of the whole store moves only a tenth of the cache; who is, moves on to the main
//! queue, where each use buys another round, up to [`USES_MAX`]. The keys of those that left the
//! small queue unasked are remembered for a while: if one comes back soon, it goes to the main
//! queue at once.
//!
//! No operation does more the more entries there are, because a lock is held meanwhile and a core's
//! clients wait: an eviction that finds [`LOOKS_MAX`] entries in use gives up the one of them that
//! was used least, where the paper's goes on until one is not, through everything if all was hot.
//!
//! Pure bookkeeping of keys and bytes; values, budget and locks are the cache's.

use std::hash::Hash;

use super::table::{Spot, Table};

/// The share of the bytes that the small queue may take before it gives entries up, as a divisor.
const SMALL_DIVISOR: usize = 10;
/// Rounds in the main queue that uses can buy.
const USES_MAX: u8 = 3;
/// Entries that one eviction looks at.
const LOOKS_MAX: usize = 16;
/// Ghosts that are remembered for each entry of the cache, at least [`GHOSTS_MIN`].
const GHOSTS_PER_ENTRY: usize = 1;
const GHOSTS_MIN: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Queue {
    Small,
    Main,
    /// Keys without a value.
    Ghosts,
}

struct Slot<V> {
    /// `None` of a ghost.
    value: Option<V>,
    bytes: usize,
    uses: u8,
    queue: Queue,
    /// The neighbours in its queue.
    before: Option<Spot>,
    after: Option<Spot>,
}

/// One queue: linked slots, the oldest first.
#[derive(Default)]
struct Line {
    first: Option<Spot>,
    last: Option<Spot>,
    len: usize,
}

/// Entries of one part of a cache.
pub struct S3Fifo<K, V> {
    slots: Table<K, Slot<V>>,
    small: Line,
    main: Line,
    ghosts: Line,
    small_bytes: usize,
    bytes: usize,
}

impl<K: Eq + Hash, V> Default for S3Fifo<K, V> {
    fn default() -> Self {
        Self {
            slots: Table::default(),
            small: Line::default(),
            main: Line::default(),
            ghosts: Line::default(),
            small_bytes: 0,
            bytes: 0,
        }
    }
}

impl<K: Eq + Hash, V> S3Fifo<K, V> {
    /// The value of a key, counted as a use.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        let spot = self.slots.find(key)?;
        let slot = self.slots.at_mut(spot);
        slot.uses = (slot.uses + 1).min(USES_MAX);
        slot.value.as_ref()
    }

    /// Enters a value; one that was there under the key goes, and is returned.
    pub fn insert(&mut self, key: K, value: V, bytes: usize) -> Option<V> {
        self.enter(key, value, bytes, Queue::Small)
    }

    /// Enters a value among those that stay.
    pub fn insert_kept(&mut self, key: K, value: V, bytes: usize) -> Option<V> {
        self.enter(key, value, bytes, Queue::Main)
    }

    fn enter(&mut self, key: K, value: V, bytes: usize, queue: Queue) -> Option<V> {
        let found = self.slots.find(&key);
        let queue = match found.map(|spot| self.slots.at(spot).queue) {
            Some(Queue::Ghosts) => Queue::Main,
            _ => queue,
        };
        let mut before = None;
        let spot = match found {
            Some(spot) => {
                self.leave(spot);
                before = self.slots.at_mut(spot).value.replace(value);
                spot
            }
            None => {
                let slot = Slot { value: Some(value), bytes: 0, uses: 0, queue, before: None, after: None };
                self.slots.insert(key, slot)
            }
        };
        let slot = self.slots.at_mut(spot);
        (slot.bytes, slot.uses) = (bytes, 0);
        self.join(spot, queue);
        before
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.take(key).map(|(value, ..)| value)
    }

    /// Takes an entry out, with its bytes, and whether it had been asked for often enough to stay.
    pub fn take(&mut self, key: &K) -> Option<(V, usize, bool)> {
        let spot = self.slots.find(key)?;
        let slot = self.slots.at(spot);
        let (bytes, stays) = (slot.bytes, slot.queue == Queue::Main || slot.uses > 0);
        if slot.queue == Queue::Ghosts {
            return None;
        }
        self.leave(spot);
        let value = self.slots.remove(spot).value;
        self.forget_ghosts();
        value.map(|value| (value, bytes, stays))
    }

    /// Takes out the entry that should go next; `None` when there is none.
    pub fn evict(&mut self) -> Option<V> {
        let mut least_used: Option<(u8, Spot)> = None;
        for _ in 0..LOOKS_MAX {
            let from_small = self.small_bytes * SMALL_DIVISOR >= self.bytes;
            let spot = match from_small {
                true => self.small.first.or(self.main.first),
                false => self.main.first.or(self.small.first),
            }?;
            let slot = self.slots.at_mut(spot);
            let (uses, queue) = (slot.uses, slot.queue);
            if uses == 0 {
                return self.give_up(spot, queue == Queue::Small);
            }
            slot.uses = if queue == Queue::Small { 0 } else { uses - 1 };
            self.leave(spot);
            self.join(spot, Queue::Main);
            if least_used.is_none_or(|(least, _)| uses < least) {
                least_used = Some((uses, spot));
            }
        }
        // All of them are in use: who looked on until one is not might look at all there is.
        least_used.and_then(|(_, spot)| self.give_up(spot, true))
    }

    /// Takes out the value of an entry.
    fn give_up(&mut self, spot: Spot, is_remembered: bool) -> Option<V> {
        self.leave(spot);
        let value = if is_remembered {
            let slot = self.slots.at_mut(spot);
            (slot.bytes, slot.uses) = (0, 0);
            let value = slot.value.take();
            self.join(spot, Queue::Ghosts);
            value
        } else {
            self.slots.remove(spot).value
        };
        self.forget_ghosts();
        value
    }

    /// To be called when there is one entry less, and maybe a ghost more: so two at a time are
    /// enough.
    fn forget_ghosts(&mut self) {
        let ghosts_max = (self.len() * GHOSTS_PER_ENTRY).max(GHOSTS_MIN);
        for _ in 0..1 + GHOSTS_PER_ENTRY {
            let Some(oldest) = self.ghosts.first.filter(|_| self.ghosts.len > ghosts_max) else { return };
            self.leave(oldest);
            self.slots.remove(oldest);
        }
    }

    fn line(&mut self, queue: Queue) -> &mut Line {
        match queue {
            Queue::Small => &mut self.small,
            Queue::Main => &mut self.main,
            Queue::Ghosts => &mut self.ghosts,
        }
    }

    /// Puts a slot that is in no queue behind all others of one.
    fn join(&mut self, spot: Spot, queue: Queue) {
        let last = self.line(queue).last.replace(spot);
        let slot = self.slots.at_mut(spot);
        (slot.queue, slot.before, slot.after) = (queue, last, None);
        let bytes = slot.bytes;
        match last {
            Some(last) => self.slots.at_mut(last).after = Some(spot),
            None => self.line(queue).first = Some(spot),
        }
        self.line(queue).len += 1;
        self.bytes += bytes;
        if queue == Queue::Small {
            self.small_bytes += bytes;
        }
    }

    /// Takes a slot out of its queue.
    fn leave(&mut self, spot: Spot) {
        let slot = self.slots.at(spot);
        let (queue, before, after, bytes) = (slot.queue, slot.before, slot.after, slot.bytes);
        match before {
            Some(before) => self.slots.at_mut(before).after = after,
            None => self.line(queue).first = after,
        }
        match after {
            Some(after) => self.slots.at_mut(after).before = before,
            None => self.line(queue).last = before,
        }
        self.line(queue).len -= 1;
        self.bytes -= bytes;
        if queue == Queue::Small {
            self.small_bytes -= bytes;
        }
    }

    pub fn len(&self) -> usize {
        self.slots.len() - self.ghosts.len
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all entries.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, VecDeque};

    use proptest::prelude::*;

    use super::*;

    /// Slots that one operation looks at: those of an eviction with their neighbours in the queues,
    /// those of its ghosts, and what lies in the same buckets.
    const LOOKED_AT_MAX: u64 = 256;

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

        fn is_ghost(&self, key: u64) -> bool {
            self.queues.slots.find(&key).is_some_and(|spot| self.queues.slots.at(spot).queue == Queue::Ghosts)
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
        let ghost = (0..200).rev().find(|key| model.is_ghost(*key)).expect("somebody left");
        assert!(!model.ask(ghost));
        for key in 1000..1100 {
            model.ask(key);
        }
        assert!(model.ask(ghost), "it went to the main queue at its return");
    }

    #[test]
    fn a_skewed_load_hits_more_often_than_plain_fifo_would() {
        // Popularity falls with the square of the rank; a multiplicative generator with a fixed
        // seed makes the requests.
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
            assert!(queues.ghosts.len <= queues.len().max(GHOSTS_MIN));
        }
        while queues.evict().is_some() {}
        assert_eq!((queues.len(), queues.bytes(), queues.small_bytes), (0, 0, 0));
    }

    proptest! {
        #[test]
        fn no_operation_looks_at_more_than_a_few_entries_whatever_is_hot(
            entries in 1..5000_u64, uses in 0..5_u8, hot_percent in 0..=100_u64, kept_percent in 0..=100_u64,
            steps in proptest::collection::vec((0..5_u8, 0..10_000_u64), 1..400),
        ) {
            let mut queues = S3Fifo::default();
            let mut looked_at_before = 0;
            let mut check = |queues: &S3Fifo<u64, ()>, what: &str| {
                let looked_at = queues.slots.looked_at() - looked_at_before;
                looked_at_before += looked_at;
                prop_assert!(looked_at <= LOOKED_AT_MAX, "{what} looked at {looked_at} slots of {}", queues.slots.len());
                Ok(())
            };
            for key in 0..entries {
                match key % 100 < kept_percent {
                    true => queues.insert_kept(key, (), 1),
                    false => queues.insert(key, (), 1),
                };
                check(&queues, "filling")?;
            }
            for key in (0..uses).flat_map(|_| 0..entries).filter(|key| key * 7 % 100 < hot_percent) {
                queues.get(&key);
                check(&queues, "asking")?;
            }
            for (what, key) in steps {
                let what = match what {
                    0 => {
                        queues.insert(key, (), 1 + key as usize % 3);
                        "an insertion"
                    }
                    1 => {
                        queues.remove(&key);
                        "a removal"
                    }
                    2 => {
                        queues.get(&key);
                        "a lookup"
                    }
                    _ => {
                        let there_were = queues.len();
                        prop_assert_eq!(queues.evict().is_some(), there_were > 0);
                        prop_assert_eq!(queues.len(), there_were.saturating_sub(1));
                        "an eviction"
                    }
                };
                check(&queues, what)?;
            }
        }
    }
}
