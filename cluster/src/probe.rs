//! Counts of rare events, so that tests can show that they reached what they mean to test. Not an
//! interface for programs.

use std::cell::Cell;

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
    /// A node was told what came of a join that another store had asked for.
    JoinedAnother,
    /// A node that waited for its seats, and was silent, made room for one with its name.
    MadeRoom,
    /// On each node: a node joined, started, was active again after it was offline.
    Joined,
    Started,
    Returned,
    /// On each node: a node reported on arcs that move.
    ReportCounted,
    /// A node had caught up with what it missed before it was offline again.
    CaughtUpLate,
    /// A command that had been applied came again.
    CommandDoubled,
    /// A command came that its node had given up.
    CommandGivenUp,
    /// A command or a heartbeat of an earlier start of its node came.
    OldIncarnationRefused,
    /// A node took over the state of another.
    SnapshotRestored,
    /// A snapshot did not arrive, and was sent again.
    SnapshotLost,
    /// The log was cut behind what is applied.
    LogCut,
    /// A read was asked for again.
    ReadRepeated,
    /// A heartbeat waited for a confirmation that never came.
    ConfirmationLost,
    /// A heartbeat came while the verdict on its node was under way.
    DoomedHeard,
    /// A leader was stopped for a while, and waits anew.
    LeaderStalled,
    /// A verdict was proposed.
    VerdictProposed,
    /// A node came to a cluster of which all others were leaving.
    LeaversRelieved,
    /// Voters were changed, through two groups of voters at once.
    VotersJoint,
    /// A node stopped, and the others counted it as offline by then, or it gave up waiting for
    /// that.
    StopAgreed,
    StopUnagreed,
}

thread_local! {
    static COUNTS: [Cell<u64>; Event::ALL.len()] = const { [const { Cell::new(0) }; Event::ALL.len()] };
}

pub(crate) fn hit(event: Event) {
    COUNTS.with(|counts| counts[event as usize].set(counts[event as usize].get() + 1));
}

/// How often it happened in this thread, which is where a simulation runs.
pub fn count_here(event: Event) -> u64 {
    COUNTS.with(|counts| counts[event as usize].get())
}
