//! What the leader does unasked: verdicts on who is silent, seats for who has come, and who votes.
//!
//! Each is a function of the state, the voters and what the leader has heard; what it proposes is
//! proposed again after a while if nothing came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nabu_engine::io::Instant;
use raft::prelude::ConfChangeType;

use super::command::{Change, Command};
use super::group::Group;
use super::member::{Incarnation, Member, MemberState, StoreId};
use super::settings::Patience;
use super::verdicts::{SILENCE, Verdicts};
use super::voters::{self, Elector};
use crate::mutant::{Mutant, is_planted};
use crate::node::NodeNumber;
use crate::probe::{Event, hit};

/// When a proposal of this kind for this node is repeated.
const REPEAT_AFTER: Duration = Duration::from_secs(2);

/// Whether a member may be counted on. One without seats gets no verdict.
fn is_there(node: NodeNumber, member: &Member, verdicts: &Verdicts, now: Instant) -> bool {
    let has_started = member.incarnation > Incarnation(0);
    match member.state {
        MemberState::Active | MemberState::Returning => true,
        MemberState::Joining => has_started && verdicts.silent_for(node, now) < Some(SILENCE),
        MemberState::Leaving | MemberState::Offline => false,
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Duty {
    Activate,
    Back,
    Drop,
    Voters,
    HandOver,
}

#[derive(Default)]
pub struct Duties {
    proposed: BTreeMap<(Duty, NodeNumber), Instant>,
}

impl Duties {
    /// A member was heard, with the newest ring.
    pub fn heard(&mut self, node: NodeNumber, member: &Member, group: &mut Group, now: Instant) {
        let incarnation = member.incarnation;
        let (duty, change) = match member.state {
            MemberState::Joining => (Duty::Activate, Change::Activate { node, incarnation }),
            MemberState::Offline => (Duty::Back, Change::Back { node, incarnation }),
            // It has seen that it is to go, and relies on nothing any more. Nor do others on its
            // vote.
            MemberState::Leaving if group.votes(node) => return,
            MemberState::Leaving => (Duty::Drop, Change::Remove { node, is_forced: false }),
            // It says itself when it has caught up.
            MemberState::Active | MemberState::Returning => return,
        };
        if duty == Duty::Activate && group.state().is_full() {
            return;
        }
        self.propose(duty, node, change, group, now);
    }

    /// Does what is due.
    pub fn look(&mut self, group: &mut Group, verdicts: &mut Verdicts, patience: Patience, now: Instant) {
        self.proposed.retain(|_, at| now.since(*at) < REPEAT_AFTER);
        for (node, incarnation) in verdicts.due(now, group.state()) {
            let command = Command { origin: None, change: Change::Offline { node, incarnation } };
            if group.propose(&command).is_ok() {
                tracing::warn!(node = %node, "no heartbeat from the node for 10 s");
                verdicts.proposed(node, incarnation);
            }
        }
        self.drop_lost(group, verdicts, patience, now);
        self.change_voters(group, verdicts, patience, now);
    }

    /// A node with this store was refused because a member has its name or its address. One that
    /// waits for its seats on another disk, and is silent, makes room: nothing rests on it, and a
    /// machine whose disk was replaced shouldn't have to wait as long as one that may still come.
    pub fn contested(
        &mut self,
        node: NodeNumber,
        store: StoreId,
        group: &mut Group,
        verdicts: &Verdicts,
        now: Instant,
    ) {
        let is_waiting = group.state().members.get(&node).is_some_and(|member| {
            member.state == MemberState::Joining && member.store.is_some_and(|known| known != store)
        });
        if is_waiting && verdicts.silent_for(node, now) >= Some(SILENCE) {
            hit(Event::MadeRoom);
            self.propose(Duty::Drop, node, Change::Remove { node, is_forced: false }, group, now);
        }
    }

    fn drop_lost(&mut self, group: &mut Group, verdicts: &Verdicts, patience: Patience, now: Instant) {
        let is_lost = |(node, member): &(&NodeNumber, &Member)| match member.state {
            MemberState::Joining => verdicts.silent_for(**node, now) >= Some(patience.join_for),
            MemberState::Leaving => verdicts.silent_for(**node, now) >= Some(SILENCE) && !group.votes(**node),
            MemberState::Active | MemberState::Offline | MemberState::Returning => false,
        };
        let lost: Vec<NodeNumber> = group.state().members.iter().filter(is_lost).map(|(node, _)| *node).collect();
        for node in lost {
            self.propose(Duty::Drop, node, Change::Remove { node, is_forced: false }, group, now);
        }
    }

    fn change_voters(&mut self, group: &mut Group, verdicts: &Verdicts, patience: Patience, now: Instant) {
        let me = group.node();
        let is_changing = group.voters().auto_leave || !group.voters().voters_outgoing.is_empty();
        if is_changing || group.state().cluster.is_none() {
            return;
        }
        let voting: BTreeSet<NodeNumber> = group.voters().voters.iter().copied().map(NodeNumber).collect();
        let learning: BTreeSet<NodeNumber> = group.voters().learners.iter().copied().map(NodeNumber).collect();
        let members: Vec<(NodeNumber, &Member)> = group
            .state()
            .members
            .iter()
            .filter(|(_, member)| member.store.is_some())
            .map(|(node, member)| (*node, member))
            .collect();
        let electors: Vec<Elector<'_>> = members
            .iter()
            .map(|(node, member)| Elector {
                node: *node,
                zone: &member.profile.zone,
                votes: voting.contains(node) && member.state != MemberState::Leaving,
                // Who lags behind would hold everything up.
                is_active: is_there(*node, member, verdicts, now) && group.is_caught_up(*node),
                is_gone: !member.is_counted_on() && verdicts.silent_for(*node, now) >= Some(patience.out_after),
            })
            .collect();
        let chosen = voters::choose(&electors, me);
        let known: BTreeSet<NodeNumber> = members.iter().map(|(node, _)| *node).collect();
        if chosen.is_empty() {
            // All that are left are leaving. Who comes now has to learn first, or it could never
            // take over.
            let newcomers = known.iter().filter(|node| !voting.contains(node) && !learning.contains(node));
            let changes: Vec<_> = newcomers.map(|node| (ConfChangeType::AddLearnerNode, *node)).collect();
            if !changes.is_empty()
                && !is_planted(Mutant::NewcomerIgnored)
                && self.is_first(Duty::Voters, me, now)
                && group.change_voters(&changes).is_ok()
            {
                hit(Event::LeaversRelieved);
            }
            return;
        }
        if !chosen.contains(&me) {
            // It was removed: another must lead before it goes.
            let heir = voting.iter().copied().find(|node| *node != me && group.is_caught_up(*node));
            if let Some(heir) = heir.filter(|_| self.is_first(Duty::HandOver, me, now)) {
                group.hand_over(heir);
            }
            if voting.len() > 1 {
                return;
            }
        }
        let mut changes = Vec::new();
        changes.extend(chosen.difference(&voting).map(|node| (ConfChangeType::AddNode, *node)));
        let rest = known.difference(&chosen).filter(|node| !learning.contains(node));
        changes.extend(rest.map(|node| (ConfChangeType::AddLearnerNode, *node)));
        let strangers = voting.union(&learning).filter(|node| !known.contains(node));
        changes.extend(strangers.map(|node| (ConfChangeType::RemoveNode, *node)));
        if !changes.is_empty() && self.is_first(Duty::Voters, me, now) && group.change_voters(&changes).is_ok() {
            tracing::info!(voters = ?chosen, "the voters of the cluster are to change");
        }
    }

    fn propose(&mut self, duty: Duty, node: NodeNumber, change: Change, group: &mut Group, now: Instant) {
        if self.is_first(duty, node, now) && group.propose(&Command { origin: None, change }).is_err() {
            self.proposed.remove(&(duty, node));
        }
    }

    /// Whether this was not done a short time ago; it is now.
    fn is_first(&mut self, duty: Duty, node: NodeNumber, now: Instant) -> bool {
        let at = self.proposed.entry((duty, node)).or_insert(now);
        let is_first = *at == now || now.since(*at) >= REPEAT_AFTER;
        *at = if is_first { now } else { *at };
        is_first
    }
}
