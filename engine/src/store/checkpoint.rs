//! When a checkpoint is written, and from what.

use std::sync::Arc;

use crate::io::Io;
use crate::log::checkpoint::{CheckpointWriter, Covered};
use crate::log::segment::{Segment, State};
use crate::mutant::{Mutant, is_planted};
use crate::probe::{self, Event};
use crate::store::message::{Reply, Request};
use crate::store::shard::Shard;
use crate::types::CoreId;

impl<I: Io> Shard<I> {
    /// Writes a checkpoint, on core 0. Returns its size in bytes; `None` when it failed, and then
    /// the one before counts on.
    pub(super) async fn write_checkpoint(&self) -> Option<u64> {
        if self.shared().is_incomplete() {
            tracing::warn!(
                "no checkpoint is written: the start could not read everything, and the next one must look at it again"
            );
            return None;
        }
        match self.try_write_checkpoint().await {
            Ok(size) => {
                probe::hit(Event::CheckpointWritten);
                tracing::info!(size, "checkpoint written");
                Some(size)
            }
            Err(error) => {
                tracing::warn!(%error, "the checkpoint could not be written; the next start reads the footers instead");
                None
            }
        }
    }

    async fn try_write_checkpoint(&self) -> std::io::Result<u64> {
        // What is covered is settled before the first slice: its outcomes are in the index by now,
        // so they are in the slices.
        let mut covered: Vec<Covered> = Vec::new();
        let mut last = None;
        loop {
            let some = self.shared().table.after(last);
            let Some(end) = some.last() else { break };
            last = Some(end.id);
            let is_settled = |segment: &&Arc<Segment<I::File>>| {
                if segment.is_settled() {
                    return true;
                }
                let is_sealed = segment.state() == State::Sealed;
                if is_sealed {
                    probe::hit(Event::CoverRefused);
                }
                is_sealed && is_planted(Mutant::CoverUnapplied)
            };
            let settled = some.iter().filter(is_settled);
            covered.extend(settled.map(|segment| Covered { segment: segment.id, nonce: segment.nonce }));
            self.0.io.yield_now().await;
        }
        let dir = &self.shared().options.dirs[0];
        let mut writer = CheckpointWriter::start(self.dir(0), dir, self.0.store_uuid, &covered).await?;
        for core in (0..self.cores()).map(CoreId) {
            let mut after = None;
            loop {
                let (slice, more) = if core == self.0.core {
                    self.slice_own(after)
                } else {
                    match self.call(core, Request::Slice { after }).await {
                        Some(Reply::Slice { slice, more }) => (slice, more),
                        _ => return Err(std::io::Error::other("a core is gone")),
                    }
                };
                writer.slice(&slice).await?;
                if !more {
                    break;
                }
                after = Some(slice.last);
            }
        }
        writer.finish().await
    }
}
