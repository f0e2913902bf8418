//! How a node stops without being missed: it gives up its lease, lets another lead, and has its
//! start declared over. So the others need not wait until they notice.
//!
//! Invariants:
//! - From the moment that it is asked to stop a node relies on nothing any more, and sends no
//!   heartbeat: what is agreed on after that can't be contradicted by it.
//! - It is over after [`STOP_WITHIN`] at the latest, whoever answers.

use std::time::Duration;

use nabu_engine::io::Instant;

use super::group::Group;
use super::member::{Incarnation, Member};
use super::requests::RETRY_AFTER;
use crate::node::NodeNumber;

/// How long a stop may take; then the others have to notice by themselves.
pub const STOP_WITHIN: Duration = Duration::from_secs(5);

/// What a node that stops does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    Wait,
    /// Let this voter lead.
    HandOver(NodeNumber),
    /// Ask the group to agree that this start of the node is over.
    Declare(Incarnation),
    /// It may end. `is_agreed`: nobody counts on it any more.
    Over {
        is_agreed: bool,
    },
}

pub struct Departure {
    deadline: Instant,
    /// When something was tried last.
    tried: Option<Instant>,
    is_over: bool,
}

impl Departure {
    pub fn new(now: Instant) -> Self {
        Self { deadline: now.after(STOP_WITHIN), tried: None, is_over: false }
    }

    /// What is to be done now. [`Next::Over`] is said once.
    pub fn next(&mut self, group: &Group, incarnation: Option<Incarnation>, now: Instant) -> Next {
        if self.is_over {
            return Next::Wait;
        }
        let me = group.node();
        let member = group.state().members.get(&me);
        let is_counted_on = member.is_some_and(Member::is_counted_on);
        // A start that the group has not heard of has sent no heartbeat; one that it counts no more
        // can't be brought back by any.
        let is_this = |mine: &Incarnation| member.is_some_and(|member| member.incarnation == *mine);
        let current = incarnation.filter(is_this);
        let is_done = !group.is_leader() && current.is_none();
        let is_alone = group.is_leader() && !group.voters().voters.iter().any(|voter| *voter != me.0);
        if is_done || is_alone || now >= self.deadline {
            self.is_over = true;
            return Next::Over { is_agreed: is_done && !is_counted_on };
        }
        if self.tried.is_some_and(|tried| now.since(tried) < RETRY_AFTER) {
            return Next::Wait;
        }
        let next = if group.is_leader() {
            self.heir(group).map_or(Next::Wait, Next::HandOver)
        } else {
            current.map_or(Next::Wait, Next::Declare)
        };
        if next != Next::Wait {
            self.tried = Some(now);
        }
        next
    }

    /// Who is to lead: a voter that is there and has everything.
    fn heir(&self, group: &Group) -> Option<NodeNumber> {
        let members = &group.state().members;
        let is_there = |node: &NodeNumber| {
            let is_there = members.get(node).is_some_and(Member::is_counted_on);
            *node != group.node() && is_there && group.is_caught_up(*node)
        };
        group.voters().voters.iter().copied().map(NodeNumber).find(is_there)
    }
}
