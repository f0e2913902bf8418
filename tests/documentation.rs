//! What the code can say, beside what `docs/operations.md` says of it.

use std::fs;
use std::path::{Path, PathBuf};

/// The events that are for operators; those of `debug` are for developers.
const LEVELS: [&str; 3] = ["error", "warn", "info"];
/// As much of a message as the documentation must have.
const COMPARED_CHARS_MAX: usize = 40;

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
                // What a message is made of at run time can't be compared, but what comes before and after it can.
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
