//! Memory of those who have begun to ask and have not finished: heads that came in part, and
//! handshakes.
//!
//! They have shown no token yet, so what they hold is bounded for each core. When it is too much,
//! whoever began first has had the longest time, and is broken off.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::connections::Slot;

/// What a handshake holds: a hello of up to a record, its buffer, and the state of the protocol.
pub const HANDSHAKE_BYTES: usize = 32 << 10;
/// What a connection holds beside the bytes of its head: its task, and what belongs to its socket.
const CONNECTION_BYTES: usize = 2 << 10;

/// The unfinished ones of one core.
pub struct Unfinished {
    bytes_max: u64,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    bytes: u64,
    next: u64,
    /// In the order in which they began.
    entries: BTreeMap<u64, (Slot, usize)>,
    numbers: BTreeMap<Slot, u64>,
}

impl Unfinished {
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, state: RefCell::default() }
    }

    /// A connection holds this many bytes; gives the oldest one, if it is to be broken off. It
    /// counts no more.
    pub fn hold(&self, slot: Slot, bytes: usize) -> Option<Slot> {
        let mut state = self.state.borrow_mut();
        let bytes = bytes + CONNECTION_BYTES;
        match state.numbers.get(&slot).copied() {
            Some(number) => {
                let entry = state.entries.get_mut(&number).expect("a number has its entry");
                let before = std::mem::replace(&mut entry.1, bytes);
                state.bytes = state.bytes + bytes as u64 - before as u64;
            }
            None => {
                let number = state.next;
                state.next += 1;
                state.entries.insert(number, (slot, bytes));
                state.numbers.insert(slot, number);
                state.bytes += bytes as u64;
            }
        }
        if state.bytes <= self.bytes_max || state.entries.len() == 1 {
            return None;
        }
        let (_, (oldest, bytes)) = state.entries.pop_first().expect("there are some");
        state.numbers.remove(&oldest);
        state.bytes -= bytes as u64;
        Some(oldest)
    }

    /// A connection has finished, or is gone.
    pub fn release(&self, slot: Slot) {
        let mut state = self.state.borrow_mut();
        if let Some(number) = state.numbers.remove(&slot) {
            let (_, bytes) = state.entries.remove(&number).expect("a number has its entry");
            state.bytes -= bytes as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_together_they_hold_too_much() {
        let slots: Vec<Slot> = (0..4).map(Slot::test).collect();
        let unfinished = Unfinished::new(4 * (CONNECTION_BYTES as u64 + 1000));
        for slot in &slots {
            assert_eq!(unfinished.hold(*slot, 1000), None);
        }
        // It grows, and it is not the oldest for that.
        assert_eq!(unfinished.hold(slots[2], 1001), Some(slots[0]));
        unfinished.release(slots[0]);
        assert_eq!(unfinished.hold(slots[0], 999), None, "it begins anew");
        unfinished.release(slots[1]);
        assert_eq!(unfinished.hold(slots[3], 5000), Some(slots[2]));
        for slot in slots {
            unfinished.release(slot);
        }
        assert_eq!(unfinished.state.borrow().bytes, 0);
    }

    #[test]
    fn one_alone_is_never_broken_off() {
        let unfinished = Unfinished::new(10);
        assert_eq!(unfinished.hold(Slot::test(0), 64 << 10), None);
        assert_eq!(unfinished.hold(Slot::test(1), 64 << 10), Some(Slot::test(0)));
    }
}
