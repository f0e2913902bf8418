//! A load, checked and complete: what the command line was understood to ask for.

use std::time::Duration;

use super::mix::Mix;
use super::sizes::Sizes;
use super::target::Target;

/// How requests follow one another.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pace {
    /// Each connection sends its next request when the last one is answered.
    Closed,
    /// So many requests a second are due, whatever becomes of them.
    Open { rate: f64 },
}

/// When the run ends, counted from the end of the warm-up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    Duration(Duration),
    Requests(u64),
}

/// What becomes of bodies that are received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    Receive,
    /// Received, and every byte compared.
    Verify,
    /// Thrown away by the kernel: measures the server alone.
    Discard,
}

/// Which processes the server is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServerProcesses {
    /// The ones that listen on the target's port, if it is on this machine.
    Find,
    Given(Vec<u32>),
    Unknown,
}

/// A load.
#[derive(Clone, Debug)]
pub struct Plan {
    pub target: Target,
    pub mix: Mix,
    pub sizes: Sizes,
    /// Bytes of a range.
    pub range_size: u64,
    /// The objects that are asked for have the numbers `0..objects`.
    pub objects: u64,
    pub zipf_theta: Option<f64>,
    /// Objects are asked for one after the other, over and over, instead of at random.
    pub in_order: bool,
    pub pace: Pace,
    pub extent: Extent,
    pub warm_up: Duration,
    /// Over all cores; at least one for each.
    pub connections: u32,
    pub cores: u16,
    /// A CPU for each core.
    pub cpus: Option<Vec<usize>>,
    pub reading: Reading,
    /// Whether the objects are uploaded first.
    pub prepare: bool,
    pub seed: u64,
    /// Sets apart the contents that this run uploads from those of every other run.
    pub run: u64,
    /// How long a connection may be silent.
    pub progress_timeout: Duration,
    pub server: ServerProcesses,
}

impl Plan {
    pub fn verifies(&self) -> bool {
        self.reading == Reading::Verify
    }

    /// The size of an object.
    pub fn size_of(&self, object: u64) -> u64 {
        self.sizes.of(self.seed, object)
    }

    /// Whether the objects are what this plan says they are, because it uploaded them or the store
    /// derives their names from them.
    pub fn knows_objects(&self) -> bool {
        self.prepare || self.target.is_store() || self.verifies()
    }

    /// Connections of a core: the first ones have one more when they don't divide evenly.
    pub fn connections_of(&self, core: u16) -> u32 {
        let cores = u32::from(self.cores);
        self.connections / cores + u32::from(u32::from(core) < self.connections % cores)
    }
}
