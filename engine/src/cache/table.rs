//! A hash table none of whose steps grows with its size: every entry lies in one place until it is
//! removed, and the table grows by one bucket with each entry it has more than buckets (linear
//! hashing: Litwin, "Linear hashing: a new tool for file and table addressing", VLDB 1980). A table
//! that doubles instead moves every entry at once, under the cache's lock: 6 ms at 400,000 entries.
//!
//! What the entries are, and the lists that link them, is the business of [`super::policy`].

use std::hash::{BuildHasher, BuildHasherDefault, Hash};
use std::num::NonZeroU32;

use super::hash::KeyHasher;

/// Elements that are allocated at once.
const CHUNK: usize = 256;

/// Elements in chunks, so that growing moves none of them.
struct Chunks<T>(Vec<Vec<T>>);

impl<T> Chunks<T> {
    fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * CHUNK + last.len())
    }

    fn push(&mut self, element: T) {
        if self.len().is_multiple_of(CHUNK) {
            self.0.push(Vec::with_capacity(CHUNK));
        }
        self.0.last_mut().expect("just made sure").push(element);
    }

    fn get(&self, index: usize) -> &T {
        &self.0[index / CHUNK][index % CHUNK]
    }

    fn get_mut(&mut self, index: usize) -> &mut T {
        &mut self.0[index / CHUNK][index % CHUNK]
    }
}

/// Where an entry lies, until it is removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Spot(NonZeroU32);

impl Spot {
    fn of(index: usize) -> Self {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        Self(number.expect("fewer entries than 2^32: each is charged more than a byte"))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

struct Node<K, T> {
    key: K,
    hash: u32,
    /// The next one of the same bucket, or of those that hold nothing.
    next: Option<Spot>,
    entry: Option<T>,
}

/// Entries by key, one each.
pub(super) struct Table<K, T> {
    nodes: Chunks<Node<K, T>>,
    /// The first of those that hold nothing.
    free: Option<Spot>,
    /// The first node of each bucket. Never fewer than entries, but for the first.
    buckets: Chunks<Option<Spot>>,
    len: usize,
    /// Nodes that were looked at since the start: what a test may count, unlike time.
    #[cfg(test)]
    looked_at: std::cell::Cell<u64>,
}

impl<K, T> Default for Table<K, T> {
    fn default() -> Self {
        let mut buckets = Chunks(Vec::new());
        buckets.push(None);
        Self {
            nodes: Chunks(Vec::new()),
            free: None,
            buckets,
            len: 0,
            #[cfg(test)]
            looked_at: std::cell::Cell::new(0),
        }
    }
}

fn hash_of<K: Hash>(key: &K) -> u32 {
    // The low half: a shard of the cache was chosen by the high one.
    BuildHasherDefault::<KeyHasher>::default().hash_one(key) as u32
}

/// The bucket of a hash among `count`.
fn bucket_among(count: usize, hash: u32) -> usize {
    let mask = count.next_power_of_two() - 1;
    let bucket = hash as usize & mask;
    // A bucket that is not there yet is still part of the one it will be split from.
    if bucket < count { bucket } else { bucket & (mask >> 1) }
}

impl<K: Eq + Hash, T> Table<K, T> {
    pub fn len(&self) -> usize {
        self.len
    }

    #[cfg(test)]
    pub fn looked_at(&self) -> u64 {
        self.looked_at.get()
    }

    fn node(&self, spot: Spot) -> &Node<K, T> {
        #[cfg(test)]
        self.looked_at.set(self.looked_at.get() + 1);
        self.nodes.get(spot.index())
    }

    fn node_mut(&mut self, spot: Spot) -> &mut Node<K, T> {
        #[cfg(test)]
        self.looked_at.set(self.looked_at.get() + 1);
        self.nodes.get_mut(spot.index())
    }

    fn bucket_of(&self, hash: u32) -> usize {
        bucket_among(self.buckets.len(), hash)
    }

    pub fn find(&self, key: &K) -> Option<Spot> {
        let hash = hash_of(key);
        let mut next = *self.buckets.get(self.bucket_of(hash));
        while let Some(spot) = next {
            let node = self.node(spot);
            if node.hash == hash && node.key == *key {
                return Some(spot);
            }
            next = node.next;
        }
        None
    }

    /// The entry at a spot.
    ///
    /// # Panics
    /// If it was removed.
    pub fn at(&self, spot: Spot) -> &T {
        self.node(spot).entry.as_ref().expect("a spot ends with its entry")
    }

    /// As [`Table::at`], to change it.
    pub fn at_mut(&mut self, spot: Spot) -> &mut T {
        self.node_mut(spot).entry.as_mut().expect("a spot ends with its entry")
    }

    /// Enters what is not there yet.
    pub fn insert(&mut self, key: K, entry: T) -> Spot {
        debug_assert!(self.find(&key).is_none(), "a key has one entry");
        let hash = hash_of(&key);
        let bucket = self.bucket_of(hash);
        let node = Node { key, hash, next: *self.buckets.get(bucket), entry: Some(entry) };
        let spot = match self.free {
            Some(spot) => {
                self.free = self.node(spot).next;
                *self.node_mut(spot) = node;
                spot
            }
            None => {
                self.nodes.push(node);
                Spot::of(self.nodes.len() - 1)
            }
        };
        *self.buckets.get_mut(bucket) = Some(spot);
        self.len += 1;
        if self.len > self.buckets.len() {
            self.split_one();
        }
        spot
    }

    /// Adds a bucket, and gives it what is its of the one that it is split from.
    fn split_one(&mut self) {
        let added = self.buckets.len();
        self.buckets.push(None);
        let from = added & (((added + 1).next_power_of_two() - 1) >> 1);
        let mut next = self.buckets.get_mut(from).take();
        while let Some(spot) = next {
            let hash = self.node(spot).hash;
            let bucket = self.bucket_of(hash);
            debug_assert!(bucket == from || bucket == added);
            let first = self.buckets.get_mut(bucket).replace(spot);
            next = std::mem::replace(&mut self.node_mut(spot).next, first);
        }
    }

    /// Takes an entry out.
    pub fn remove(&mut self, spot: Spot) -> T {
        let (hash, after) = (self.node(spot).hash, self.node(spot).next);
        let bucket = self.bucket_of(hash);
        let first = self.buckets.get(bucket).expect("the bucket of an entry holds it");
        if first == spot {
            *self.buckets.get_mut(bucket) = after;
        } else {
            let mut before = first;
            while self.node(before).next != Some(spot) {
                before = self.node(before).next.expect("the bucket of an entry holds it");
            }
            self.node_mut(before).next = after;
        }
        self.len -= 1;
        let free = self.free.replace(spot);
        let node = self.node_mut(spot);
        node.next = free;
        node.entry.take().expect("a spot ends with its entry")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::cache::Key;
    use crate::types::SegmentId;

    #[test]
    fn the_keys_of_a_store_spread_so_well_that_no_bucket_is_long() {
        let mut table = Table::default();
        for number in 0..400_000_u32 {
            // Records of 4 KiB behind one another in segments of 64 MiB, as uploads leave them,
            // with three parts each.
            let (record, part) = (number / 3, number % 3);
            let key =
                Key { segment: SegmentId(record >> 14), offset_units: record % (1 << 14) * 4, part: u32::MAX - part };
            let before = table.looked_at();
            table.insert(key, number);
            assert!(table.looked_at() - before <= 64, "entry {number}");
        }
        let longest = (0..table.buckets.len())
            .map(|bucket| {
                let first = *table.buckets.get(bucket);
                std::iter::successors(first, |spot| table.node(*spot).next).count()
            })
            .max();
        assert!(longest <= Some(16), "{longest:?}");
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_would(steps in proptest::collection::vec((0..3_u8, 0..300_u32), 0..3000)) {
            let (mut table, mut model) = (Table::default(), HashMap::new());
            for (step, (what, key)) in steps.into_iter().enumerate() {
                let found = table.find(&key);
                prop_assert_eq!(found.map(|spot| *table.at(spot)), model.get(&key).copied());
                match (what, found) {
                    (0, Some(spot)) => prop_assert_eq!(Some(table.remove(spot)), model.remove(&key)),
                    (1, Some(spot)) => {
                        *table.at_mut(spot) = step;
                        model.insert(key, step);
                    }
                    (_, None) => {
                        table.insert(key, step);
                        model.insert(key, step);
                    }
                    _ => {}
                }
                prop_assert_eq!(table.len(), model.len());
            }
        }
    }
}
