//! When a ping is due on a connection, and when its peer counts as silent: a connection whose peer
//! has vanished without a word stays open for minutes otherwise.
//!
//! Invariants:
//! - A peer counts as silent only after a ping had [`ANSWER_WITHIN_NS`] to be answered. So a node
//!   that was itself stopped for a while asks before it judges.
//! - Anything heard counts as an answer.
//!
//! Times are nanoseconds of one monotonic clock, which the caller reads.

/// Nanoseconds after which a connection on which nothing is heard gets a ping.
pub const PING_AFTER_NS: u64 = 1_000_000_000;
/// Nanoseconds that a ping has to be answered.
pub const ANSWER_WITHIN_NS: u64 = 2_000_000_000;
/// Nanoseconds after which a peer that says nothing counts as silent.
pub const SILENT_AFTER_NS: u64 = PING_AFTER_NS + ANSWER_WITHIN_NS;

const _: () = assert!(ANSWER_WITHIN_NS >= PING_AFTER_NS, "an answer has more time than a pause");

/// What is to be done now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pulse {
    /// Nothing, until then.
    Wait { until_ns: u64 },
    /// Send a ping. It is said once for each; ask again at once.
    Ping,
    /// The peer is silent: close the connection and avoid the peer.
    Silent,
}

/// Watches one connection.
#[derive(Debug)]
pub struct Liveness {
    heard_ns: u64,
    /// When the ping was sent that nothing was heard after.
    pinged_ns: Option<u64>,
}

impl Liveness {
    pub fn new(now_ns: u64) -> Self {
        Self { heard_ns: now_ns, pinged_ns: None }
    }

    /// Bytes came from the peer.
    pub fn heard(&mut self, now_ns: u64) {
        self.heard_ns = self.heard_ns.max(now_ns);
        self.pinged_ns = None;
    }

    /// What is to be done now. Pass on what has arrived first.
    pub fn pulse(&mut self, now_ns: u64) -> Pulse {
        let (due_ns, pulse) = match self.pinged_ns {
            None => (self.heard_ns.saturating_add(PING_AFTER_NS), Pulse::Ping),
            Some(pinged_ns) => (pinged_ns.saturating_add(ANSWER_WITHIN_NS), Pulse::Silent),
        };
        if now_ns < due_ns {
            return Pulse::Wait { until_ns: due_ns };
        }
        if pulse == Pulse::Ping {
            self.pinged_ns = Some(now_ns);
        }
        pulse
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_peer_that_says_nothing_gets_one_ping_and_counts_as_silent_after_3_seconds() {
        let mut liveness = Liveness::new(7);
        assert_eq!(liveness.pulse(6 + PING_AFTER_NS), Pulse::Wait { until_ns: 7 + PING_AFTER_NS });
        assert_eq!(liveness.pulse(7 + PING_AFTER_NS), Pulse::Ping);
        assert_eq!(liveness.pulse(7 + PING_AFTER_NS), Pulse::Wait { until_ns: 7 + SILENT_AFTER_NS });
        assert_eq!(liveness.pulse(6 + SILENT_AFTER_NS), Pulse::Wait { until_ns: 7 + SILENT_AFTER_NS });
        assert_eq!(liveness.pulse(7 + SILENT_AFTER_NS), Pulse::Silent);
        assert_eq!(liveness.pulse(8 + SILENT_AFTER_NS), Pulse::Silent);
    }

    #[test]
    fn a_peer_that_answers_is_never_silent() {
        let mut liveness = Liveness::new(0);
        let mut pings = 0;
        for now_ns in (0..60_000).map(|ms| ms * MS) {
            match liveness.pulse(now_ns) {
                Pulse::Wait { until_ns } => assert!(until_ns > now_ns),
                Pulse::Ping => pings += 1,
                Pulse::Silent => panic!("silent at {now_ns}"),
            }
            // It answers 1.9 seconds after the ping.
            if now_ns % (2_900 * MS) == 0 {
                liveness.heard(now_ns);
            }
        }
        assert_eq!(pings, 21);
    }

    #[test]
    fn a_node_that_was_stopped_itself_asks_before_it_judges() {
        let mut liveness = Liveness::new(0);
        let later = 3_600_000 * MS;
        assert_eq!(liveness.pulse(later), Pulse::Ping);
        assert_eq!(liveness.pulse(later), Pulse::Wait { until_ns: later + ANSWER_WITHIN_NS });
        liveness.heard(later + MS);
        assert_eq!(liveness.pulse(later + MS), Pulse::Wait { until_ns: later + MS + PING_AFTER_NS });
    }

    #[test]
    fn a_clock_at_its_end_or_behind_what_was_heard_breaks_nothing() {
        let mut liveness = Liveness::new(u64::MAX - 1);
        assert_eq!(liveness.pulse(0), Pulse::Wait { until_ns: u64::MAX });
        liveness.heard(3);
        assert_eq!(liveness.pulse(4), Pulse::Wait { until_ns: u64::MAX });
    }
}
