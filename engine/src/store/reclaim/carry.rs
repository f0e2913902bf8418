//! Tombstones of dead segments are written again where they are needed for longer.

use std::collections::{BTreeMap, BTreeSet};

use crate::io::Io;
use crate::log::entries::Entries;
use crate::log::error::LogError;
use crate::log::footer::FooterEntry;
use crate::log::packed::PackedPayload;
use crate::log::record::Head;
use crate::mutant::{Mutant, is_planted};
use crate::probe::{self, Event as ProbeEvent};
use crate::store::shard::Shard;
use crate::sync::promise;
use crate::types::{BlobId, SegmentId, Sequence};

/// Tombstones that are written again. Not a hash table: one that grows moves all of it at once.
pub(super) type Carried = BTreeSet<(BlobId, Sequence)>;

/// Why a tombstone was not written again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CarryFailure {
    Full,
    Refused,
}

impl<I: Io> Shard<I> {
    /// Writes those tombstones again that are needed, with their sequences, each once; `carried`:
    /// those that were.
    pub(super) async fn carry(
        &self,
        tombstones: &Entries,
        is_needed: impl Fn(&FooterEntry) -> bool,
        carried: &mut Carried,
    ) -> Result<(), CarryFailure> {
        let at_once = self.shared().options.limits.carried_at_once;
        let mut some = BTreeMap::new();
        for piece in tombstones.pieces() {
            for entry in piece {
                let key = (entry.id, entry.sequence);
                if is_needed(&entry) && !carried.contains(&key) {
                    some.insert(key, entry);
                }
                if some.len() == at_once {
                    self.carry_some(std::mem::take(&mut some), carried).await?;
                }
            }
            self.0.io.yield_now().await;
        }
        self.carry_some(some, carried).await
    }

    async fn carry_some(
        &self,
        some: BTreeMap<(BlobId, Sequence), FooterEntry>,
        carried: &mut Carried,
    ) -> Result<(), CarryFailure> {
        let mut results = Vec::with_capacity(some.len());
        for (key, entry) in some {
            let now = self.0.io.wall_clock_ns();
            let head = Head::tombstone(entry.id, entry.sequence, SegmentId(entry.watermark), now);
            let (result, promised) = promise();
            let log = self.pick_log();
            self.0.io.spawn(async move { result.keep(log.commit(head, PackedPayload::None).await) });
            results.push((key, promised));
        }
        if is_planted(Mutant::CarryUnawaited) {
            return Ok(());
        }
        let mut result = Ok(());
        for (key, promised) in results {
            match promised.await {
                Some(Ok(placed)) => {
                    probe::hit(ProbeEvent::TombstoneCarried);
                    self.applied(placed.segment());
                    carried.insert(key);
                }
                Some(Err(error)) => {
                    tracing::warn!(?error, "a tombstone could not be carried over: a dead segment is kept");
                    // It lies where it was.
                    self.applied_in(error.segments());
                    result = Err(if error == LogError::Full { CarryFailure::Full } else { CarryFailure::Refused });
                }
                None => result = Err(CarryFailure::Refused),
            }
        }
        result
    }
}
