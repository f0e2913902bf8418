//! Connections of other nodes that wait until somebody takes them, on one core.
//!
//! Invariant: those that wait and the places that are reserved for others are never more than
//! [`WAITING_MAX`].

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::http::{Place, Upgraded};

/// Connections that wait to be taken, and those that are just being answered. Whoever takes them
/// does so at once, so it is only many that come together which meet this.
pub const WAITING_MAX: usize = 256;

/// The connections of one core that wait.
#[derive(Default)]
pub struct Incoming(RefCell<State>);

#[derive(Default)]
struct State {
    waiting: VecDeque<Upgraded>,
    reserved: usize,
    takers: Vec<Waker>,
    /// Nobody will take any.
    is_closed: bool,
}

/// A reserved place; free again when dropped.
struct Reservation(Rc<Incoming>);

impl Reservation {
    fn fill(self, upgraded: Upgraded) {
        let mut state = self.0.0.borrow_mut();
        if state.is_closed {
            // Dropped once nothing is borrowed: this leaves the core of HTTP.
            drop(state);
            return drop(upgraded);
        }
        state.waiting.push_back(upgraded);
        let takers = std::mem::take(&mut state.takers);
        drop(state);
        takers.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.0.0.borrow_mut().reserved -= 1;
    }
}

impl Incoming {
    /// A place for one more; `None` when there is no room.
    pub fn reserve(self: &Rc<Self>) -> Option<Place> {
        let mut state = self.0.borrow_mut();
        if state.is_closed || state.waiting.len() + state.reserved >= WAITING_MAX {
            return None;
        }
        state.reserved += 1;
        drop(state);
        let reservation = Reservation(self.clone());
        Some(Box::new(move |upgraded| reservation.fill(upgraded)))
    }

    /// The one that waits longest.
    pub async fn take(&self) -> Upgraded {
        poll_fn(|context| self.poll_take(context)).await
    }

    fn poll_take(&self, context: &mut Context<'_>) -> Poll<Upgraded> {
        let mut state = self.0.borrow_mut();
        if let Some(upgraded) = state.waiting.pop_front() {
            return Poll::Ready(upgraded);
        }
        if !state.takers.iter().any(|taker| taker.will_wake(context.waker())) {
            state.takers.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// Ends those that wait, and takes no more.
    pub fn close(&self) {
        let mut state = self.0.borrow_mut();
        state.is_closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
    }
}
