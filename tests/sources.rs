//! What the sources must hold to and the compiler does not know: the manual has every event that
//! they log, the page of the API has every error, the store asks a disk through the handle of its
//! directory, and rooms import only what they may.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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
    for room in ["src", "cluster/src", "engine/src", "net/src"] {
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

/// The status and the phrase of each error that is made in a text.
fn errors_made(text: &str) -> Vec<(u16, String)> {
    let text = text.split("#[cfg(test)]").next().expect("a split has a first part");
    let mut found = Vec::new();
    for (call, status) in [("HttpError::new(", None), ("HttpError::unavailable(", Some(503))] {
        for (at, _) in text.match_indices(call) {
            let arguments = text[at + call.len()..].trim_start();
            let (status, rest) = match (status, arguments.split_once(',')) {
                (Some(status), _) => (status, arguments),
                (None, Some((number, rest))) => match number.parse() {
                    Ok(status) => (status, rest.trim_start()),
                    Err(_) => continue,
                },
                (None, None) => continue,
            };
            // What has no literal here is passed on, and made elsewhere.
            let Some((phrase, _)) = rest.strip_prefix('"').and_then(|rest| rest.split_once('"')) else { continue };
            found.push((status, phrase.to_owned()));
        }
    }
    found
}

#[test]
fn every_error_is_in_the_documentation_of_the_api_with_its_status_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let made = files.iter().flat_map(|path| errors_made(&fs::read_to_string(path).expect("readable")));
    let made: BTreeSet<(u16, String)> = made.collect();
    assert!(made.len() > 40, "only {} errors were found: the search is broken", made.len());
    let page = fs::read_to_string(root.join("docs/api.md")).expect("the page is there");
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let status = cells.next()?.parse().ok().filter(|status| *status >= 400)?;
        Some((status, cells.next()?.strip_prefix('`')?.strip_suffix('`')?.to_owned()))
    };
    let documented: BTreeSet<(u16, String)> = page.lines().filter_map(row).collect();
    let missing: Vec<_> = made.difference(&documented).collect();
    let unknown: Vec<_> = documented.difference(&made).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "docs/api.md: missing {missing:?}, unknown {unknown:?}");
}

/// What `scripts/rooms` says of a workspace, and whether it finds nothing wrong.
fn rooms(root: &Path) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/rooms");
    let output = Command::new(script).arg("--files").arg("--root").arg(root).output().expect("python3 is there");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[test]
fn no_room_imports_what_it_may_not_and_neither_rooms_nor_files_are_in_a_circle() {
    let (is_sound, text) = rooms(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(is_sound, "{text}");
    assert!(text.contains("src::node ->"), "the search is broken: {text}");
}

#[test]
fn a_forbidden_import_and_a_circle_are_found() {
    let planted = [
        ("src::http imports src::node::Run", [("http.rs", "use crate::node::Run;"), ("node.rs", "pub struct Run;")]),
        (
            "circle of 2 rooms",
            [
                ("http.rs", "use crate::node::Run; pub struct Core;"),
                ("node.rs", "use crate::http::Core; pub struct Run;"),
            ],
        ),
        (
            "circle of 2 files",
            [
                ("node.rs", "mod run; use run::Run; pub struct Node;"),
                ("node/run.rs", "use super::Node; pub struct Run;"),
            ],
        ),
    ];
    for (told, files) in planted {
        let root = tempfile::tempdir().expect("a directory");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        };
        write("Cargo.toml", "[workspace]\nmembers = []\n[package]\nname = \"planted\"\n");
        write("src/lib.rs", "pub mod http;\npub mod node;\n");
        for (path, text) in files {
            write(&format!("src/{path}"), text);
        }
        let (is_sound, text) = rooms(root.path());
        assert!(!is_sound && text.contains(told), "{told}: {text}");
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

/// Columns of a line of prose.
const COLUMNS_MAX: usize = 100;

/// The lines of comments, or of a page, that are too long. Tables, links and code stay as they are.
fn too_wide(text: &str, is_page: bool) -> Vec<String> {
    let mut is_code = false;
    let mut found = Vec::new();
    for line in text.lines() {
        let prose = if is_page { Some(line) } else { line.trim_start().strip_prefix("//") };
        let Some(prose) = prose.map(|prose| prose.trim_start_matches(['/', '!']).trim_start()) else { continue };
        if prose.starts_with("```") {
            is_code = !is_code;
        }
        let is_fixed = is_code || prose.starts_with('|') || prose.contains("](") || prose.contains("://");
        if !is_fixed && line.chars().count() > COLUMNS_MAX {
            found.push(line.to_owned());
        }
    }
    found
}

#[test]
fn comments_and_pages_wrap_at_100_columns() {
    let long = "x ".repeat(51);
    assert_eq!(
        too_wide(&format!("let a = \"{long}\";\n    /// {long}\n//! | {long}"), false).len(),
        1,
        "the rule bites"
    );
    assert_eq!(too_wide(&format!("{long}\n| {long}\n```\n{long}\n```\n"), true).len(), 1, "the rule bites");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for room in ["src", "cluster/src", "engine", "net", "tests", "benches"] {
        sources(&root.join(room), &mut files);
    }
    let mut wide = Vec::new();
    for path in &files {
        let text = fs::read_to_string(path).expect("readable");
        wide.extend(too_wide(&text, false).into_iter().map(|line| format!("{}: {line}", path.display())));
    }
    let pages =
        fs::read_dir(root.join("docs")).expect("the docs are there").map(|entry| entry.expect("readable").path());
    for path in pages.chain(["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"].map(|name| root.join(name)))
    {
        if path.extension().is_some_and(|extension| extension == "md") {
            let text = fs::read_to_string(&path).expect("readable");
            wide.extend(too_wide(&text, true).into_iter().map(|line| format!("{}: {line}", path.display())));
        }
    }
    assert!(files.len() > 200, "{} files", files.len());
    assert!(wide.is_empty(), "{}", wide.join("\n"));
}
