//! What the reclaimer is told, and whether it has ended.
//!
//! Anybody on any core may tell it something; what it does about that is in [`super::reclaim`].

use std::cell::Cell;
use std::rc::Rc;

use crate::sync::Notify;
use crate::types::SegmentId;

/// What the reclaimer is told.
pub(super) enum Event {
    /// Nothing in this segment is live any more, or it was fenced.
    Dead(SegmentId),
    Sealed {
        segment: SegmentId,
        bytes: u64,
    },
    /// The checkpoint is damaged.
    CheckpointDamaged,
    /// The live bytes of all segments are known.
    Accounted,
    /// What was put off is due. Nobody sends it.
    Due,
    /// The last reader of a segment that was taken out of the table is gone.
    Unused(SegmentId),
    Stop,
}

/// Whether the reclaimer of core 0 has ended.
#[derive(Default)]
pub(super) struct Reclaimer {
    pub ended: Rc<Cell<bool>>,
    pub changed: Notify,
}
