//! Calls that the ring can't make and that block: each on a thread of its own.
//!
//! They are few (a segment's end, a look at the free space), and on a disk that does not answer
//! they never return. A thread that hangs is left to itself, and ends with the process.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread;

/// Bytes of such a thread's stack.
const STACK_BYTES: usize = 128 << 10;

struct Call<T> {
    outcome: Option<T>,
    waker: Option<Waker>,
}

/// Makes the call on a thread of its own; on this one where no thread is to be had.
pub(super) async fn block<T: Send + 'static>(call: impl FnOnce() -> T + Clone + Send + 'static) -> T {
    let shared = Arc::new(Mutex::new(Call { outcome: None, waker: None }));
    let (there, own) = (shared.clone(), call.clone());
    let started = thread::Builder::new().name("disk-call".to_owned()).stack_size(STACK_BYTES).spawn(move || {
        let outcome = own();
        let mut call = there.lock().unwrap_or_else(PoisonError::into_inner);
        call.outcome = Some(outcome);
        let waker = call.waker.take();
        drop(call);
        waker.into_iter().for_each(Waker::wake);
    });
    if started.is_err() {
        return call();
    }
    poll_fn(|context| {
        let mut call = shared.lock().unwrap_or_else(PoisonError::into_inner);
        match call.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                call.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    })
    .await
}
