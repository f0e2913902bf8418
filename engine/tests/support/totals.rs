//! What happened over all seeds: a run in which a fault never struck has tested nothing of it.

use nabu_engine::probe::{self, Event};
use nabu_engine::sim::Stats;

macro_rules! totals {
    ($($field:ident),* $(,)?) => {
        /// Counts of what clients did and what they were told.
        #[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
        pub struct Totals {
            $(pub $field: u64,)*
        }

        impl Totals {
            pub fn add(&mut self, other: &Totals) {
                $(self.$field += other.$field;)*
            }

            /// Every count with its name.
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field),)*]
            }
        }
    };
}

totals! {
    seeds,
    lives,
    scrubbed_lives,
    crashes_process,
    crashes_power,
    crashes_in_recovery,
    crashes_in_close,
    clean_closes,
    stops_at_work,
    alarms,
    cuts_at_renames,
    wipes,
    idle_lives,
    covers_cut,
    names_cut,
    pieces_stored,
    pieces_moved,
    lists_damaged,
    checkpoints_broken,
    opens_refused,
    recoveries_incomplete,
    puts_created,
    puts_existing,
    puts_dropped,
    uploads_aborted,
    deletes,
    deletes_of_nothing,
    reads_found,
    reads_absent,
    bytes_verified,
    damaged,
    refused,
    read_failed,
    write_failed,
    full_puts,
    full_deletes,
    busy,
    segments_left,
    emptied,
    rests,
    clock_jumps,
    uneven_dirs,
    steps,
    torn_writes,
    vanished_pages,
    read_errors,
    write_errors,
    no_space,
    lost_writes,
    misdirected_writes,
    sync_errors,
    sync_lies,
    dir_sync_errors,
    metadata_errors,
    slow_operations,
    stuck_operations,
    late_writes,
    flipped_reads,
    flipped_bits,
    pauses,
    priority_changes,
}

impl Totals {
    /// Takes over what the disk did.
    pub fn add_stats(&mut self, stats: &Stats) {
        self.steps += stats.steps;
        self.torn_writes += stats.torn_writes;
        self.vanished_pages += stats.vanished_pages;
        self.read_errors += stats.read_errors;
        self.write_errors += stats.write_errors;
        self.no_space += stats.no_space;
        self.lost_writes += stats.lost_writes;
        self.misdirected_writes += stats.misdirected_writes;
        self.sync_errors += stats.sync_errors;
        self.sync_lies += stats.sync_lies;
        self.dir_sync_errors += stats.dir_sync_errors;
        self.metadata_errors += stats.metadata_errors;
        self.slow_operations += stats.slow_operations;
        self.stuck_operations += stats.stuck_operations;
        self.late_writes += stats.late_writes;
        self.flipped_reads += stats.flipped_reads;
        self.flipped_bits += stats.flipped_bits;
        self.pauses += stats.pauses;
    }
}

/// What the store itself went through since the process began, over all seeds.
pub fn events() -> Vec<(Event, u64)> {
    Event::ALL.iter().map(|event| (*event, probe::count(*event))).collect()
}

/// Fails with the names of what never happened.
pub fn require(totals: &Totals, wanted: &[&str], events: &[Event]) {
    let missing = missing(totals, wanted, events);
    assert!(missing.is_empty(), "never happened: {}; of {totals:?}", missing.join(", "));
}

/// The names of what never happened.
fn missing(totals: &Totals, wanted: &[&str], events: &[Event]) -> Vec<String> {
    let named = totals.named();
    let count = |name: &str| named.iter().find(|(other, _)| *other == name).expect("a known count").1;
    let counts = wanted.iter().filter(|name| count(name) == 0).map(|name| (*name).to_string());
    counts.chain(events.iter().filter(|event| probe::count(**event) == 0).map(|event| format!("{event:?}"))).collect()
}

/// Seeds after which everything that a run of all modes can meet must have happened.
pub const SEEDS_FOR_ALL: u64 = 5_000;

/// What a run of all modes has never met, though it had seeds enough.
pub fn never_met(totals: &Totals) -> Vec<String> {
    if totals.seeds < SEEDS_FOR_ALL {
        return Vec::new();
    }
    let names: Vec<&str> = totals.named().into_iter().map(|(name, _)| name).collect();
    let wanted: Vec<&str> = names.into_iter().filter(|name| !NOT_WANTED.contains(name)).collect();
    let events: Vec<Event> = Event::ALL.iter().copied().filter(|event| !ELSEWHERE.contains(event)).collect();
    missing(totals, &wanted, &events)
}

/// Counts of what had better not be.
const NOT_WANTED: [&str; 1] = ["segments_left"];
/// Blobs of a gigabyte, sockets, and directories that are given up: other tests have those.
const ELSEWHERE: [Event; 5] = [
    Event::ExtentPageWritten,
    Event::ExtentPageRead,
    Event::ZeroCopySendKept,
    Event::ZeroCopySendCopied,
    Event::DirectoriesForgotten,
];
