//! The memory of one core for frames: a budget, and a few buffers kept warm.
//!
//! Every frame that an upload fills or a read holds is charged here until it is dropped, so the sum
//! never passes the budget. Waiters are served first come, first served. Buffers of the two common
//! sizes are kept for reuse, within the same budget.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use crate::io::{AlignedBuf, BLOCK_SIZE, Io};
use crate::sync::{Either, Promise, promise, race};

/// Most buffers of one size that are kept for reuse.
const KEPT_MAX: usize = 32;
/// The part of the budget that buffers kept for reuse may take.
const KEPT_DIVISOR: usize = 4;

/// The frames of one core; clones share it.
#[derive(Clone)]
pub struct Frames(Rc<Inner>);

struct Inner {
    budget: usize,
    kept_max: usize,
    charged: Cell<usize>,
    waiting: RefCell<VecDeque<(usize, Promise<()>)>>,
    kept: RefCell<Vec<AlignedBuf>>,
    kept_bytes: Cell<usize>,
}

/// A buffer and its charge.
pub struct Frame {
    buf: Option<AlignedBuf>,
    size: usize,
    frames: Frames,
}

impl Frames {
    /// Frames within a budget of this many bytes, those kept for reuse included.
    pub fn new(total: usize) -> Self {
        let kept_max = total / KEPT_DIVISOR;
        Self(Rc::new(Inner {
            budget: total - kept_max,
            kept_max,
            charged: Cell::new(0),
            waiting: RefCell::default(),
            kept: RefCell::default(),
            kept_bytes: Cell::new(0),
        }))
    }

    /// A frame of at least `size` bytes if the budget has room now and nobody waits. Its content is
    /// arbitrary.
    pub fn try_take(&self, size: usize) -> Option<Frame> {
        if !self.0.waiting.borrow().is_empty() {
            return None;
        }
        self.take_if_room(size.next_multiple_of(BLOCK_SIZE))
    }

    /// A frame of at least `size` bytes; `None` when the budget had no room for `patience`.
    pub async fn take<I: Io>(&self, io: &I, size: usize, patience: Duration) -> Option<Frame> {
        let size = size.next_multiple_of(BLOCK_SIZE);
        if size > self.0.budget {
            return None;
        }
        if let Some(frame) = self.try_take(size) {
            return Some(frame);
        }
        let (promise, promised) = promise();
        self.0.waiting.borrow_mut().push_back((size, promise));
        // A kept promise carries the charge already: if the wait is dropped after that, the charge
        // must come back.
        let waiting = Waiting { promised: Some(promised), size, frames: self };
        match race(waiting, io.sleep(patience)).await {
            Either::First(charged) => charged.then(|| self.charged_frame(size)),
            Either::Second(()) => None,
        }
    }

    /// Bytes charged now.
    pub fn charged(&self) -> usize {
        self.0.charged.get()
    }

    /// Bytes that may be charged.
    pub fn budget(&self) -> usize {
        self.0.budget
    }

    /// Tasks that wait for a frame.
    pub fn waiting(&self) -> usize {
        self.0.waiting.borrow().len()
    }

    fn take_if_room(&self, size: usize) -> Option<Frame> {
        let inner = &self.0;
        if inner.charged.get() + size > inner.budget {
            return None;
        }
        inner.charged.set(inner.charged.get() + size);
        Some(self.charged_frame(size))
    }

    fn charged_frame(&self, size: usize) -> Frame {
        let inner = &self.0;
        let mut kept = inner.kept.borrow_mut();
        let found = kept.iter().rposition(|buf| buf.capacity() == size);
        let buf = match found {
            Some(index) => {
                inner.kept_bytes.set(inner.kept_bytes.get() - size);
                kept.swap_remove(index)
            }
            None => AlignedBuf::stale(size),
        };
        Frame { buf: Some(buf), size, frames: self.clone() }
    }

    fn give_back(&self, size: usize, buf: Option<AlignedBuf>) {
        let inner = &self.0;
        if let Some(buf) = buf {
            let mut kept = inner.kept.borrow_mut();
            let room = kept.len() < KEPT_MAX && inner.kept_bytes.get() + size <= inner.kept_max;
            if room {
                inner.kept_bytes.set(inner.kept_bytes.get() + size);
                kept.push(buf);
            }
        }
        inner.charged.set(inner.charged.get() - size);
        self.serve_waiters();
    }

    fn serve_waiters(&self) {
        let inner = &self.0;
        loop {
            let mut waiting = inner.waiting.borrow_mut();
            waiting.retain(|(_, promise)| !promise.is_abandoned());
            let Some((size, _)) = waiting.front() else { return };
            if inner.charged.get() + size > inner.budget {
                return;
            }
            let (size, promise) = waiting.pop_front().expect("just seen");
            inner.charged.set(inner.charged.get() + size);
            drop(waiting);
            promise.keep(());
        }
    }
}

/// A wait for room; gives the room back when it is dropped after it was granted.
struct Waiting<'f> {
    promised: Option<crate::sync::Promised<()>>,
    size: usize,
    frames: &'f Frames,
}

impl Future for Waiting<'_> {
    type Output = bool;

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<bool> {
        let promised = self.promised.as_mut().expect("not polled after its end");
        let polled = std::pin::Pin::new(promised).poll(context);
        polled.map(|kept| {
            self.promised = None;
            kept.is_some()
        })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let granted = self.promised.take().is_some_and(|promised| promised.into_value().is_some());
        if granted {
            self.frames.give_back(self.size, None);
        } else {
            // The first in the line may have left it: the next may fit.
            self.frames.serve_waiters();
        }
    }
}

impl Frame {
    /// The buffer, to lend it to an operation; [`Frame::put_back`] ends the loan.
    pub fn lend(&mut self) -> AlignedBuf {
        self.buf.take().expect("the buffer is not lent")
    }

    pub fn put_back(&mut self, buf: AlignedBuf) {
        assert_eq!(buf.capacity(), self.size, "another buffer came back");
        assert!(self.buf.replace(buf).is_none(), "the buffer was not lent");
    }

    /// Moves the buffer and its charge to another frame; this one is left with neither.
    pub fn move_out(&mut self) -> Frame {
        let empty = Frame { buf: None, size: 0, frames: self.frames.clone() };
        std::mem::replace(self, empty)
    }

    /// Whether the buffer is out.
    pub fn is_lent(&self) -> bool {
        self.buf.is_none()
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// Takes the buffer for good; the charge ends.
    pub fn into_buf(mut self) -> AlignedBuf {
        self.lend()
    }
}

impl std::ops::Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buf.as_ref().expect("the buffer is not lent")
    }
}

impl std::ops::DerefMut for Frame {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.buf.as_mut().expect("the buffer is not lent")
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        self.frames.clone().give_back(self.size, self.buf.take());
    }
}
