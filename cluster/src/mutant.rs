//! Bugs that can be planted in the cluster, so that its simulation can show that it finds them.
//!
//! Compiled in with the feature `mutants` alone, and then `NABU_MUTANT` names one. Not an interface
//! for programs.

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
    /// A command that comes twice is applied twice.
    ApplyTwice = "apply-twice",
    /// Commands of an earlier start of a node count.
    OldIncarnation = "old-incarnation",
    /// A node forgets with its process whom it voted for.
    VoteForgotten = "vote-forgotten",
    /// Entries are acknowledged before they are durable.
    LogUnsynced = "log-unsynced",
    /// Every read of a node goes by one context.
    ReadContextReused = "read-context-reused",
    /// A read is answered from what is applied when the leader answers, not up to its index.
    ReadUnapplied = "read-unapplied",
    /// A node counts as offline before its lease of contact must have ended.
    VerdictEarly = "verdict-early",
    /// A new leader gives verdicts without waiting first.
    VerdictAtOnce = "verdict-at-once",
    /// A leader acknowledges heartbeats without asking whether it leads still.
    AckUnconfirmed = "ack-unconfirmed",
    /// A leader acknowledges a heartbeat although the verdict on its node is under way.
    AckDoomed = "ack-doomed",
    /// A lease begins when the answer comes, not when the heartbeat was sent.
    LeaseFromAnswer = "lease-from-answer",
    /// What is applied is durable before the voters that it says are.
    VotersForgotten = "voters-forgotten",
    /// A node takes an answer for its own that is for the disk which the machine had before.
    JoinedAnother = "joined-another",
    /// A node that is about to stop keeps relying on its lease.
    StopInContact = "stop-in-contact",
    /// A node that comes to others which are all leaving is not let in on what they know.
    NewcomerIgnored = "newcomer-ignored",
    /// A node relies on its lease again before it has pulled what it missed.
    ReturningInContact = "returning-in-contact",
    /// An arc stands still when a majority of its seats has reported.
    SyncedByMajority = "synced-by-majority",
    /// A report on seats counts for those that came after them.
    SyncedOthers = "synced-others",

    // The state; `tests/control_state` looks for this.
    /// A node is active again on what it pulled before it was offline once more.
    CaughtUpBefore = "state-caught-up-before",

    // The register; `tests/register` looks for these.
    /// A seat that collects a tombstone forgets what it has promised, too.
    PromiseCollected = "register-promise-collected",
    /// An upload takes a refusal for all copies of a request that it sent twice.
    CopiesForgotten = "register-copies-forgotten",
    /// A seat takes an upload below the tombstones that it has forgotten.
    FloorIgnored = "register-floor-ignored",
    /// An upload is acknowledged when the first seat holds it.
    AcknowledgedEarly = "register-acknowledged-early",
    /// A delete continues when a majority has promised, though another seat is there.
    PromisedByMajority = "register-promised-by-majority",
    /// An upload tries another version as soon as one seat has refused.
    RetriedEarly = "register-retried-early",
    /// A read is told of a tombstone that a mere majority holds.
    TombstoneByMajority = "register-tombstone-by-majority",

    // The lane; its own tests look for these.
    /// Whom a message is from says the address that its sender claims, not its own handshake.
    SenderUnbound = "lane-sender-unbound",
    /// Pieces are put together to a message of any length.
    PiecesUnbounded = "lane-pieces-unbounded",
    /// A connection continues although what it proved is old.
    OutdatedConnection = "lane-outdated-connection",
}

static PLANTED: LazyLock<Option<Mutant>> = LazyLock::new(|| {
    let name = std::env::var("NABU_MUTANT").ok()?;
    let known = Mutant::ALL.iter().find(|(_, known)| *known == name);
    Some(known.unwrap_or_else(|| panic!("NABU_MUTANT={name}: there is no such mutant")).0)
});

/// Whether this bug is planted. False, and nothing at all at run time, without the feature.
pub(crate) fn is_planted(mutant: Mutant) -> bool {
    cfg!(feature = "mutants") && *PLANTED == Some(mutant)
}
