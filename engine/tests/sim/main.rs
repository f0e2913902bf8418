//! The store on a simulated machine: scenarios that are drawn from seeds, and courses of events
//! that are forced. One program, since each of them would compile the whole store anew.

#[path = "../support/mod.rs"]
mod support;

mod cache;
mod compaction;
mod compaction_rest;
mod covers;
mod disks;
mod failed_writes;
mod footers;
mod hashing;
mod labels;
mod late_writes;
mod links;
mod misreads;
mod model;
mod names;
mod pieces;
mod readers;
mod recovery;
mod rest;
mod scrub;
mod store;
