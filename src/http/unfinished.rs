//! Memory of those who have begun to ask and have not finished: heads that came in part, and
//! handshakes.
//!
//! They have shown no token yet, so what they hold is bounded for each core. When it is too much,
//! whoever began first has had the longest time, and is broken off. One origin may hold a part of
//! it, and is broken off by the same rule when it takes more: so an address that floods pushes out
//! its own connections and not those of others.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::connections::Slot;
use crate::origin::Origin;

/// What a handshake holds: a hello of up to a record, its buffer, and the state of the protocol.
pub const HANDSHAKE_BYTES: usize = 32 << 10;
/// What a connection holds beside the bytes of its head: its task, and what belongs to its socket.
const CONNECTION_BYTES: usize = 2 << 10;
/// The part of all that one origin may hold, as a divisor.
const ORIGIN_DIVISOR: u64 = 2;

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
    entries: BTreeMap<u64, Entry>,
    numbers: BTreeMap<Slot, u64>,
    of_origin: HashMap<Origin, Part>,
}

struct Entry {
    slot: Slot,
    bytes: u64,
    /// `None` when no limit of one address holds for it.
    origin: Option<Origin>,
}

/// The entries of one origin.
#[derive(Default)]
struct Part {
    bytes: u64,
    numbers: BTreeSet<u64>,
}

impl State {
    fn remove(&mut self, number: u64) -> Slot {
        let entry = self.entries.remove(&number).expect("a number has its entry");
        self.numbers.remove(&entry.slot);
        self.bytes -= entry.bytes;
        if let Some(origin) = entry.origin {
            let part = self.of_origin.get_mut(&origin).expect("an entry is a part of its origin's");
            part.bytes -= entry.bytes;
            part.numbers.remove(&number);
            if part.numbers.is_empty() {
                self.of_origin.remove(&origin);
            }
        }
        entry.slot
    }
}

impl Unfinished {
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, state: RefCell::default() }
    }

    /// A connection holds this many bytes, whatever it held before. `origin` is what the limits of
    /// one address count it as. The caller breaks off what [`Unfinished::take_excess`] gives.
    pub fn hold(&self, slot: Slot, origin: Option<Origin>, bytes: usize) {
        let mut state = self.state.borrow_mut();
        let bytes = (bytes + CONNECTION_BYTES) as u64;
        let before = match state.numbers.get(&slot).copied() {
            Some(number) => {
                let entry = state.entries.get_mut(&number).expect("a number has its entry");
                std::mem::replace(&mut entry.bytes, bytes)
            }
            None => {
                let number = state.next;
                state.next += 1;
                state.entries.insert(number, Entry { slot, bytes, origin });
                state.numbers.insert(slot, number);
                if let Some(origin) = origin {
                    state.of_origin.entry(origin).or_default().numbers.insert(number);
                }
                0
            }
        };
        state.bytes = state.bytes + bytes - before;
        if let Some(origin) = origin {
            let part = state.of_origin.get_mut(&origin).expect("it is a part");
            part.bytes = part.bytes + bytes - before;
        }
    }

    /// A connection that is to be broken off, as this origin or all together hold too much; it
    /// counts no more. One alone always may.
    pub fn take_excess(&self, origin: Option<Origin>) -> Option<Slot> {
        let mut state = self.state.borrow_mut();
        let part = origin.and_then(|origin| state.of_origin.get(&origin));
        let oldest = match part {
            Some(part) if part.bytes > self.bytes_max / ORIGIN_DIVISOR && part.numbers.len() > 1 => {
                part.numbers.first()
            }
            _ if state.bytes > self.bytes_max && state.entries.len() > 1 => state.entries.keys().next(),
            _ => None,
        };
        let oldest = *oldest?;
        Some(state.remove(oldest))
    }

    /// A connection has finished, or is gone.
    pub fn release(&self, slot: Slot) {
        let mut state = self.state.borrow_mut();
        if let Some(number) = state.numbers.get(&slot).copied() {
            state.remove(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Option<Origin> = Some(Origin::V4([192, 0, 2, 1]));
    const SECOND: Option<Origin> = Some(Origin::V4([192, 0, 2, 2]));

    /// Holds, and gives those that go.
    fn hold(unfinished: &Unfinished, slot: usize, origin: Option<Origin>, bytes: usize) -> Vec<Slot> {
        unfinished.hold(Slot::test(slot), origin, bytes);
        std::iter::from_fn(|| unfinished.take_excess(origin)).collect()
    }

    fn slots(indices: &[usize]) -> Vec<Slot> {
        indices.iter().map(|index| Slot::test(*index)).collect()
    }

    #[test]
    fn the_oldest_go_when_together_they_hold_too_much() {
        let unfinished = Unfinished::new(4 * (CONNECTION_BYTES as u64 + 1000));
        for slot in 0..4 {
            assert_eq!(hold(&unfinished, slot, None, 1000), []);
        }
        // It grows, and it is not the oldest for that.
        assert_eq!(hold(&unfinished, 2, None, 1001), slots(&[0]));
        unfinished.release(Slot::test(0));
        assert_eq!(hold(&unfinished, 0, None, 999), [], "it begins anew");
        unfinished.release(Slot::test(1));
        assert_eq!(hold(&unfinished, 3, None, 5000), slots(&[2]));
        assert_eq!(hold(&unfinished, 4, None, 8000), slots(&[3, 0]), "as many as it takes");
        for slot in 0..5 {
            unfinished.release(Slot::test(slot));
        }
        assert_eq!(unfinished.state.borrow().bytes, 0);
    }

    #[test]
    fn an_origin_that_floods_pushes_out_its_own_and_no_others() {
        let unfinished = Unfinished::new(8 * (CONNECTION_BYTES as u64 + 1000));
        // Older than the flood, from another address and from one that is exempt.
        assert_eq!(hold(&unfinished, 0, SECOND, 1000), []);
        assert_eq!(hold(&unfinished, 1, None, 1000), []);
        for slot in 2..6 {
            assert_eq!(hold(&unfinished, slot, FIRST, 1000), []);
        }
        for slot in 6..20 {
            assert_eq!(hold(&unfinished, slot, FIRST, 1000), slots(&[slot - 4]));
        }
        assert_eq!(hold(&unfinished, 19, FIRST, 4000), slots(&[16]), "growing counts as well");
        assert_eq!(hold(&unfinished, 0, SECOND, 2000), []);
        // Exempt ones may take all, and then the oldest of all goes.
        assert_eq!(hold(&unfinished, 20, None, 9000), slots(&[0, 1]));
        for slot in 0..21 {
            unfinished.release(Slot::test(slot));
        }
        let state = unfinished.state.borrow();
        assert!(state.bytes == 0 && state.entries.is_empty() && state.of_origin.is_empty());
    }

    #[test]
    fn one_alone_is_never_broken_off() {
        let unfinished = Unfinished::new(10);
        assert_eq!(hold(&unfinished, 0, FIRST, 64 << 10), []);
        assert_eq!(hold(&unfinished, 1, FIRST, 64 << 10), slots(&[0]));
        assert_eq!(hold(&unfinished, 2, None, 64 << 10), slots(&[1]));
    }
}
