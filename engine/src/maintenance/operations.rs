//! Operations as tasks of their own, and how many there are.
//!
//! Invariants: an operation runs to its end though nobody waits for it any more, as the seam
//! demands; and the executor outlives every operation. Both are needed of `glommio` in any case: it
//! cancels what is dropped, it leaks the descriptor of an open that is dropped, its thread for
//! blocking calls panics when the executor is gone before it, and a read still in flight would
//! write into memory given back.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};

use glommio::TaskQueueHandle;

#[derive(Default)]
pub(super) struct Operations {
    in_flight: Cell<usize>,
    is_closed: Cell<bool>,
    end_waiter: RefCell<Option<Waker>>,
}

impl Operations {
    pub fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    /// Runs an operation to its end. It must not wait for another: after [`Operations::close`] none
    /// begins any more, and waiting for one never ends.
    pub async fn run<T: 'static>(
        self: &Rc<Self>,
        queue: TaskQueueHandle,
        operation: impl Future<Output = T> + 'static,
    ) -> T {
        if self.is_closed.get() {
            return pending().await;
        }
        let in_flight = InFlight::new(self);
        let task = async move {
            let outcome = operation.await;
            drop(in_flight);
            outcome
        };
        let handle =
            glommio::spawn_local_into(task, queue).expect("the queues are there as long as the executor").detach();
        match handle.await {
            Some(outcome) => outcome,
            // Only a panic ends an operation early, and that ends the thread.
            None => pending().await,
        }
    }

    /// Waits until nothing is in flight; nothing begins from now on.
    pub async fn close(&self) {
        self.is_closed.set(true);
        poll_fn(|context| {
            if self.in_flight.get() == 0 {
                return Poll::Ready(());
            }
            *self.end_waiter.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// A call that blocks, on the executor's thread for such. To be called from within an operation.
pub(super) async fn block<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    glommio::executor().spawn_blocking(call).await
}

struct InFlight(Rc<Operations>);

impl InFlight {
    fn new(operations: &Rc<Operations>) -> Self {
        operations.in_flight.set(operations.in_flight.get() + 1);
        Self(operations.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let left = self.0.in_flight.get() - 1;
        self.0.in_flight.set(left);
        if left == 0
            && let Some(waiter) = self.0.end_waiter.take()
        {
            waiter.wake();
        }
    }
}
