//! What is due, and when: the queue of events of all machines.
//!
//! It knows events by number alone. What each of them is, and whether anything still depends on it,
//! is known to whoever asked for it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::event::EventId;
use super::random::Random;

#[derive(Default)]
pub struct Agenda {
    /// When, a tie-breaker, and what.
    due: BinaryHeap<Reverse<(u64, u64, EventId)>>,
    last: u64,
}

impl Agenda {
    /// The number of a new event.
    pub fn event_id(&mut self) -> EventId {
        self.last += 1;
        EventId(self.last)
    }

    /// Events of one instant happen in random order.
    pub fn schedule(&mut self, id: EventId, at: u64, random: &mut Random) {
        let tie = random.next_u64();
        self.due.push(Reverse((at, tie, id)));
    }

    /// What is due first, and when.
    pub fn first(&self) -> Option<(u64, EventId)> {
        self.due.peek().map(|Reverse((at, _, id))| (*at, *id))
    }

    pub fn pop(&mut self) -> Option<EventId> {
        self.due.pop().map(|Reverse((_, _, id))| id)
    }
}
