//! Through what threads share memory: the primitives of the standard library, or stand-ins that
//! record every access.
//!
//! With the feature `loom` they are `loom`'s, and a test can then try every order of accesses, and
//! every value that an atomic may still show, that the C11 memory model allows. The tests called
//! `interleavings` do so; nothing else runs with that feature. Without it a name here is the
//! original under another path.
//!
//! The files whose protocols are tested take their primitives from here: mailboxes and doorbells,
//! segments, the changes of an index, bells of workers, and the cache. Elsewhere atomics are plain
//! counters, flags and estimates, which no other memory depends on, or stand behind a lock. `Arc`
//! and `async-task` stay what they are: a model trusts them.

#[cfg(feature = "loom")]
mod modelled;

#[cfg(not(feature = "loom"))]
mod original {
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };
    pub(crate) use std::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

    pub(crate) use atomic_waker::AtomicWaker;
    pub(crate) use crossbeam_queue::SegQueue;
}

#[cfg(feature = "loom")]
pub(crate) use self::modelled::*;
#[cfg(not(feature = "loom"))]
pub(crate) use self::original::*;
