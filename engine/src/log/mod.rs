//! How bytes become durable, and what is found after a crash.
//!
//! | file | noun |
//! | --- | --- |
//! | [`record`] | one record: head, checksums, payload |
//! | [`segment`] | one file of the log |
//! | [`table`] | all of them |
//! | [`header`] | what decides over a whole segment, and its copies |
//! | [`footer`] | the index at the end of a sealed segment |
//! | [`entries`] | a list of its entries, which may be long |
//! | [`sealed`] | how a footer gets to the disk and back |
//! | [`superblock`] | the identity of a data directory |
//! | [`health`] | whether a data directory still works, for all cores |
//! | [`dir_io`] | the seam to one data directory, watched |
//! | [`writer`] | the log of one core in one directory: room for records, and appends |
//! | [`open_files`] | which files are open, of more segments than may be |
//! | [`open_segment`] | the books of a segment while it is written to |
//! | [`packed`] | small records that wait for a batch |
//! | [`committer`] | packs them into batches, one sync for all |
//! | [`error`] | why a record was not written |
//! | [`counters`] | what a log counts of itself |
//! | [`lifecycle`] | a segment from its preparation until it is sealed |
//! | [`free_files`] | files that are no segments: made ahead, kept for reuse, given up |
//! | [`scan`] | what a segment without a valid footer holds: the decision table for torn tails |
//! | [`checkpoint`] | the index as of a moment, so that recovery need not read every footer |
//!
//! `docs/format.md` holds the byte tables.

pub mod checkpoint;
pub mod codec;
pub mod committer;
pub mod counters;
pub mod dir_io;
pub mod entries;
pub mod error;
pub mod extent;
pub mod footer;
pub mod free_files;
pub mod header;
pub mod health;
#[cfg(all(test, feature = "loom"))]
mod interleavings;
pub mod lifecycle;
mod open_files;
pub mod open_segment;
pub mod packed;
pub mod record;
pub mod scan;
pub mod sealed;
pub mod segment;
pub mod superblock;
pub mod table;
pub mod writer;

pub use open_files::OPEN_FILES_MAX;

/// What fails a checksum, or is refused by the disk, is read again so often before anything is
/// concluded from it: a read can go wrong once and find the right bytes the next time.
pub const REREADS: u32 = 2;
/// Records start at multiples of this, in bytes; offsets and lengths are kept in this unit.
pub const RECORD_ALIGN: usize = 64;
/// The payload of a frame, in bytes: the unit in which a large blob is received, written and read.
/// With its head it takes a huge page.
pub const FRAME_SIZE: usize = (2 << 20) - HEAD_ROOM;
/// Bytes of payload under one CRC32C.
pub const CHECK_SIZE: usize = 64 << 10;
/// A record of at most this many payload bytes is copied into a batch with others; a larger one is
/// written from where it lies.
pub const PACKED_PAYLOAD_MAX: usize = 64 << 10;
/// The room before the payload of a record that is written from where it lies, in bytes.
pub const HEAD_ROOM: usize = crate::io::BLOCK_SIZE;
/// Bytes of the smallest and the largest segment.
pub const SEGMENT_SIZE_MIN: u64 = 256 << 10;
pub const SEGMENT_SIZE_MAX: u64 = 1 << 30;
/// The version of the format on disk that this program writes. It reads this one alone.
pub const FORMAT_VERSION: u32 = 2;

const _: () = assert!(FRAME_SIZE.is_multiple_of(crate::io::BLOCK_SIZE));
const _: () = assert!(CHECK_SIZE.is_multiple_of(crate::io::BLOCK_SIZE));
const _: () = assert!(crate::io::BLOCK_SIZE.is_multiple_of(RECORD_ALIGN));
const _: () = assert!(SEGMENT_SIZE_MAX / RECORD_ALIGN as u64 <= u32::MAX as u64);

/// Bytes to units of [`RECORD_ALIGN`], rounded up.
pub const fn units(bytes: u64) -> u32 {
    bytes.div_ceil(RECORD_ALIGN as u64) as u32
}

/// Units of [`RECORD_ALIGN`] to bytes.
pub const fn bytes(units: u32) -> u64 {
    units as u64 * RECORD_ALIGN as u64
}
