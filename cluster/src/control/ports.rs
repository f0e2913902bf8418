//! What goes into a node's control plane, and what comes out of it.

use std::fmt;
use std::time::Duration;

use super::command::{Change, Outcome, Refusal};
use super::member::ClusterId;
use super::message::{Load, Message, Sender};
use crate::placement::ArcId;

/// Why a node doesn't belong to the cluster that it should, so that somebody has to do something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Problem {
    /// There is a cluster where this seed leads to, and this node holds blobs of its own.
    HoldsBlobs { cluster: ClusterId, seed: String },
    /// The cluster does not take it.
    Refused(Refusal),
    /// The cluster has removed it for good.
    Removed,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HoldsBlobs { cluster, seed } => write!(
                formatter,
                "this node holds blobs of its own, and {seed} belongs to cluster {cluster}: a node joins with an \
                 empty store only; copy its blobs to the cluster and empty its disks, or remove {seed} from the seeds"
            ),
            Self::Refused(refusal) => write!(formatter, "the cluster refuses this node: {refusal}"),
            Self::Removed => formatter.write_str(
                "the cluster has removed this node for good: empty its disks, and it may join as a new node",
            ),
        }
    }
}

/// Names a request of this process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RequestId(pub u64);

pub enum Input {
    /// Time has passed. Once every [`TICK`], or as soon as possible after it.
    Tick,
    Message(Sender, Message),
    Request(RequestId, Request),
    /// The link to the node at this address broke, or can't be made.
    Unreachable(String),
    /// How full this node is.
    Load(Load),
    /// The node has pulled what it missed while it was offline
    /// ([`super::Control::returning_since`]).
    CaughtUp {
        since: u64,
    },
    /// The node has pulled what its seats in these arcs lack, or answers alone no more where it has
    /// none; they have their seats since this version.
    Synced {
        since: u64,
        arcs: Vec<ArcId>,
    },
    /// The node is to stop. It goes on until [`Output::Stopped`].
    Stop,
}

pub enum Request {
    /// To be agreed on by all.
    Change { change: Change, timeout: Duration },
    /// The state is to be as new as any answer that anybody was given before.
    Read { timeout: Duration },
}

pub enum Output {
    Send {
        to: String,
        message: Message,
    },
    Answer(RequestId, Result<Answer, Failure>),
    /// The node may end now. `is_agreed`: the others count it as offline, or never counted on it.
    Stopped {
        is_agreed: bool,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Outcome(Outcome),
    /// The state may be read now.
    Read,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// Nobody decided in time. A command may still happen.
    TimedOut,
    /// Too many requests are under way.
    Busy,
    /// The node belongs to no cluster.
    NoCluster,
}
