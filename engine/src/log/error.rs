//! What a log answers when a record was not written.

use crate::types::SegmentId;

/// Why a record was not written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogError {
    /// No space for another segment.
    Full,
    /// The log has given up after too many failures, or no segment could be prepared. Nothing was written.
    Failed(String),
    /// A write or sync failed. The next start may find the record or not.
    InDoubt {
        /// For want of space.
        full: bool,
        reason: String,
    },
    /// The log is being closed.
    Closed,
}

pub(super) fn in_doubt(segment: SegmentId, full: bool) -> LogError {
    LogError::InDoubt { full, reason: format!("the disk refused a write or a sync of segment {segment}") }
}
