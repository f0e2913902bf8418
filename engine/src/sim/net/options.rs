//! How the simulated network behaves, what may go wrong on it and how likely, and how often it did.

use crate::sim::random::Random;

/// The network between the machines of a simulation. Probabilities go from 0 to 1. By default
/// nothing goes wrong that was not asked for, though reads split and merge what was written.
#[derive(Clone, Debug)]
pub struct NetOptions {
    /// The least time that a message takes.
    pub delay_ns_min: u64,
    /// The longest, unless it is slow.
    pub delay_ns_max: u64,
    /// The bytes that one direction of a connection holds, written and not read: a writer waits
    /// for room.
    pub window_bytes: usize,
    /// The longest until what a cut or a clog held back is sent again after its end.
    pub retransmit_ns_max: u64,
    /// A read gives fewer bytes than have arrived.
    pub short_read: f64,
    /// A message comes in two parts, each in its own time.
    pub split: f64,
    /// An operation that could end at once gives other tasks a turn first.
    pub hesitation: f64,
    /// A message takes [`SLOW_FACTOR`](crate::sim::SLOW_FACTOR) times as long, and what follows it
    /// in its connection waits.
    pub slow: f64,
    /// A message loses its connection: both sides see a reset, each in its own time, and what was
    /// on the way is lost.
    pub reset: f64,
    /// A connection whose bytes a cut has held back is lost when the cut heals.
    pub reset_on_heal: f64,
    /// A message clogs its direction between two machines, for all their connections.
    pub clog: f64,
    /// The longest that such a clog lasts.
    pub clog_ns_max: u64,
    /// Connections have a binding, as those of TLS do.
    pub has_binding: bool,
}

impl Default for NetOptions {
    fn default() -> Self {
        Self {
            delay_ns_min: 20_000,
            delay_ns_max: 500_000,
            window_bytes: 64 << 10,
            retransmit_ns_max: 1_000_000_000,
            short_read: 0.1,
            split: 0.1,
            hesitation: 0.1,
            slow: 0.0,
            reset: 0.0,
            reset_on_heal: 0.0,
            clog: 0.0,
            clog_ns_max: 2_000_000_000,
            has_binding: false,
        }
    }
}

impl NetOptions {
    /// A network for a seed: any mixture of what may go wrong, each at a rate of its own and often
    /// not at all.
    pub fn draw(random: &mut Random) -> Self {
        let mut rate = |highest: f64| if random.chance(0.5) { random.below(101) as f64 / 100.0 * highest } else { 0.0 };
        let [short_read, split, hesitation] = [0.5, 0.5, 0.5].map(&mut rate);
        let [slow, reset, reset_on_heal, clog] = [0.05, 0.005, 0.5, 0.002].map(&mut rate);
        let delay_ns_min = 1 + random.below(200_000);
        let delay_ns_max = delay_ns_min + random.below(5_000_000);
        let window_bytes = 1 << (10 + random.below(9));
        let has_binding = random.chance(0.5);
        Self {
            delay_ns_min,
            delay_ns_max,
            window_bytes,
            short_read,
            split,
            hesitation,
            slow,
            reset,
            reset_on_heal,
            clog,
            has_binding,
            ..Self::default()
        }
    }

    /// # Panics
    /// When nothing could ever arrive by them.
    pub fn check(&self) {
        assert!(self.delay_ns_min > 0 && self.delay_ns_min <= self.delay_ns_max, "a message takes some time");
        assert!(self.window_bytes > 0, "a direction holds something");
        assert!(self.retransmit_ns_max > 0 && self.clog_ns_max > 0, "to send again takes some time");
    }
}

/// What happened on the network, of all machines together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetStats {
    /// Connections that their dialers got.
    pub connects: u64,
    /// Those that a task accepted.
    pub accepts: u64,
    /// Dials that were refused.
    pub refused: u64,
    /// Dials that nobody answered.
    pub timeouts: u64,
    /// Sides of connections that saw a reset.
    pub resets: u64,
    /// Connections that chance lost, in the middle of a message or when a cut healed.
    pub losses: u64,
    pub messages: u64,
    pub bytes_delivered: u64,
    pub short_reads: u64,
    /// Messages that were due and stayed behind, for a cut, a clog or a machine without power.
    pub stalled: u64,
    pub cuts: u64,
    pub heals: u64,
    pub clogs: u64,
    /// The most bytes that one direction of a connection has held.
    pub held_peak: u64,
}
