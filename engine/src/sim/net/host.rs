//! What one machine has of the network: its listener and its sockets.

use std::collections::{BTreeSet, VecDeque};
use std::task::Waker;

use super::wire::EndId;

/// Connections that wait to be accepted; a dial beyond them gets no answer yet.
pub const BACKLOG_MAX: usize = 128;

#[derive(Default)]
pub struct Host {
    pub is_listening: bool,
    /// It has no power: nothing reaches it, and nothing is sent for it.
    pub is_silent: bool,
    /// Connections that nobody has accepted yet, oldest first.
    backlog: VecDeque<EndId>,
    acceptors: Vec<Waker>,
    /// Of connections that are not forgotten, those of earlier lives too.
    pub ends: BTreeSet<EndId>,
}

impl Host {
    pub fn has_room(&self) -> bool {
        self.backlog.len() < BACKLOG_MAX
    }

    /// Queues a connection to be accepted; returns those who may.
    pub fn offer(&mut self, end: EndId) -> Vec<Waker> {
        self.backlog.push_back(end);
        std::mem::take(&mut self.acceptors)
    }

    /// The next connection; until there is one, the waker is kept.
    pub fn accept(&mut self, waker: &Waker) -> Option<EndId> {
        self.is_listening = true;
        let end = self.backlog.pop_front();
        if end.is_none() && !self.acceptors.iter().any(|known| known.will_wake(waker)) {
            self.acceptors.push(waker.clone());
        }
        end
    }

    /// The process is gone. Its connections are among [`Host::ends`].
    pub fn stop_listening(&mut self) {
        self.is_listening = false;
        self.backlog.clear();
        self.acceptors.clear();
    }
}
