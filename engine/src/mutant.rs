//! Bugs that can be planted in the engine, so that the tests can show that they would find them: a
//! suite that catches none proves nothing.
//!
//! They are compiled in with the feature `mutants` alone, and even then the environment must name
//! one: `NABU_MUTANT=skip-sync`. One build so serves all of them (`scripts/mutants`). Not an
//! interface for programs.

use std::sync::LazyLock;

macro_rules! mutants {
    ($($(#[$doc:meta])* $mutant:ident = $name:literal,)*) => {
        /// A planted bug.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Mutant {
            $($(#[$doc])* $mutant,)*
        }

        impl Mutant {
            /// All of them with the names by which they are chosen.
            pub const ALL: &[(Mutant, &str)] = &[$((Mutant::$mutant, $name),)*];
        }
    };
}

mutants! {
    // The log.
    /// Payloads are not compared with their checksums.
    SkipChecksum = "skip-checksum",
    /// Records are acknowledged without a sync.
    SkipSync = "skip-sync",
    /// A sync that failed is tried again.
    RetrySync = "retry-sync",
    /// Records are acknowledged when they are written, beside the sync.
    AcknowledgeEarly = "acknowledge-early",
    /// A sync counts for writes that are still in flight.
    SyncInFlight = "sync-in-flight",
    /// A segment whose sync failed takes more records.
    FenceNothing = "fence-nothing",
    /// The name of a new segment is not made durable.
    SegmentNameUnsynced = "segment-name-unsynced",
    /// The footer is written without what it lists being durable before.
    SealUnsynced = "seal-unsynced",
    /// A scan cuts at the first hole, whatever a later record says.
    CutInTheMiddle = "cut-in-the-middle",
    /// A scan keeps what lies behind a torn tail.
    KeepTornTail = "keep-torn-tail",
    /// The entries of a footer are believed without their checksum.
    TrustFooter = "trust-footer",
    // The start.
    /// Of two records of an id the one that is read later counts.
    LastRecordCounts = "last-record-counts",
    /// A tombstone that is read before the record of its blob is forgotten.
    TombstoneForgotten = "tombstone-forgotten",
    /// What a scan found is trusted though it may be on its way to the disk yet.
    TailNotRewritten = "tail-not-rewritten",
    /// The names of segments are trusted though they may not be durable.
    SegmentsUnsettled = "segments-unsettled",
    /// The same for the names in a data directory.
    DirectoryUnsettled = "directory-unsettled",
    /// What could not be read is taken for gone.
    IncompleteIsComplete = "incomplete-is-complete",
    /// Sequences are given out again that a checkpoint stands for.
    SequencesAgain = "sequences-again",
    // The checkpoint.
    /// A slice does not list the operations under way.
    SliceWithoutOperations = "slice-without-operations",
    /// Segments are covered though outcomes of records in them are not in the index.
    CoverUnapplied = "cover-unapplied",
    /// Entries of segments that are gone are kept.
    KeepGoneEntries = "keep-gone-entries",
    // Operations.
    /// A tombstone says that everything of its id lies before the segment in which its blob lies.
    WatermarkShort = "watermark-short",
    /// A blob is gone for readers before its tombstone is durable.
    DeleteEarly = "delete-early",
    /// The next in line gets the sequence of the one before.
    StaleSequence = "stale-sequence",
    /// What is in doubt is taken for what the index says.
    DoubtForgotten = "doubt-forgotten",
    /// Only the first piece in each segment is made durable.
    FirstPieceDurable = "first-piece-durable",
    /// A location that another core remembers stays when its blob goes.
    RecentStays = "recent-stays",
    /// A record is one unit longer when it is counted dead than when it was live.
    AccountWrong = "account-wrong",
    /// The pieces of a blob that is gone stay live when its list can't be read.
    ListLost = "list-lost",
    /// Nobody remembers as which the segments know the pieces of a blob that was moved.
    TenantsUnknown = "tenants-unknown",
    // Space.
    /// A segment is retired without a look at its tombstones.
    ReclaimEarly = "reclaim-early",
    /// Segments that are about to go do not count as old ones.
    ForgetLeaving = "forget-leaving",
    /// Tombstones are written again, and nobody waits until they are durable.
    CarryUnawaited = "carry-unawaited",
    // Compaction.
    /// A moved record is entered though its blob was deleted or replaced meanwhile.
    MoveBlindly = "move-blindly",
    /// Pieces are given back that somebody is reading.
    MoveUnderReaders = "move-under-readers",
    /// A record is entered where it was moved to before it is durable there.
    MoveUndurable = "move-undurable",
    /// A record lists copies that are not durable.
    CopiesUndurable = "copies-undurable",
    /// A moved record keeps its sequence.
    MoveKeepsSequence = "move-keeps-sequence",
    // The scrub.
    /// It reads no records.
    ScrubTrustsFooter = "scrub-trusts-footer",
    // What cores share. Caught by the tests called `interleavings`, not by the simulation, in which
    // one thread plays all cores.
    /// A core looks at its queue before others can see that it sleeps.
    RaceSleepUnfenced = "race-sleep-unfenced",
    /// Who queues a task for a core looks whether it sleeps before the core can see the task.
    RaceRingUnfenced = "race-ring-unfenced",
    /// A receiver does not look at its mailbox again once it can be woken.
    RaceReceiveOnce = "race-receive-once",
    /// A receiver that leaves empties its mailbox before senders can see that it is gone.
    RaceLeaveUnfenced = "race-leave-unfenced",
    /// A worker looks whether its bell was rung before it can be woken.
    RaceHearFirst = "race-hear-first",
    /// What is live or unapplied in a segment is read before its state.
    RaceStateLast = "race-state-last",
    /// The state of a segment says nothing of what was counted before.
    RaceStateRelaxed = "race-state-relaxed",
    /// That an operation is in the index says nothing of the index.
    RaceAppliedRelaxed = "race-applied-relaxed",
    /// That a core has counted what is live says nothing of what it counted.
    RaceCountedRelaxed = "race-counted-relaxed",
    /// An owner's changes are read when it has answered.
    RaceRememberLate = "race-remember-late",
    /// Two reservations see the same room in the cache.
    RaceReserveTwice = "race-reserve-twice",
    /// A read has ended before what it brought is in the cache.
    RaceLandEarly = "race-land-early",
    /// Who waits for a read is woken before its outcome is there.
    RaceWakeEarly = "race-wake-early",
    /// The quarantine does not outlive a stop.
    QuarantineForgets = "quarantine-forgets",
    // Caught by the tests of the log, seldom by the simulation.
    /// A segment is synced by several at the same time.
    SyncsOverlap = "syncs-overlap",
    // Caught by the tests of the pipe, not by the simulation.
    /// Memory that a socket may hold is used again.
    ReuseSpliced = "reuse-spliced",
}

/// The one that the environment names.
///
/// # Panics
/// If there is none of this name.
static PLANTED: LazyLock<Option<Mutant>> = LazyLock::new(|| {
    let name = std::env::var("NABU_MUTANT").ok()?;
    let known = Mutant::ALL.iter().find(|(_, known)| *known == name);
    Some(known.unwrap_or_else(|| panic!("NABU_MUTANT={name}: there is no such mutant")).0)
});

/// Whether this bug is planted. False, and nothing at all at run time, without the feature.
pub(crate) fn is_planted(mutant: Mutant) -> bool {
    cfg!(feature = "mutants") && (*PLANTED == Some(mutant) || is_planted_by_test(mutant))
}

#[cfg(not(all(test, feature = "loom")))]
fn is_planted_by_test(_: Mutant) -> bool {
    false
}

#[cfg(all(test, feature = "loom"))]
use by_test::is_planted_by_test;

/// Bugs that a test plants for itself: the threads of a model all run on the thread of their test.
#[cfg(all(test, feature = "loom"))]
pub(crate) mod by_test {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    pub(super) fn is_planted_by_test(mutant: Mutant) -> bool {
        PLANTED.get() == Some(mutant)
    }

    /// Plants a bug for the rest of the calling test.
    pub(crate) fn plant(mutant: Mutant) {
        PLANTED.set(Some(mutant));
    }
}
