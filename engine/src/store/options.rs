//! What a store needs to know to open, and what it does when directories are missing.
//!
//! What a program leaves at its default stands in [`Limits`].

use std::path::PathBuf;

use crate::store::limits::Limits;

/// What the store needs to know to open.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Data directories, at least one; each exists and is locked by the caller.
    pub dirs: Vec<PathBuf>,
    pub cores: u16,
    /// Bytes of memory for the cache and for buffers, over all cores.
    pub memory_bytes: u64,
    /// Bytes of a segment; `None` picks by the size of the file system. Applies to new segments
    /// only.
    pub segment_size: Option<u64>,
    /// Change nothing on the disk: for inspection, and without uploads or deletes.
    pub read_only: bool,
    /// Names of files in the data directories that are the caller's own: a directory that holds
    /// nothing else may become part of a store.
    pub callers_files: &'static [&'static str],
    /// What a program leaves at its default.
    pub limits: Limits,
}

/// What is done at a start when data directories are missing.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Missing {
    /// The store is not opened.
    #[default]
    Refuse,
    /// What the others hold is served. Nothing is concluded from what is not there, and nothing
    /// that lies there is given up.
    Serve,
    /// They are lost for good: the store continues without them, and what lay there is gone.
    Forget,
}

/// The least memory that a core keeps for uploads and for reads beside the cache, where there is
/// twice as much of it.
const BUFFERS_PER_CORE_MIN: u64 = 16 << 20;

impl StoreOptions {
    /// Bytes of one core for uploads under way and for reads that do without the cache: a quarter
    /// of the memory, at least [`BUFFERS_PER_CORE_MIN`] and at most a half.
    pub(super) fn buffers_per_core(&self) -> usize {
        let per_core = self.memory_bytes / u64::from(self.cores);
        (per_core / 4).max(BUFFERS_PER_CORE_MIN).min(per_core / 2) as usize
    }

    /// Bytes of the cache.
    pub(super) fn cache_bytes(&self) -> usize {
        self.memory_bytes as usize - self.buffers_per_core() * usize::from(self.cores)
    }
}
