//! What is there of a file that is being fetched.
//!
//! Invariants: bytes of an earlier run are taken over only from a `NAME.part` that this user owns
//! and nobody else may write. Anything else under that name is left alone, and the bytes go to a
//! new file beside it. The file is locked while a `get` writes to it, and a lock is only worth
//! something on the file that still has the name.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nabu_engine::ring::sys;
use nabu_engine::sha256::Sha256;

use super::download::Destination;
use super::exit::{Exit, Failure};
use super::output::{Output, human_size};
use crate::private_file::own_user;

/// Bytes read at once when what is there from an earlier run is hashed.
const HASH_CHUNK: usize = 1 << 20;
/// How often the file is reopened when another `get` gave it its name meanwhile.
const OPENS_MAX: usize = 8;
/// Others may read what is fetched, as the umask allows; nobody else may write it.
const MODE: u32 = 0o644;

/// A file on its way: `NAME.part`, locked, or one with a random name.
pub struct Part {
    file: File,
    path: PathBuf,
    /// Another `get` resumes from it.
    is_resumable: bool,
}

impl Part {
    /// Opens or makes it beside `target`.
    pub fn open(target: &Path, output: Output) -> Result<Self, Failure> {
        let path = beside(target, ".part");
        let foreign = match open_own(&path) {
            Ok(Ok(file)) => return Ok(Self { file, path, is_resumable: true }),
            Ok(Err(reason)) => reason,
            Err(failure) => return Err(failure),
        };
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| {
            Failure::new(Exit::Failed, "no randomness", format!("can't get random numbers from the kernel: {error}"))
        })?;
        let other = beside(target, &format!(".{}.part", nabu_engine::types::hex(&random)));
        output.remark(&format!(
            "{} is left alone: {foreign}; what is fetched goes to {} first",
            path.display(),
            other.display()
        ));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(&other)
            .map_err(|error| Failure::io(format_args!("cannot write {}", other.display()), &error))?;
        Ok(Self { file, path: other, is_resumable: false })
    }

    /// For messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn failure(&self, error: &io::Error) -> Failure {
        Failure::io(format_args!("cannot write {}", self.path.display()), error)
    }

    /// Hashes what is there, and leaves the position at its end.
    pub fn hash_content(&mut self) -> Result<(Sha256, u64), Failure> {
        let mut hasher = Sha256::new();
        let mut length = 0;
        let mut chunk = vec![0; HASH_CHUNK];
        self.file.seek(SeekFrom::Start(0)).map_err(|error| self.failure(&error))?;
        loop {
            let count = self.file.read(&mut chunk).map_err(|error| self.failure(&error))?;
            if count == 0 {
                return Ok((hasher, length));
            }
            hasher.update(&chunk[..count]);
            length += count as u64;
        }
    }

    pub fn clear(&mut self) -> Result<(), Failure> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map(|_| ())
            .map_err(|error| self.failure(&error))
    }

    /// Removes the file when its bytes are wrong or there are none, or when nobody would find it;
    /// else they serve the next `get`.
    pub fn discard_if(&self, is_wrong: bool) {
        let is_empty = self.file.metadata().is_ok_and(|metadata| metadata.len() == 0);
        if is_wrong || is_empty || !self.is_resumable {
            // If it can't be removed, the next run hashes it and finds out again.
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Makes the bytes durable and gives them their name.
    pub fn publish(self, target: &Path) -> Result<(), Failure> {
        self.file.sync_all().map_err(|error| self.failure(&error))?;
        if !has_name(&self.file, &self.path) {
            let message = format!("{} was replaced while it was written; nothing was renamed", self.path.display());
            return Err(Failure::new(Exit::Failed, "file was replaced", message));
        }
        fs::rename(&self.path, target).map_err(|error| {
            Failure::io(format_args!("cannot rename {} to {}", self.path.display(), target.display()), &error)
        })?;
        let parent = parent_of(target);
        File::open(parent)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| Failure::io(format_args!("cannot make {} durable", target.display()), &error))
    }
}

impl Destination for Part {
    fn expect(&mut self, missing: u64) -> Result<(), Failure> {
        // A file system that doesn't say what is free refuses in its own time.
        let Ok(space) = sys::space(parent_of(&self.path)) else { return Ok(()) };
        if space.available >= missing {
            return Ok(());
        }
        let message = format!(
            "no space for {}: {} are missing, and the file system has {} free; make space, or name another \
             place with -o",
            self.path.display(),
            human_size(missing),
            human_size(space.available)
        );
        Err(Failure::new(Exit::Failed, "no space here", message))
    }

    fn write(&mut self, bytes: &[u8], _is_first: bool) -> Result<(), Failure> {
        io::Write::write_all(&mut self.file, bytes).map_err(|error| self.failure(&error))
    }
}

/// The file of this user under that name, locked; the reason why it isn't one, otherwise.
fn open_own(path: &Path) -> Result<Result<File, String>, Failure> {
    let failure = |error| Failure::io(format_args!("cannot write {}", path.display()), &error);
    for _ in 0..OPENS_MAX {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            // A link that somebody has put there leads to a file of their choice, and a pipe would
            // keep us waiting.
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path);
        let file = match opened {
            Ok(file) => file,
            Err(error) => {
                return match fs::symlink_metadata(path) {
                    Ok(metadata) if metadata.is_symlink() => Ok(Err("it is a symbolic link".to_owned())),
                    Ok(_) => Ok(Err(format!("it can't be opened: {error}"))),
                    Err(_) => Err(failure(error)),
                };
            }
        };
        let metadata = file.metadata().map_err(failure)?;
        if let Some(reason) = foreign(&metadata, own_user().map_err(failure)?) {
            return Ok(Err(reason));
        }
        match file.try_lock() {
            Ok(()) if has_name(&file, path) => return Ok(Ok(file)),
            // Another get was done with it between the two, and this is its complete file now.
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::new(
                    Exit::Failed,
                    "file is busy",
                    format!("{} is being written by another get; wait for it, or choose another name", path.display()),
                ));
            }
            Err(TryLockError::Error(error)) => return Err(failure(error)),
        }
    }
    Ok(Err("it keeps changing".to_owned()))
}

/// Why a file may hold what others put there, or lead to what they must not change.
fn foreign(metadata: &Metadata, own: u32) -> Option<String> {
    if !metadata.is_file() {
        Some("it is not a regular file".to_owned())
    } else if metadata.uid() != own {
        Some(format!("it belongs to user {}", metadata.uid()))
    } else if metadata.mode() & 0o022 != 0 {
        Some(format!("others may write it (mode {:04o})", metadata.mode() & 0o7777))
    } else if metadata.nlink() > 1 {
        Some("it has another hard link".to_owned())
    } else {
        None
    }
}

/// Whether the name leads to this file.
fn has_name(file: &File, path: &Path) -> bool {
    let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(file), Ok(named)) => identity(file) == identity(named),
        _ => false,
    }
}

fn beside(target: &Path, suffix: &str) -> PathBuf {
    let mut name = target.file_name().map_or_else(OsString::new, ToOwned::to_owned);
    name.push(suffix);
    target.with_file_name(name)
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
