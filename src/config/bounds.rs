//! The bounds of settings that have a reason, and how they relate. The others are numbers in the
//! row of their setting.

use nabu_engine::log;
use nabu_net::http::head;
use nabu_net::peer::identity;

use super::span::Span;

/// The most cores.
pub const CORES_MAX: u16 = 1024;
/// The most data directories: a superblock has room for no more.
pub const DATA_DIRS_MAX: usize = log::superblock::DIRS_MAX;
/// The most bytes of a path that the kernel takes, beside the zero at its end (`PATH_MAX`).
pub const PATH_BYTES_MAX: usize = 4095;

/// The least memory for buffers that a core can work with.
pub const MEMORY_PER_CORE_MIN: u64 = 16 << 20;
/// The default memory is a quarter of the machine's, within these bounds and
/// [`MEMORY_PER_CORE_MIN`].
pub const MEMORY_DEFAULT_MIN: u64 = 256 << 20;
/// See [`MEMORY_DEFAULT_MIN`].
pub const MEMORY_DEFAULT_MAX: u64 = 64 << 30;
/// The most memory, also on a machine that doesn't say what it has: the cache numbers 2^32 entries
/// in each of its 64 shards, and charges at least 256 bytes for each.
pub const MEMORY_MAX: u64 = 64 << 40;

/// The bounds of a segment, and what its size must be a multiple of.
pub const SEGMENT_SIZE_MIN: u64 = SEGMENT_SIZE_STEP;
/// See [`SEGMENT_SIZE_MIN`].
pub const SEGMENT_SIZE_MAX: u64 = log::SEGMENT_SIZE_MAX;
/// See [`SEGMENT_SIZE_MIN`].
pub const SEGMENT_SIZE_STEP: u64 = 1 << 20;

/// The bounds of a request's head: the parser keeps offsets into it in 16 bits.
pub const HEAD_BYTES_MIN: u64 = 1 << 10;
/// See [`HEAD_BYTES_MIN`].
pub const HEAD_BYTES_MAX: u64 = head::HEAD_BYTES_MAX as u64;
/// The bounds of a request's target, which is a part of the head and less than all of it.
pub const TARGET_BYTES_MIN: u64 = 256;
/// See [`TARGET_BYTES_MIN`].
pub const TARGET_BYTES_MAX: u64 = 63 << 10;

/// The most that a client may be required to take of an answer in a second: what a copy puts into a
/// socket at once takes it no longer than that.
pub const ANSWER_RATE_MIN_MAX: u64 = 1 << 20;

/// The most days between two scrubs.
pub const SCRUB_DAYS_MAX: u64 = 365;

/// Every request: a sample of them is in millionths.
pub const SAMPLE_ALWAYS: u32 = 1_000_000;
/// The most bytes of a log filter.
pub const LOG_FILTER_BYTES_MAX: usize = 1024;

/// The most names in a list of issuers or audiences.
pub const NAMES_MAX: usize = 64;
/// The most bytes of such a name, and of the name of a claim.
pub const TEXT_BYTES_MAX: usize = 1024;

/// The most addresses of other nodes; with this one among them, the most nodes that can be waited
/// for before a cluster is founded.
pub const JOIN_MAX: usize = 64;
/// The most bytes of the name of a node or a zone.
pub const NAME_BYTES_MAX: usize = identity::NODE_ID_BYTES_MAX;
/// How long a node may be offline before its seats are filled again. Shorter than a restart takes,
/// every restart would move data.
pub const OUT_AFTER: Span = Span { seconds_min: 60, seconds_max: 7 * 86_400 };

pub const SECOND_MS: u64 = 1_000;
pub const HOUR_MS: u64 = 3600 * SECOND_MS;
pub const DAY_MS: u64 = 24 * HOUR_MS;

const _: () = assert!(MEMORY_DEFAULT_MIN >= MEMORY_PER_CORE_MIN && MEMORY_DEFAULT_MAX <= MEMORY_MAX);
const _: () = assert!(SEGMENT_SIZE_MIN >= log::SEGMENT_SIZE_MIN && SEGMENT_SIZE_MAX.is_multiple_of(SEGMENT_SIZE_STEP));
const _: () = assert!(TARGET_BYTES_MIN < HEAD_BYTES_MIN && TARGET_BYTES_MAX < HEAD_BYTES_MAX);
