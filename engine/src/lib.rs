//! The storage engine of Nabu Store: one ring, one log and one index per core.
//!
//! | room | question it answers |
//! | --- | --- |
//! | [`ring`] | how do we talk to the kernel? (the only room with `unsafe`) |
//! | [`runtime`] | how does one core run its tasks, timers and mailbox? |
//! | [`io`] | what may everything above see of disk, clock and scheduler? |
//! | [`sim`] | the same seam from a seed, with faults |
//! | [`log`] | how do bytes become durable, and what is found after a crash? |
//! | [`index`] | where is the blob with this id? |
//! | [`cache`] | which verified bytes stay in memory, and who reads the others? |
//! | [`warmer`] | who finds memory for the cache before it is needed? |
//! | [`maintenance`] | what runs beside the cores, at low priority, and on what? |
//! | [`content`] | how do the bytes of a content change hands? |
//! | [`store`] | put, get, delete, list over the above |
//!
//! The engine knows no HTTP and no cluster.

pub(crate) mod atomics;
pub mod cache;
pub mod content;
pub mod index;
pub mod io;
pub mod log;
pub mod mailbox;
pub mod maintenance;
pub mod memory;
#[doc(hidden)]
pub mod mutant;
#[doc(hidden)]
pub mod probe;
pub mod ring;
pub mod runtime;
pub mod sim;
pub mod store;
pub mod sync;
pub mod types;
pub mod warmer;
