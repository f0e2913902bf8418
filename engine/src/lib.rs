//! The storage engine of Nabu Store: one ring, one log and one index per core.
//!
//! | room | question it answers |
//! | --- | --- |
//! | [`ring`] | how do we talk to the kernel? (the only room with `unsafe`) |
//! | [`runtime`] | how does one core run its tasks and timers? |
//! | [`mailbox`] | how does a message reach a core? |
//! | [`io`] | what may everything above see of disk, clock and scheduler? |
//! | [`link`] | what may everything above see of other machines? |
//! | [`sim`] | the same seams from a seed, with faults |
//! | [`memory`] | how much memory may frames take, and who waits? |
//! | [`log`] | how do bytes become durable, and what is found after a crash? |
//! | [`index`] | where is the blob with this id? |
//! | [`cache`] | which verified bytes stay in memory, and who reads the others? |
//! | [`warmer`] | who finds memory for the cache before it is needed? |
//! | [`maintenance`] | what runs beside the cores, at low priority, and on what? |
//! | [`content`] | how do the bytes of a content change hands? |
//! | [`store`] | put, get, delete, list over the above |
//! | [`sync`] | how do the tasks of one core wait for one another? |
//! | `atomics` | through what do threads share memory? |
//! | [`sha256`] | what is the hash of these bytes? |
//! | [`types`] | the small nouns that every room shares |
//!
//! The engine knows no HTTP and no cluster. Its rooms import one another in one direction, and so
//! do the files in them (`scripts/rooms`).

#![deny(unsafe_code)]

pub(crate) mod atomics;
pub mod cache;
pub mod content;
pub mod index;
pub mod io;
pub mod link;
pub mod log;
pub mod mailbox;
pub mod maintenance;
pub mod memory;
#[doc(hidden)]
pub mod mutant;
#[doc(hidden)]
pub mod probe;
// It shares memory with the kernel, and makes the system calls that the standard library lacks.
#[allow(unsafe_code)]
pub mod ring;
pub mod runtime;
pub mod sha256;
pub mod sim;
pub mod store;
pub mod sync;
pub mod types;
pub mod warmer;
