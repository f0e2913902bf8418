//! A store opened on this machine while nobody serves it, for the commands that look at one.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nabu_engine::log::segment::{SEGMENTS_DIR, file_name};
use nabu_engine::log::superblock;
use nabu_engine::runtime::{self, RingIo, RuntimeOptions};
use nabu_engine::store::offline::Offline;
use nabu_engine::types::SegmentId;

use crate::node::lock::DirectoryLocks;

use super::exit::{Exit, Failure};

/// Locks the directories, opens the store in them without changing anything, and runs `look` on it.
///
/// # Errors
/// A directory that holds no store, that a server uses, or that can't be read.
pub fn look_at<T, Look, Future>(dirs: &[PathBuf], look: Look) -> Result<T, Failure>
where
    T: Send + 'static,
    Look: FnOnce(Offline<RingIo>) -> Future + Send + 'static,
    Future: std::future::Future<Output = T> + 'static,
{
    for dir in dirs {
        check_dir(dir)?;
    }
    let _locks = DirectoryLocks::acquire_existing(dirs)
        .map_err(|message| Failure::new(Exit::Failed, "directory is locked", message))?;
    // The runtime asks for a main that could start on many cores; here is one, which takes what
    // there is.
    let look = Arc::new(Mutex::new(Some(look)));
    let result = Arc::new(Mutex::new(None));
    let ran = runtime::run(&RuntimeOptions { cores: 1, pin: false }, {
        let (dirs, look, result) = (dirs.to_vec(), Arc::clone(&look), Arc::clone(&result));
        move |_core, io| {
            let (dirs, look, result) = (dirs.clone(), Arc::clone(&look), Arc::clone(&result));
            async move {
                let look = look.lock().expect("no holder panics").take().expect("one core");
                let outcome = match Offline::open(io, dirs).await {
                    Ok(store) => Ok(look(store).await),
                    Err(error) => Err(Failure::new(Exit::Failed, "store can't be opened", error.to_string())),
                };
                *result.lock().expect("no holder panics") = Some(outcome);
            }
        }
    });
    ran.map_err(|error| Failure::io("cannot run the ring", &error))?;
    let outcome = result.lock().expect("no holder panics").take();
    outcome.expect("the core ran to its end")
}

/// The file of a segment.
pub fn segment_path(dirs: &[PathBuf], dir: usize, segment: SegmentId) -> PathBuf {
    dirs[dir].join(SEGMENTS_DIR).join(file_name(segment))
}

/// Refuses early what would only give an odd message later.
pub fn check_dir(dir: &Path) -> Result<(), Failure> {
    let name = dir.display();
    let metadata = std::fs::metadata(dir)
        .map_err(|error| Failure::io(format_args!("cannot read the data directory {name}"), &error))?;
    if !metadata.is_dir() {
        return Err(Failure::usage(format!("{name} is not a directory; name the data directories of one store")));
    }
    if !dir.join(superblock::FILE_NAME).exists() {
        return Err(Failure::new(
            Exit::NotFound,
            "no store",
            format!("{name} holds no store ({} is missing); name the --data of a server", superblock::FILE_NAME),
        ));
    }
    Ok(())
}
