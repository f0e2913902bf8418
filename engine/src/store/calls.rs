//! Requests to other cores that wait for their replies.

use std::cell::RefCell;

use crate::store::message::Reply;
use crate::sync::{Promise, Promised, promise};

/// The calls of one core that are under way; the number of a call is its slot.
#[derive(Default)]
pub(super) struct Calls {
    slots: RefCell<Slots>,
}

#[derive(Default)]
struct Slots {
    waiting: Vec<Option<Promise<Reply>>>,
    free: Vec<usize>,
}

impl Calls {
    /// Opens a call: its number, and the reply to come.
    pub fn open(&self) -> (u64, Promised<Reply>) {
        let (promise, promised) = promise();
        let mut slots = self.slots.borrow_mut();
        let slot = match slots.free.pop() {
            Some(slot) => {
                slots.waiting[slot] = Some(promise);
                slot
            }
            None => {
                slots.waiting.push(Some(promise));
                slots.waiting.len() - 1
            }
        };
        (slot as u64, promised)
    }

    /// Ends a call that reaches nobody.
    pub fn forget(&self, call: u64) {
        let mut slots = self.slots.borrow_mut();
        slots.waiting[call as usize] = None;
        slots.free.push(call as usize);
    }

    /// Ends a call. A caller that has gone in the meantime is no error.
    pub fn end(&self, call: u64, reply: Reply) {
        let mut slots = self.slots.borrow_mut();
        let promise = slots.waiting[call as usize].take().expect("each call is answered once");
        slots.free.push(call as usize);
        drop(slots);
        promise.keep(reply);
    }
}
