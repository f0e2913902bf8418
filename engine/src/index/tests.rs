//! The index against a sorted map, and its memory.

use std::collections::BTreeMap;

use super::*;
use crate::sim::Random;

fn random_key(random: &mut Random) -> u128 {
    u128::from(random.next_u64()) << 64 | u128::from(random.next_u64())
}

fn random_location(random: &mut Random) -> Location {
    Location {
        segment: SegmentId(random.next_u64() as u32),
        offset_units: random.next_u64() as u32,
        length_units: random.next_u64() as u32,
        sequence: Sequence(random.next_u64()),
    }
}

fn id(key: u128) -> BlobId {
    BlobId(key.to_be_bytes())
}

impl Index {
    /// Checks every invariant that the file's head names.
    fn check(&self) {
        assert_eq!(self.bounds[0], 0);
        assert_eq!(self.bounds.len(), self.branches.len());
        let mut entries = 0;
        let mut slots = 0;
        let mut leaves = 0;
        let mut last_key = None;
        for (place, branch) in self.branches.iter().enumerate() {
            assert_eq!(branch.bounds.len(), branch.leaves.len());
            assert!((1..BRANCH_LEAVES_MAX).contains(&branch.leaves.len()));
            assert_eq!(branch.bounds[0], self.bounds[place]);
            for (bound, leaf) in branch.bounds.iter().zip(&branch.leaves) {
                assert!(last_key.is_none_or(|last| last < *bound));
                assert!(leaf.0.len() < LEAF_ENTRIES_MAX);
                assert!(!leaf.0.is_empty() || self.entry_count == 0);
                for entry in &leaf.0 {
                    assert!(entry.key() >= *bound && last_key.is_none_or(|last| last < entry.key()));
                    last_key = Some(entry.key());
                }
                entries += leaf.0.len();
                slots += leaf.0.capacity();
                leaves += 1;
            }
        }
        assert_eq!((entries, slots, leaves), (self.entry_count, self.slot_count, self.leaf_count));
    }
}

/// Runs random operations on an index and a model, over keys that `spread` makes of a random number
/// below `universe`.
fn follows_the_model(seed: u64, universe: u64, operations: usize, spread: impl Fn(u64) -> u128) {
    println!("seed {seed}, universe {universe}");
    let mut random = Random::new(seed);
    let mut index = Index::new();
    let mut model: BTreeMap<u128, Location> = BTreeMap::new();
    // Phases that mostly insert and phases that mostly remove, so that the tree splits and merges
    // on all levels.
    let phase = operations / 4;
    for operation in 0..operations {
        let insert_share = if (operation / phase).is_multiple_of(2) { 9 } else { 1 };
        let key = spread(random.below(universe));
        if random.below(10) < insert_share {
            let location = random_location(&mut random);
            assert_eq!(index.insert(Entry { id: id(key), location }), model.insert(key, location));
        } else if random.below(2) == 0
            && let Some((&near, _)) = model.range(key..).next()
        {
            assert_eq!(index.remove(&id(near)), model.remove(&near));
        } else {
            assert_eq!(index.remove(&id(key)), model.remove(&key));
        }
        if random.below(400) == 0 {
            // A run as long as a few leaves, so that leaves empty between full neighbours.
            let run: Vec<u128> = model.range(key..).take(200).map(|(key, _)| *key).collect();
            for key in run {
                assert_eq!(index.remove(&id(key)), model.remove(&key));
            }
        }
        let probe = spread(random.below(universe));
        assert_eq!(index.get(&id(probe)), model.get(&probe).copied());
        if operation % 97 == 0 {
            let limit = random.below(300) as usize;
            let mut page = Vec::new();
            index.after(Some(&id(probe)), limit, &mut page);
            let expected = model.range((std::ops::Bound::Excluded(probe), std::ops::Bound::Unbounded));
            let expected: Vec<Entry> =
                expected.take(limit).map(|(key, location)| Entry { id: id(*key), location: *location }).collect();
            assert_eq!(page, expected);
        }
        if operation % 4999 == 0 {
            index.check();
        }
    }
    assert_eq!(index.len(), model.len());
    for key in model.keys() {
        index.remove(&id(*key)).expect("the model has it");
    }
    index.check();
    assert!(index.is_empty());
    assert!(index.memory_bytes() < 64 * 1024, "an emptied index gives its memory back");
}

#[test]
fn it_follows_a_sorted_map() {
    for seed in 0..4 {
        for (universe, operations) in [(50, 2_000), (3_000, 20_000), (1 << 60, 60_000)] {
            let mut mix = Random::new(seed);
            let salt = mix.next_u64();
            follows_the_model(seed, universe, operations, |number| random_key(&mut Random::new(number ^ salt)));
        }
    }
}

#[test]
fn it_follows_a_sorted_map_with_ids_that_share_their_leading_bits() {
    follows_the_model(1, 100_000, 80_000, |number| 0xdead_beef_dead_beef << 64 | u128::from(number));
    follows_the_model(2, 100_000, 80_000, |number| u128::MAX - u128::from(number));
    follows_the_model(3, 100_000, 80_000, |number| u128::from(number) << 111);
}

#[test]
fn pages_cover_every_id_once_and_stop_at_the_highest() {
    let mut random = Random::new(5);
    let mut index = Index::new();
    let mut keys: Vec<u128> = (0..5_000).map(|_| random_key(&mut random)).collect();
    keys.extend([0, u128::MAX]);
    for key in &keys {
        index.insert(Entry { id: id(*key), location: random_location(&mut random) });
    }
    keys.sort_unstable();
    let mut listed: Vec<Entry> = Vec::new();
    loop {
        let before = listed.len();
        let last = listed.last().map(|entry| entry.id);
        index.after(last.as_ref(), 77, &mut listed);
        if listed.len() == before {
            break;
        }
    }
    assert!(listed.iter().map(|entry| key_of(&entry.id)).eq(keys));
    let mut none = Vec::new();
    index.after(None, 0, &mut none);
    assert!(none.is_empty());
}

/// Inserts keys and asserts the memory per entry, then removes all but every `keep`th and asserts
/// it again.
fn stays_small(keys: impl Iterator<Item = u128> + Clone, keep: usize, bytes_max: usize) {
    let mut random = Random::new(9);
    let mut index = Index::new();
    for key in keys.clone() {
        index.insert(Entry { id: id(key), location: random_location(&mut random) });
    }
    let per_entry = index.memory_bytes() / index.len();
    println!("{} entries: {per_entry} bytes each", index.len());
    assert!(per_entry <= bytes_max, "{per_entry} bytes an entry at {}", index.len());
    for (number, key) in keys.enumerate() {
        if number % keep != 0 {
            index.remove(&id(key));
        }
    }
    index.check();
    let per_entry = index.memory_bytes() / index.len();
    println!("{} left: {per_entry} bytes each", index.len());
    assert!(per_entry <= 64, "{per_entry} bytes an entry with {} left", index.len());
}

#[test]
fn an_entry_takes_little_memory_at_any_size_and_in_any_order() {
    for count in [10_000, 16_384, 16_385, 46_000, 65_537, 100_003, 1_000_000] {
        let mut random = Random::new(count);
        let keys: Vec<u128> = (0..count).map(|_| random_key(&mut random)).collect();
        stays_small(keys.iter().copied(), if count > 50_000 { 7 } else { 1 }, 48);
    }
    stays_small((0..200_000).map(|number| number << 100), 5, 64);
    stays_small((0..200_000).map(|number| u128::MAX - number), 5, 64);
    stays_small((0..200_000).map(|number| number * 100_003 % 200_000), 5, 64);
}
