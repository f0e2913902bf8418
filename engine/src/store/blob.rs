//! A blob that was found: what is known of it, and the way to its bytes.

use std::sync::Arc;

use crate::io::Io;
use crate::log::record::Layout;
use crate::log::segment::Segment;
use crate::store::cached::{CachedHead, RecordPlace};
use crate::store::error::StoreError;
use crate::store::location::has_extents;
use crate::store::meta::BlobMeta;
use crate::store::pin::Pin;
use crate::store::shard::Shard;
use crate::types::BlobId;

/// How often a location is looked up again when its segment has gone meanwhile.
const LOOKUPS_MAX: usize = 8;

/// A stored blob, opened: it stays readable while this lives, also if it is deleted meanwhile.
pub struct Blob<I: Io> {
    pub(super) shard: Shard<I>,
    pub(super) head: Arc<CachedHead>,
    pub(super) place: RecordPlace,
    /// Where the record lies, held; `None` when all of it is in memory.
    pub(super) segment: Option<Arc<Segment<I::File>>>,
    /// Of a blob in pieces.
    pub(super) pin: Option<Pin<I>>,
}

impl<I: Io> Shard<I> {
    /// Finds a blob and its metadata.
    pub async fn open(&self, id: BlobId) -> Result<Option<Blob<I>>, StoreError> {
        for attempt in 0..LOOKUPS_MAX {
            if attempt > 0 {
                self.0.recent.forget(&id);
            }
            let Some(location) = self.lookup(id).await? else { return self.absent(None) };
            if let Some(reason) = self.shared().background.quarantine.refusal(&id, location.sequence)
                && !self.shared().options.read_only
            {
                return Err(StoreError::Quarantined { id, reason });
            }
            let mut pin = None;
            if has_extents(&location) {
                pin = Some(self.pin(id, location.sequence));
                if self.lookup(id).await? != Some(location) {
                    continue;
                }
            }
            let place = RecordPlace::of(&location);
            let cached = self.cached_head(place);
            if let Some(head) = cached.as_ref().filter(|head| head.payload.is_some()).cloned() {
                return Ok(Some(Blob { shard: self.clone(), head, place, segment: None, pin }));
            }
            // Moved or deleted between the two: ask again.
            let Some(segment) = self.segment(&location) else { continue };
            let head = match cached {
                Some(head) => head,
                None => self.blob_head(id, &location, &segment).await?,
            };
            return Ok(Some(Blob { shard: self.clone(), head, place, segment: Some(segment), pin }));
        }
        Err(StoreError::Damaged { id })
    }
}

impl<I: Io> Blob<I> {
    pub fn meta(&self) -> &BlobMeta {
        self.head.meta.as_ref().expect("the record of a blob has them")
    }

    pub(super) fn layout(&self) -> Layout {
        self.head.decoded.head.layout
    }
}
