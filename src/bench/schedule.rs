//! When the requests of an open loop are due.
//!
//! A slot is due at a fixed time whatever became of the requests before it; a connection that is
//! free takes the next slot, late or not, and the latency counts from the time it was due. So a
//! server that stalls is charged with every request that it kept waiting (G. Tene, "How not to
//! measure latency": coordinated omission).

/// The slots of one core, evenly spaced.
#[derive(Clone, Debug)]
pub struct Schedule {
    start_ns: u64,
    interval_ns: f64,
    taken: u64,
}

impl Schedule {
    /// `rate` slots a second over all of `cores`; the cores take turns.
    pub fn new(rate: f64, core: u16, cores: u16) -> Self {
        assert!(rate > 0.0 && core < cores, "a schedule has slots and an owner");
        let interval_ns = 1e9 / rate;
        Self { start_ns: (interval_ns * f64::from(core)) as u64, interval_ns: interval_ns * f64::from(cores), taken: 0 }
    }

    /// When the next slot is due.
    pub fn next_ns(&self) -> u64 {
        self.start_ns + (self.interval_ns * self.taken as f64) as u64
    }

    /// Takes the next slot.
    pub fn take(&mut self) -> u64 {
        let due = self.next_ns();
        self.taken += 1;
        due
    }

    /// Slots that were due before `end_ns` and that nobody took.
    pub fn missed(&self, end_ns: u64) -> u64 {
        let due = (end_ns.saturating_sub(self.start_ns) as f64 / self.interval_ns).ceil() as u64;
        due.saturating_sub(self.taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_evenly_spaced_and_the_cores_take_turns() {
        let mut schedules = [0, 1].map(|core| Schedule::new(1_000.0, core, 2));
        for round in 0..1_000 {
            assert_eq!(schedules[0].take(), round * 2_000_000);
            assert_eq!(schedules[1].take(), round * 2_000_000 + 1_000_000);
        }
    }

    #[test]
    fn a_rate_that_divides_no_second_does_not_drift() {
        let mut schedule = Schedule::new(3.0, 0, 1);
        let slots: Vec<u64> = (0..=3_000).map(|_| schedule.take()).collect();
        assert_eq!((slots[3], slots[3_000]), (1_000_000_000, 1_000_000_000_000));
    }

    #[test]
    fn slots_that_nobody_took_are_missed() {
        let mut schedule = Schedule::new(10.0, 0, 1);
        let taken: Vec<u64> = (0..4).map(|_| schedule.take()).collect();
        assert_eq!(taken[3], 300_000_000);
        assert_eq!(schedule.missed(1_000_000_000), 6);
        assert_eq!(schedule.missed(400_000_000), 0);
        assert_eq!(schedule.missed(0), 0);
    }
}
