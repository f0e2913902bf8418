//! What the server counts, and `GET /metrics`, which shows it.
//!
//! | file | noun |
//! | --- | --- |
//! | [`route`] | the number of a class of requests that is counted apart |
//! | [`latency`] | a histogram of durations, and the buckets it is shown in |
//! | [`recorder`] | what one core counts, and snapshots of it |
//! | [`collector`] | how one core gets the snapshots of all |
//! | [`process`] | what the kernel knows of this process |
//! | [`text`] | the Prometheus text format |
//! | [`render`] | every family, its type and its meaning |
//! | [`cluster`] | those of a node of a cluster |
//!
//! **Counting costs the hot path nothing shared.** Each core has a recorder of its own in plain
//! `Cell`s, without atomics or locks, and no other core reads it: who answers a scrape asks every
//! core by message for a copy, and each makes it between two of its tasks. The other way, atomics
//! that one core writes and all read, would do for counters, but not for the histograms, which
//! would then need a lock on each record. A core that does not answer in time is left out and shows
//! as such; nothing waits for it.
//!
//! Memory is bounded: routes, methods and statuses are few and known, the errors are the phrases
//! that the code has, and a histogram has a fixed size. Nothing that a client can choose becomes a
//! label.
//!
//! [docs/operations.md](../../docs/operations.md) lists every family; a test compares the two.

pub mod cluster;
pub mod collector;
pub mod latency;
pub mod process;
pub mod recorder;
pub mod render;
pub mod route;
pub mod text;

#[cfg(test)]
mod tests;

pub use recorder::{AnswersHeld, CoreSnapshot, Ended, Recorder};
pub use route::RouteId;
