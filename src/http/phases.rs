//! Where the time of a request goes: a stopwatch with one hand and a few dials.
//!
//! Every moment from the complete head to the end of the answer counts for exactly one phase.
//! Changing the phase costs one look at the clock.

use nabu_engine::io::Instant;

/// What a request is doing, or waiting for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Routing, checks and JSON: what needs no waiting.
    Prepare,
    /// Waiting for the client's bytes.
    Receive,
    /// Waiting for a buffer: for memory, or for earlier writes of the same upload.
    Buffer,
    /// Hashing, and handing to the log what is full.
    Hash,
    /// Waiting for the end of the writes and for the commit.
    Commit,
    /// Looking up what is asked for, and waiting for its bytes: from another core, from the cache
    /// or from the disk.
    Read,
    /// Encrypting a large answer where this process does TLS, and waiting for a turn to.
    Encrypt,
    /// Sending: mostly waiting for the client to take it.
    Send,
}

impl Phase {
    pub const ALL: [Phase; 8] = [
        Phase::Prepare,
        Phase::Receive,
        Phase::Buffer,
        Phase::Hash,
        Phase::Commit,
        Phase::Read,
        Phase::Encrypt,
        Phase::Send,
    ];

    /// As the log calls it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Prepare => "prepare",
            Phase::Receive => "receive",
            Phase::Buffer => "buffer",
            Phase::Hash => "hash",
            Phase::Commit => "commit",
            Phase::Read => "read",
            Phase::Encrypt => "encrypt",
            Phase::Send => "send",
        }
    }

    /// Whether the time is the client's: it decides how fast it sends and takes.
    fn is_clients(self) -> bool {
        matches!(self, Phase::Receive | Phase::Send)
    }
}

/// The stopwatch.
#[derive(Clone, Copy, Debug)]
pub struct Phases {
    began: Instant,
    current: Phase,
    since: Instant,
    spent_ns: [u64; Phase::ALL.len()],
}

impl Phases {
    pub fn begin(now: Instant) -> Self {
        Self { began: now, current: Phase::Prepare, since: now, spent_ns: [0; Phase::ALL.len()] }
    }

    pub fn current(&self) -> Phase {
        self.current
    }

    /// From now on the time counts for this phase.
    pub fn enter(&mut self, phase: Phase, now: Instant) {
        self.spent_ns[self.current as usize] += now.since(self.since).as_nanos() as u64;
        (self.current, self.since) = (phase, now);
    }

    /// What came since the last change counts for this phase as well: it was not worth a look at
    /// the clock, which costs some 50 ns.
    pub fn rename(&mut self, phase: Phase) {
        self.current = phase;
    }

    pub fn began(&self) -> Instant {
        self.began
    }

    /// Nanoseconds in a phase, up to the last change.
    pub fn spent_ns(&self, phase: Phase) -> u64 {
        self.spent_ns[phase as usize]
    }

    /// Nanoseconds up to the last change.
    pub fn total_ns(&self) -> u64 {
        self.since.since(self.began).as_nanos() as u64
    }

    /// Nanoseconds that were the server's own.
    pub fn own_ns(&self) -> u64 {
        Phase::ALL.into_iter().filter(|phase| !phase.is_clients()).map(|phase| self.spent_ns(phase)).sum()
    }

    /// The phase in which the server itself spent most.
    pub fn slowest(&self) -> Phase {
        let own = Phase::ALL.into_iter().filter(|phase| !phase.is_clients());
        own.max_by_key(|phase| self.spent_ns(*phase)).expect("there are phases")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_counts_for_one_phase_and_the_clients_for_none_of_the_servers() {
        let at = |microseconds: u64| Instant(microseconds * 1000);
        let mut phases = Phases::begin(at(90));
        phases.enter(Phase::Receive, at(100));
        phases.rename(Phase::Prepare);
        let changes = [(Phase::Buffer, 110), (Phase::Receive, 130), (Phase::Hash, 5_130), (Phase::Receive, 5_230)];
        for (phase, now) in changes.into_iter().chain([(Phase::Commit, 9_230), (Phase::Send, 9_930)]) {
            phases.enter(phase, at(now));
        }
        phases.enter(Phase::Send, at(19_930));
        assert_eq!(phases.total_ns(), 19_840_000);
        assert_eq!(Phase::ALL.into_iter().map(|phase| phases.spent_ns(phase)).sum::<u64>(), phases.total_ns());
        assert_eq!(phases.spent_ns(Phase::Receive), 9_000_000);
        assert_eq!(phases.own_ns(), 840_000, "a slow client is not a slow server");
        assert_eq!(phases.slowest(), Phase::Commit);
    }

    #[test]
    fn every_phase_is_listed_in_its_place_and_has_a_name_of_its_own() {
        for (index, phase) in Phase::ALL.into_iter().enumerate() {
            assert_eq!(phase as usize, index);
            assert_eq!(Phase::ALL.iter().filter(|other| other.name() == phase.name()).count(), 1);
        }
    }
}
