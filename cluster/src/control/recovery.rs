//! Recovery of a cluster that has lost a majority of its voters for good, on the file of one node
//! that is left. It is an operator's last resort: what the others had agreed on and this node had
//! not been told is lost, and if the others are not lost after all, there are two clusters.
//!
//! Invariants:
//! - The node is the only voter afterwards, and who voted before is no member any more. The other
//!   members stay, and follow.
//! - Nothing that anybody was ever told can be told again with another meaning: the log goes on far
//!   ahead of any that the lost ones may have had, in index and term, and so do the ring version,
//!   the numbers of nodes, incarnations, and the versions of settings.
//! - So every other node must take the state as a snapshot, and what it promised before binds
//!   nobody.
//!
//! All of what is in the node's log counts, whether it was known to be committed or not: what isn't
//! there was lost, and what is there may have been acknowledged.

use std::fmt;

use raft::prelude::{ConfState, EntryType, HardState};

use super::command::Command;
use super::store::{Base, Round, Saved, Store, StoreError};
use crate::node::NodeNumber;

/// How far indices, terms and versions go ahead: more than any cluster gets through by itself.
pub const LEAP: u64 = 1 << 32;

/// What recovery did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// This node, which decides alone now.
    pub node: NodeNumber,
    /// Who is no member any more, with the ids that people gave them.
    pub removed: Vec<(NodeNumber, String)>,
    /// Who is left beside this node.
    pub followers: Vec<(NodeNumber, String)>,
}

/// Why a file is left as it is.
#[derive(Debug)]
pub enum RecoverError {
    /// The node belongs to no cluster.
    NoCluster,
    /// The cluster doesn't count this node as a member, or this node has not been told so.
    NoMember {
        node: NodeNumber,
    },
    /// This node holds nothing of the cluster, and who does is to be removed.
    HoldsNothing {
        node: NodeNumber,
    },
    Store(StoreError),
}

impl fmt::Display for RecoverError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCluster => formatter
                .write_str("this node belongs to no cluster: recover the cluster on a node that was a member of it"),
            Self::NoMember { node } => write!(
                formatter,
                "{node} is no member of its cluster as far as its file says: recover the cluster on another node"
            ),
            Self::HoldsNothing { node } => write!(
                formatter,
                "{node} has no seat in the ring, and the nodes that have are to be removed: recover the cluster on \
                 a node that holds data"
            ),
            Self::Store(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for RecoverError {}

impl From<StoreError> for RecoverError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Makes the node of this file the only voter of its cluster. The node must not run, and none of
/// the voters that are lost may ever run again with the disk that it had.
///
/// # Errors
/// Nothing was changed, unless the file itself failed.
pub fn recover(store: &Store, saved: Saved) -> Result<Recovered, RecoverError> {
    let Some(membership) = saved.membership else { return Err(RecoverError::NoCluster) };
    let me = membership.node;
    let last = saved.entries.last().map_or(saved.base.index, |entry| entry.index);
    let mut state = saved.state;
    for entry in saved.entries.iter().filter(|entry| entry.index > saved.applied) {
        if entry.get_entry_type() == EntryType::EntryNormal && !entry.data.is_empty() {
            let command = Command::decode(&entry.data).map_err(StoreError::Malformed)?;
            state.apply(&command, &mut Vec::new());
        }
    }
    if state.members.get(&me).is_none_or(|member| member.store != Some(saved.store)) {
        return Err(RecoverError::NoMember { node: me });
    }
    let voters = [&saved.conf.voters, &saved.conf.voters_outgoing].into_iter().flatten().copied().map(NodeNumber);
    let lost: Vec<NodeNumber> = voters.filter(|node| *node != me && state.members.contains_key(node)).collect();
    let removed = lost.iter().map(|node| (*node, state.members[node].node_id.clone())).collect();
    let is_left = |node: &NodeNumber| state.is_seated(*node) && !lost.contains(node);
    if !state.members.keys().any(is_left) && state.members.keys().any(|node| state.is_seated(*node)) {
        return Err(RecoverError::HoldsNothing { node: me });
    }
    state.recover(me, &lost, LEAP);
    let term = saved.hard.term.max(saved.entries.last().map_or(saved.base.term, |entry| entry.term));
    let base = Base { index: last + LEAP, term: term + LEAP };
    let others = state.members.iter().filter(|(node, _)| **node != me);
    let followers: Vec<(NodeNumber, String)> =
        others.clone().map(|(node, member)| (*node, member.node_id.clone())).collect();
    let learners = others.filter(|(_, member)| member.store.is_some()).map(|(node, _)| node.0).collect();
    let round = Round {
        membership: Some(membership),
        hard: Some(HardState { term: base.term, vote: 0, commit: base.index, ..HardState::default() }),
        conf: Some(ConfState { voters: vec![me.0], learners, ..ConfState::default() }),
        base: Some(base),
        is_new_log: true,
        applied: Some(base.index),
        state: Some(state.pairs()),
        ..Round::default()
    };
    store.write(&round)?;
    Ok(Recovered { node: me, removed, followers })
}
