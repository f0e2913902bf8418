//! What is known of a stored blob beside its content, and the limits of both.
//!
//! Not here: a blob that was opened ([`super::blob`]), and how all this lies on the disk
//! ([`crate::log::record`]).

use crate::types::{BlobId, ContentHash};

/// The most bytes of one blob: 5 TiB.
pub const BLOB_SIZE_MAX: u64 = 5 << 40;
/// The most bytes of all labels of a blob, names and values together.
pub const LABELS_BYTES_MAX: usize = 2048;
/// The most labels of a blob.
pub const LABELS_MAX: usize = 64;

/// What is known of a stored blob.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlobMeta {
    pub id: BlobId,
    pub hash: ContentHash,
    pub size: u64,
    /// Nanoseconds since 1970.
    pub created_at_ns: u64,
    /// The effective policy: 1 (`NONE`) on a standalone node.
    pub policy: u8,
    /// By name, ascending.
    pub labels: Vec<(String, String)>,
}
