//! A request to connect, from its beginning until its dialer has the outcome.

use std::io;
use std::task::Waker;

use super::wire::EndId;

/// How often a request is sent that gets no answer.
pub const ATTEMPTS_MAX: u32 = 7;
/// The time until it is sent again; it doubles each time, so that a dial fails after 127 s.
const RETRY_NS: u64 = 1_000_000_000;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DialId(pub u64);

/// What is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// The request, to the other machine.
    Request(u16),
    /// Its answer: a connection.
    Connected(EndId),
    /// Its answer: nobody listens.
    Refused(u16),
    /// The name belongs to nobody.
    Unknown,
}

pub struct Dial {
    pub from: u16,
    pub phase: Phase,
    attempts: u32,
    outcome: Option<io::Result<EndId>>,
    waker: Option<Waker>,
}

impl Dial {
    pub fn new(from: u16, phase: Phase) -> Self {
        Self { from, phase, attempts: 0, outcome: None, waker: None }
    }

    /// The outcome, once there; until then the waker is kept.
    pub fn poll(&mut self, waker: &Waker) -> Option<io::Result<EndId>> {
        if self.outcome.is_none() {
            self.waker = Some(waker.clone());
        }
        self.outcome.take()
    }

    /// Returns whom to wake.
    pub fn finish(&mut self, outcome: io::Result<EndId>) -> Option<Waker> {
        self.outcome = Some(outcome);
        self.waker.take()
    }

    /// How long to wait before it is tried again; `None` when it was tried often enough.
    pub fn retry_ns(&mut self) -> Option<u64> {
        self.attempts += 1;
        (self.attempts <= ATTEMPTS_MAX).then(|| RETRY_NS << (self.attempts - 1))
    }

    /// The connection that was made for it and that its dialer doesn't have.
    pub fn connection(&self) -> Option<EndId> {
        match self.phase {
            Phase::Connected(end) => Some(end),
            _ => None,
        }
    }
}

/// The machine that an address names.
pub fn resolve(address: &str, nodes: usize) -> Option<u16> {
    let (host, port) = address.rsplit_once(':')?;
    let node: u16 = host.strip_prefix('n')?.parse().ok()?;
    let is_canonical = format!("n{node}") == host && port.parse::<u16>().is_ok();
    (is_canonical && usize::from(node) < nodes).then_some(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_that_of_one_machine() {
        assert_eq!(resolve("n0:7070", 3), Some(0));
        assert_eq!(resolve("n2:1", 3), Some(2));
        for wrong in ["n3:7070", "n0", "n0:", "n0:x", "n00:7070", "n+1:7070", "0:7070", "blob-1:7070", "n70000:1", ""] {
            assert_eq!(resolve(wrong, 3), None, "{wrong}");
        }
    }

    #[test]
    fn a_dial_without_an_answer_ends_after_127_seconds() {
        let mut dial = Dial::new(0, Phase::Request(1));
        let waits: Vec<u64> = std::iter::from_fn(|| dial.retry_ns()).collect();
        assert_eq!(waits.len(), ATTEMPTS_MAX as usize);
        assert_eq!(waits.iter().sum::<u64>(), 127 * RETRY_NS);
    }
}
