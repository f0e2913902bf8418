//! What happened to machines and between them, in words: for the report of a scenario that failed.
//!
//! It is off unless a test asks for it, and then nothing is put into words.

use std::collections::VecDeque;

/// The lines that are kept; older ones go.
const LINES_MAX: usize = 100_000;

#[derive(Default)]
pub struct EventLog {
    /// With the time of each; `None` while off.
    lines: Option<VecDeque<(u64, String)>>,
}

impl EventLog {
    pub fn switch_on(&mut self) {
        self.lines.get_or_insert_default();
    }

    pub fn note(&mut self, now: u64, line: impl FnOnce() -> String) {
        let Some(lines) = &mut self.lines else { return };
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back((now, line()));
    }

    /// The lines, oldest first, each behind its time.
    pub fn lines(&self) -> Vec<String> {
        let shown =
            |(now, line): &(u64, String)| format!("{}.{:06}s {line}", now / 1_000_000_000, now % 1_000_000_000 / 1_000);
        self.lines.iter().flatten().map(shown).collect()
    }
}
