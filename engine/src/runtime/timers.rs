//! The timers of one core: an ordered map from deadline to waker. The first deadline is the timeout
//! of the ring's wait.
//!
//! Invariant: a timer is in the map from its first poll until it expired or its future was dropped.
//! Equal deadlines expire in the order in which they were set.

use std::collections::BTreeMap;
use std::task::Waker;

use crate::io::Instant;

/// Names a timer: its deadline, and a number that orders equal ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct TimerKey {
    deadline: Instant,
    number: u64,
}

#[derive(Default)]
pub(super) struct Timers {
    waiting: BTreeMap<TimerKey, Waker>,
    next_number: u64,
}

impl Timers {
    pub fn insert(&mut self, deadline: Instant, waker: Waker) -> TimerKey {
        let key = TimerKey { deadline, number: self.next_number };
        self.next_number += 1;
        self.waiting.insert(key, waker);
        key
    }

    /// Keeps the waker of a timer that is polled again. False if it has expired.
    pub fn update(&mut self, key: TimerKey, waker: &Waker) -> bool {
        match self.waiting.get_mut(&key) {
            Some(kept) => {
                kept.clone_from(waker);
                true
            }
            None => false,
        }
    }

    /// Drops a timer; it may have expired already.
    pub fn remove(&mut self, key: TimerKey) {
        self.waiting.remove(&key);
    }

    pub fn first(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(key, _)| key.deadline)
    }

    /// Takes the wakers of all timers due at `now`, in order.
    pub fn expire(&mut self, now: Instant, wakers: &mut Vec<Waker>) {
        while let Some(entry) = self.waiting.first_entry()
            && entry.key().deadline <= now
        {
            wakers.push(entry.remove());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use std::task::Wake;

    struct Note(u64, Arc<Mutex<Vec<u64>>>);

    impl Wake for Note {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    #[test]
    fn thousands_of_timers_expire_in_order_and_removed_ones_never() {
        let woken = Arc::new(Mutex::new(Vec::new()));
        let mut timers = Timers::default();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut expected = Vec::new();
        for number in 0..5000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let deadline = state >> 54;
            let key = timers.insert(Instant(deadline), Waker::from(Arc::new(Note(number, woken.clone()))));
            if number % 3 == 0 {
                timers.remove(key);
            } else {
                expected.push((deadline, number));
            }
        }
        expected.sort();
        let mut wakers = Vec::new();
        for now in [0, 1, 500, 500, 1 << 10] {
            timers.expire(Instant(now), &mut wakers);
            assert!(timers.first().is_none_or(|first| first > Instant(now)));
        }
        wakers.into_iter().for_each(Waker::wake);
        assert_eq!(*woken.lock().unwrap(), expected.into_iter().map(|(_, number)| number).collect::<Vec<_>>());
        assert_eq!(timers.first(), None);
    }
}
