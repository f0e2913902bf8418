//! What the answers of one core hold for peers that don't take them.
//!
//! Whoever sends enters how much memory it holds while it waits for its peer, and leaves when it
//! holds none. Most leave at once. A peer for which a send has waited for [`STALLED_AFTER`] has
//! stalled, and from then on counts with what its socket holds too. When those that have stalled
//! hold more than their share, whoever has waited longest is broken off: a crowd that doesn't read
//! costs itself its connections, and nobody else anything.
//!
//! Invariants: entries stand in the order in which they began to wait, so those that have stalled
//! stand before those that have not; each is counted in `bytes` from its entry to its leaving, and
//! in `stalled_bytes` from when it stalled to its leaving or breaking off.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use nabu_engine::io::Instant;
use nabu_engine::runtime::Stream;

use super::core::Core;
use crate::metrics::AnswersHeld;

/// How long a send may wait before its peer counts as one that has stalled. Packets that get lost
/// take less to come again.
const STALLED_AFTER: Duration = Duration::from_secs(1);
/// What an answer holds beside its bytes: its request, its task, and what belongs to its socket.
const ANSWER_BYTES: usize = 8 << 10;

/// A place in a table.
type Place = u32;

struct Entry {
    stream: Stream,
    since: Instant,
    /// Memory of the process.
    bytes: usize,
    /// What it counts for since it stalled, with what the kernel holds; 0 before, and when it was
    /// broken off.
    counted: usize,
    before: Option<Place>,
    behind: Option<Place>,
}

#[derive(Default)]
struct State {
    entries: Vec<Option<Entry>>,
    free: Vec<Place>,
    /// Who has waited longest, and who began last.
    first: Option<Place>,
    last: Option<Place>,
    /// The first that has not stalled.
    first_moving: Option<Place>,
    bytes: u64,
    stalled: u64,
    stalled_bytes: u64,
    broken_off: u64,
}

/// What the answers of one core hold.
pub struct Held {
    stalled_bytes_max: u64,
    state: RefCell<State>,
}

/// An entry; it leaves when this is dropped.
pub struct Hold {
    core: Rc<Core>,
    place: Place,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.core.held.leave(self.place);
    }
}

impl Core {
    /// A send to this peer begins to wait, and holds `bytes` of memory until what this gives is
    /// dropped. Others that have waited for long may have to go.
    pub fn hold(self: &Rc<Self>, stream: &Stream, now: Instant, bytes: usize) -> Hold {
        Hold { place: self.held.enter(stream, now, bytes), core: self.clone() }
    }
}

impl Held {
    pub fn new(stalled_bytes_max: u64) -> Self {
        Self { stalled_bytes_max, state: RefCell::default() }
    }

    fn enter(&self, stream: &Stream, now: Instant, bytes: usize) -> Place {
        let mut state = self.state.borrow_mut();
        state.look(now, self.stalled_bytes_max);
        let entry = Entry { stream: stream.clone(), since: now, bytes, counted: 0, before: state.last, behind: None };
        state.bytes += bytes as u64;
        let place = match state.free.pop() {
            Some(place) => {
                state.entries[place as usize] = Some(entry);
                place
            }
            None => {
                state.entries.push(Some(entry));
                Place::try_from(state.entries.len() - 1).expect("fewer answers than 2^32")
            }
        };
        match state.last.replace(place) {
            Some(last) => state.entry(last).behind = Some(place),
            None => state.first = Some(place),
        }
        state.first_moving.get_or_insert(place);
        place
    }

    fn leave(&self, place: Place) {
        let mut state = self.state.borrow_mut();
        let (before, behind) = (state.entry(place).before, state.entry(place).behind);
        match before {
            Some(before) => state.entry(before).behind = behind,
            None => state.first = behind,
        }
        match behind {
            Some(behind) => state.entry(behind).before = before,
            None => state.last = before,
        }
        if state.first_moving == Some(place) {
            state.first_moving = behind;
        }
        let entry = state.entries[place as usize].take().expect("an entry leaves once");
        state.free.push(place);
        state.bytes -= entry.bytes as u64;
        state.uncount(entry.counted);
    }

    /// How it is at this time.
    pub fn status(&self, now: Instant) -> AnswersHeld {
        let mut state = self.state.borrow_mut();
        state.look(now, self.stalled_bytes_max);
        let State { bytes, stalled, stalled_bytes, broken_off, .. } = *state;
        AnswersHeld { bytes, stalled, stalled_bytes, broken_off }
    }
}

impl State {
    fn entry(&mut self, place: Place) -> &mut Entry {
        self.entries[place as usize].as_mut().expect("a place in the order has its entry")
    }

    fn uncount(&mut self, counted: usize) {
        self.stalled -= u64::from(counted > 0);
        self.stalled_bytes -= counted as u64;
    }

    /// Counts those that have stalled by now, and breaks off as many as hold too much.
    fn look(&mut self, now: Instant, stalled_bytes_max: u64) {
        while let Some(place) = self.first_moving {
            let entry = self.entry(place);
            if now.since(entry.since) < STALLED_AFTER {
                break;
            }
            entry.counted = entry.bytes + entry.stream.unacknowledged() + ANSWER_BYTES;
            let (counted, behind) = (entry.counted as u64, entry.behind);
            self.stalled += 1;
            self.stalled_bytes += counted;
            self.first_moving = behind;
        }
        let mut next = self.first;
        while self.stalled_bytes > stalled_bytes_max && self.stalled > 1 {
            let place = next.expect("whoever has stalled stands in the order");
            let entry = self.entry(place);
            next = entry.behind;
            let counted = std::mem::take(&mut entry.counted);
            if counted > 0 {
                // Its send ends with that, and it leaves.
                entry.stream.abort();
                self.uncount(counted);
                self.broken_off += 1;
            }
        }
    }
}
