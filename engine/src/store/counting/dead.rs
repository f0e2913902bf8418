//! What has died is taken off its segments, and a segment in which nothing is live any more is the
//! reclaimer's.
//!
//! Also here: which operations are not in the index yet. A segment that holds the record of one
//! stays in the table.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::index::Location;
use crate::io::Io;
use crate::log::RECORD_ALIGN;
use crate::log::segment::{Segment, Tenant};
use crate::mutant::{Mutant, is_planted};
use crate::probe;
use crate::store::error::StoreError;
use crate::store::event::Event;
use crate::store::in_use::Condemned;
use crate::store::location::{has_extents, record_bytes};
use crate::store::message::Released;
use crate::store::shard::Shard;
use crate::types::{BlobId, SegmentId};

impl<I: Io> Shard<I> {
    /// Counts what was taken out of the index as dead.
    pub(in crate::store) async fn forget(&self, released: Released) {
        let Released { before: Some(location), accounted: true, id, tenant } = released else { return };
        if has_extents(&location) {
            let condemned = Condemned::Blob(released);
            if self.shared().in_use.condemn(id, location.sequence, condemned).is_none() {
                return;
            }
            match self.listed_segments(id, &location).await {
                Ok(listed) => listed.values().for_each(|segment| self.evict(segment, tenant)),
                Err(error) => {
                    tracing::info!(
                        %id, %error,
                        "the pieces of a blob that is gone can't be read: each segment is asked for them"
                    );
                    self.evict_everywhere(tenant).await;
                }
            }
        }
        if let Some(segment) = self.segment(&location) {
            let wrong = if is_planted(Mutant::AccountWrong) { RECORD_ALIGN as u64 } else { 0 };
            self.count_dead(&segment, record_bytes(&location) + wrong);
        }
    }

    /// The segments in which the pieces lie that a blob lists.
    async fn listed_segments(
        &self,
        id: BlobId,
        location: &Location,
    ) -> Result<BTreeMap<SegmentId, Arc<Segment<I::File>>>, StoreError> {
        let mut listed = BTreeMap::new();
        let visit = |segment: &Arc<Segment<I::File>>, _| drop(listed.insert(segment.id, segment.clone()));
        self.visit_pieces(id, location, visit).await?;
        Ok(listed)
    }

    /// Counts the pieces of a blob as dead that has left the index and whose list can't be read.
    async fn evict_everywhere(&self, tenant: Tenant) {
        probe::hit(probe::Event::PiecesOfNoList);
        if is_planted(Mutant::ListLost) {
            return;
        }
        let mut last = None;
        loop {
            // Nothing of it is moved any more, so where it was not it will not be.
            let some = self.shared().table.after(last);
            let Some(end) = some.last() else { return };
            last = Some(end.id);
            some.iter().for_each(|segment| self.evict(segment, tenant));
            drop(some);
            self.io().yield_now().await;
        }
    }

    /// Counts the pieces of a blob in one segment as dead.
    fn evict(&self, segment: &Arc<Segment<I::File>>, tenant: Tenant) {
        let bytes = segment.evict(tenant);
        if bytes > 0 {
            self.count_dead(segment, bytes);
        }
    }

    /// An operation whose record lies in a segment is in the index now.
    pub(in crate::store) fn applied(&self, segment: &Segment<I::File>) {
        let was_last = segment.remove_unapplied();
        if was_last && segment.is_dead() {
            self.tell_reclaimer(Event::Dead(segment.id));
        }
    }

    /// The same for records that were refused, once the owners of their ids know what is in doubt.
    pub(in crate::store) fn applied_in(&self, segments: &[SegmentId]) {
        for id in segments {
            // A segment with something unapplied is not taken out of the table.
            let segment = self.shared().table.get(*id).expect("what was refused in it is not applied yet");
            self.applied(&segment);
        }
    }

    /// Keeps the pieces that a record lists which may lie in a segment: the next start may find it.
    /// Those in that segment itself go with it.
    pub(in crate::store) fn hold_pieces(&self, in_doubt: SegmentId, pieces: &[(SegmentId, u64)]) {
        let home = self.shared().table.get(in_doubt).expect("what was refused in it is not applied yet");
        for (segment, bytes) in pieces {
            if *segment == in_doubt {
                self.count_dead(&home, *bytes);
            } else {
                home.hold(*segment, *bytes);
            }
        }
    }

    /// Takes bytes off a segment, and has it reclaimed when nothing is left.
    pub(in crate::store) fn count_dead(&self, segment: &Arc<Segment<I::File>>, bytes: u64) {
        if segment.remove_live(bytes) == 0 {
            self.tell_reclaimer(Event::Dead(segment.id));
        }
        self.shared().background.space_changed();
    }

    /// The same for records that were moved.
    pub(in crate::store) fn count_records_dead(&self, records: &[(SegmentId, u64)]) {
        for (segment, bytes) in records {
            let segment = self.shared().table.get(*segment).expect("it holds something that counts as live");
            self.count_dead(&segment, *bytes);
        }
    }
}
