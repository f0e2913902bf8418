//! What a log answers when a record was not written.

use crate::types::SegmentId;

/// Why a record was not written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogError {
    /// No space for another segment.
    Full,
    /// The log has given up after too many failures, or no segment could be prepared. Nothing was
    /// written.
    Failed(String),
    /// A write or sync failed. The next start may find the record or not.
    InDoubt {
        /// Where it may lie: more than one when it was tried again elsewhere. In each it counts as
        /// not applied, until its owner knows of the doubt.
        segments: Vec<SegmentId>,
        /// For want of space.
        full: bool,
        reason: String,
    },
    /// The log is being closed.
    Closed,
}

impl LogError {
    /// Where the record may lie all the same.
    pub fn segments(&self) -> &[SegmentId] {
        match self {
            LogError::InDoubt { segments, .. } => segments,
            LogError::Full | LogError::Failed(_) | LogError::Closed => &[],
        }
    }
}

pub(super) fn in_doubt(segment: SegmentId, full: bool) -> LogError {
    LogError::InDoubt {
        segments: vec![segment],
        full,
        reason: format!("the disk refused a write or a sync of segment {segment}"),
    }
}
