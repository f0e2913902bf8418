//! The file that the control plane keeps: in the first data directory, for its owner alone.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nabu_cluster::control::member::{ClusterId, StoreId};
use nabu_cluster::control::store::{Saved, Store, StoreError};
use redb::backends::FileBackend;

/// Its name in the first data directory.
pub const FILE_NAME: &str = "control.redb";
/// One that is being made: half a file can't be opened, and would keep the node from starting.
pub const DRAFT_NAME: &str = "control.redb.new";

/// Whether a data directory holds the file: it is one of a node of a cluster.
fn has_file(dir: &Path) -> bool {
    dir.join(FILE_NAME).exists()
}

/// The cluster that the store in this directory belongs to, if any. Nobody else has the file open.
///
/// # Errors
/// A message that names the file.
pub fn cluster_of(dir: &Path) -> Result<Option<ClusterId>, String> {
    if !has_file(dir) {
        return Ok(None);
    }
    let (_store, saved) = reopen(&dir.join(FILE_NAME))?;
    Ok(saved.membership.map(|membership| membership.cluster))
}

/// Opens the file, or makes it for a new store of this id. The directory is locked by this process.
///
/// # Errors
/// A message that names the file.
pub fn open_or_make(path: &Path, new_store: StoreId) -> Result<(Store, Saved), String> {
    if path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        make(path, new_store)?;
    }
    reopen(path)
}

/// Opens a file that was open before. It isn't created again: a node that has lost it is another
/// one.
///
/// # Errors
/// A message that names the file.
pub fn reopen(path: &Path) -> Result<(Store, Saved), String> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NOFOLLOW);
    let opened = open(options.open(path), StoreId([0; 16])).map_err(|error| named(path, &error))?;
    // Its name may be one that a crash has left, and not durable.
    sync_parent(path).map_err(|error| named(path, &error))?;
    Ok(opened)
}

/// Makes the file whole before it has its name.
fn make(path: &Path, new_store: StoreId) -> Result<(), String> {
    let draft = path.with_file_name(DRAFT_NAME);
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named(&draft, &error)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let opened = open(options.open(&draft), new_store).map_err(|error| named(&draft, &error))?;
    drop(opened);
    fs::rename(&draft, path).map_err(|error| named(path, &error))
}

fn open(file: io::Result<File>, new_store: StoreId) -> Result<(Store, Saved), StoreError> {
    let backend = FileBackend::new(file.map_err(redb::Error::Io)?)?;
    Store::open(backend, new_store)
}

fn named(path: &Path, error: &dyn fmt::Display) -> String {
    format!("the file of the control plane {}: {error}", path.display())
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent: PathBuf = path.parent().map_or_else(|| PathBuf::from("."), Path::to_owned);
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn it_is_made_private_and_found_again_with_its_store() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(FILE_NAME);
        assert!(!has_file(dir.path()));
        let (store, saved) = open_or_make(&path, StoreId([7; 16])).expect("made");
        assert_eq!((saved.store, saved.membership), (StoreId([7; 16]), None));
        drop(store);
        assert!(has_file(dir.path()));
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let (store, saved) = open_or_make(&path, StoreId([8; 16])).expect("there already");
        assert_eq!(saved.store, StoreId([7; 16]), "the first id stays");
        drop(store);
        assert_eq!(reopen(&path).expect("there").1.store, StoreId([7; 16]));
        std::fs::remove_file(&path).expect("removed");
        assert!(reopen(&path).is_err() && !path.exists(), "one that is gone is not made");
    }

    #[test]
    fn one_whose_making_was_cut_off_is_made_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(FILE_NAME);
        let draft = dir.path().join(DRAFT_NAME);
        std::fs::write(&draft, [5; 9000]).expect("written");
        assert_eq!(open_or_make(&path, StoreId([7; 16])).expect("made").1.store, StoreId([7; 16]));
        assert!(!draft.exists());
        std::fs::remove_file(&path).expect("removed");
        std::fs::create_dir(&draft).expect("made");
        let message = open_or_make(&path, StoreId([7; 16])).err().expect("the draft can't be removed");
        assert!(message.contains(&*draft.to_string_lossy()), "{message}");
    }

    #[test]
    fn what_is_no_such_file_is_refused_by_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(FILE_NAME);
        std::fs::write(&path, [5; 9000]).expect("written");
        let message = open_or_make(&path, StoreId([7; 16])).err().expect("no database");
        assert!(message.contains(&*path.to_string_lossy()), "{message}");
        let link = dir.path().join("link");
        symlink(dir.path().join("elsewhere"), &link).expect("linked");
        assert!(open_or_make(&link, StoreId([7; 16])).is_err(), "a planted link is not followed");
        assert!(!dir.path().join("elsewhere").exists());
    }
}
