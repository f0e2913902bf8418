//! The fault disk without its faults: files and names in memory, and which of them are durable.
//!
//! Names have two states, as content has: what processes see, and what is durable. Between them
//! lies a journal of changes, each atomic (a rename is one). A sync of a directory makes its
//! changes durable, and no sync of a file does.

use std::collections::BTreeMap;

use crate::inode::{Inode, Survival};
use crate::support::content::Random;

/// The number of an inode.
pub type Number = u64;

pub const ROOT: Number = 1;

/// A directory and a name in it.
type Place = (Number, String);

struct Change {
    /// Each place and what it names afterwards.
    edits: Vec<(Place, Option<Number>)>,
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<Place, Number>) {
        for (place, number) in &self.edits {
            match number {
                Some(number) => names.insert(place.clone(), *number),
                None => names.remove(place),
            };
        }
    }
}

pub struct Disk {
    capacity: u64,
    inodes: BTreeMap<Number, Inode>,
    names: BTreeMap<Place, Number>,
    durable_names: BTreeMap<Place, Number>,
    journal: Vec<Change>,
    number_next: Number,
}

/// An error number of the kernel.
pub type Result<T> = std::result::Result<T, i32>;

impl Disk {
    /// An empty one. Files count with their whole size, written or not.
    pub fn new(capacity: u64) -> Self {
        Self {
            capacity,
            inodes: BTreeMap::from([(ROOT, Inode::directory())]),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            journal: Vec::new(),
            number_next: ROOT + 1,
        }
    }

    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    pub fn available(&self) -> u64 {
        let used: u64 = self.names.values().map(|number| self.inodes[number].size()).sum();
        self.capacity.saturating_sub(used)
    }

    pub fn inode(&self, number: Number) -> Result<&Inode> {
        self.inodes.get(&number).ok_or(libc::ENOENT)
    }

    pub fn inode_mut(&mut self, number: Number) -> Result<&mut Inode> {
        self.inodes.get_mut(&number).ok_or(libc::ENOENT)
    }

    pub fn lookup(&self, dir: Number, name: &str) -> Result<Number> {
        self.names.get(&(dir, name.to_owned())).copied().ok_or(libc::ENOENT)
    }

    /// The names in a directory.
    pub fn list(&self, dir: Number) -> Vec<(String, Number)> {
        let names = self.names.range((dir, String::new())..).take_while(|((parent, _), _)| *parent == dir);
        names.map(|((_, name), number)| (name.clone(), *number)).collect()
    }

    pub fn create(&mut self, dir: Number, name: &str, inode: Inode) -> Result<Number> {
        if self.lookup(dir, name).is_ok() {
            return Err(libc::EEXIST);
        }
        let number = self.number_next;
        self.number_next += 1;
        self.inodes.insert(number, inode);
        self.change(vec![((dir, name.to_owned()), Some(number))]);
        Ok(number)
    }

    pub fn remove(&mut self, dir: Number, name: &str) -> Result<()> {
        let number = self.lookup(dir, name)?;
        if self.inode(number)?.is_dir && !self.list(number).is_empty() {
            return Err(libc::ENOTEMPTY);
        }
        self.change(vec![((dir, name.to_owned()), None)]);
        Ok(())
    }

    pub fn rename(&mut self, from: (Number, &str), to: (Number, &str)) -> Result<()> {
        let number = self.lookup(from.0, from.1)?;
        self.change(vec![((from.0, from.1.to_owned()), None), ((to.0, to.1.to_owned()), Some(number))]);
        Ok(())
    }

    /// Whether a file may grow to a size.
    pub fn require_space(&self, number: Number, size: u64) -> Result<()> {
        let growth = size.saturating_sub(self.inode(number)?.size());
        if growth > self.available() { Err(libc::ENOSPC) } else { Ok(()) }
    }

    /// Makes the changes of a directory durable, and what they build on.
    pub fn sync_dir(&mut self, dir: Number) {
        let mut dirs = vec![dir];
        let (mut keep, mut commit) = (Vec::new(), Vec::new());
        // Backwards: a rename from another directory pulls that directory's earlier changes in.
        for change in std::mem::take(&mut self.journal).into_iter().rev() {
            if change.edits.iter().any(|((parent, _), _)| dirs.contains(parent)) {
                dirs.extend(change.edits.iter().map(|((parent, _), _)| *parent));
                commit.push(change);
            } else {
                keep.push(change);
            }
        }
        commit.iter().rev().for_each(|change| change.apply(&mut self.durable_names));
        keep.reverse();
        self.journal = keep;
        self.forget_unnamed();
    }

    /// The power fails: what is not durable survives by chance, in any order.
    pub fn lose_power(&mut self, survival: Survival, random: &mut Random) {
        for change in std::mem::take(&mut self.journal) {
            if survival.keeps(random) {
                change.apply(&mut self.durable_names);
            }
        }
        self.names = self.durable_names.clone();
        for inode in self.inodes.values_mut() {
            inode.lose_power(survival, random);
        }
        self.forget_unnamed();
    }

    /// Every file and directory.
    pub fn inodes_mut(&mut self) -> impl Iterator<Item = &mut Inode> {
        self.inodes.values_mut()
    }

    fn change(&mut self, edits: Vec<(Place, Option<Number>)>) {
        let change = Change { edits };
        change.apply(&mut self.names);
        self.journal.push(change);
    }

    /// Forgets the content of files that nothing names or could bring back. A process that still
    /// has one open reads and writes nothing more of it; the store closes files before it removes
    /// them.
    fn forget_unnamed(&mut self) {
        let journalled = self.journal.iter().flat_map(|change| &change.edits).filter_map(|(_, number)| number.as_ref());
        let named: Vec<Number> =
            self.names.values().chain(self.durable_names.values()).chain(journalled).copied().collect();
        self.inodes.retain(|number, _| *number == ROOT || named.contains(number));
    }
}

#[test]
fn names_are_durable_after_a_sync_of_their_directory_and_by_chance_before() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let mut disk = Disk::new(1 << 20);
        let dir = disk.create(ROOT, "dir", Inode::directory()).unwrap();
        let file = disk.create(dir, "synced", Inode::default()).unwrap();
        disk.sync_dir(dir);
        disk.sync_dir(ROOT);
        disk.rename((dir, "synced"), (dir, "renamed")).unwrap();
        let mut random = Random::new(seed);
        disk.lose_power(Survival::draw(&mut random), &mut random);
        let names = disk.list(dir);
        assert!(names == [("synced".to_owned(), file)] || names == [("renamed".to_owned(), file)], "{names:?}");
        outcomes.insert(names);
    }
    assert_eq!(outcomes.len(), 2);
}
