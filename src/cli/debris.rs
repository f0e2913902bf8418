//! What a start that fails would leave behind in data directories that hold no store yet.
//!
//! Only what this start made is taken away, and only as long as there is no store in the directory:
//! once there is, everything in it may be needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nabu_engine::log::superblock;

use crate::auth::admin_token;
use crate::node::lock::{DirectoryLocks, LOCK_FILE};

/// How a data directory was before the start.
pub struct Before {
    dir: PathBuf,
    /// What was missing of its path, the deepest first.
    missing: Vec<PathBuf>,
    had_lock: bool,
    had_token: bool,
}

impl Before {
    pub fn of(dir: &Path) -> Self {
        let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        Self {
            dir: dir.to_owned(),
            missing: dir.ancestors().take_while(is_missing).map(Path::to_owned).collect(),
            had_lock: dir.join(LOCK_FILE).exists(),
            had_token: dir.join(admin_token::FILE_NAME).exists(),
        }
    }

    /// Takes away what came since. Whatever can't be removed stays: the start has its own failure
    /// to report.
    pub fn restore(&self, timeout: Duration) {
        let holds_store = || self.dir.join(superblock::FILE_NAME).exists();
        if !self.dir.exists() || holds_store() {
            return;
        }
        // Another server may have come in between: then what is here is its own.
        let Ok(_locks) = DirectoryLocks::acquire(std::slice::from_ref(&self.dir), timeout) else { return };
        if holds_store() {
            return;
        }
        if !self.had_token {
            let _ = fs::remove_file(self.dir.join(admin_token::FILE_NAME));
        }
        if !self.had_lock {
            let _ = fs::remove_file(self.dir.join(LOCK_FILE));
        }
        for path in &self.missing {
            // Not where there is anything else in it.
            let _ = fs::remove_dir(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    #[test]
    fn what_a_start_made_goes_and_what_was_there_stays() {
        let root = tempfile::tempdir().expect("a directory");
        let dir = root.path().join("a/b");
        let before = Before::of(&dir);
        fs::create_dir_all(&dir).expect("made");
        fs::write(dir.join(LOCK_FILE), "").expect("written");
        fs::write(dir.join(admin_token::FILE_NAME), "token").expect("written");
        before.restore(TIMEOUT);
        assert_eq!(fs::read_dir(root.path()).expect("readable").count(), 0);

        fs::create_dir_all(&dir).expect("made");
        fs::write(dir.join(admin_token::FILE_NAME), "token").expect("written");
        let before = Before::of(&dir);
        fs::write(dir.join(LOCK_FILE), "").expect("written");
        before.restore(TIMEOUT);
        assert_eq!(fs::read_to_string(dir.join(admin_token::FILE_NAME)).expect("kept"), "token");
        assert!(!dir.join(LOCK_FILE).exists());
    }

    #[test]
    fn a_directory_with_a_store_in_it_or_in_use_is_left_alone() {
        let root = tempfile::tempdir().expect("a directory");
        let dir = root.path().join("data");
        let before = Before::of(&dir);
        fs::create_dir(&dir).expect("made");
        let locks = DirectoryLocks::acquire(std::slice::from_ref(&dir), TIMEOUT).expect("free");
        before.restore(TIMEOUT);
        assert!(dir.join(LOCK_FILE).exists(), "another server has it");
        drop(locks);
        fs::write(dir.join(superblock::FILE_NAME), "").expect("written");
        before.restore(TIMEOUT);
        assert!(dir.join(LOCK_FILE).exists(), "it holds a store");
    }
}
