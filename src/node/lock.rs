//! The lock on each data directory: two servers on one directory would overwrite each other's
//! segments.
//!
//! It is a lock on an open file, so it goes with the process, however that ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::private_file::refuse_if_foreign;

/// The file in a data directory that is locked. It stays there, and what it holds means nothing.
pub const LOCK_FILE: &str = "lock";
/// After a process was killed the kernel may hold its files for a moment longer, until its rings
/// are gone.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// How often to look: the kernel tells nobody when a lock is free, unless one waits for it without
/// end.
const LOCK_RETRY: Duration = Duration::from_millis(50);

/// Locks on directories, held until dropped.
#[derive(Debug)]
pub struct DirectoryLocks {
    _files: Vec<File>,
}

impl DirectoryLocks {
    /// Locks every directory; each disk gets this long to answer.
    ///
    /// # Errors
    /// A message that names the directory and the remedy.
    pub fn acquire(directories: &[PathBuf], timeout: Duration) -> Result<Self, String> {
        let deadline = Instant::now() + LOCK_PATIENCE;
        let locked = directories.iter().map(|directory| {
            let own = directory.clone();
            answered(directory, timeout, move || lock(&own, deadline))?
        });
        let files = locked.collect::<Result<_, _>>()?;
        Ok(Self { _files: files })
    }

    /// Locks the directories that are there, for a store that is served without the others; at
    /// least one must be.
    ///
    /// # Errors
    /// A message that names the directory and the remedy.
    pub fn acquire_present(directories: &[PathBuf], timeout: Duration) -> Result<Self, String> {
        let mut files = Vec::new();
        let mut refusal = "no data directory was given".to_owned();
        for directory in directories {
            let own = directory.clone();
            // Only where there is a store: an empty directory may be where a disk is not mounted.
            let is_there =
                answered(directory, timeout, move || own.join(nabu_engine::log::superblock::FILE_NAME).exists());
            match is_there {
                Ok(true) => files.extend(Self::acquire(std::slice::from_ref(directory), timeout)?._files),
                Ok(false) => refusal = format!("the data directory {} holds no store", directory.display()),
                Err(message) => refusal = message,
            }
        }
        if files.is_empty() { Err(refusal) } else { Ok(Self { _files: files }) }
    }

    /// Locks the directories that were ever locked, and changes nothing in any of them: for a look
    /// at a store, also on a read-only file system.
    ///
    /// # Errors
    /// A message that names the directory and the remedy.
    pub fn acquire_existing(directories: &[PathBuf]) -> Result<Self, String> {
        let deadline = Instant::now() + LOCK_PATIENCE;
        let mut files = Vec::with_capacity(directories.len());
        for directory in directories {
            let path = directory.join(LOCK_FILE);
            match File::open(&path) {
                Ok(file) => files.push(take(file, directory, deadline)?),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(format!("can't open {}: {error}", path.display())),
            }
        }
        Ok(Self { _files: files })
    }
}

/// Makes a call to a disk, and gives up if the disk doesn't answer in time. The thread that waits
/// for it is left to itself.
///
/// # Errors
/// A message that names the directory and the remedy.
pub fn answered<T: Send + 'static>(
    directory: &Path,
    timeout: Duration,
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::Builder::new().name("disk-start".to_owned());
    let started = thread.spawn(move || {
        // Nobody listens any more when it comes too late.
        let _ = sender.send(call());
    });
    started.map_err(|error| format!("can't start a thread: {error}"))?;
    receiver.recv_timeout(timeout).map_err(|_| {
        format!(
            "the disk of the data directory {} did not answer within {timeout:?}: repair or replace it, or raise \
             limits.disk_timeout_ms",
            directory.display()
        )
    })
}

fn lock(directory: &Path, deadline: Instant) -> Result<File, String> {
    let path = directory.join(LOCK_FILE);
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(|error| {
        format!(
            "can't open {}: {error}; the data directory must exist, and this user must be able to write to it",
            path.display()
        )
    })?;
    refuse_if_foreign(&path).map_err(|error| format!("{} is refused: {error}", path.display()))?;
    let file = take(file, directory, deadline)?;
    // A start that failed takes its lock away with it: a lock on a file without a name locks nobody
    // out.
    match file.metadata().map(|metadata| metadata.nlink()) {
        Ok(0) if Instant::now() < deadline => lock(directory, deadline),
        _ => Ok(file),
    }
}

fn take(file: File, directory: &Path, deadline: Instant) -> Result<File, String> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(LOCK_RETRY),
            Err(TryLockError::WouldBlock) => {
                return Err(format!(
                    "another server uses the data directory {}: stop it, or pass another --data",
                    directory.display()
                ));
            }
            Err(TryLockError::Error(error)) => {
                let path = directory.join(LOCK_FILE);
                return Err(format!("can't lock {}: {error}; does its file system have locks?", path.display()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn a_directory_has_one_holder_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let directories = [directory.path().to_owned()];
        let locks = DirectoryLocks::acquire(&directories, PATIENCE).unwrap();
        let refusal = lock(directory.path(), Instant::now()).unwrap_err();
        assert!(refusal.contains(&*directory.path().to_string_lossy()), "{refusal}");
        drop(locks);
        DirectoryLocks::acquire(&directories, PATIENCE).unwrap();
    }

    #[test]
    fn a_look_respects_a_holder_and_leaves_no_trace() {
        let directory = tempfile::tempdir().unwrap();
        let directories = [directory.path().to_owned()];
        drop(DirectoryLocks::acquire_existing(&directories).unwrap());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        let locks = DirectoryLocks::acquire(&directories, PATIENCE).unwrap();
        let refusal = DirectoryLocks::acquire_existing(&directories).unwrap_err();
        assert!(refusal.contains(&*directory.path().to_string_lossy()), "{refusal}");
        drop(locks);
        let look = DirectoryLocks::acquire_existing(&directories).unwrap();
        assert!(lock(directory.path(), Instant::now()).is_err(), "nobody serves what is looked at");
        drop(look);
    }

    #[test]
    fn a_disk_that_does_not_answer_is_given_up_and_named() {
        let (never, answer) = mpsc::channel::<()>();
        let refusal = answered(Path::new("/hung"), Duration::from_millis(10), move || answer.recv()).unwrap_err();
        assert!(refusal.contains("/hung") && refusal.contains("did not answer"), "{refusal}");
        drop(never);
        assert_eq!(answered(Path::new("/sound"), PATIENCE, || 7), Ok(7));
    }

    #[test]
    fn a_directory_that_is_missing_is_named() {
        let refusal = DirectoryLocks::acquire(&[PathBuf::from("/nonexistent-data")], PATIENCE).unwrap_err();
        assert!(refusal.contains("/nonexistent-data"), "{refusal}");
    }
}
