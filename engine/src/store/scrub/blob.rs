//! One blob, looked at wherever it lies, and what becomes of it when it fails.

use std::sync::atomic::Ordering;

use super::content::Content;
use super::fault::{Fault, Halt, Trouble};
use super::pass::{RETRIES, Scrub};
use crate::index::Location;
use crate::io::Io;
use crate::probe::{self, Event};
use crate::store::message::{Reply, Request};
use crate::store::quarantine::{Ailment, Quarantined};
use crate::store::worker::Worker;
use crate::sync::{Either, race};
use crate::types::{BlobId, CoreId, SegmentId};

/// A blob that is moved so often while it is looked at is left to the next pass.
const LOOKS_MAX: u32 = 10_000;

/// Whether blobs that readers found damaged meanwhile come first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Haste {
    GivesWay,
    InTurn,
}

/// What fails its checksum is read again sooner, as a divisor of the pause after a refused read.
const DAMAGED_PAUSE_DIVISOR: u32 = 50;

impl<I: Io> Scrub<I> {
    /// Compares a blob with its hash. What fails time and again in the same place is put under
    /// quarantine, and what was and is sound is let go.
    pub(super) async fn check_blob(&self, id: BlobId, haste: Haste) -> Result<(), Halt> {
        let mut content = Content::new(&self.shard, &self.pacer, id);
        content.gives_way = haste == Haste::GivesWay;
        // In a row at one place: what was wrong once and elsewhere says nothing of this one.
        let mut faults = 0;
        let mut failed_at = None;
        for _ in 0..LOOKS_MAX {
            let Some(location) = self.locate_one(id).await? else { return Ok(()) };
            let fault = match content.verify(&location).await {
                Ok(()) => {
                    self.counters().blobs.fetch_add(1, Ordering::Relaxed);
                    if self.background().release(&id, location.sequence) {
                        tracing::info!(%id, "a blob under quarantine is sound again");
                    }
                    return Ok(());
                }
                Err(Trouble::Stopped(halt)) => return Err(halt),
                Err(Trouble::Interrupted) => {
                    // Boxed: it looks at blobs, too.
                    Box::pin(self.tend()).await?;
                    continue;
                }
                Err(Trouble::Moved) => continue,
                // Another time.
                Err(Trouble::Busy) => return Ok(()),
                Err(Trouble::Fault(fault)) => fault,
            };
            if self.locate_one(id).await? != Some(location) {
                faults = 0;
                continue;
            }
            if failed_at.replace(content.last()) != Some(content.last()) {
                faults = 0;
            }
            faults += 1;
            if faults > RETRIES {
                self.quarantine(id, &location, &fault, content.last());
                // Stored again or moved in this moment: then it was not this record.
                if self.locate_one(id).await?.map(|now| now.sequence) == Some(location.sequence) {
                    return Ok(());
                }
                self.background().release(&id, location.sequence);
                faults = 0;
                continue;
            }
            self.pause_after(&fault).await?;
        }
        Ok(())
    }

    /// Waits before a place is read again: a disk that refuses gets some time.
    pub(super) async fn pause_after(&self, fault: &Fault) -> Result<(), Halt> {
        let pause = self.options.retry_pause;
        let is_refused = matches!(fault, Fault::Unreadable(_));
        self.pacer.pause(if is_refused { pause } else { pause / DAMAGED_PAUSE_DIVISOR }).await
    }

    fn quarantine(&self, id: BlobId, location: &Location, fault: &Fault, (segment, offset): (SegmentId, u64)) {
        let ailment = if matches!(fault, Fault::Unreadable(_)) { Ailment::Unreadable } else { Ailment::Damaged };
        let reason = match fault {
            Fault::Hash => format!("{fault}"),
            _ => format!("{fault} (segment {segment}, offset {offset})"),
        };
        let entry = Quarantined {
            id,
            sequence: location.sequence,
            found_at_ns: self.shard.io().wall_clock_ns(),
            ailment,
            reason: reason.clone(),
        };
        let is_known = self.background().quarantine.ailment(&id, location.sequence).is_some();
        if !self.background().quarantine.add(entry) {
            return;
        }
        probe::hit(if ailment == Ailment::Damaged { Event::Quarantined } else { Event::ListedUnreadable });
        if !is_known {
            self.counters().findings.fetch_add(1, Ordering::Relaxed);
        }
        tracing::error!(%id, reason, "a blob is under quarantine: store it again, or delete it");
    }

    /// Whether a blob is under quarantine as it is now.
    pub(super) async fn is_listed(&self, id: BlobId) -> Result<bool, Halt> {
        let location = self.locate_one(id).await?;
        let ailment = |at: Location| self.background().quarantine.ailment(&id, at.sequence);
        Ok(location.and_then(ailment).is_some())
    }

    /// Looks at everything under quarantine: what has gone or was replaced is taken off the list,
    /// what is sound is let go.
    pub(super) async fn review(&self) -> Result<(), Halt> {
        for entry in self.background().quarantine.list() {
            match self.locate_one(entry.id).await? {
                Some(location) if location.sequence == entry.sequence => {}
                _ => drop(self.background().release(&entry.id, entry.sequence)),
            }
            self.check_blob(entry.id, Haste::InTurn).await?;
        }
        Ok(())
    }

    /// Looks at what readers found damaged, and saves a list that has changed.
    pub(super) async fn tend(&self) -> Result<(), Halt> {
        while let Some(id) = self.background().take_suspect() {
            // What is refused already is looked at in the next pass.
            if !self.is_listed(id).await? {
                self.check_blob(id, Haste::InTurn).await?;
            }
        }
        self.save_list().await;
        self.pacer.check()
    }

    async fn locate_one(&self, id: BlobId) -> Result<Option<Location>, Halt> {
        Ok(self.locate(&[id]).await?.pop().flatten())
    }

    /// Where these blobs are, in their order.
    pub(super) async fn locate(&self, ids: &[BlobId]) -> Result<Vec<Option<Location>>, Halt> {
        let mut found = vec![None; ids.len()];
        for core in (0..self.shard.cores()).map(CoreId) {
            let part: Vec<usize> = (0..ids.len()).filter(|index| self.shard.owner(&ids[*index]) == core).collect();
            if part.is_empty() {
                continue;
            }
            let wanted = part.iter().map(|index| ids[*index]).collect();
            let Some(Reply::Located(places)) = self.ask(core, Request::Locate(wanted)).await? else {
                return Err(Halt::Stopped);
            };
            for (index, place) in part.into_iter().zip(places) {
                found[index] = place;
            }
        }
        Ok(found)
    }

    /// Asks another core, unless the store is being closed.
    pub(super) async fn ask(&self, core: CoreId, request: Request) -> Result<Option<Reply>, Halt> {
        match race(self.shard.call(core, request), self.background().stopped(Worker::Scrub)).await {
            Either::First(reply) => Ok(reply),
            Either::Second(()) => Err(Halt::Stopped),
        }
    }
}
