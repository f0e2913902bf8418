//! Space comes back: a sealed segment in which nothing is live becomes a free file.
//!
//! One task on core 0. A segment is retired when its records are dead, the tombstones in it are not needed any more or were written again elsewhere,
//! and its last reader is gone. A tombstone is needed as long as a segment with blobs exists that is older than its watermark: an older record
//! of its id may lie there.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::io::{AlignedBuf, BLOCK_SIZE, Io};
use crate::log::footer::{FooterEntry, Trailer, footer_bytes};
use crate::log::free_files::{FreeFile, fill_reserve, retire};
use crate::log::packed::PackedPayload;
use crate::log::record::{FIXED_SIZE, Head, Kind};
use crate::log::scan::{Scan, scan};
use crate::log::segment::{Segment, State};
use crate::probe::{self, Event as ProbeEvent};
use crate::runtime::mailbox::Receiver;
use crate::store::shard::Shard;
use crate::sync::promise;
use crate::types::SegmentId;

/// What the reclaimer is told.
pub(super) enum Event<F> {
    /// Nothing in this segment is live any more.
    Dead(SegmentId),
    Sealed {
        segment: SegmentId,
        bytes: u64,
    },
    /// The checkpoint is damaged.
    CheckpointDamaged,
    /// The live bytes of all segments are known.
    Accounted,
    /// The last reader of a segment that was taken out of the table is gone.
    Unused(SegmentId),
    Stop(std::marker::PhantomData<F>),
}

/// Whether the reclaimer of core 0 has ended.
#[derive(Default)]
pub(super) struct Reclaimer {
    pub ended: Rc<Cell<bool>>,
    pub changed: crate::sync::Notify,
}

struct Work<F> {
    /// Segments that may be without anything live.
    candidates: BTreeSet<SegmentId>,
    /// Dead segments that hold no blob, as far as they were looked at.
    without_blobs: BTreeSet<SegmentId>,
    /// Those of them with many tombstones, until the oldest segment with blobs has this number.
    blocked: BTreeMap<SegmentId, SegmentId>,
    /// Taken out of the table and not retired yet: the directory, and the file until its retirement was tried.
    leaving: HashMap<SegmentId, (usize, Option<FreeFile<F>>)>,
    sealed_bytes: u64,
    checkpoint_bytes: u64,
}

impl<I: Io> Shard<I> {
    pub(super) fn tell_reclaimer(&self, event: Event<I::File>) {
        // After the reclaimer has stopped there is nothing left to do: the next start finds what is dead.
        let _ = self.shared().events.send(event);
    }

    pub(super) async fn stop_reclaimer(&self) {
        self.tell_reclaimer(Event::Stop(std::marker::PhantomData));
        let reclaimer = &self.0.reclaimer;
        reclaimer.changed.wait_for(|| reclaimer.ended.get().then_some(())).await;
    }

    pub(super) async fn reclaim(self, mut events: Receiver<Event<I::File>>) {
        let mut work = Work {
            candidates: BTreeSet::new(),
            without_blobs: BTreeSet::new(),
            blocked: BTreeMap::new(),
            leaving: HashMap::new(),
            sealed_bytes: 0,
            checkpoint_bytes: 0,
        };
        while let Some(event) = events.recv().await {
            match event {
                Event::Dead(segment) => {
                    work.candidates.insert(segment);
                }
                Event::Sealed { segment, bytes } => {
                    work.candidates.insert(segment);
                    work.sealed_bytes += bytes;
                    self.keep_reserve().await;
                }
                Event::Accounted => {
                    work.candidates.extend(self.shared().table.all().iter().map(|segment| segment.id));
                }
                Event::CheckpointDamaged => {
                    if let Some(size) = self.write_checkpoint().await {
                        work.checkpoint_bytes = size;
                        self.shared().background.mended(1);
                    }
                }
                Event::Unused(segment) => self.retire(&mut work, segment).await,
                Event::Stop(_) => break,
            }
            self.reclaim_candidates(&mut work).await;
            let limits = &self.shared().options.limits;
            let enough = limits.checkpoint_bytes_min.max(work.checkpoint_bytes * limits.checkpoint_ratio);
            if work.sealed_bytes > 0 && work.sealed_bytes >= enough {
                work.sealed_bytes = 0;
                work.checkpoint_bytes = self.write_checkpoint().await.unwrap_or(work.checkpoint_bytes);
            }
        }
        self.0.reclaimer.ended.set(true);
        self.0.reclaimer.changed.notify();
    }

    async fn reclaim_candidates(&self, work: &mut Work<I::File>) {
        if self.shared().unaccounted_cores.load(Ordering::Acquire) > 0 {
            return;
        }
        let oldest = self.oldest(work, None);
        let ready = work.blocked.iter().filter(|(_, until)| oldest.is_none_or(|oldest| oldest >= **until));
        let ready: Vec<SegmentId> = ready.map(|(id, _)| *id).collect();
        for id in ready {
            work.blocked.remove(&id);
            work.candidates.insert(id);
        }
        for id in std::mem::take(&mut work.candidates) {
            let Some(segment) = self.shared().table.get(id) else { continue };
            let dead = segment.live_bytes.load(Ordering::Acquire) == 0;
            match segment.state() {
                // It comes again when it is sealed, or when its last live record goes.
                State::Active | State::Fenced => {}
                State::Sealed if !dead => {}
                State::Sealed if segment.unapplied.load(Ordering::Acquire) > 0 => {
                    work.candidates.insert(id);
                }
                State::Sealed => self.take_out(work, segment).await,
            }
        }
    }

    /// The oldest segment that exists and may hold a blob, `without` aside.
    fn oldest(&self, work: &Work<I::File>, without: Option<SegmentId>) -> Option<SegmentId> {
        // One that is still without any record gets none that is older than a deletion of today.
        let table = self.shared().table.all();
        let all = table
            .iter()
            .filter(|segment| !segment.is_unused())
            .map(|segment| segment.id)
            .chain(work.leaving.keys().copied());
        all.filter(|id| Some(*id) != without && !work.without_blobs.contains(id)).min()
    }

    /// Takes a dead segment out of the table, once its tombstones are safe.
    async fn take_out(&self, work: &mut Work<I::File>, segment: Arc<Segment<I::File>>) {
        let id = segment.id;
        if !cfg!(feature = "mutant-reclaim-early") {
            let Some(entries) = self.read_entries(&segment).await else { return };
            let has_blobs = entries.iter().any(|entry| entry.kind == Kind::Blob);
            if !has_blobs {
                work.without_blobs.insert(id);
            }
            let oldest = self.oldest(work, Some(id));
            let needed: Vec<FooterEntry> = entries
                .into_iter()
                .filter(|entry| entry.kind == Kind::Tombstone)
                .filter(|entry| oldest.is_some_and(|oldest| oldest.0 < entry.watermark))
                .collect();
            let carried = (needed.len() * FIXED_SIZE) as u64;
            // One with blobs goes at any price: it is itself what the tombstones of others wait for.
            if !has_blobs
                && carried * self.shared().options.limits.carry_divisor > segment.file_bytes.load(Ordering::Acquire)
            {
                let until = needed.iter().map(|entry| entry.watermark).max().expect("there are some");
                work.blocked.insert(id, SegmentId(until));
                return;
            }
            if !self.carry(needed).await {
                // No room, or the disk refuses: it is tried again when something else has happened.
                work.candidates.insert(id);
                return;
            }
        }
        self.shared().table.remove(id);
        let free =
            FreeFile { number: id, file: segment.file.clone(), size: segment.file_bytes.load(Ordering::Acquire) };
        work.leaving.insert(id, (segment.dir, Some(free)));
        let events = self.shared().events.clone();
        segment.when_unused(move || {
            let _ = events.send(Event::Unused(id));
        });
    }

    /// What a sealed segment holds, by its footer. The footer, and the cut to what it holds, may have been lost with the power after a start had
    /// seen them, while the records were durable all along: then by a scan.
    pub(super) async fn read_entries(&self, segment: &Segment<I::File>) -> Option<Vec<FooterEntry>> {
        let size = segment.file_bytes.load(Ordering::Acquire);
        let found = match read_footer(&self.0.io, segment, size).await {
            Ok(Some((_, entries))) => return Some(entries),
            Ok(None) => scan(&self.0.io, segment, size).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(scan) if self.is_whole(segment, size, &scan).await => Some(scan.records),
            Ok(_) => {
                tracing::error!(segment = %segment.id, "a sealed segment is damaged: its space is kept");
                None
            }
            Err(error) => {
                tracing::error!(segment = %segment.id, %error, "a sealed segment can't be read: its space is kept");
                None
            }
        }
    }

    /// Whether a scan without the footer found all that a sealed segment held: behind the last record nothing but the footer may be missing.
    async fn is_whole(&self, segment: &Segment<I::File>, size: u64, scan: &Scan) -> bool {
        if !scan.damage.is_empty() || scan.unreadable_bytes > 0 {
            return false;
        }
        let cut_to = scan.data_end + footer_bytes(scan.records.len());
        // As long as it was before the cut, it is as it was then, or has its footer where the cut was.
        size == cut_to
            || (size == segment.size
                && (!scan.is_torn || matches!(read_footer(&self.0.io, segment, cut_to).await, Ok(Some(_)))))
    }

    /// Writes tombstones again, with their sequences. False when that failed.
    async fn carry(&self, needed: Vec<FooterEntry>) -> bool {
        for some in needed.chunks(self.shared().options.limits.carried_at_once) {
            let mut results = Vec::with_capacity(some.len());
            for entry in some {
                let now = self.0.io.wall_clock_ns();
                let head = Head::tombstone(entry.id, entry.sequence, SegmentId(entry.watermark), now);
                let (result, promised) = promise();
                let log = self.pick_log();
                self.0.io.spawn(async move { result.keep(log.commit(head, PackedPayload::None).await) });
                results.push(promised);
            }
            for promised in results {
                match promised.await {
                    Some(Ok(placed)) => {
                        probe::hit(ProbeEvent::TombstoneCarried);
                        self.applied(placed.segment());
                    }
                    Some(Err(error)) => {
                        tracing::warn!(?error, "a tombstone could not be carried over: a dead segment is kept");
                        return false;
                    }
                    None => return false,
                }
            }
        }
        true
    }

    /// Makes the free files that uploads leave to those that make space; not before there is a sealed segment, as there is nothing to make it
    /// of. A disk that has no room for them gets them from the next segments that are retired.
    pub(super) async fn keep_reserve(&self) {
        let free = self.shared().free.get().expect("set at recovery");
        let table = &self.shared().table;
        for (index, dir) in self.shared().options.dirs.iter().enumerate() {
            if let Err(error) = fill_reserve(&self.0.io, dir, index, free, || table.next_id()).await {
                tracing::debug!(dir = %dir.display(), %error, "no room for the files that compaction needs on a full disk");
            }
        }
    }

    async fn retire(&self, work: &mut Work<I::File>, id: SegmentId) {
        let Some((dir_index, free)) = work.leaving.get_mut(&id).and_then(|(dir, free)| Some((*dir, free.take()?)))
        else {
            return;
        };
        let dir = &self.shared().options.dirs[dir_index];
        let files = self.shared().free.get().expect("set at recovery");
        match retire(&self.0.io, dir, dir_index, free, files).await {
            Ok(()) => {
                work.leaving.remove(&id);
                work.without_blobs.remove(&id);
                self.keep_reserve().await;
                self.shared().background.space_changed();
                self.shared().background.segment_left(id);
            }
            // It may come back, and then the tombstones of what it holds must be there: it goes on counting as existing.
            Err(error) => {
                tracing::warn!(segment = %id, %error, "a dead segment could not be retired: the next start tries again");
            }
        }
    }
}

/// Reads the footer of a segment; `None` when it has no valid one.
pub(super) async fn read_footer<I: Io>(
    io: &I,
    segment: &Segment<I::File>,
    file_size: u64,
) -> std::io::Result<Option<(Trailer, Vec<FooterEntry>)>> {
    let block_size = BLOCK_SIZE as u64;
    if file_size < 2 * block_size || !file_size.is_multiple_of(block_size) {
        return Ok(None);
    }
    let (result, block) =
        io.read_at(&segment.file, AlignedBuf::zeroed(BLOCK_SIZE), 0..BLOCK_SIZE, file_size - block_size).await;
    if result? < BLOCK_SIZE {
        return Ok(None);
    }
    let Some(trailer) = Trailer::decode(&block, segment.id, segment.nonce, file_size) else { return Ok(None) };
    let length = trailer.entries_bytes();
    if length == 0 {
        return Ok(Some((trailer, Vec::new())));
    }
    let buf = AlignedBuf::zeroed(length);
    let (result, buf) = io.read_at(&segment.file, buf, 0..length, trailer.entries_offset).await;
    if result? < length {
        return Ok(None);
    }
    Ok(trailer.decode_entries(&buf[..length]).map(|entries| (trailer, entries)))
}
