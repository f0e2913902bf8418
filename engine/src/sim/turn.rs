//! What the parts of a simulation need to go on: the time, chance, what is due, and whom to wake.

use std::task::Waker;

use super::agenda::Agenda;
use super::event::EventId;
use super::event_log::EventLog;
use super::random::Random;

/// One step of the state of a simulation, in the hands of one of its parts.
pub struct Turn<'a> {
    pub now: u64,
    pub random: &'a mut Random,
    pub agenda: &'a mut Agenda,
    pub log: &'a mut EventLog,
    /// Whoever borrowed the state wakes them afterwards.
    pub woken: &'a mut Vec<Waker>,
}

impl Turn<'_> {
    /// A new event, due after this time.
    pub fn schedule_after(&mut self, delay_ns: u64) -> EventId {
        let at = self.now.saturating_add(delay_ns);
        self.schedule_at(at)
    }

    /// A new event, due by then at the latest.
    pub fn schedule_within(&mut self, delay_ns_max: u64) -> EventId {
        let delay = 1 + self.random.below(delay_ns_max);
        self.schedule_after(delay)
    }

    /// A new event, due then.
    pub fn schedule_at(&mut self, at: u64) -> EventId {
        let id = self.agenda.event_id();
        self.agenda.schedule(id, at, self.random);
        id
    }

    pub fn wake(&mut self, waker: Option<Waker>) {
        self.woken.extend(waker);
    }

    pub fn note(&mut self, line: impl FnOnce() -> String) {
        self.log.note(self.now, line);
    }
}
