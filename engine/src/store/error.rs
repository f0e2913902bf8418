//! Why the store could not do what it was asked for, or could not be opened.
//!
//! Each variant of [`StoreError`] carries what its message needs, and says which status of HTTP it
//! becomes.

use std::fmt;

use crate::log::error::LogError;
use crate::store::meta::{BLOB_SIZE_MAX, LABELS_BYTES_MAX, LABELS_MAX};
use crate::types::{BlobId, ContentHash};

/// Why the store could not do it.
#[derive(Debug, Clone)]
pub enum StoreError {
    /// No space for more data; deletes and reads still work. `507`
    Full,
    /// An announced content is larger than all that is free or may come free. `507`
    NoRoom { size: u64, room: u64 },
    /// Together with those that are stored, the labels are more than [`LABELS_MAX`] or
    /// [`LABELS_BYTES_MAX`]. `422`
    TooManyLabels { id: BlobId },
    /// The content has this hash, not the promised one. Nothing was stored. `422`
    HashMismatch { expected: ContentHash, actual: ContentHash },
    /// Another content with this id is stored. `409`
    Collision { id: BlobId },
    /// Longer than [`BLOB_SIZE_MAX`]. `413`
    TooLarge,
    /// What is on the disk fails its checksum. `500`, and never the wrong bytes.
    Damaged { id: BlobId },
    /// The scrub found it damaged: it is under quarantine until it is stored again or deleted.
    /// `500`
    Quarantined { id: BlobId, reason: String },
    /// The disk refused a write or a sync; nothing was acknowledged. `503`
    WriteFailed { reason: String },
    /// The disk refused a read; in the data directory with this index. `500`
    ReadFailed { id: BlobId, dir: usize, reason: String },
    /// The data directory with this index was taken out: its disk does not answer, or is away.
    /// `503`
    DirectoryOut { dir: usize, reason: String },
    /// So many data directories are missing, and it may lie there. `503`
    Degraded { missing: u32 },
    /// No buffer became free in time, or no descriptor is left. `503`
    Busy,
    /// The store is shutting down. `503`
    Closed,
}

/// Why the store could not be opened. The message names the directory and the remedy.
#[derive(Debug, Clone)]
pub struct OpenError(pub String);

impl fmt::Display for OpenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for OpenError {}

impl From<LogError> for StoreError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Full => StoreError::Full,
            LogError::InDoubt { full: true, .. } => StoreError::Full,
            LogError::Failed(reason) | LogError::InDoubt { reason, .. } => StoreError::WriteFailed { reason },
            LogError::Closed => StoreError::Closed,
        }
    }
}

impl StoreError {
    /// Whether what could not be read may be known later.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, StoreError::ReadFailed { .. } | StoreError::Busy)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Full => formatter.write_str("no space is left for more data"),
            StoreError::NoRoom { size, room } => {
                write!(formatter, "{size} bytes can't fit: at most {room} may become free")
            }
            StoreError::TooManyLabels { id } => write!(
                formatter,
                "with those already stored, {id} has more than {LABELS_MAX} labels or {LABELS_BYTES_MAX} bytes of them"
            ),
            StoreError::HashMismatch { expected, actual } => {
                write!(formatter, "the content's SHA-256 is {actual:?}, not {expected:?}")
            }
            StoreError::Collision { id } => write!(formatter, "other content is stored under {id}"),
            StoreError::TooLarge => write!(formatter, "a blob has at most {BLOB_SIZE_MAX} bytes"),
            StoreError::Damaged { id } => write!(formatter, "the stored bytes of {id} fail their checksum"),
            StoreError::Quarantined { id, reason } => write!(formatter, "{id} is under quarantine: {reason}"),
            StoreError::WriteFailed { reason } => formatter.write_str(reason),
            StoreError::ReadFailed { id, dir, reason } => {
                write!(formatter, "{id} could not be read from data directory {}: {reason}", dir + 1)
            }
            StoreError::Degraded { missing } => {
                write!(
                    formatter,
                    "the store is degraded: {missing} of its data directories are missing, and it may lie there"
                )
            }
            StoreError::DirectoryOut { dir, reason } => {
                write!(formatter, "data directory {} was taken out: {reason}", dir + 1)
            }
            StoreError::Busy => formatter.write_str("no buffer became free in time"),
            StoreError::Closed => formatter.write_str("the store is shutting down"),
        }
    }
}

impl std::error::Error for StoreError {}
