//! What this node wants of the group: commands and reads under way, each with a deadline of its
//! own.
//!
//! Nothing tells a node that its request was lost, so each is sent again until it is answered or
//! its time is up. A command counts once whatever became of earlier sendings ([`super::window`]). A
//! read gets a new context for each attempt: an answer to an earlier one may be older than the
//! request.

use std::collections::BTreeMap;
use std::time::Duration;

use nabu_engine::io::Instant;

use super::command::{COMMANDS_IN_FLIGHT_MAX, Change, Command, Origin};
use super::member::Incarnation;
use super::ports::RequestId;
use crate::mutant::{Mutant, is_planted};
use crate::node::NodeNumber;
use crate::probe::{Event, hit};

/// After this time without an answer a request is sent again.
pub const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Reads under way.
pub const READS_MAX: usize = 1_024;

struct Pending {
    id: RequestId,
    change: Change,
    deadline: Instant,
    sent: Option<Instant>,
}

struct Read {
    id: RequestId,
    deadline: Instant,
    /// What the attempt that is under way goes by, and when it began.
    attempt: Option<(Vec<u8>, Instant)>,
}

#[derive(Default)]
pub struct Requests {
    last_sequence: u64,
    commands: BTreeMap<u64, Pending>,
    reads: Vec<Read>,
}

impl Requests {
    /// Takes a command in; `false` if there are too many.
    pub fn add_command(&mut self, id: RequestId, change: Change, deadline: Instant) -> bool {
        // Half, so that the window has room also for those whose outcome is known and not told yet.
        if self.commands.len() >= COMMANDS_IN_FLIGHT_MAX / 2 {
            return false;
        }
        self.last_sequence += 1;
        self.commands.insert(self.last_sequence, Pending { id, change, deadline, sent: None });
        true
    }

    pub fn add_read(&mut self, id: RequestId, deadline: Instant) -> bool {
        let has_room = self.reads.len() < READS_MAX;
        if has_room {
            self.reads.push(Read { id, deadline, attempt: None });
        }
        has_room
    }

    /// The commands that are to be sent now.
    pub fn commands_due(&mut self, node: NodeNumber, incarnation: Incarnation, now: Instant) -> Vec<Command> {
        let floor = self.commands.keys().next().copied().unwrap_or_default();
        // A command far ahead of the oldest would find the window full.
        let ahead = floor + COMMANDS_IN_FLIGHT_MAX as u64;
        let is_due = |pending: &Pending| pending.sent.is_none_or(|sent| now.since(sent) >= RETRY_AFTER);
        let due = self.commands.range_mut(..ahead).filter(|(_, pending)| is_due(pending));
        due.map(|(sequence, pending)| {
            pending.sent = Some(now);
            let origin = Origin { node, incarnation, sequence: *sequence, floor };
            Command { origin: Some(origin), change: pending.change.clone() }
        })
        .collect()
    }

    /// Nobody took the commands: they are due again.
    pub fn send_again(&mut self) {
        self.commands.values_mut().for_each(|pending| pending.sent = None);
    }

    /// The contexts of the reads that are to be asked for now.
    pub fn reads_due(&mut self, now: Instant, mut context: impl FnMut() -> Vec<u8>) -> Vec<Vec<u8>> {
        let is_due = |read: &&mut Read| read.attempt.as_ref().is_none_or(|(_, at)| now.since(*at) >= RETRY_AFTER);
        let due = self.reads.iter_mut().filter(is_due);
        due.map(|read| {
            let context = if is_planted(Mutant::ReadContextReused) { vec![0] } else { context() };
            if read.attempt.replace((context.clone(), now)).is_some() {
                hit(Event::ReadRepeated);
            }
            context
        })
        .collect()
    }

    /// The outcome of a command is known.
    pub fn resolve(&mut self, sequence: u64) -> Option<RequestId> {
        self.commands.remove(&sequence).map(|pending| pending.id)
    }

    /// The state is as new as when this was asked for.
    pub fn read(&mut self, context: &[u8]) -> Vec<RequestId> {
        let is_meant = |read: &mut Read| read.attempt.as_ref().is_some_and(|(asked, _)| asked == context);
        self.reads.extract_if(.., is_meant).map(|read| read.id).collect()
    }

    /// The requests whose time is up.
    pub fn expired(&mut self, now: Instant) -> Vec<RequestId> {
        let commands = self.commands.extract_if(.., |_, pending| now >= pending.deadline);
        let mut expired: Vec<RequestId> = commands.map(|(_, pending)| pending.id).collect();
        expired.extend(self.reads.extract_if(.., |read| now >= read.deadline).map(|read| read.id));
        expired
    }

    /// The node is another incarnation: what became of these commands can't be learned any more.
    pub fn abandon_commands(&mut self) -> Vec<RequestId> {
        std::mem::take(&mut self.commands).into_values().map(|pending| pending.id).collect()
    }
}
