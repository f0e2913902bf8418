//! The simulated disk without time: files by number, names by path, space, and what of it survives a crash.
//!
//! Names have two states, as content has: what a process sees, and what is durable. Between them
//! lies a journal of changes, each atomic. Directories are entries like files; the tree is one map
//! from full paths, in which the children of a directory are neighbours. A directory may be a file
//! system of its own: then it has its own space, and no name moves in or out.
//!
//! Nothing here fails by injection: that is [`super::operation`]'s.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fault::{FlippedBit, Stats};
use super::inode::{Inode, PAGE_SIZE, SectorMask, Survival};
use super::random::Random;
use crate::io::{BLOCK_SIZE, DirEntry, OpenMode, Space};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct InodeId(pub u64);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Node {
    File(InodeId),
    Dir,
}

/// An atomic change of names that may not be durable yet.
struct NameChange {
    sequence: u64,
    /// Each path and what it names afterwards.
    edits: Vec<(PathBuf, Option<Node>)>,
}

impl NameChange {
    fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.edits.iter().filter_map(|(path, _)| path.parent())
    }

    fn apply(self, names: &mut BTreeMap<PathBuf, Node>) {
        for (path, node) in self.edits {
            match node {
                Some(node) => names.insert(path, node),
                None => names.remove(&path),
            };
        }
    }
}

#[derive(Default)]
pub struct Disk {
    /// Of the file system in which everything lies that has no other.
    pub capacity: u64,
    /// The directories that are file systems of their own, with what all files in each may take.
    file_systems: BTreeMap<PathBuf, u64>,
    names: BTreeMap<PathBuf, Node>,
    durable_names: BTreeMap<PathBuf, Node>,
    journal: Vec<NameChange>,
    inodes: BTreeMap<InodeId, Inode>,
    inode_next: u64,
    /// Of the last change.
    sequence: u64,
}

impl Disk {
    /// An empty disk on which these directories, and those above them, exist durably.
    pub fn new(dirs: &[PathBuf], capacity: u64) -> Self {
        let mut disk = Self { capacity, ..Self::default() };
        for dir in dirs {
            assert!(dir.is_absolute(), "{} is not absolute", dir.display());
            for dir in dir.ancestors() {
                disk.names.insert(dir.into(), Node::Dir);
                disk.durable_names.insert(dir.into(), Node::Dir);
            }
        }
        disk
    }

    /// Makes a directory a file system of its own, or changes its size.
    pub fn set_capacity_of(&mut self, dir: &Path, bytes: u64) {
        self.file_systems.insert(dir.into(), bytes);
    }

    /// The number of the last completed change: what a sync called now must cover.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    pub fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<(InodeId, Arc<()>)> {
        let id = match (self.names.get(path), mode) {
            (Some(Node::Dir), _) => return Err(errno(libc::EISDIR)),
            (Some(Node::File(_)), OpenMode::Create) => return Err(errno(libc::EEXIST)),
            (Some(Node::File(id)), _) => *id,
            (None, OpenMode::Create) => {
                self.require_parent(path)?;
                let id = InodeId(self.inode_next);
                self.inode_next += 1;
                self.inodes.insert(id, Inode::new(path.into()));
                self.rename_nodes(vec![(path.into(), Some(Node::File(id)))]);
                id
            }
            (None, _) => return Err(errno(libc::ENOENT)),
        };
        Ok((id, self.inode(id).open.clone()))
    }

    pub fn inode(&self, id: InodeId) -> &Inode {
        self.inodes.get(&id).expect("an open file keeps its inode")
    }

    fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        self.inodes.get_mut(&id).expect("an open file keeps its inode")
    }

    /// Writes; extends the file if need be and space allows.
    pub fn write(
        &mut self,
        id: InodeId,
        offset: u64,
        bytes: &[u8],
        mask: impl FnMut() -> SectorMask,
    ) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        if end > self.inode(id).size {
            self.allocate(id, end)?;
        }
        self.sequence += 1;
        let sequence = self.sequence;
        self.inode_mut(id).write(sequence, offset, bytes, mask);
        Ok(())
    }

    pub fn allocate(&mut self, id: InodeId, size: u64) -> io::Result<()> {
        let old = self.inode(id).size;
        assert!(size >= old, "{}: fallocate cannot shrink {old} to {size}", self.inode(id).path.display());
        if size - old > self.space_at(&self.inode(id).path).available {
            return Err(errno(libc::ENOSPC));
        }
        if size > old {
            self.sequence += 1;
            let sequence = self.sequence;
            self.inode_mut(id).resize(sequence, size);
        }
        Ok(())
    }

    pub fn cut(&mut self, id: InodeId, size: u64) -> io::Result<()> {
        let old = self.inode(id).size;
        assert!(size <= old, "{}: a cut cannot grow {old} to {size}", self.inode(id).path.display());
        self.sequence += 1;
        let sequence = self.sequence;
        self.inode_mut(id).resize(sequence, size);
        Ok(())
    }

    pub fn sync(&mut self, id: InodeId, up_to: u64) {
        self.inode_mut(id).sync(up_to);
    }

    pub fn give_up(&mut self, id: InodeId, up_to: u64) {
        self.inode_mut(id).give_up(up_to);
    }

    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let id = self.file(from)?;
        self.require_parent(to)?;
        if self.file_system_of(from) != self.file_system_of(to) {
            return Err(errno(libc::EXDEV));
        }
        match self.names.get(to) {
            Some(Node::Dir) => return Err(errno(libc::EISDIR)),
            Some(Node::File(replaced)) if *replaced == id => return Ok(()),
            _ => {}
        }
        self.rename_nodes(vec![(from.into(), None), (to.into(), Some(Node::File(id)))]);
        self.inode_mut(id).path = to.into();
        Ok(())
    }

    pub fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.file(path)?;
        self.rename_nodes(vec![(path.into(), None)]);
        Ok(())
    }

    pub fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        if self.names.contains_key(path) {
            return Err(errno(libc::EEXIST));
        }
        self.require_parent(path)?;
        self.rename_nodes(vec![(path.into(), Some(Node::Dir))]);
        Ok(())
    }

    pub fn require_dir(&self, path: &Path) -> io::Result<()> {
        match self.names.get(path) {
            Some(Node::Dir) => Ok(()),
            Some(Node::File(_)) => Err(errno(libc::ENOTDIR)),
            None => Err(errno(libc::ENOENT)),
        }
    }

    /// Makes the changes of a directory up to a sequence durable, and what they build on.
    pub fn sync_dir(&mut self, path: &Path, up_to: u64) {
        let mut dirs: Vec<PathBuf> = vec![path.into()];
        let mut keep = Vec::new();
        let mut commit = Vec::new();
        // Backwards: a rename from another directory pulls that directory's earlier changes in.
        for change in std::mem::take(&mut self.journal).into_iter().rev() {
            if change.sequence <= up_to && change.dirs().any(|dir| dirs.iter().any(|synced| synced == dir)) {
                dirs.extend(change.dirs().map(Path::to_path_buf));
                commit.push(change);
            } else {
                keep.push(change);
            }
        }
        commit.into_iter().rev().for_each(|change| change.apply(&mut self.durable_names));
        keep.reverse();
        self.journal = keep;
        self.forget_orphans();
    }

    pub fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.require_dir(dir)?;
        let below = self.names.range(dir.to_path_buf()..).skip(1).take_while(|(path, _)| path.starts_with(dir));
        let children = below.filter(|(path, _)| path.parent() == Some(dir));
        Ok(children
            .map(|(path, node)| DirEntry {
                name: path.file_name().expect("a child has a name").to_string_lossy().into_owned(),
                size: match node {
                    Node::File(id) => self.inode(*id).size,
                    Node::Dir => 0,
                },
                is_dir: *node == Node::Dir,
            })
            .collect())
    }

    pub fn space(&self, path: &Path) -> io::Result<Space> {
        if !self.names.contains_key(path) {
            return Err(errno(libc::ENOENT));
        }
        Ok(self.space_at(path))
    }

    /// Every file that a process sees.
    pub fn files(&self) -> impl Iterator<Item = (&Path, InodeId)> {
        self.names.iter().filter_map(|(path, node)| match node {
            Node::File(id) => Some((path.as_path(), *id)),
            Node::Dir => None,
        })
    }

    pub fn file(&self, path: &Path) -> io::Result<InodeId> {
        match self.names.get(path) {
            Some(Node::File(id)) => Ok(*id),
            Some(Node::Dir) => Err(errno(libc::EISDIR)),
            None => Err(errno(libc::ENOENT)),
        }
    }

    /// Changes bytes at rest, past all rules.
    pub fn tamper(&mut self, path: &Path, offset: u64, change: impl FnOnce(&mut u8)) -> io::Result<()> {
        let id = self.file(path)?;
        self.inode_mut(id).tamper(offset, change);
        Ok(())
    }

    /// Cuts or extends a file, past all rules.
    pub fn truncate(&mut self, path: &Path, size: u64) -> io::Result<()> {
        let id = self.file(path)?;
        self.inode_mut(id).truncate(size);
        Ok(())
    }

    /// Flips one random bit of what was ever written and is at rest; `None` on a blank disk.
    pub fn flip_bit(&mut self, random: &mut Random) -> Option<FlippedBit> {
        let pages: Vec<(&Path, u64)> = self
            .files()
            .flat_map(|(path, id)| self.inode(id).pages_at_rest().map(move |page| (path, page)))
            .filter(|(path, page)| self.file(path).is_ok_and(|id| self.inode(id).size >= (page + 1) * PAGE_SIZE))
            .collect();
        if pages.is_empty() {
            return None;
        }
        let (path, page) = pages[random.index(pages.len())];
        let offset = page * PAGE_SIZE + random.below(BLOCK_SIZE as u64);
        let flipped = FlippedBit { path: path.into(), offset, bit: random.below(8) as u8 };
        self.tamper(&flipped.path, offset, |byte| *byte ^= 1 << flipped.bit).expect("it was just found");
        Some(flipped)
    }

    /// The process dies: what completed stays, though not durable. What the kernel still writes to
    /// is opened again by `reopen`.
    pub fn lose_process(&mut self, reopen: impl FnOnce(&Self)) {
        self.inodes.values_mut().for_each(Inode::close_all);
        reopen(self);
        self.forget_orphans();
    }

    /// The power fails: what is not durable survives by chance, in any order.
    pub fn lose_power(&mut self, random: &mut Random, stats: &mut Stats) {
        let survival = Survival::draw(random);
        for change in std::mem::take(&mut self.journal) {
            if survival.keeps(random) {
                change.apply(&mut self.durable_names);
            }
        }
        let named: Vec<PathBuf> = self.durable_names.keys().cloned().collect();
        for path in named {
            let is_rooted = path.parent().is_none_or(|dir| self.durable_names.get(dir) == Some(&Node::Dir));
            if !is_rooted {
                self.durable_names.remove(&path);
            }
        }
        self.names = self.durable_names.clone();
        for inode in self.inodes.values_mut() {
            inode.lose_power(survival, random, stats);
        }
        for (path, node) in &self.names {
            if let Node::File(id) = node {
                self.inodes.get_mut(id).expect("a name keeps its inode").path.clone_from(path);
            }
        }
        self.forget_orphans();
    }

    /// The directory of the file system in which a path lies; `None` is the one of all the rest.
    fn file_system_of(&self, path: &Path) -> Option<&Path> {
        if self.file_systems.is_empty() {
            return None;
        }
        path.ancestors().find_map(|dir| self.file_systems.get_key_value(dir)).map(|(dir, _)| dir.as_path())
    }

    fn space_at(&self, path: &Path) -> Space {
        let file_system = self.file_system_of(path);
        let total = file_system.map_or(self.capacity, |dir| self.file_systems[dir]);
        let named: BTreeSet<InodeId> = self.files().map(|(_, id)| id).collect();
        let used = self.inodes.iter().filter(|(id, inode)| {
            (inode.is_open() || named.contains(id)) && self.file_system_of(&inode.path) == file_system
        });
        Space { total, available: total.saturating_sub(used.map(|(_, inode)| inode.size).sum()) }
    }

    fn require_parent(&self, path: &Path) -> io::Result<()> {
        self.require_dir(path.parent().ok_or_else(|| errno(libc::EINVAL))?)
    }

    fn rename_nodes(&mut self, edits: Vec<(PathBuf, Option<Node>)>) {
        self.sequence += 1;
        let change = NameChange { sequence: self.sequence, edits: edits.clone() };
        self.journal.push(change);
        NameChange { sequence: self.sequence, edits }.apply(&mut self.names);
    }

    /// Forgets inodes that nothing names, holds open or could bring back.
    fn forget_orphans(&mut self) {
        let journalled = self.journal.iter().flat_map(|change| &change.edits).filter_map(|(_, node)| node.as_ref());
        let named = self.names.values().chain(self.durable_names.values()).chain(journalled);
        let named: BTreeSet<InodeId> = named
            .filter_map(|node| match node {
                Node::File(id) => Some(*id),
                Node::Dir => None,
            })
            .collect();
        self.inodes.retain(|id, inode| inode.is_open() || named.contains(id));
    }
}

pub fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}
