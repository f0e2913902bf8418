//! Counts of rare events inside the store, so that tests can show that they reached what they mean
//! to test.
//!
//! One relaxed addition for things that happen at most once a segment or a fault; not an interface
//! for programs.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! events {
    ($($(#[$doc:meta])* $event:ident,)*) => {
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Event {
            $($(#[$doc])* $event,)*
        }

        impl Event {
            pub const ALL: &[Event] = &[$(Event::$event,)*];
        }
    };
}

events! {
    /// A scan cut a torn tail with bytes in it.
    TornTailCut,
    /// A scan found damage in what was durable.
    DamageFound,
    /// Recovery could not read a part of a segment.
    SegmentUnreadable,
    /// Recovery found a damaged header, and another copy of it.
    HeaderCopyUsed,
    /// Recovery found a sealed segment without a sound footer.
    FooterLost,
    /// A read was tried again, and then gave what was written.
    RereadHelped,
    SegmentFenced,
    /// Missing data directories were given up.
    DirectoriesForgotten,
    /// A data directory takes no more writes, or is gone, until the next start.
    DirectoryTakenOut,
    SegmentSealed,
    /// A sealed segment was cut to what it holds.
    SegmentCutShort,
    SegmentRetired,
    /// A segment that was damaged when the store started was emptied and given up.
    DamagedSegmentLeft,
    /// The file of a retired segment became a segment again.
    FileReused,
    /// The file of a sealed segment was opened for a read.
    FileOpenedAgain,
    CheckpointWritten,
    CheckpointUsed,
    /// There were segments that the checkpoint did not cover: the store had gone on after it.
    CheckpointOutrun,
    CheckpointRefused,
    /// An operation was under way, or in doubt, in a slice of a checkpoint.
    SliceMetOperation,
    SliceMetDoubt,
    /// A sealed segment was not covered, because an outcome of it was not in the index yet.
    CoverRefused,
    /// An operation overruled others that were in doubt.
    DoubtOverruled,
    /// Labels were added to a blob that was stored.
    LabelsAdded,
    TombstoneCarried,
    /// Compaction moved a record, the pieces of a blob, and all of a segment.
    RecordMoved,
    PiecesMoved,
    SegmentEmptied,
    /// A blob was deleted or stored anew before compaction came to move it; was in use; pieces were
    /// moved that somebody was reading.
    MoveOvertaken,
    MoveRefused,
    MovedWhileRead,
    /// The pieces of a blob were counted after a disk had refused to tell them.
    CountedLater,
    /// The list of a blob that is gone could not be read, and its segments told what it had there.
    PiecesOfNoList,
    /// A segment was taken out of service while somebody used it yet.
    RetiredAfterUse,
    /// The scrub ended a pass; found damage beside what is live; put a blob under quarantine, or
    /// only listed it; something was put right.
    ScrubPassed,
    ScrubFound,
    Quarantined,
    ListedUnreadable,
    ScrubMended,
    ExtentPageWritten,
    ExtentPageRead,
    /// Frames of an upload were hashed by another core than its own.
    HashedElsewhere,
    /// The kernel was through with a zero-copy send and had not copied for it.
    ZeroCopySendKept,
    /// The kernel copied for a zero-copy send after all.
    ZeroCopySendCopied,
}

static COUNTS: [AtomicU64; Event::ALL.len()] = [const { AtomicU64::new(0) }; Event::ALL.len()];

thread_local! {
    static COUNTS_HERE: [Cell<u64>; Event::ALL.len()] = const { [const { Cell::new(0) }; Event::ALL.len()] };
}

pub(crate) fn hit(event: Event) {
    COUNTS[event as usize].fetch_add(1, Ordering::Relaxed);
    COUNTS_HERE.with(|counts| counts[event as usize].set(counts[event as usize].get() + 1));
}

/// How often it happened in this thread: in a simulation, which runs in one.
pub fn count_here(event: Event) -> u64 {
    COUNTS_HERE.with(|counts| counts[event as usize].get())
}

/// How often it happened in this process, over all stores.
pub fn count(event: Event) -> u64 {
    COUNTS[event as usize].load(Ordering::Relaxed)
}
