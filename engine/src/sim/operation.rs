//! What a simulated disk is asked, and what that came to.
//!
//! Not here: how it comes to that ([`super::device`]).

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, InodeId};
use crate::io::{AlignedBuf, DirEntry, OpenMode, Space};

/// An open file of a simulated disk.
#[derive(Clone, Debug)]
pub struct SimFile {
    pub(super) node: u16,
    pub(super) inode: InodeId,
    pub(super) is_writable: bool,
    /// Which life of the machine opened it: a crash closes every file.
    pub(super) life: u64,
    /// Counted by the inode, which lives while it is open.
    pub(super) _open: Arc<()>,
}

/// A transfer between a file and `buf[range]`.
pub struct Transfer {
    pub file: SimFile,
    pub buf: AlignedBuf,
    pub range: Range<usize>,
    pub offset: u64,
}

pub enum Operation {
    Open { path: PathBuf, mode: OpenMode },
    Read(Transfer),
    Write(Transfer),
    Sync { file: SimFile, up_to: u64 },
    Allocate { file: SimFile, size: u64 },
    Truncate { file: SimFile, size: u64 },
    Rename { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
    CreateDir { path: PathBuf },
    SyncDir { path: PathBuf, up_to: u64 },
    ListDir { path: PathBuf },
    FileSize { file: SimFile },
    Space { path: PathBuf },
}

/// What an operation came to; the variant follows from the operation.
pub enum Outcome {
    File(io::Result<SimFile>),
    Read(io::Result<usize>, AlignedBuf),
    Write(io::Result<()>, AlignedBuf),
    Done(io::Result<()>),
    Entries(io::Result<Vec<DirEntry>>),
    Size(io::Result<u64>),
    Space(io::Result<Space>),
}

impl Operation {
    /// What the operation works on, for faults of time.
    pub fn path<'a>(&'a self, disk: &'a Disk) -> &'a Path {
        match self {
            Self::Read(Transfer { file, .. })
            | Self::Write(Transfer { file, .. })
            | Self::Sync { file, .. }
            | Self::Allocate { file, .. }
            | Self::Truncate { file, .. }
            | Self::FileSize { file } => &disk.inode(file.inode).path,
            Self::Open { path, .. }
            | Self::Rename { from: path, .. }
            | Self::Remove { path }
            | Self::CreateDir { path }
            | Self::SyncDir { path, .. }
            | Self::ListDir { path }
            | Self::Space { path } => path,
        }
    }
}
