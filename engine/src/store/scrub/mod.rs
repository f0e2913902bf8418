//! The scrub: reads everything that is stored at a set rate, and compares it with its checksums and
//! hashes.
//!
//! A pass goes over the segments in the order of their numbers. Each is read from its first byte to
//! its last, then the large blobs whose records lie in it are read through their pieces. At its
//! start the cores seal what they write to, so it covers all that was acknowledged before.
//! Superblocks and checkpoint belong to it, too. What readers find damaged on their way is looked
//! at before the pass continues.
//!
//! What fails is read again first. Then a blob is put under quarantine: it is refused until it is
//! stored again or deleted. One that the disk refuses to read is listed and not refused: should the
//! disk give it after all, its checksums decide as ever. Damage to anything else costs nobody a
//! byte yet: the segment is marked, compaction moves what is live elsewhere, and files beside the
//! segments are rewritten.
//!
//! | file | question |
//! | --- | --- |
//! | [`pass`] | what is looked at, in which order, and when again? |
//! | [`fault`] | what can be wrong? |
//! | [`pace`] | how fast? |
//! | [`window`] | how is a segment read? |
//! | [`verify`] | are these bytes what was written? |
//! | [`segment`] | what is wrong with a segment? |
//! | [`content`] | is the content of a blob what its hash says? |
//! | [`blob`] | what becomes of a blob that fails? |
//! | [`files`] | what of the other files? |
//! | [`saved`] | what outlives a restart? |

mod blob;
mod content;
mod fault;
mod files;
mod pace;
mod pass;
pub(in crate::store) mod saved;
mod segment;
mod verify;
mod window;

pub use pass::{ScrubOptions, scrub};
