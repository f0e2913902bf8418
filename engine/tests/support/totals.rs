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
    flipped_bits,
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
        self.flipped_bits += stats.flipped_bits;
    }
}

/// What the store itself went through since the process began, over all seeds.
pub fn events() -> Vec<(Event, u64)> {
    Event::ALL.iter().map(|event| (*event, probe::count(*event))).collect()
}

/// Fails with the names of what never happened.
pub fn require(totals: &Totals, wanted: &[&str], events: &[Event]) {
    let named = totals.named();
    let count = |name: &str| named.iter().find(|(other, _)| *other == name).expect("a known count").1;
    let missing: Vec<String> = wanted
        .iter()
        .filter(|name| count(name) == 0)
        .map(|name| (*name).to_string())
        .chain(events.iter().filter(|event| probe::count(**event) == 0).map(|event| format!("{event:?}")))
        .collect();
    assert!(missing.is_empty(), "never happened: {}; of {totals:?}", missing.join(", "));
}
