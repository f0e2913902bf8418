//! The connections of one core: who is there, and who waits for a request.
//!
//! Shutting down wakes those that wait and lets the others finish; it is over when the last has
//! gone. Where there are too many, strangers that wait make room: a part is so kept for those who
//! have shown a good credential.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use nabu_engine::runtime::{Half, Stream};

use super::client::{Client, Port};

/// A connection's place among those of its core.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Slot(usize);

#[cfg(test)]
impl Slot {
    pub fn test(index: usize) -> Self {
        Self(index)
    }
}

struct Connection {
    stream: Stream,
    client: Rc<Client>,
    /// Which one it is of all that there ever were.
    number: u64,
    waiting: bool,
    /// There was no room for it, so it may be ended at any time.
    is_refused: bool,
    /// It serves no requests any more, and nobody waits for its end.
    has_left: bool,
}

/// The connections of one core.
#[derive(Default)]
pub struct Connections(RefCell<State>);

#[derive(Default)]
struct State {
    slots: Vec<Option<Connection>>,
    free: Vec<usize>,
    next: u64,
    /// Strangers that wait, in the order in which they came, with their slots: whatever one sends,
    /// it grows no younger. Each port has its own.
    strangers: BTreeMap<(Port, u64), usize>,
    /// Those that there was no room for, and those to another port than the main one.
    uncounted: usize,
    /// Those that serve no requests any more.
    left: usize,
    emptied: Option<Waker>,
}

impl State {
    fn count(&self) -> usize {
        self.slots.len() - self.free.len() - self.left
    }
}

/// Wakes who waits until no connection is left, if that is so.
fn wake_if_empty(mut state: RefMut<'_, State>) {
    let emptied = if state.count() == 0 { state.emptied.take() } else { None };
    drop(state);
    if let Some(waker) = emptied {
        waker.wake();
    }
}

impl Connections {
    pub fn add(&self, stream: Stream, client: Rc<Client>) -> Slot {
        let mut state = self.0.borrow_mut();
        let is_refused = !client.is_counted();
        state.uncounted += usize::from(is_refused || client.port != Port::Main);
        let number = state.next;
        state.next += 1;
        let connection = Some(Connection { stream, client, number, waiting: false, is_refused, has_left: false });
        match state.free.pop() {
            Some(index) => {
                state.slots[index] = connection;
                Slot(index)
            }
            None => {
                state.slots.push(connection);
                Slot(state.slots.len() - 1)
            }
        }
    }

    pub fn remove(&self, slot: Slot) {
        let mut state = self.0.borrow_mut();
        let connection = state.slots[slot.0].take().expect("a connection is removed once");
        if connection.has_left {
            state.left -= 1;
        } else {
            state.uncounted -= usize::from(connection.is_refused || connection.client.port != Port::Main);
        }
        state.strangers.remove(&(connection.client.port, connection.number));
        state.free.push(slot.0);
        wake_if_empty(state);
    }

    /// The connection serves no requests any more, and nobody waits for its end.
    pub fn leave_http(&self, slot: Slot) {
        let mut state = self.0.borrow_mut();
        let connection = state.slots[slot.0].as_mut().expect("a connection that was added");
        assert!(!std::mem::replace(&mut connection.has_left, true), "a connection leaves once");
        let was_uncounted = connection.is_refused || connection.client.port != Port::Main;
        state.uncounted -= usize::from(was_uncounted);
        state.left += 1;
        wake_if_empty(state);
    }

    /// Notes whether the connection waits for a request, so that it may be ended at any time.
    pub fn set_waiting(&self, slot: Slot, waiting: bool) {
        let state = &mut *self.0.borrow_mut();
        let connection = state.slots[slot.0].as_mut().expect("a connection that was added");
        connection.waiting = waiting;
        if connection.client.is_stranger() && connection.client.is_counted() {
            let key = (connection.client.port, connection.number);
            if waiting {
                state.strangers.insert(key, slot.0);
            } else {
                state.strangers.remove(&key);
            }
        }
    }

    /// Breaks off the stranger that came first by this port, of those that wait; gives who it was.
    pub fn give_up_stranger(&self, port: Port) -> Option<Rc<Client>> {
        let mut state = self.0.borrow_mut();
        let (&key, &index) = state.strangers.range((port, 0)..=(port, u64::MAX)).next()?;
        state.strangers.remove(&key);
        let connection = state.slots[index].as_ref().expect("one that is gone does not wait");
        connection.stream.shutdown(Half::Both);
        Some(connection.client.clone())
    }

    /// All that are open and serve requests.
    pub fn count(&self) -> usize {
        self.0.borrow().count()
    }

    /// Those to the main port that there was room for.
    pub fn admitted(&self) -> usize {
        let state = self.0.borrow();
        state.count() - state.uncounted
    }

    /// Those that serve no requests any more, of whom nobody knows yet who speaks.
    #[cfg(test)]
    pub fn strangers(&self) -> usize {
        self.0.borrow().left
    }

    /// Ends the reading of those that wait for a request, which wakes them.
    pub fn wake_waiting(&self) {
        for connection in self.0.borrow().slots.iter().flatten() {
            if connection.waiting || connection.is_refused {
                connection.stream.shutdown(Half::Read);
            }
        }
    }

    /// Breaks off one connection.
    pub fn break_off_one(&self, slot: Slot) {
        if let Some(connection) = &self.0.borrow().slots[slot.0] {
            connection.stream.shutdown(Half::Both);
        }
    }

    /// Breaks off every connection.
    pub fn break_off(&self) {
        for connection in self.0.borrow().slots.iter().flatten() {
            connection.stream.shutdown(Half::Both);
        }
    }

    /// Waits until no connection is left. One task may wait at a time.
    pub async fn emptied(&self) {
        poll_fn(|context| {
            let mut state = self.0.borrow_mut();
            if state.count() == 0 {
                return Poll::Ready(());
            }
            state.emptied = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
