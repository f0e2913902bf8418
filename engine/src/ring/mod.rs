//! The only code that talks to the kernel through `io_uring`, and the only room with `unsafe`.
//!
//! | file | what it holds |
//! | --- | --- |
//! | [`buffer`] | block-aligned memory that direct I/O may use |
//! | `frames` | where large buffers come from, and where they go |
//! | [`probe`] | what the kernel must offer, and what to tell the operator when it does not |
//! | [`request`] | one submission together with everything the kernel will touch on its behalf |
//! | `setup` | how a ring is made: its flags, its queues, its threads |
//! | `slots` | the table of operations in flight: who owns what until the last completion |
//! | [`driver`] | the ring itself: submit, wait, reap, cancel, tear down |
//! | [`kernel_tls`] | TLS records made and opened by the kernel |
//! | [`pipe`] | moving pages of shared buffers into sockets without copying |
//! | [`provided`] | the buffers that the kernel picks from for receives |
//! | [`sys`] | the few plain system calls that the standard library lacks |
//!
//! The law of this room: memory and descriptors named by a submission belong to its slot until the
//! kernel posted the last completion for it, whatever became of the future that waits for it. A
//! [`request::Request`] can only be made by functions that take these resources by value, so code
//! outside needs no `unsafe`.

pub mod buffer;
pub mod driver;
pub mod frames;
pub mod kernel_tls;
pub mod pipe;
pub mod probe;
pub mod provided;
pub mod request;
mod setup;
mod slots;
pub mod sys;

pub use driver::{Op, Ring, Wait};
pub use slots::{ACCEPTED_MAX, Completion, Key};
