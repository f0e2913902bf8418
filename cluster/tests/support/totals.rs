//! What has happened over all seeds: a run in which something never happened has shown nothing of
//! it.

use std::collections::BTreeMap;

#[derive(Default, Debug)]
pub struct Totals {
    pub seeds: u64,
    pub counts: BTreeMap<&'static str, u64>,
}

impl Totals {
    pub fn add(&mut self, counts: &BTreeMap<&'static str, u64>) {
        self.seeds += 1;
        for (name, count) in counts {
            *self.counts.entry(name).or_default() += count;
        }
    }
}

/// What has to happen in many seeds.
pub const EXPECTED: &[&str] = &[
    "sets",
    "sets in doubt",
    "reads",
    "leaders",
    "verdicts",
    "returns",
    "reports",
    "caught up too late",
    "starts",
    "joins",
    "cuts",
    "crashes by power",
    "crashes by kill",
    "crashes within a commit",
    "pauses",
    "disks lost",
    "answers for another disk",
    "rooms made",
    "voters changed",
    "removals",
    "snapshots",
    "commands doubled",
    "leaders killed",
    "voters killed",
    "silences",
    "doomed heard",
    "kills while cut off",
    "old incarnations refused",
    "majorities lost",
    "recoveries",
    "stops agreed",
    "stops not agreed",
];

impl Totals {
    /// What should have happened, and never did.
    pub fn never_met(&self) -> Vec<&'static str> {
        EXPECTED.iter().copied().filter(|name| !self.counts.contains_key(name)).collect()
    }
}
