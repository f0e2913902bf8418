//! Calls that the ring can't make and that block: each on a thread of its own.
//!
//! They are few (a segment's end, a look at the free space, the name of another machine), and on a
//! disk that does not answer they never return. A thread that hangs is left to itself, and ends
//! with the process.

use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread;

/// Bytes of the stack of a thread that asks a disk.
const STACK_BYTES: usize = 128 << 10;

struct Call<T> {
    outcome: Option<T>,
    waker: Option<Waker>,
}

/// Makes the call on a thread of its own; on this one if no thread can be started.
pub(super) async fn block<T: Send + 'static>(call: impl FnOnce() -> T + Clone + Send + 'static) -> T {
    match start("disk-call", STACK_BYTES, call.clone()) {
        Ok(shared) => outcome(&shared).await,
        Err(_) => call(),
    }
}

/// Makes the call on a thread of its own with such a name and stack, and never on this one.
///
/// # Errors
/// No thread can be started.
pub(super) async fn block_elsewhere<T: Send + 'static>(
    name: &str,
    stack_bytes: usize,
    call: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let shared = start(name, stack_bytes, call)?;
    Ok(outcome(&shared).await)
}

fn start<T: Send + 'static>(
    name: &str,
    stack_bytes: usize,
    call: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Arc<Mutex<Call<T>>>> {
    let shared = Arc::new(Mutex::new(Call { outcome: None, waker: None }));
    let there = shared.clone();
    thread::Builder::new().name(name.to_owned()).stack_size(stack_bytes).spawn(move || {
        let outcome = call();
        let mut call = there.lock().unwrap_or_else(PoisonError::into_inner);
        call.outcome = Some(outcome);
        let waker = call.waker.take();
        drop(call);
        waker.into_iter().for_each(Waker::wake);
    })?;
    Ok(shared)
}

async fn outcome<T>(shared: &Mutex<Call<T>>) -> T {
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
