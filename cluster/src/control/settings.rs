//! What a node's control plane is told when it starts, and never again.

use std::time::Duration;

use super::member::{ClusterId, Profile};

/// What a node is told when it starts.
#[derive(Clone, Debug)]
pub struct Settings {
    pub node_id: String,
    pub profile: Profile,
    /// Where other nodes of the cluster may be found.
    pub seeds: Vec<String>,
    /// How a cluster begins that doesn't exist yet; `None` if others begin it.
    pub bootstrap: Option<Bootstrap>,
    pub patience: Patience,
    /// It holds blobs of its own, from a time without a cluster. It may found one, which has them
    /// then, but never joins one.
    pub holds_blobs: bool,
    /// A number that no other start of this node has.
    pub nonce: u64,
}

/// This node may found a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bootstrap {
    /// How many nodes must have said that they know of no cluster, this one included. Every seed
    /// must have, whatever this says.
    pub expect: usize,
    /// The name of the cluster that it founds.
    pub cluster: ClusterId,
}

/// How long the group waits.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// After this time offline a node is not counted on any more.
    pub out_after: Duration,
    /// After this time unheard a node that is joining is dropped.
    pub join_for: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let patience = Duration::from_secs(15 * 60);
        Self { out_after: patience, join_for: patience }
    }
}
