//! Deleting a blob: a tombstone becomes durable, then the blob leaves the index.

use crate::io::Io;
use crate::log::error::LogError;
use crate::log::packed::PackedPayload;
use crate::log::record::Head;
use crate::mutant::{Mutant, is_planted};
use crate::store::error::StoreError;
use crate::store::message::{Outcome, Reply, Request};
use crate::store::shard::Shard;
use crate::types::{BlobId, CoreId, SegmentId};

impl<I: Io> Shard<I> {
    /// Deletes a blob; false when it was not there. Durable on return.
    pub async fn delete(&self, id: BlobId) -> Result<bool, StoreError> {
        let shard = self.clone();
        self.detached(async move { shard.delete_now(id).await }).await
    }

    async fn delete_now(&self, id: BlobId) -> Result<bool, StoreError> {
        let acquired = self.acquire(id).await?;
        if acquired.current.is_none() && !acquired.in_doubt {
            self.release(id, Outcome::Nothing).await?;
            return Ok(false);
        }
        let watermark = match acquired.current {
            Some(current) if is_planted(Mutant::WatermarkShort) => current.segment,
            _ => self.shared().table.watermark(),
        };
        let early = is_planted(Mutant::DeleteEarly);
        if early && self.owner(&id) == self.0.core {
            self.0.index.borrow_mut().remove(&id);
            self.shared().changes[usize::from(self.0.core.0)].add();
        }
        let head = Head::tombstone(id, acquired.sequence, watermark, self.0.io.wall_clock_ns());
        let segment = match self.bury_patiently(head).await {
            Ok(segment) => segment,
            Err(error) => {
                self.release(id, Outcome::of_failure(&error)).await?;
                self.applied_in(error.segments());
                return Err(error.into());
            }
        };
        let released = self.release(id, Outcome::Remove).await?;
        // A segment with something unapplied is not taken out of the table.
        let segment = self.shared().table.get(segment).expect("its tombstone is not applied yet");
        self.applied(&segment);
        let existed = released.before.is_some() || early;
        self.forget(released).await;
        Ok(existed)
    }

    /// On a disk that is full to the last block, deletes are what makes space: they wait for that
    /// of those before them.
    async fn bury_patiently(&self, head: Head) -> Result<SegmentId, LogError> {
        let since = self.io().now();
        loop {
            let buried = self.bury(head.clone()).await;
            if buried != Err(LogError::Full) || !self.waits_for_space(self.io().now().since(since)).await {
                return buried;
            }
        }
    }

    /// Writes a tombstone where there is room for it, on this core or another: what a full disk
    /// leaves for tombstones lies in the segments that are open, and a core that has not written
    /// yet has none.
    async fn bury(&self, head: Head) -> Result<SegmentId, LogError> {
        let mut last = match self.bury_here(head.clone()).await {
            // The graver one of two lists where it may lie by both.
            Err(error @ (LogError::Full | LogError::Failed(_) | LogError::InDoubt { .. })) => error,
            done => return done,
        };
        for core in (0..self.cores()).map(CoreId).filter(|core| *core != self.0.core) {
            let Some(Reply::Buried(buried)) = self.call(core, Request::Bury(head.clone())).await else { continue };
            match buried {
                Ok(segment) => {
                    self.applied_in(last.segments());
                    return Ok(segment);
                }
                Err(error) => last = graver(last, error),
            }
        }
        Err(last)
    }

    /// Writes a tombstone to whichever log of this core has room for it.
    pub(super) async fn bury_here(&self, head: Head) -> Result<SegmentId, LogError> {
        let mut last = LogError::Full;
        for log in self.logs_in_turn() {
            match log.commit(head.clone(), PackedPayload::None).await {
                Ok(placed) => {
                    self.applied_in(last.segments());
                    return Ok(placed.segment().id);
                }
                Err(error @ LogError::Closed) => return Err(error),
                Err(error) => last = graver(last, error),
            }
        }
        Err(last)
    }
}

/// Which of two refusals to tell: a tombstone that may be on the disk goes before one that is not,
/// whatever came after it.
fn graver(one: LogError, other: LogError) -> LogError {
    match (one, other) {
        (LogError::InDoubt { mut segments, full, reason }, other) => {
            segments.extend_from_slice(other.segments());
            LogError::InDoubt { segments, full, reason }
        }
        (_, other) => other,
    }
}
