//! Messages to a core, from anywhere: an unbounded queue whose receiver is a task of one core.
//!
//! Plain safe code over a `crossbeam` queue and an atomic waker, so it works on the ring and in a
//! simulation alike. How a sleeping core is woken is the business of the waker that its executor
//! made. Senders bound themselves: every message of the store is a request of a task that waits for
//! the reply.

#[cfg(all(test, feature = "loom"))]
mod interleavings;

use std::sync::Arc;
use std::task::Poll;

use crate::atomics::{AtomicBool, AtomicUsize, AtomicWaker, Ordering, SegQueue, fence};
use crate::mutant::{Mutant, is_planted};

struct Shared<T> {
    queue: SegQueue<T>,
    waker: AtomicWaker,
    senders: AtomicUsize,
    receiver_gone: AtomicBool,
}

impl<T> Shared<T> {
    fn discard(&self) {
        while self.queue.pop().is_some() {}
    }
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
        // The receiver may have gone and emptied the mailbox in between. A message left there would
        // keep what it holds, such as the sending end of a reply, for as long as there are senders;
        // so whoever comes second empties it.
        fence(Ordering::SeqCst);
        if self.0.receiver_gone.load(Ordering::Relaxed) {
            self.0.discard();
        }
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
            if !is_planted(Mutant::RaceReceiveOnce)
                && let Some(message) = self.0.queue.pop()
            {
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
        if !is_planted(Mutant::RaceLeaveUnfenced) {
            fence(Ordering::SeqCst);
        }
        self.0.discard();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Wake, Waker};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn poll<T: Send>(receiver: &mut Receiver<T>, waker: &Waker) -> Poll<Option<T>> {
        pin!(receiver.recv()).poll(&mut Context::from_waker(waker))
    }

    #[test]
    fn messages_come_in_order_and_wake_a_receiver_that_waits() {
        let (sender, mut receiver) = mailbox();
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        assert_eq!(poll(&mut receiver, &waker), Poll::Pending);
        sender.send(1).unwrap();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        sender.send(2).unwrap();
        assert_eq!(count.0.load(Ordering::SeqCst), 1, "it has not waited again");
        assert_eq!(poll(&mut receiver, &waker), Poll::Ready(Some(1)));
        assert_eq!(receiver.try_recv(), Some(2));
        assert_eq!(receiver.try_recv(), None);
    }

    #[test]
    fn the_last_sender_to_leave_ends_the_mailbox_after_its_messages() {
        let (sender, mut receiver) = mailbox();
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let other = sender.clone();
        assert_eq!(poll(&mut receiver, &waker), Poll::Pending);
        drop(sender);
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        other.send(3).unwrap();
        drop(other);
        assert!(count.0.load(Ordering::SeqCst) > 0);
        assert_eq!(poll(&mut receiver, &waker), Poll::Ready(Some(3)));
        assert_eq!(poll(&mut receiver, &waker), Poll::Ready(None));
    }

    #[test]
    fn a_message_to_nobody_comes_back_and_waiting_ones_are_dropped() {
        let (sender, receiver) = mailbox();
        let message = Arc::new(());
        sender.send(message.clone()).unwrap();
        drop(receiver);
        assert_eq!(Arc::strong_count(&message), 1);
        assert_eq!(sender.send(message.clone()), Err(message.clone()));
        assert_eq!(Arc::strong_count(&message), 1);
    }

    #[test]
    fn no_message_is_lost_or_kept_when_the_receiver_leaves_among_sends() {
        for _ in 0..200 {
            let (sender, mut receiver) = mailbox();
            let message = Arc::new(());
            let copy = message.clone();
            let thread = std::thread::spawn(move || {
                let accepted = (0..50).filter(|_| sender.send(copy.clone()).is_ok()).count();
                (accepted, sender)
            });
            while receiver.try_recv().is_none() {
                std::hint::spin_loop();
            }
            drop(receiver);
            let (accepted, sender) = thread.join().unwrap();
            assert!(accepted >= 1);
            assert_eq!(Arc::strong_count(&message), 1, "nothing stays behind while a sender lives");
            drop(sender);
        }
    }
}
