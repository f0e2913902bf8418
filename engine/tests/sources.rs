//! Rules of the code that the compiler does not know.

use std::fs;
use std::path::{Path, PathBuf};

/// What asks a disk ([`nabu_engine::io::Disk`]).
const DISK_OPERATIONS: [&str; 12] = [
    "open",
    "read_at",
    "write_at",
    "sync",
    "allocate",
    "truncate",
    "rename",
    "remove",
    "create_dir",
    "sync_dir",
    "list_dir",
    "space",
];
/// The handle of a core, as the store names it: its disk operations are watched by nobody.
const CORE_HANDLES: [&str; 3] = ["self.0.io", "shard.0.io", ".io()"];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("the sources are there") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The places of a text where the core's own handle is used for a disk operation.
fn unwatched(text: &str) -> Vec<String> {
    // However the call is broken into lines.
    let text: String = text.split_whitespace().collect();
    let mut found = Vec::new();
    for handle in CORE_HANDLES {
        for operation in DISK_OPERATIONS {
            let call = format!("{handle}.{operation}(");
            found.extend(text.match_indices(&call).map(|_| call.clone()));
        }
    }
    found
}

/// An operation that goes around [`nabu_engine::log::dir_io::DirIo`] has no deadline, and its
/// failures are not counted.
#[test]
fn the_store_asks_a_disk_through_the_handle_of_its_directory_alone() {
    assert_eq!(unwatched("shard.0.io\n    .sync(&file)"), ["shard.0.io.sync("], "the rule bites");
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store"), &mut files);
    assert!(files.len() > 30, "{} files", files.len());
    for path in files {
        let found = unwatched(&fs::read_to_string(&path).expect("readable"));
        assert!(found.is_empty(), "{}: {found:?}", path.display());
    }
}
