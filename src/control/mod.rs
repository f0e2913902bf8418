//! This process's part in a cluster: the thread that its control plane runs on, the file that this
//! keeps, and what the cores ask of it. A standalone node has none of it.
//!
//! | file | question it answers |
//! | --- | --- |
//! | [`thread`] | what does the thread do, from its start to its end? |
//! | [`file`] | where is the file, and what is wrong with it? |
//! | [`handle`] | how do cores tell the thread something, and ask it? |
//! | [`view`] | what does a core know of the cluster without asking? |
//! | [`links`] | how do the connections to the other nodes do? |
//!
//! Cores never wait for the thread: what they tell it goes into a bounded queue, what they read is
//! the last view that it published. Messages for other nodes go to core 0, which has the
//! connections.
//!
//! Times are of `CLOCK_BOOTTIME` ([`nabu_engine::runtime::boot_time`]), which keeps running while
//! the machine sleeps: a lease of contact must end then, too.

mod file;
mod handle;
mod links;
#[cfg(test)]
pub mod sample;
mod thread;
mod view;

pub use file::{DRAFT_NAME, FILE_NAME, cluster_of, reopen};
pub use handle::{Counters, Handle, Outgoing};
pub use links::LinkStatus;
pub use thread::{ControlThread, Options, start};
pub use view::View;

/// The feature levels that this release speaks.
pub const LEVELS: (u16, u16) = (1, 1);
