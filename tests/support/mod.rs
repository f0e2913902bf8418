//! What the whole-program tests share: a server as a process of its own, a client that shows every
//! byte, and seeded content.
//!
//! Each test program takes what it needs of this.
#![allow(dead_code, reason = "every test program compiles all of it and uses a part")]

pub mod content;
pub mod exposition;
pub mod http;
pub mod server;

use std::time::{Duration, Instant};

/// How long a condition may take to come true before a test fails. Far above what any takes: it
/// decides only how long a broken server can hold up the tests.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// How often to look whether a condition is true.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Waits until `condition` gives a value; panics with `what` when it never does.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(LOOK_AGAIN);
    }
}
