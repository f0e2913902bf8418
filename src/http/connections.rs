//! The connections of one core: who is there, and who waits for a request.
//!
//! Shutting down wakes those that wait and lets the others finish; it is over when the last has
//! gone.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use nabu_engine::runtime::{Half, Stream};

use super::client::Client;

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
    waiting: bool,
    /// There was no room for it, so it may be ended at any time.
    is_refused: bool,
}

/// The connections of one core.
#[derive(Default)]
pub struct Connections(RefCell<State>);

#[derive(Default)]
struct State {
    slots: Vec<Option<Connection>>,
    free: Vec<usize>,
    refused: usize,
    emptied: Option<Waker>,
}

impl State {
    fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

impl Connections {
    pub fn add(&self, stream: Stream, client: &Client) -> Slot {
        let mut state = self.0.borrow_mut();
        let is_refused = !client.is_counted();
        state.refused += usize::from(is_refused);
        let connection = Some(Connection { stream, waiting: false, is_refused });
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
        state.refused -= usize::from(connection.is_refused);
        state.free.push(slot.0);
        let emptied = if state.count() == 0 { state.emptied.take() } else { None };
        drop(state);
        if let Some(waker) = emptied {
            waker.wake();
        }
    }

    /// Notes whether the connection waits for a request, so that it may be ended at any time.
    pub fn set_waiting(&self, slot: Slot, waiting: bool) {
        let mut state = self.0.borrow_mut();
        state.slots[slot.0].as_mut().expect("a connection that was added").waiting = waiting;
    }

    /// All that are open.
    pub fn count(&self) -> usize {
        self.0.borrow().count()
    }

    /// Those that there was room for.
    pub fn admitted(&self) -> usize {
        let state = self.0.borrow();
        state.count() - state.refused
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
