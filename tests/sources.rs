//! What the sources must hold to and the compiler does not know: the manual has every event that
//! they log, the store asks a disk through the handle of its directory, and the configuration knows
//! nothing of those who read it.

use std::fs;
use std::path::{Path, PathBuf};

/// The events that are for operators; those of `debug` are for developers.
const LEVELS: [&str; 3] = ["error", "warn", "info"];
/// As much of a message as the documentation must have.
const COMPARED_CHARS_MAX: usize = 40;

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

/// The string literals in the arguments of a macro call, up to its closing parenthesis.
fn literals(arguments: &str) -> Vec<String> {
    let (mut found, mut depth) = (Vec::new(), 1);
    let mut characters = arguments.chars();
    while let Some(character) = characters.next() {
        match character {
            '(' => depth += 1,
            ')' if depth == 1 => break,
            ')' => depth -= 1,
            '"' => {
                let mut literal = String::new();
                loop {
                    match characters.next().expect("a literal ends") {
                        '"' => break,
                        '\\' => literal.extend(characters.next()),
                        other => literal.push(other),
                    }
                }
                found.push(literal);
            }
            _ => {}
        }
    }
    found
}

#[test]
fn every_log_event_is_in_the_operations_manual() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manual = fs::read_to_string(root.join("docs/operations.md")).expect("the manual is there");
    let mut files = Vec::new();
    for room in ["src", "engine/src", "net/src"] {
        sources(&root.join(room), &mut files);
    }
    let (mut missing, mut events) = (Vec::new(), 0);
    for path in files {
        let text = fs::read_to_string(&path).expect("readable");
        for level in LEVELS {
            for (at, call) in text.match_indices(&format!("tracing::{level}!(")) {
                let all = literals(&text[at + call.len()..]);
                // What a message is made of at run time can't be compared, but what comes before
                // and after it can.
                let pieces = all.last().map(String::as_str).unwrap_or_default().split(['{', '}']).step_by(2);
                let longest = pieces.max_by_key(|piece| piece.len()).unwrap_or_default();
                let compared: String = longest.trim().chars().take(COMPARED_CHARS_MAX).collect();
                events += 1;
                if !manual.contains(&compared) {
                    missing.push(format!("{}: {level}: {compared:?}", path.display()));
                }
            }
        }
    }
    assert!(events > 40, "only {events} events were found: the search is broken");
    assert_eq!(missing, [] as [String; 0], "these events are missing in docs/operations.md");
}

/// What the configuration may not know: who reads it.
const READERS_OF_CONFIG: [&str; 5] = ["server", "api", "metrics", "bench", "cli"];

/// The modules of `src` that a text names, of those in a list.
fn named<'m>(text: &str, modules: &[&'m str]) -> Vec<&'m str> {
    let text: String = text.split_whitespace().collect();
    // `use crate::server::x`, `crate::{server::x, …}`, `super::super::server::x`.
    let names = |module: &&str| {
        ["crate::", "crate::{", "super::super::"].iter().any(|start| text.contains(&format!("{start}{module}::")))
    };
    modules.iter().copied().filter(|module| names(module)).collect()
}

#[test]
fn the_configuration_does_not_know_who_reads_it() {
    assert_eq!(
        named("use crate::server::Core;\nuse crate::{\n    cli::exit,\n};", &READERS_OF_CONFIG),
        ["server", "cli"]
    );
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![src.join("config.rs")];
    sources(&src.join("config"), &mut files);
    assert!(files.len() > 15, "{} files", files.len());
    for path in files {
        let found = named(&fs::read_to_string(&path).expect("readable"), &READERS_OF_CONFIG);
        assert!(found.is_empty(), "{}: {found:?}", path.display());
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
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/src/store"), &mut files);
    assert!(files.len() > 30, "{} files", files.len());
    for path in files {
        let found = unwatched(&fs::read_to_string(&path).expect("readable"));
        assert!(found.is_empty(), "{}: {found:?}", path.display());
    }
}
