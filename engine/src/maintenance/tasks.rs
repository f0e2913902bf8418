//! The tasks of the maintenance thread that have not ended, so that they can be ended with it.
//!
//! A `glommio` executor that goes away leaks what its tasks hold: their wakers are dropped when it
//! no longer counts as the executor of its own thread. A task that held the sending end of a
//! mailbox would keep the other thread waiting for ever. So each task is wrapped, and at the end
//! all are woken once more to drop themselves.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use glommio::TaskQueueHandle;

#[derive(Default)]
pub(super) struct Tasks {
    next: Cell<u64>,
    /// Those that have not ended; `None` until the task first ran.
    live: RefCell<BTreeMap<u64, Option<Waker>>>,
    is_ending: Cell<bool>,
    end_waiter: RefCell<Option<Waker>>,
}

impl Tasks {
    /// Runs a task until it ends, or the thread does. At the end of the thread no more are taken.
    pub fn spawn(self: &Rc<Self>, queue: TaskQueueHandle, task: impl Future<Output = ()> + 'static) {
        if self.is_ending.get() {
            return;
        }
        let id = self.next.get();
        self.next.set(id + 1);
        self.live.borrow_mut().insert(id, None);
        let registered = Registered { tasks: self.clone(), id, task: Some(Box::pin(task)) };
        glommio::spawn_local_into(registered, queue).expect("the queues are there as long as the executor").detach();
    }

    fn waits(&self, id: u64, waker: &Waker) {
        let mut live = self.live.borrow_mut();
        let slot = live.get_mut(&id).expect("a task that runs has not ended");
        slot.get_or_insert_with(|| waker.clone());
    }

    /// Drops every task where it waits.
    pub async fn end(&self) {
        self.is_ending.set(true);
        let wakers: Vec<Waker> = self.live.borrow().values().flatten().cloned().collect();
        wakers.into_iter().for_each(Waker::wake);
        poll_fn(|context| {
            if self.live.borrow().is_empty() {
                return Poll::Ready(());
            }
            *self.end_waiter.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

struct Registered<T> {
    tasks: Rc<Tasks>,
    id: u64,
    task: Option<Pin<Box<T>>>,
}

impl<T: Future<Output = ()>> Future for Registered<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let is_ending = self.tasks.is_ending.get();
        if let Some(task) = &mut self.task
            && !is_ending
            && task.as_mut().poll(context).is_pending()
        {
            self.tasks.waits(self.id, context.waker());
            return Poll::Pending;
        }
        self.task = None;
        Poll::Ready(())
    }
}

impl<T> Drop for Registered<T> {
    fn drop(&mut self) {
        let waker = self.tasks.live.borrow_mut().remove(&self.id);
        drop(waker);
        if self.tasks.live.borrow().is_empty()
            && let Some(waiter) = self.tasks.end_waiter.take()
        {
            waiter.wake();
        }
    }
}
