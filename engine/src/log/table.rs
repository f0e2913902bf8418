//! Every segment of the store by number, for all cores.
//!
//! There may be hundreds of thousands, and cores wait for the lock: whatever is done under it takes
//! logarithmic time, or is a walk in bounded steps.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use crate::atomics::{AtomicI64, AtomicU32, Ordering, RwLock, RwLockReadGuard, RwLockWriteGuard};
use crate::log::open_files::OpenFiles;
use crate::log::segment::{InTable, Segment, State};
use crate::types::SegmentId;

/// Segments that a walk over all of them takes at a time: some tens of microseconds under the lock.
pub const WALK_SEGMENTS: usize = 1024;

/// The segments of a store, and the next number to give out.
pub struct SegmentTable<F> {
    segments: RwLock<Segments<F>>,
    shared: Arc<InTable<F>>,
    next: AtomicU32,
}

struct Segments<F> {
    /// Not a hash table: one that grows moves all of it at once.
    by_id: BTreeMap<SegmentId, Arc<Segment<F>>>,
    /// Those that nobody knows to hold no blob.
    may_hold_blobs: BTreeSet<SegmentId>,
}

impl<F> SegmentTable<F> {
    /// For segments in these data directories, of which at most so many files are open at a time
    /// beside those that are written to.
    pub fn new(dirs: Vec<PathBuf>, open_files_max: usize) -> Self {
        let segments = Segments { by_id: BTreeMap::new(), may_hold_blobs: BTreeSet::new() };
        let files = OpenFiles::new(dirs, open_files_max);
        let shared = InTable { live_bytes: AtomicI64::new(0), by_state: Default::default(), files };
        Self { segments: RwLock::new(segments), shared: Arc::new(shared), next: AtomicU32::new(1) }
    }

    pub fn get(&self, id: SegmentId) -> Option<Arc<Segment<F>>> {
        self.read().by_id.get(&id).cloned()
    }

    pub fn insert(&self, segment: Arc<Segment<F>>) {
        self.reserve_above(segment.id);
        let mut segments = self.write();
        self.shared.by_state[segment.state() as usize].fetch_add(1, Ordering::Relaxed);
        self.shared.live_bytes.fetch_add(segment.live_bytes.load(Ordering::Acquire), Ordering::Relaxed);
        segment.enter(self.shared.clone());
        segments.may_hold_blobs.insert(segment.id);
        let before = segments.by_id.insert(segment.id, segment);
        assert!(before.is_none(), "{before:?} is in the table already");
    }

    /// Takes out a segment that nobody writes to any more, and of which nothing is counted any
    /// more.
    pub fn remove(&self, id: SegmentId) -> Option<Arc<Segment<F>>> {
        let mut segments = self.write();
        let segment = segments.by_id.remove(&id)?;
        segments.may_hold_blobs.remove(&id);
        self.shared.by_state[segment.state() as usize].fetch_sub(1, Ordering::Relaxed);
        self.shared.live_bytes.fetch_sub(segment.live_bytes.load(Ordering::Acquire), Ordering::Relaxed);
        Some(segment)
    }

    /// The next segments above a number, at most [`WALK_SEGMENTS`], by number. None: that was all.
    pub fn after(&self, last: Option<SegmentId>) -> Vec<Arc<Segment<F>>> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let segments = self.read();
        segments.by_id.range((from, Bound::Unbounded)).take(WALK_SEGMENTS).map(|(_, segment)| segment.clone()).collect()
    }

    /// All segments, by number. Takes long where there are many: not for a core that serves
    /// clients, which walks with [`SegmentTable::after`].
    pub fn all(&self) -> Vec<Arc<Segment<F>>> {
        let mut all: Vec<Arc<Segment<F>>> = Vec::new();
        loop {
            let more = self.after(all.last().map(|segment| segment.id));
            if more.is_empty() {
                return all;
            }
            all.extend(more);
        }
    }

    /// Notes that no record of a blob lies in a segment that is not written to any more.
    pub fn holds_no_blob(&self, id: SegmentId) {
        self.write().may_hold_blobs.remove(&id);
    }

    /// The segment with the lowest number that may hold a blob, `without` and those aside that wait
    /// for their first record.
    pub fn oldest_with_blobs(&self, without: Option<SegmentId>) -> Option<SegmentId> {
        let segments = self.read();
        let counts = |id: &&SegmentId| Some(**id) != without && !segments.by_id[id].is_unused();
        segments.may_hold_blobs.iter().find(counts).copied()
    }

    pub fn is_empty(&self) -> bool {
        self.read().by_id.is_empty()
    }

    /// How many segments are in this state.
    pub fn count(&self, state: State) -> u64 {
        self.shared.by_state[state as usize].load(Ordering::Relaxed)
    }

    /// Live bytes of all segments.
    pub fn live_bytes(&self) -> u64 {
        self.shared.live_bytes.load(Ordering::Relaxed).max(0) as u64
    }

    fn read(&self) -> RwLockReadGuard<'_, Segments<F>> {
        self.segments.read().expect("no panic under the lock")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Segments<F>> {
        self.segments.write().expect("no panic under the lock")
    }

    /// A number that was never given out.
    pub fn next_id(&self) -> SegmentId {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        assert!(id < u32::MAX, "four thousand million segments were used up");
        SegmentId(id)
    }

    /// The number that the next segment will get.
    pub fn watermark(&self) -> SegmentId {
        SegmentId(self.next.load(Ordering::Relaxed))
    }

    /// Never gives out `id` or a lower number from now on.
    pub fn reserve_above(&self, id: SegmentId) {
        self.next.fetch_max(id.0 + 1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::header::SegmentHeader;

    fn numbered(number: u32, state: State) -> Arc<Segment<()>> {
        let header =
            SegmentHeader { segment: SegmentId(number), size: 1 << 20, store: [7; 16], nonce: 9, created_at_ns: 11 };
        Arc::new(Segment::new(&header, 0, Some(()), state, header.size))
    }

    fn table() -> SegmentTable<()> {
        SegmentTable::new(Vec::new(), 4)
    }

    #[test]
    fn a_table_counts_its_segments_and_their_live_bytes_whatever_happens_to_them() {
        let table = table();
        let before = numbered(1, State::Sealed);
        before.add_live(100);
        table.insert(before);
        (2..=4).for_each(|number| table.insert(numbered(number, State::Active)));
        let get = |number| table.get(SegmentId(number)).expect("there");
        get(2).add_live(50);
        assert!(get(2).seal());
        get(3).fence();
        get(2).remove_live(20);
        let counts = || [State::Active, State::Sealed, State::Fenced].map(|state| table.count(state));
        assert_eq!((counts(), table.live_bytes()), ([1, 2, 1], 130));
        table.remove(SegmentId(2)).expect("there");
        table.remove(SegmentId(3)).expect("there");
        assert_eq!((counts(), table.live_bytes()), ([1, 1, 0], 100));
    }

    #[test]
    fn the_oldest_with_blobs_is_neither_one_without_nor_one_that_waits_for_its_first_record() {
        let table = table();
        table.insert(numbered(1, State::Sealed));
        table.insert(numbered(2, State::Active));
        table.insert(numbered(3, State::Sealed));
        table.insert(numbered(4, State::Fenced));
        assert_eq!(table.oldest_with_blobs(None), Some(SegmentId(1)));
        assert_eq!(table.oldest_with_blobs(Some(SegmentId(1))), Some(SegmentId(3)), "2 waits for its first record");
        table.holds_no_blob(SegmentId(1));
        table.remove(SegmentId(3));
        assert_eq!(table.oldest_with_blobs(None), Some(SegmentId(4)));
    }

    #[test]
    fn a_walk_in_steps_meets_every_segment_once() {
        let table = table();
        let count = 2 * WALK_SEGMENTS as u32 + 5;
        (1..=count).rev().for_each(|number| table.insert(numbered(number, State::Sealed)));
        assert!(table.all().iter().map(|segment| segment.id.0).eq(1..=count));
        assert_eq!(table.after(None).len(), WALK_SEGMENTS);
    }
}
