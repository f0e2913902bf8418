//! What goes into a node's control plane, and what comes out of it.

use std::time::Duration;

use super::command::{Change, Outcome};
use super::message::{Load, Message, Sender};

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
}

pub enum Request {
    /// To be agreed on by all.
    Change { change: Change, timeout: Duration },
    /// The state is to be as new as any answer that anybody was given before.
    Read { timeout: Duration },
}

pub enum Output {
    Send { to: String, message: Message },
    Answer(RequestId, Result<Answer, Failure>),
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
