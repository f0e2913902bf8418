//! The simulated disk without time: files by number, names by path, space, and what of it survives
//! a crash.
//!
//! Names have two states, as content has: what a process sees, and what is durable. Between them
//! lies a journal of changes, each atomic. Directories are entries like files; the tree is one map
//! from full paths, in which all below a directory are neighbours. A directory may be a file
//! system of its own: then it has its own space, and no name moves in or out.
//!
//! Nothing here fails by injection: that is [`super::device`]'s.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::Bound::{Excluded, Unbounded};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
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

/// What paths name, ordered by their bytes: to compare them component by component was a tenth of
/// what a simulation took.
type Names = BTreeMap<OsString, Node>;

/// An atomic change of names that may not be durable yet.
#[derive(Clone)]
struct NameChange {
    sequence: u64,
    /// Each path and what it names afterwards.
    edits: Vec<(OsString, Option<Node>)>,
    /// The directories in which these lie.
    dirs: Vec<OsString>,
}

impl NameChange {
    fn new(sequence: u64, edits: Vec<(OsString, Option<Node>)>) -> Self {
        let dirs = edits.iter().filter_map(|(path, _)| Path::new(path).parent());
        Self { sequence, dirs: dirs.map(|dir| dir.into()).collect(), edits }
    }

    fn apply(self, names: &mut Names) {
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
    names: Names,
    durable_names: Names,
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

    /// A new disk in place of this one: its directories, durably, and no file.
    pub fn emptied(&self) -> Self {
        let dirs = self.durable_names.iter().filter(|(_, node)| matches!(node, Node::Dir));
        let names: Names = dirs.map(|(path, _)| (path.clone(), Node::Dir)).collect();
        Self {
            capacity: self.capacity,
            file_systems: self.file_systems.clone(),
            durable_names: names.clone(),
            names,
            inode_next: self.inode_next,
            sequence: self.sequence,
            ..Self::default()
        }
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
        let id = match (self.node(path), mode) {
            (Some(Node::Dir), _) => return Err(errno(libc::EISDIR)),
            (Some(Node::File(_)), OpenMode::Create) => return Err(errno(libc::EEXIST)),
            (Some(Node::File(id)), _) => id,
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

    /// Writes; extends the file if need be and space allows. What is not whole pages goes with what
    /// else their pages hold, as through the cache of a kernel.
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
        let inode = self.inode_mut(id);
        if offset.is_multiple_of(PAGE_SIZE) && end.is_multiple_of(PAGE_SIZE) {
            inode.write(sequence, offset, bytes, mask);
        } else {
            let (offset, pages) = inode.pages_around(offset, bytes);
            inode.write(sequence, offset, &pages, mask);
        }
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

    /// Sets the size, whatever it was. What a growth adds reads as zeros, also within a page.
    pub fn set_len(&mut self, id: InodeId, size: u64) -> io::Result<()> {
        if size >= self.inode(id).size {
            return self.allocate(id, size);
        }
        self.cut(id, size)?;
        let sequence = self.sequence;
        self.inode_mut(id).clear_tail(sequence);
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
        match self.node(to) {
            Some(Node::Dir) => return Err(errno(libc::EISDIR)),
            Some(Node::File(replaced)) if replaced == id => return Ok(()),
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
        if self.node(path).is_some() {
            return Err(errno(libc::EEXIST));
        }
        self.require_parent(path)?;
        self.rename_nodes(vec![(path.into(), Some(Node::Dir))]);
        Ok(())
    }

    pub fn require_dir(&self, path: &Path) -> io::Result<()> {
        match self.node(path) {
            Some(Node::Dir) => Ok(()),
            Some(Node::File(_)) => Err(errno(libc::ENOTDIR)),
            None => Err(errno(libc::ENOENT)),
        }
    }

    /// Makes the changes of a directory up to a sequence durable, and what they build on.
    pub fn sync_dir(&mut self, path: &Path, up_to: u64) {
        let mut dirs: Vec<OsString> = vec![path.into()];
        let mut keep = Vec::new();
        let mut commit = Vec::new();
        // Backwards: a rename from another directory pulls that directory's earlier changes in.
        for change in std::mem::take(&mut self.journal).into_iter().rev() {
            if change.sequence <= up_to && change.dirs.iter().any(|dir| dirs.contains(dir)) {
                dirs.extend(change.dirs.iter().cloned());
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
        let mut within = dir.as_os_str().as_bytes().to_vec();
        if !within.ends_with(b"/") {
            within.push(b'/');
        }
        let from = OsStr::from_bytes(&within);
        let rest =
            |path: &OsString| path.as_bytes().strip_prefix(&within[..]).map(|name| OsString::from_vec(name.into()));
        let below = self.names.range::<OsStr, _>((Excluded(from), Unbounded));
        let below = below.map_while(|(path, node)| Some((rest(path)?, node)));
        let children = below.filter(|(name, _)| !name.as_bytes().contains(&b'/'));
        Ok(children
            .map(|(name, node)| DirEntry {
                name: name.to_string_lossy().into_owned(),
                size: match node {
                    Node::File(id) => self.inode(*id).size,
                    Node::Dir => 0,
                },
                is_dir: *node == Node::Dir,
            })
            .collect())
    }

    pub fn space(&self, path: &Path) -> io::Result<Space> {
        if self.node(path).is_none() {
            return Err(errno(libc::ENOENT));
        }
        Ok(self.space_at(path))
    }

    /// Every file that a process sees.
    pub fn files(&self) -> impl Iterator<Item = (&Path, InodeId)> {
        self.names.iter().filter_map(|(path, node)| match node {
            Node::File(id) => Some((Path::new(path), *id)),
            Node::Dir => None,
        })
    }

    pub fn file(&self, path: &Path) -> io::Result<InodeId> {
        match self.node(path) {
            Some(Node::File(id)) => Ok(id),
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
        let named: Vec<OsString> = self.durable_names.keys().cloned().collect();
        for path in named {
            let dir = Path::new(&path).parent();
            let is_rooted = dir.is_none_or(|dir| self.durable_names.get(dir.as_os_str()) == Some(&Node::Dir));
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
                self.inodes.get_mut(id).expect("a name keeps its inode").path = path.into();
            }
        }
        self.forget_orphans();
    }

    /// The directory of the file system in which a path lies; `None` is the one of all the rest.
    fn file_system_of(&self, path: &Path) -> Option<&Path> {
        let dirs = self.file_systems.keys().filter(|dir| lies_in(path, dir));
        dirs.max_by_key(|dir| dir.as_os_str().len()).map(PathBuf::as_path)
    }

    fn space_at(&self, path: &Path) -> Space {
        let file_system = self.file_system_of(path);
        let total = file_system.map_or(self.capacity, |dir| self.file_systems[dir]);
        let named = sorted(self.names.values());
        let is_in_use = |(id, inode): &(&InodeId, &Inode)| inode.is_open() || named.binary_search(id).is_ok();
        let used = self.inodes.iter().filter(is_in_use).map(|(_, inode)| inode);
        let used = used.filter(|inode| self.file_system_of(&inode.path) == file_system);
        Space { total, available: total.saturating_sub(used.map(|inode| inode.size).sum()) }
    }

    fn require_parent(&self, path: &Path) -> io::Result<()> {
        self.require_dir(path.parent().ok_or_else(|| errno(libc::EINVAL))?)
    }

    fn node(&self, path: &Path) -> Option<Node> {
        self.names.get(path.as_os_str()).copied()
    }

    fn rename_nodes(&mut self, edits: Vec<(OsString, Option<Node>)>) {
        self.sequence += 1;
        let change = NameChange::new(self.sequence, edits);
        change.clone().apply(&mut self.names);
        self.journal.push(change);
    }

    /// Forgets inodes that nothing names, holds open or could bring back.
    fn forget_orphans(&mut self) {
        let journalled = self.journal.iter().flat_map(|change| &change.edits).filter_map(|(_, node)| node.as_ref());
        let named = sorted(self.names.values().chain(self.durable_names.values()).chain(journalled));
        self.inodes.retain(|id, inode| inode.is_open() || named.binary_search(id).is_ok());
    }
}

/// Whether a path is that of a directory or of something in it.
fn lies_in(path: &Path, dir: &Path) -> bool {
    let rest = path.as_os_str().as_bytes().strip_prefix(dir.as_os_str().as_bytes());
    rest.is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'/'))
}

/// The files among what is named.
fn sorted<'n>(nodes: impl Iterator<Item = &'n Node>) -> Vec<InodeId> {
    let of_file = |node: &Node| if let Node::File(id) = node { Some(*id) } else { None };
    let mut ids: Vec<InodeId> = nodes.filter_map(of_file).collect();
    ids.sort_unstable();
    ids
}

pub fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}
