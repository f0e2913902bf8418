//! What the nodes of a cluster agree on, and how: members, ring and settings, by raft, on one file
//! of each node.
//!
//! | file | question it answers |
//! | --- | --- |
//! | [`plane`] | what is a node's control plane, from outside? |
//! | [`ports`], [`settings`] | what goes into it and comes out, and what is it told at a start? |
//! | [`participant`] | what does a node do that belongs to a cluster? |
//! | [`entry`] | how does a node find a cluster, or found one? |
//! | [`arrivals`] | who has asked this node to be let in? |
//! | [`group`] | how is the raft library driven? |
//! | [`store`], [`log`] | what is on disk, and what does raft read of it? |
//! | [`state`] | what is agreed on? |
//! | [`pairs`], [`keys`] | how does that lie on disk and in a snapshot? |
//! | [`command`], [`window`] | what changes it, and how does a command count once? |
//! | [`member`] | what is known of a node? |
//! | [`reports`] | what has this node pulled that the group should count? |
//! | [`requests`] | what does this node want of the group? |
//! | [`lease`] | may a node rely on being counted as active? |
//! | [`verdicts`] | whom has the leader heard, and who counts as offline? |
//! | [`recovery`] | how does a cluster go on that has lost its majority for good? |
//! | [`departure`] | how does a node stop without being missed? |
//! | [`duties`], [`voters`] | what does the leader do unasked, and who votes? |
//! | [`message`], [`wire`] | what do nodes say to each other, and in which bytes? |

mod arrivals;
pub mod command;
pub mod departure;
mod duties;
mod entry;
pub mod group;
mod keys;
pub mod lease;
mod log;
pub mod member;
pub mod message;
mod pairs;
mod participant;
pub mod plane;
pub mod ports;
pub mod recovery;
mod reports;
mod requests;
pub mod settings;
pub mod state;
pub mod store;
pub mod verdicts;
pub mod voters;
mod window;
pub mod wire;

pub use pairs::Pair;
pub use plane::{Control, TICK};
pub use ports::{Answer, Failure, Input, Output, Problem, Request, RequestId};
pub use recovery::recover;
pub use settings::{Bootstrap, Patience, Settings};
