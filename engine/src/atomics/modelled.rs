//! The stand-ins: `loom`'s, and two of our own for crates that know nothing of `loom`. Those
//! promise no more order between threads than the originals document, so no test passes by their
//! grace.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::task::Waker;

pub(crate) use loom::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
pub(crate) use loom::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// As that of `crossbeam`. Who finds it empty learns nothing about other memory, and shows nothing
/// of its own: a lock alone would order both, and hide that a fence is missing.
pub(crate) struct SegQueue<T> {
    elements: Mutex<VecDeque<T>>,
    len: AtomicUsize,
}

impl<T> SegQueue<T> {
    pub fn new() -> Self {
        Self { elements: Mutex::new(VecDeque::new()), len: AtomicUsize::new(0) }
    }

    pub fn push(&self, element: T) {
        let mut elements = lock(&self.elements);
        elements.push_back(element);
        self.len.store(elements.len(), Ordering::Release);
    }

    pub fn pop(&self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let mut elements = lock(&self.elements);
        let element = elements.pop_front();
        self.len.store(elements.len(), Ordering::Release);
        element
    }

    pub fn is_empty(&self) -> bool {
        self.len.load(Ordering::Acquire) == 0
    }
}

/// As that of `atomic-waker`, whose steps are read-modify-writes of one word with acquire and
/// release: a lock orders the same.
#[derive(Default)]
pub(crate) struct AtomicWaker(Mutex<Option<Waker>>);

impl AtomicWaker {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn register(&self, waker: &Waker) {
        let before = lock(&self.0).replace(waker.clone());
        drop(before);
    }

    pub fn wake(&self) {
        let registered = lock(&self.0).take();
        if let Some(waker) = registered {
            waker.wake();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a future on the calling thread of a model, which sleeps while it waits, and now and then
/// wakes for nothing.
#[cfg(test)]
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Sleeper(loom::sync::Notify);

    impl std::task::Wake for Sleeper {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.notify();
        }
    }

    let sleeper = std::sync::Arc::new(Sleeper(loom::sync::Notify::new()));
    let waker = Waker::from(sleeper.clone());
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => sleeper.0.wait(),
        }
    }
}

/// Preemptions in one execution, unless `LOOM_MAX_PREEMPTIONS` says otherwise. Nearly all bugs of
/// this kind show with two (Musuvathi and Qadeer, "Iterative context bounding for systematic
/// testing of multithreaded programs", PLDI 2007); a fourth takes some five times as long.
#[cfg(test)]
const PREEMPTIONS_MAX: usize = 3;

/// Runs a model in every way in which its threads may interleave.
#[cfg(test)]
pub(crate) fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS_MAX);
    builder.check(model);
}
