//! From the records found on the disk to the index of one core.
//!
//! Of all records of an id the one with the highest sequence counts; if that is a tombstone, the id
//! is gone. A checkpoint stands for every record it covers; see [`crate::log::checkpoint`] for what
//! is replayed on top of it.

use std::collections::BTreeMap;

use crate::index::{Entry, Index, Location};
use crate::log::checkpoint::Slice;
use crate::log::record::{Kind, Layout};
use crate::mutant::{Mutant, is_planted};
use crate::store::location::location_length;
use crate::store::message::ReplayRecord;
use crate::types::{BlobId, Sequence};

/// The index in the making. Records are entered as they come, so a start takes no memory for those
/// that do not count.
#[derive(Default)]
pub(super) struct Replay {
    index: Index,
    /// Slices of the checkpoint, without their entries; by first id once all have come.
    slices: Vec<Slice>,
    /// Ids that were deleted, and the highest sequence of that: an older record may come yet.
    deleted: BTreeMap<BlobId, Sequence>,
    /// What came before the last slice.
    early: Option<Vec<ReplayRecord>>,
}

impl Replay {
    pub fn new() -> Self {
        Self { early: Some(Vec::new()), ..Self::default() }
    }

    /// Takes a slice; its entries are those that this core owns.
    pub fn add_slice(&mut self, mut slice: Slice) {
        for entry in std::mem::take(&mut slice.entries) {
            self.index.insert(entry);
        }
        self.slices.push(slice);
    }

    pub fn discard_slices(&mut self) {
        self.slices.clear();
        self.index = Index::new();
    }

    /// All slices have come.
    pub fn begin(&mut self) {
        self.slices.sort_by_key(|slice| slice.first);
        let early = self.early.take().expect("begun once");
        self.add_records(early);
    }

    pub fn add_records(&mut self, records: Vec<ReplayRecord>) {
        match &mut self.early {
            Some(early) => early.extend(records),
            None => records.into_iter().for_each(|record| self.enter(record)),
        }
    }

    fn enter(&mut self, record: ReplayRecord) {
        let (id, sequence) = (record.entry.id, record.entry.sequence);
        if !self.counts(&id, sequence) {
            return;
        }
        match record.entry.kind {
            Kind::Tombstone => {
                let latest = self.deleted.entry(id).or_insert(sequence);
                *latest = sequence.max(*latest);
                if self.index.get(&id).is_some_and(|present| present.sequence < sequence) {
                    self.index.remove(&id);
                }
            }
            Kind::Blob => {
                let gone = self.deleted.get(&id).is_some_and(|deleted| *deleted > sequence)
                    && !is_planted(Mutant::TombstoneForgotten);
                let location = Location {
                    segment: record.segment,
                    offset_units: record.entry.offset_units,
                    length_units: location_length(record.entry.length_units, record.entry.layout != Layout::Inline),
                    sequence,
                };
                let older = self
                    .index
                    .get(&id)
                    .is_none_or(|present| present.sequence < location.sequence || is_planted(Mutant::LastRecordCounts));
                if older && !gone {
                    self.index.insert(Entry { id, location });
                }
            }
            Kind::Frame | Kind::ExtentPage | Kind::Part | Kind::Stub => unreachable!("not sent for replay"),
        }
    }

    /// All records have come.
    pub fn finish(self) -> Index {
        self.index
    }

    /// Whether a record is not reflected in the checkpoint.
    fn counts(&self, id: &BlobId, sequence: Sequence) -> bool {
        let after = self.slices.partition_point(|slice| slice.first <= *id);
        match after.checked_sub(1).map(|index| &self.slices[index]) {
            Some(slice) if *id <= slice.last => slice.must_replay(id, sequence),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::footer::FooterEntry;
    use crate::types::SegmentId;

    fn record(kind: Kind, id: u8, sequence: u64, segment: u32) -> ReplayRecord {
        ReplayRecord {
            segment: SegmentId(segment),
            entry: FooterEntry {
                kind,
                layout: Layout::Inline,
                offset_units: 64,
                length_units: 3,
                id: BlobId([id; 16]),
                sequence: Sequence(sequence),
                watermark: 0,
                version: 0,
            },
        }
    }

    fn replay(slices: Vec<Slice>, mut records: Vec<ReplayRecord>) -> Vec<(u8, u64, u32)> {
        let mut replay = Replay::new();
        for slice in slices {
            replay.add_slice(slice);
        }
        // What comes too early counts like the rest.
        let late = records.split_off(records.len() / 2);
        replay.add_records(records);
        replay.begin();
        replay.add_records(late);
        let mut entries = Vec::new();
        replay.finish().after(None, 100, &mut entries);
        entries.into_iter().map(|entry| (entry.id.0[0], entry.location.sequence.0, entry.location.segment.0)).collect()
    }

    #[test]
    fn the_highest_sequence_wins_in_whatever_order_records_come() {
        let records = [
            record(Kind::Blob, 1, 1, 1),
            record(Kind::Tombstone, 1, 2, 2),
            record(Kind::Blob, 1, 3, 3),
            record(Kind::Blob, 2, 1, 1),
            record(Kind::Tombstone, 2, 5, 4),
        ];
        for rotation in 0..records.len() {
            let mut records = records.to_vec();
            records.rotate_left(rotation);
            assert_eq!(replay(Vec::new(), records.clone()), [(1, 3, 3)]);
            records.reverse();
            assert_eq!(replay(Vec::new(), records), [(1, 3, 3)]);
        }
    }

    #[test]
    fn what_a_checkpoint_reflects_is_not_replayed_and_what_was_under_way_is() {
        let slice = Slice {
            first: BlobId([0; 16]),
            last: BlobId([9; 16]),
            sequence: Sequence(10),
            operations: vec![(BlobId([3; 16]), Sequence(8))],
            entries: vec![Entry {
                id: BlobId([1; 16]),
                location: Location { segment: SegmentId(1), offset_units: 64, length_units: 3, sequence: Sequence(4) },
            }],
        };
        let records = vec![
            // Deleted before the slice was taken, by a tombstone that is gone: must stay deleted.
            record(Kind::Blob, 2, 5, 2),
            // Under way when the slice was taken.
            record(Kind::Blob, 3, 8, 2),
            // After the slice.
            record(Kind::Blob, 4, 11, 2),
            record(Kind::Tombstone, 1, 12, 2),
            // Outside the slice.
            record(Kind::Blob, 10, 1, 2),
        ];
        assert_eq!(replay(vec![slice], records), [(3, 8, 2), (4, 11, 2), (10, 1, 2)]);
    }
}
