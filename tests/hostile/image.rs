//! Small real file systems: an image file on a loop device, unmounted when dropped.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::run;
use crate::support::server::directory;

pub struct Image {
    path: PathBuf,
    dir: TempDir,
}

impl Image {
    /// An error says what this machine lacks.
    pub fn new(make: &str, options: &[&str], size: u64) -> Result<Self, String> {
        let dir = directory();
        let (image, path) = (dir.path().join("image"), dir.path().join("mount"));
        std::fs::create_dir(&path).expect("a directory can be made");
        let file = std::fs::File::create(&image).expect("a file can be made");
        file.set_len(size).expect("a sparse file can be made");
        run(make, &[options, &[&*image.to_string_lossy()]].concat())?;
        run("mount", &["-o", "loop", &image.to_string_lossy(), &path.to_string_lossy()])?;
        Ok(Self { path, dir })
    }

    /// An xfs of the least size that it takes.
    pub fn xfs() -> Result<Self, String> {
        Self::new("mkfs.xfs", &["-q", "-f"], 320 << 20)
    }

    pub fn ext4(size: u64) -> Result<Self, String> {
        Self::new("mkfs.ext4", &["-q", "-m", "0"], size)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Mounts it once more, as after a reboot: its journal is replayed.
    pub fn mount_again(&self) {
        let path = self.path.to_string_lossy();
        let image = self.dir.path().join("image");
        run("umount", &[&path]).expect("nobody uses it");
        run("mount", &["-o", "loop", &image.to_string_lossy(), &path]).expect("it was mounted before");
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Lazily, so that the mount goes also where a process still holds it.
        if let Err(error) = run("umount", &["-l", &self.path.to_string_lossy()]) {
            eprintln!("{error}");
        }
    }
}
