//! Large blobs that are being read, over all cores.
//!
//! The record of a small blob lies in one segment, which its reader holds. The pieces of a large
//! one lie anywhere, and a reader comes to know their segments only on its way. So while somebody
//! reads it, what becomes dead of it, because it was deleted or moved, is not counted as dead: none
//! of its segments is reclaimed. The last reader that may know of those places does the counting
//! ([`super::pin`]).

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use crate::store::message::Released;
use crate::types::{BlobId, SegmentId, Sequence};

/// Who reads what. One lock for all cores, taken twice for each read of a large blob.
#[derive(Default)]
pub(super) struct InUse(Mutex<HashMap<BlobId, Reading>>);

#[derive(Default)]
struct Reading {
    /// How many read which record of it.
    readers: BTreeMap<Sequence, usize>,
    /// What to count as dead when nobody reads this record, or an older one, any more. A later
    /// record may share pieces with it.
    condemned: Vec<(Sequence, Condemned)>,
}

/// What waits to be counted as dead.
pub(super) enum Condemned {
    /// All that a blob took which has left the index.
    Blob(Released),
    /// Records that were moved, with their bytes.
    Moved(Vec<(SegmentId, u64)>),
}

impl InUse {
    pub fn enter(&self, id: BlobId, sequence: Sequence) {
        let mut all = self.0.lock().expect("no panic under the lock");
        *all.entry(id).or_default().readers.entry(sequence).or_default() += 1;
    }

    /// What the reader that leaves must count as dead.
    pub fn leave(&self, id: BlobId, sequence: Sequence) -> Vec<Condemned> {
        let mut all = self.0.lock().expect("no panic under the lock");
        let reading = all.get_mut(&id).expect("entered before");
        let count = reading.readers.get_mut(&sequence).expect("entered before");
        *count -= 1;
        if *count > 0 {
            return Vec::new();
        }
        reading.readers.remove(&sequence);
        let oldest = reading.readers.keys().next().copied();
        let (free, held) = std::mem::take(&mut reading.condemned)
            .into_iter()
            .partition(|(sequence, _)| oldest.is_none_or(|oldest| oldest > *sequence));
        reading.condemned = held;
        if oldest.is_none() {
            all.remove(&id);
        }
        let free: Vec<(Sequence, Condemned)> = free;
        free.into_iter().map(|(_, condemned)| condemned).collect()
    }

    /// Leaves the counting to the readers of this record and of older ones; gives it back when
    /// there are none.
    pub fn condemn(&self, id: BlobId, sequence: Sequence, condemned: Condemned) -> Option<Condemned> {
        let mut all = self.0.lock().expect("no panic under the lock");
        let Some(reading) = all.get_mut(&id) else { return Some(condemned) };
        if reading.readers.range(..=sequence).next().is_none() {
            return Some(condemned);
        }
        reading.condemned.push((sequence, condemned));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(segment: u32) -> Condemned {
        Condemned::Moved(vec![(SegmentId(segment), 64)])
    }

    fn segments(condemned: &[Condemned]) -> Vec<u32> {
        let of = |one: &Condemned| match one {
            Condemned::Moved(records) => records[0].0.0,
            Condemned::Blob(_) => unreachable!(),
        };
        condemned.iter().map(of).collect()
    }

    #[test]
    fn the_last_reader_of_a_record_or_an_older_one_counts_what_went_with_it() {
        let (in_use, id) = (InUse::default(), BlobId([1; 16]));
        assert!(in_use.condemn(id, Sequence(1), moved(1)).is_some(), "nobody reads it");
        in_use.enter(id, Sequence(1));
        in_use.enter(id, Sequence(1));
        assert!(in_use.condemn(id, Sequence(1), moved(1)).is_none());
        in_use.enter(id, Sequence(2));
        assert!(in_use.condemn(id, Sequence(2), moved(2)).is_none());
        assert!(in_use.leave(id, Sequence(2)).is_empty(), "the pieces may be those of the older record");
        assert!(in_use.leave(id, Sequence(1)).is_empty());
        assert_eq!(segments(&in_use.leave(id, Sequence(1))), [1, 2]);
    }

    #[test]
    fn a_reader_of_the_new_record_holds_up_nothing_of_the_old_one() {
        let (in_use, id) = (InUse::default(), BlobId([1; 16]));
        in_use.enter(id, Sequence(2));
        assert!(in_use.condemn(id, Sequence(1), moved(1)).is_some());
        in_use.enter(id, Sequence(1));
        assert!(in_use.condemn(id, Sequence(1), moved(1)).is_none());
        assert_eq!(segments(&in_use.leave(id, Sequence(1))), [1]);
    }
}
