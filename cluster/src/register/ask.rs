//! What a seat is asked about an id, and what it answers.

use super::cell::{Offered, Promise};
use super::version::{Standing, Version};
use crate::node::NodeNumber;

/// What a seat is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// Which version an upload needs here.
    Version,
    /// Take this upload's record.
    Offer(Standing),
    /// Promise that no upload below this tombstone is taken any more.
    Promise(Version),
    /// Take this tombstone.
    Bury(Version),
    /// What it holds.
    Standing,
    /// The same, after it has pulled this from a seat that holds it.
    Pull { standing: Standing, from: NodeNumber },
}

/// What it answers, each to its own question, once what it did is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    Version(Version),
    Offered(Offered),
    Promised(Promise),
    Buried,
    /// `is_settled`: a majority had this blob, or every seat that was not offline this tombstone.
    Standing {
        holds: Standing,
        is_settled: bool,
    },
}
