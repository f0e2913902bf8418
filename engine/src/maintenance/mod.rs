//! The maintenance plane: work beside the cores, on one unpinned thread of low priority.
//!
//! [`MaintenanceThread`] starts a `glommio` executor with one task queue for each kind of [`Work`];
//! [`MaintenanceIo`] is the seam [`crate::io::Io`] on it, over the same open files as the cores'.
//! What the work is, is written over the seam, and so runs in the simulation too; nothing here
//! knows blobs or segments.

mod executor;
mod files;
mod io;
mod operations;
mod priority;
mod tasks;

pub use executor::{MaintenanceThread, Queues, Work};
pub use io::MaintenanceIo;
pub use priority::Standing;
