//! Messages to a core, from anywhere: an unbounded queue whose receiver is a task of one core.
//!
//! Plain safe code over a `crossbeam` queue and an atomic waker, so it works on the ring and in a simulation alike. How a sleeping
//! core is woken is the business of the waker that its executor made. Senders bound themselves: every message of the store is
//! a request of a task that waits for the reply.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;

use atomic_waker::AtomicWaker;
use crossbeam_queue::SegQueue;

struct Shared<T> {
    queue: SegQueue<T>,
    waker: AtomicWaker,
    senders: AtomicUsize,
    receiver_gone: AtomicBool,
}

/// The sending end; any thread may hold one.
pub struct Sender<T>(Arc<Shared<T>>);

/// The receiving end, of one task.
pub struct Receiver<T>(Arc<Shared<T>>);

/// A mailbox.
pub fn mailbox<T: Send>() -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        queue: SegQueue::new(),
        waker: AtomicWaker::new(),
        senders: AtomicUsize::new(1),
        receiver_gone: AtomicBool::new(false),
    });
    (Sender(shared.clone()), Receiver(shared))
}

impl<T: Send> Sender<T> {
    /// Puts a message into the mailbox; hands it back if the receiver is gone.
    pub fn send(&self, message: T) -> Result<(), T> {
        if self.0.receiver_gone.load(Ordering::Acquire) {
            return Err(message);
        }
        self.0.queue.push(message);
        self.0.waker.wake();
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, Ordering::Relaxed);
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.waker.wake();
        }
    }
}

impl<T: Send> Receiver<T> {
    /// The next message; `None` once every sender is gone and the mailbox is empty.
    pub async fn recv(&mut self) -> Option<T> {
        std::future::poll_fn(|context| {
            if let Some(message) = self.0.queue.pop() {
                return Poll::Ready(Some(message));
            }
            self.0.waker.register(context.waker());
            // A sender that pushed, or left, before the registration woke nobody: look again.
            if let Some(message) = self.0.queue.pop() {
                return Poll::Ready(Some(message));
            }
            if self.0.senders.load(Ordering::Acquire) == 0 {
                return Poll::Ready(self.0.queue.pop());
            }
            Poll::Pending
        })
        .await
    }

    /// A message if one is there.
    pub fn try_recv(&mut self) -> Option<T> {
        self.0.queue.pop()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.receiver_gone.store(true, Ordering::Release);
        while self.0.queue.pop().is_some() {}
    }
}
