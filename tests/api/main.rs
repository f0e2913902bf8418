//! The API contract, checked through the real port of the real program.

mod addresses;
mod conventions;
mod framing;
mod listing;
mod logging;
mod metrics;
mod ops;
mod retrieval;
mod service;
mod streaming;
#[path = "../support/mod.rs"]
mod support;
mod tokens;
mod uploads;

use tempfile::TempDir;

use support::server::{Options, Server, directory};

/// A server on two cores with an empty store.
#[track_caller]
fn start() -> (Server, TempDir) {
    start_with("")
}

/// The same, with more lines of configuration.
#[track_caller]
fn start_with(config: &str) -> (Server, TempDir) {
    let data = directory();
    let mut options = Options::new(data.path());
    options.config.push_str(config);
    (options.start(), data)
}
