//! id -> location, one per core: an ordered map held in memory, made for many small entries.
//!
//! A B+-tree of exactly three levels: a root of branches, branches of leaves, leaves of packed
//! 36-byte entries. A leaf holds at most [`LEAF_ENTRIES_MAX`] entries, in memory that grows by
//! [`LEAF_GROWTH`] entries at a time, so the slack is a few per cent however full the leaves are. A
//! branch holds at most [`BRANCH_LEAVES_MAX`] leaves. Only the root is unbounded, and it has one
//! child for some ten thousand entries: no operation moves more than a leaf, a branch and the
//! root's short vectors, so none ever pauses to rebuild.
//!
//! Invariants:
//! - Every child has a bound: its keys are at or above it and below the bound of the next. The
//!   first bound of the root is 0.
//! - A branch has at least one leaf, the root at least one branch. Only the sole leaf of a tree may
//!   be empty.
//! - The shape depends on the order of the ids alone, never on how their bits are spread: ids that
//!   share leading bits (a core owns a contiguous range of ids) or that were chosen by an adversary
//!   are held as well as any.
//!
//! What a location means, and which of two locations of an id wins, is the store's business.

use std::mem::size_of;

use crate::types::{BlobId, SegmentId, Sequence};

/// The most entries of a leaf. Larger leaves spend longer moving entries, smaller ones more memory
/// on themselves.
const LEAF_ENTRIES_MAX: usize = 96;
/// A leaf with fewer entries than this looks for a neighbour to merge with.
const LEAF_ENTRIES_LOW: usize = LEAF_ENTRIES_MAX / 4;
/// The step, in entries, in which the memory of a leaf grows and shrinks.
const LEAF_GROWTH: usize = 8;
/// The most leaves of a branch.
const BRANCH_LEAVES_MAX: usize = 256;
/// A branch with fewer leaves than this looks for a neighbour to merge with.
const BRANCH_LEAVES_LOW: usize = BRANCH_LEAVES_MAX / 4;
/// What the allocator keeps for itself with every allocation, at most.
const ALLOCATION_OVERHEAD: usize = 16;

const _: () = assert!(size_of::<PackedEntry>() == 36);
const _: () = assert!(LEAF_GROWTH < LEAF_ENTRIES_LOW);
const _: () = assert!(LEAF_ENTRIES_LOW > 1 && BRANCH_LEAVES_LOW > 1);

/// Where a blob's record lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Location {
    pub segment: SegmentId,
    /// From the start of the segment, in units of the log's record alignment.
    pub offset_units: u32,
    /// In the same units.
    pub length_units: u32,
    pub sequence: Sequence,
}

/// A blob and where it lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    pub id: BlobId,
    pub location: Location,
}

/// The ids of one core and their locations.
pub struct Index {
    /// The bound of each branch.
    bounds: Vec<u128>,
    branches: Vec<Branch>,
    entry_count: usize,
    /// Entries that the leaves have memory for.
    slot_count: usize,
    leaf_count: usize,
}

struct Branch {
    /// The bound of each leaf.
    bounds: Vec<u128>,
    leaves: Vec<Leaf>,
}

/// Entries in ascending order of their ids.
#[derive(Default)]
struct Leaf(Vec<PackedEntry>);

/// An entry without padding: 32-bit fields only.
#[derive(Clone, Copy)]
struct PackedEntry {
    /// Most significant word first.
    id: [u32; 4],
    segment: u32,
    offset_units: u32,
    length_units: u32,
    /// Most significant word first.
    sequence: [u32; 2],
}

/// Which leaf of which branch.
#[derive(Clone, Copy)]
struct LeafPath {
    branch: usize,
    leaf: usize,
}

impl Index {
    pub fn new() -> Self {
        let branch = Branch { bounds: vec![0], leaves: vec![Leaf::default()] };
        Self { bounds: vec![0], branches: vec![branch], entry_count: 0, slot_count: 0, leaf_count: 1 }
    }

    pub fn get(&self, id: &BlobId) -> Option<Location> {
        let key = key_of(id);
        let (path, slot) = self.find(key);
        Some(self.branches[path.branch].leaves[path.leaf].0[slot.ok()?].location())
    }

    /// Adds or replaces; returns the location that was replaced.
    pub fn insert(&mut self, entry: Entry) -> Option<Location> {
        let key = key_of(&entry.id);
        let (path, slot) = self.find(key);
        let leaf = self.leaf_mut(path);
        match slot {
            Ok(slot) => {
                let replaced = leaf.0[slot].location();
                leaf.0[slot] = PackedEntry::of(&entry);
                Some(replaced)
            }
            Err(slot) => {
                let capacity_before = leaf.0.capacity();
                leaf.insert(slot, PackedEntry::of(&entry));
                let capacity = leaf.0.capacity();
                let is_full = leaf.0.len() == LEAF_ENTRIES_MAX;
                self.slot_count += capacity - capacity_before;
                self.entry_count += 1;
                if is_full {
                    self.split_leaf(path);
                }
                None
            }
        }
    }

    /// Removes; returns the location that was there.
    pub fn remove(&mut self, id: &BlobId) -> Option<Location> {
        let key = key_of(id);
        let (path, slot) = self.find(key);
        let slot = slot.ok()?;
        let leaf = self.leaf_mut(path);
        let capacity_before = leaf.0.capacity();
        let removed = leaf.0.remove(slot).location();
        leaf.trim();
        let capacity = leaf.0.capacity();
        let is_low = leaf.0.len() < LEAF_ENTRIES_LOW;
        self.slot_count -= capacity_before - capacity;
        self.entry_count -= 1;
        if is_low {
            self.merge_leaf(path);
        }
        Some(removed)
    }

    pub fn len(&self) -> usize {
        self.entry_count
    }

    pub fn is_empty(&self) -> bool {
        self.entry_count == 0
    }

    /// Appends to `out` the entries whose ids are strictly above `after` (all of them for `None`),
    /// ascending, at most `limit`.
    pub fn after(&self, after: Option<&BlobId>, limit: usize, out: &mut Vec<Entry>) {
        let first_key = match after.map(key_of) {
            None => 0,
            Some(u128::MAX) => return,
            Some(key) => key + 1,
        };
        let (start, Ok(mut slot) | Err(mut slot)) = self.find(first_key);
        let mut first_leaf = start.leaf;
        let mut wanted = limit;
        for branch in &self.branches[start.branch..] {
            for leaf in &branch.leaves[first_leaf..] {
                if wanted == 0 {
                    return;
                }
                let entries = &leaf.0[slot..];
                let taken = entries.len().min(wanted);
                out.extend(entries[..taken].iter().map(PackedEntry::entry));
                wanted -= taken;
                slot = 0;
            }
            first_leaf = 0;
        }
    }

    /// Bytes of memory that the index takes, spare capacity and the allocator's own overhead
    /// included.
    pub fn memory_bytes(&self) -> usize {
        let child = |child_size: usize| size_of::<u128>() + child_size;
        let inner: usize = self
            .branches
            .iter()
            .map(|branch| branch.leaves.capacity().max(branch.bounds.capacity()) * child(size_of::<Leaf>()))
            .sum();
        let root = self.branches.capacity().max(self.bounds.capacity()) * child(size_of::<Branch>());
        let allocations = self.leaf_count + 2 * self.branches.len() + 2;
        size_of::<Self>()
            + self.slot_count * size_of::<PackedEntry>()
            + inner
            + root
            + allocations * ALLOCATION_OVERHEAD
    }

    /// The leaf whose range holds the key, and there its slot, or the slot where it belongs.
    fn find(&self, key: u128) -> (LeafPath, Result<usize, usize>) {
        let branch = self.bounds.partition_point(|bound| *bound <= key) - 1;
        let range = range_of(&self.bounds, branch, u128::MAX);
        let bounds = &self.branches[branch].bounds;
        let leaf = partition_near(bounds.len(), guess(key, range, bounds.len()), |leaf| bounds[leaf] <= key) - 1;
        let range = range_of(bounds, leaf, range.1);
        let entries = &self.branches[branch].leaves[leaf].0;
        let slot = partition_near(entries.len(), guess(key, range, entries.len()), |slot| entries[slot].key() < key);
        let is_found = entries.get(slot).is_some_and(|entry| entry.key() == key);
        (LeafPath { branch, leaf }, if is_found { Ok(slot) } else { Err(slot) })
    }

    fn leaf_mut(&mut self, path: LeafPath) -> &mut Leaf {
        &mut self.branches[path.branch].leaves[path.leaf]
    }

    fn split_leaf(&mut self, path: LeafPath) {
        let branch = &mut self.branches[path.branch];
        let left = &mut branch.leaves[path.leaf];
        let capacity_before = left.0.capacity();
        let right = Leaf(left.0.split_off(left.0.len() / 2));
        left.trim();
        self.slot_count += left.0.capacity() + right.0.capacity();
        self.slot_count -= capacity_before;
        self.leaf_count += 1;
        branch.bounds.insert(path.leaf + 1, right.0[0].key());
        branch.leaves.insert(path.leaf + 1, right);
        if branch.leaves.len() == BRANCH_LEAVES_MAX {
            let half = BRANCH_LEAVES_MAX / 2;
            let right = Branch { bounds: branch.bounds.split_off(half), leaves: branch.leaves.split_off(half) };
            branch.trim();
            self.bounds.insert(path.branch + 1, right.bounds[0]);
            self.branches.insert(path.branch + 1, right);
        }
    }

    /// Merges a leaf that became small with a neighbour in its branch, when both fit well into one.
    fn merge_leaf(&mut self, path: LeafPath) {
        let branch = &mut self.branches[path.branch];
        let size = |leaf: usize| branch.leaves[leaf].0.len();
        let fits = |left: usize| merges(size(left), size(left + 1), LEAF_ENTRIES_MAX);
        let left = if path.leaf + 1 < branch.leaves.len() && fits(path.leaf) {
            path.leaf
        } else if path.leaf > 0 && fits(path.leaf - 1) {
            path.leaf - 1
        } else if size(path.leaf) == 0 && branch.leaves.len() == 1 {
            self.remove_empty_branch(path.branch);
            return;
        } else {
            return;
        };
        branch.bounds.remove(left + 1);
        let right = branch.leaves.remove(left + 1);
        let left = &mut branch.leaves[left];
        self.slot_count -= left.0.capacity() + right.0.capacity();
        left.0.reserve_exact(right.0.len());
        left.0.extend_from_slice(&right.0);
        left.trim();
        self.slot_count += left.0.capacity();
        self.leaf_count -= 1;
        branch.trim();
        if branch.leaves.len() < BRANCH_LEAVES_LOW {
            self.merge_branch(path.branch);
        }
    }

    /// Merges a branch that became small with a neighbour, when both fit well into one.
    fn merge_branch(&mut self, index: usize) {
        let size = |branch: usize| self.branches[branch].leaves.len();
        let fits = |left: usize| merges(size(left), size(left + 1), BRANCH_LEAVES_MAX);
        let left = if index + 1 < self.branches.len() && fits(index) {
            index
        } else if index > 0 && fits(index - 1) {
            index - 1
        } else {
            return;
        };
        self.bounds.remove(left + 1);
        let mut right = self.branches.remove(left + 1);
        self.branches[left].bounds.append(&mut right.bounds);
        self.branches[left].leaves.append(&mut right.leaves);
        self.branches[left].trim();
    }

    /// Removes a branch whose only leaf is empty, unless it is the last: the neighbour takes its
    /// range over.
    fn remove_empty_branch(&mut self, index: usize) {
        if self.branches.len() == 1 {
            return;
        }
        let removed = self.branches.remove(index);
        let bound = self.bounds.remove(index);
        self.slot_count -= removed.leaves[0].0.capacity();
        self.leaf_count -= 1;
        if index == 0 {
            self.bounds[0] = bound;
            self.branches[0].bounds[0] = bound;
        }
    }
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

impl Branch {
    /// Gives back memory once more than half of it is unused.
    fn trim(&mut self) {
        if self.leaves.capacity() > 2 * self.leaves.len() {
            self.bounds.shrink_to_fit();
            self.leaves.shrink_to_fit();
        }
    }
}

impl Leaf {
    fn insert(&mut self, slot: usize, entry: PackedEntry) {
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact(LEAF_GROWTH);
        }
        self.0.insert(slot, entry);
    }

    /// Gives back memory once two steps of it are unused, and keeps one.
    fn trim(&mut self) {
        if self.0.capacity() >= self.0.len() + 2 * LEAF_GROWTH {
            self.0.shrink_to(self.0.len() + LEAF_GROWTH);
        }
    }
}

impl PackedEntry {
    fn of(entry: &Entry) -> Self {
        let key = key_of(&entry.id);
        let Location { segment, offset_units, length_units, sequence } = entry.location;
        Self {
            id: [(key >> 96) as u32, (key >> 64) as u32, (key >> 32) as u32, key as u32],
            segment: segment.0,
            offset_units,
            length_units,
            sequence: [(sequence.0 >> 32) as u32, sequence.0 as u32],
        }
    }

    fn key(&self) -> u128 {
        let [a, b, c, d] = self.id.map(u128::from);
        a << 96 | b << 64 | c << 32 | d
    }

    fn location(&self) -> Location {
        Location {
            segment: SegmentId(self.segment),
            offset_units: self.offset_units,
            length_units: self.length_units,
            sequence: Sequence(u64::from(self.sequence[0]) << 32 | u64::from(self.sequence[1])),
        }
    }

    fn entry(&self) -> Entry {
        Entry { id: BlobId(self.key().to_be_bytes()), location: self.location() }
    }
}

/// Big-endian, so that the order of the keys is the order of the ids.
fn key_of(id: &BlobId) -> u128 {
    u128::from_be_bytes(id.0)
}

/// Whether two neighbours become one. Three quarters of the maximum leave room, so that a merged
/// node does not split at the next insertion; an empty node always goes.
fn merges(left: usize, right: usize, max: usize) -> bool {
    left == 0 || right == 0 || left + right <= max / 4 * 3
}

/// The range of a child: its bound and that of the next, or the end of its parent's range.
fn range_of(bounds: &[u128], child: usize, end: u128) -> (u128, u128) {
    (bounds[child], bounds.get(child + 1).copied().unwrap_or(end))
}

/// Where among `count` sorted items over `range` the key would be if they were spread evenly, as
/// hashes are.
fn guess(key: u128, range: (u128, u128), count: usize) -> usize {
    let prefix = |key: u128| (key >> 64) as u64;
    let (start, end) = (prefix(range.0), prefix(range.1));
    let share = (prefix(key) - start) as f64 / (end - start) as f64;
    // An empty span divides zero by zero; the cast makes that 0.
    (share * count as f64) as usize
}

/// The first of `count` sorted items that is not `below`. Searches from a guess outwards in
/// doubling steps, then by halving: a few near probes after a good guess, logarithmically many
/// after any.
fn partition_near(count: usize, guess: usize, below: impl Fn(usize) -> bool) -> usize {
    let (mut start, mut end) = (0, count);
    let mut probe = guess.min(count.saturating_sub(1));
    let mut step = 1;
    while start < end {
        if below(probe) {
            start = probe + 1;
        } else {
            end = probe;
        }
        let is_enclosed = start > 0 && end < count;
        probe = if is_enclosed {
            start + (end - start) / 2
        } else if start > 0 {
            (probe + step).min(count - 1)
        } else {
            probe.saturating_sub(step)
        };
        step *= 2;
    }
    start
}

#[cfg(test)]
mod tests;
