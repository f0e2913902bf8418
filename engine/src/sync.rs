//! Waiting within one core: plain `Rc` and `Cell`, no atomics. What crosses cores goes through
//! [`crate::mailbox`].

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Wakes everything that waits. A waiter re-checks its condition and waits again if it does not
/// hold.
#[derive(Default)]
pub struct Notify {
    waiting: RefCell<Vec<Waker>>,
}

impl Notify {
    /// Wakes every task that waits now.
    pub fn notify(&self) {
        for waker in self.waiting.take() {
            waker.wake();
        }
    }

    /// Waits until `condition` gives a value. It is asked at once, and after each
    /// [`Notify::notify`].
    pub async fn wait_for<T>(&self, mut condition: impl FnMut() -> Option<T>) -> T {
        std::future::poll_fn(|context| match condition() {
            Some(value) => Poll::Ready(value),
            None => {
                let mut waiting = self.waiting.borrow_mut();
                if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                    waiting.push(context.waker().clone());
                }
                Poll::Pending
            }
        })
        .await
    }
}

/// The promise of one value to a task of the same core.
pub struct Promise<T>(Rc<Cell<Slot<T>>>);

/// The other end of a [`Promise`]: a future of `Some(value)`, or `None` when the promise was
/// dropped unkept.
pub struct Promised<T>(Rc<Cell<Slot<T>>>);

enum Slot<T> {
    Empty,
    Waiting(Waker),
    Kept(T),
    Broken,
    Taken,
}

/// A promise and the future of its value.
pub fn promise<T>() -> (Promise<T>, Promised<T>) {
    let slot = Rc::new(Cell::new(Slot::Empty));
    (Promise(slot.clone()), Promised(slot))
}

impl<T> Promise<T> {
    pub fn keep(self, value: T) {
        if let Slot::Waiting(waker) = self.0.replace(Slot::Kept(value)) {
            waker.wake();
        }
    }
}

impl<T> Promise<T> {
    /// Whether nobody waits for the value any more.
    pub fn is_abandoned(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }
}

impl<T> Promised<T> {
    /// The value, if it came.
    pub fn into_value(self) -> Option<T> {
        match self.0.replace(Slot::Taken) {
            Slot::Kept(value) => Some(value),
            _ => None,
        }
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        match self.0.replace(Slot::Broken) {
            Slot::Waiting(waker) => waker.wake(),
            Slot::Kept(value) => self.0.set(Slot::Kept(value)),
            Slot::Empty | Slot::Broken | Slot::Taken => {}
        }
    }
}

impl<T> Future for Promised<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        match self.0.replace(Slot::Taken) {
            Slot::Kept(value) => Poll::Ready(Some(value)),
            Slot::Broken => Poll::Ready(None),
            Slot::Empty | Slot::Waiting(_) => {
                self.0.set(Slot::Waiting(context.waker().clone()));
                Poll::Pending
            }
            Slot::Taken => panic!("a promised value was awaited again after it came"),
        }
    }
}

/// Whichever of two futures ends first.
pub enum Either<A, B> {
    First(A),
    Second(B),
}

/// Runs two futures until one ends, and drops the other. Only for futures that are safe to drop
/// half done.
pub async fn race<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> Either<A, B> {
    let mut first = std::pin::pin!(first);
    let mut second = std::pin::pin!(second);
    std::future::poll_fn(|context| {
        if let Poll::Ready(value) = first.as_mut().poll(context) {
            return Poll::Ready(Either::First(value));
        }
        if let Poll::Ready(value) = second.as_mut().poll(context) {
            return Poll::Ready(Either::Second(value));
        }
        Poll::Pending
    })
    .await
}

/// A lock whose holder may wait for I/O; waiters get it in the order in which they came.
pub struct Turns {
    busy: Cell<bool>,
    waiting: RefCell<VecDeque<Promise<()>>>,
}

/// The turn of one task; dropping it passes the turn on.
pub struct Turn<'t>(&'t Turns);

impl Turns {
    pub fn new() -> Self {
        Self { busy: Cell::new(false), waiting: RefCell::default() }
    }

    pub async fn take(&self) -> Turn<'_> {
        while self.busy.get() {
            let (promise, promised) = promise();
            self.waiting.borrow_mut().push_back(promise);
            promised.await;
        }
        self.busy.set(true);
        Turn(self)
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.busy.set(false);
        let mut waiting = self.0.waiting.borrow_mut();
        // Who has gone away does not pass the turn on.
        while let Some(next) = waiting.pop_front() {
            if !next.is_abandoned() {
                next.keep(());
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_kept_promise_gives_its_value_and_a_dropped_one_says_so() {
        let (promise_kept, mut kept) = promise();
        assert!(poll_once(Pin::new(&mut kept)).is_pending());
        promise_kept.keep(7);
        assert_eq!(poll_once(Pin::new(&mut kept)), Poll::Ready(Some(7)));

        let (promise_broken, mut broken) = promise::<u8>();
        assert!(poll_once(Pin::new(&mut broken)).is_pending());
        drop(promise_broken);
        assert_eq!(poll_once(Pin::new(&mut broken)), Poll::Ready(None));
    }

    #[test]
    fn turns_are_taken_one_at_a_time() {
        let turns = Turns::new();
        let mut first = Box::pin(turns.take());
        let Poll::Ready(turn) = poll_once(first.as_mut()) else { panic!("nobody held it") };
        let mut second = Box::pin(turns.take());
        assert!(poll_once(second.as_mut()).is_pending());
        drop(turn);
        assert!(poll_once(second.as_mut()).is_ready());
    }
}
