//! Put, get, delete and list over log and index; the only writer of the index.
//!
//! Each core has a [`Shard`]. Any shard takes any request: it asks the owner of the id by message,
//! and reads, hashes and writes bytes itself.
//!
//! Nouns, what a thing is, lie below; verbs, what is done with it, above. A noun imports no verb.
//! The verbs of a shard are methods of [`Shard`], each in the file of its subject.
//!
//! | nouns | question |
//! | --- | --- |
//! | [`options`], [`limits`] | what is a store told, and how much of a thing makes it act? |
//! | [`meta`], [`status`], [`error`] | what does it answer? |
//! | [`location`], [`ownership`] | what does the index say of a record, and whose ids are which? |
//! | [`message`], [`calls`] | what do cores say to one another? |
//! | [`locks`], [`recent`] | who works on an id, and where was it found lately? |
//! | [`cached`] | what lies in the cache, and under which key? |
//! | [`hash_steps`] | what is hashed at a time? |
//! | [`accounting`], [`uncounted`], [`recount`] | what is counted as live, and what not yet? |
//! | [`in_use`] | which large blobs are being read? |
//! | [`event`] | what is the reclaimer told? |
//! | [`worker`], [`progress`], [`quarantine`] | what works in the background, and what did it do? |
//! | [`space`], [`pressure`] | how short is space, and what follows? |
//! | [`background`], [`shared`] | what do workers and all cores share? |
//! | [`shard`] | what does one core have? |
//!
//! | verbs | question |
//! | --- | --- |
//! | [`open`] | how does a shard come up from what the disks hold? |
//! | [`owner`] | what does a shard do as the owner of its ids? |
//! | [`upload`], [`fit`], [`hashing`], [`written`], [`slowdown`] | how does a blob come in? |
//! | [`blob`], [`reader`], [`pin`] | how does it go out? |
//! | [`fetch`], [`records`] | how are its records read, through the cache and without it? |
//! | [`delete`] | how does it go? |
//! | [`counting`], [`reclaim`], [`checkpoint`] | what is dead, and how does its space come back? |
//! | [`compaction`], [`scrub`] | what is done in the background? |
//! | [`offline`] | what does a store hold that nobody serves? |

mod accounting;
mod background;
mod backoff;
mod blob;
mod cached;
mod calls;
mod checkpoint;
mod compaction;
mod counting;
mod delete;
mod error;
mod event;
mod fetch;
mod fit;
mod hash_steps;
mod hashing;
mod in_use;
#[cfg(all(test, feature = "loom"))]
mod interleavings;
mod limits;
mod location;
mod locks;
mod message;
mod meta;
pub mod offline;
mod open;
mod options;
mod owner;
mod ownership;
mod pin;
mod pressure;
mod progress;
mod quarantine;
mod reader;
mod recent;
mod reclaim;
mod records;
mod recount;
mod scrub;
mod shard;
mod shared;
mod slowdown;
mod space;
mod status;
mod uncounted;
mod upload;
mod worker;
mod written;

pub use crate::cache::CacheStatus;
pub use blob::Blob;
pub use compaction::compact;
pub use error::{OpenError, StoreError};
pub use fetch::SMALL_PAYLOAD_MAX;
pub use limits::{CompactionLimits, Limits};
pub use meta::{BLOB_SIZE_MAX, BlobMeta, LABELS_BYTES_MAX, LABELS_MAX};
pub use options::{Missing, StoreOptions};
pub use progress::{CompactionStatus, ScrubStatus};
pub use quarantine::{Ailment, Quarantined};
pub use reader::BlobReader;
pub use scrub::{ScrubOptions, scrub};
pub use shard::{Page, Shard};
pub use shared::Store;
pub use status::{Holdings, SegmentCounts, StoreStatus};
pub use upload::{CommitOptions, Stored, Upload};
pub use worker::Worker;
