//! Space comes back: a segment in which nothing is live becomes a free file.
//!
//! One task on core 0. A segment is retired when its records are dead, the tombstones in it are not
//! needed any more or were written again elsewhere, and its last reader is gone. A tombstone is
//! needed as long as a segment with blobs exists that is older than its watermark: an older record
//! of its id may lie there.
//!
//! A segment of which a write or sync failed goes the same way; its file is removed, as its disk
//! may be bad there. Its records that were refused are in doubt while it exists: a start may find
//! them. Once it is gone for good none can, so they did not happen, and their owners are told. Of
//! one that a start found damaged only what is sound counts; it goes when a second look finds the
//! same, so that no bad read decides over it.
//!
//! What a disk refuses on the way, to read the footer or to rename the file, is tried again after a
//! while ([`Backoff`]).
//!
//! After a start that could not read everything only segments of this life go, and all of their
//! tombstones stay.
//!
//! | file | question |
//! | --- | --- |
//! | [`last_will`] | what does a dead segment hold that must outlive it? |
//! | [`carry`] | how are its tombstones written again? |

mod carry;
mod last_will;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use self::carry::{Carried, CarryFailure};
use self::last_will::Withheld;
use crate::io::{Disk, Instant, Io, OpenMode};
use crate::log::footer::FooterEntry;
use crate::log::free_files::{FreeFile, FreeFiles, fill_reserve, retire};
use crate::log::health::taken_out;
use crate::log::record::{FIXED_SIZE, Kind};
use crate::log::segment::{Segment, Written, file_path};
use crate::mailbox::Receiver;
use crate::mutant::{Mutant, is_planted};
use crate::probe::{self, Event as ProbeEvent};
use crate::store::backoff::Backoff;
use crate::store::event::Event;
use crate::store::message::Request;
use crate::store::shard::Shard;
use crate::sync::{Either, race};
use crate::types::{BlobId, CoreId, SegmentId};

struct Work<F> {
    /// Segments that may be without anything live.
    candidates: BTreeSet<SegmentId>,
    /// Dead segments with many tombstones and no blob, behind the number that the oldest segment
    /// with blobs must have first.
    blocked: BTreeSet<(SegmentId, SegmentId)>,
    /// Taken out of the table and not retired yet.
    leaving: HashMap<SegmentId, Leaving<F>>,
    /// Those of them that may hold blobs.
    leaving_with_blobs: BTreeSet<SegmentId>,
    /// Tombstones of dead segments that are written again already, while others of the same segment
    /// could not be. Without it each further try would leave a copy of them, and copies are carried
    /// like any other.
    carried: HashMap<SegmentId, Carried>,
    /// Segments that could not be taken out or retired, and when that is tried again.
    put_off: BTreeMap<SegmentId, PutOff>,
    /// Segments of this life have this number or a higher one.
    first_of_life: SegmentId,
    sealed_bytes: u64,
    checkpoint_bytes: u64,
}

#[derive(Clone, Copy)]
struct PutOff {
    until: Instant,
    backoff: Backoff,
}

/// A segment that is out of the table.
struct Leaving<F> {
    dir: usize,
    /// Until its last user is gone.
    is_used: bool,
    /// Until the directory is taken out.
    file: Option<F>,
    size: u64,
    /// Of a fenced one.
    written: Option<Arc<Written>>,
    /// Its file is not used again.
    is_bad: bool,
    /// What counts as live elsewhere until it is gone.
    held: Vec<(SegmentId, u64)>,
}

/// Tombstones of a dead segment that must be there for longer than it is.
#[derive(Clone, Copy, Default)]
struct Needed {
    count: usize,
    /// The highest of their watermarks.
    until: u32,
}

/// Candidates that are looked at before others get their turn, and ids in one message.
const STEP: usize = 1024;

impl<I: Io> Shard<I> {
    pub(super) fn tell_reclaimer(&self, event: Event) {
        // After the reclaimer has stopped there is nothing left to do: the next start finds what is
        // dead.
        let _ = self.shared().events.send(event);
    }

    pub(super) async fn stop_reclaimer(&self) {
        self.tell_reclaimer(Event::Stop);
        let reclaimer = &self.0.reclaimer;
        reclaimer.changed.wait_for(|| reclaimer.ended.get().then_some(())).await;
    }

    pub(super) async fn reclaim(self, mut events: Receiver<Event>) {
        let mut work = Work {
            candidates: BTreeSet::new(),
            blocked: BTreeSet::new(),
            leaving: HashMap::new(),
            leaving_with_blobs: BTreeSet::new(),
            carried: HashMap::new(),
            put_off: BTreeMap::new(),
            first_of_life: self.shared().table.watermark(),
            sealed_bytes: 0,
            checkpoint_bytes: 0,
        };
        while let Some(event) = self.next_event(&mut events, &work).await {
            match event {
                Event::Dead(segment) => {
                    work.candidates.insert(segment);
                }
                Event::Sealed { segment, bytes } => {
                    work.candidates.insert(segment);
                    work.sealed_bytes += bytes;
                    self.keep_reserve().await;
                }
                Event::Accounted => self.gather_dead(&mut work).await,
                Event::CheckpointDamaged => {
                    if let Some(size) = self.write_checkpoint().await {
                        work.checkpoint_bytes = size;
                        self.shared().background.mended(1);
                    }
                }
                Event::Unused(segment) => {
                    if let Some(leaving) = work.leaving.get_mut(&segment) {
                        leaving.is_used = false;
                        self.retire(&mut work, segment).await;
                    }
                }
                Event::Due => self.try_again(&mut work).await,
                Event::Stop => break,
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

    /// What the reclaimer is told next, or that something is due.
    async fn next_event(&self, events: &mut Receiver<Event>, work: &Work<I::File>) -> Option<Event> {
        let Some(due) = work.put_off.values().map(|put_off| put_off.until).min() else { return events.recv().await };
        let pause = self.0.io.sleep(due.since(self.0.io.now()));
        match race(events.recv(), pause).await {
            Either::First(event) => event,
            Either::Second(()) => Some(Event::Due),
        }
    }

    /// Tries again after a while to take a segment out, or to retire it.
    fn put_off(&self, work: &mut Work<I::File>, segment: SegmentId) {
        work.put_off.entry(segment).or_insert_with(|| {
            let mut backoff = Backoff::default();
            PutOff { until: self.0.io.now().after(backoff.next_pause()), backoff }
        });
    }

    async fn try_again(&self, work: &mut Work<I::File>) {
        let now = self.0.io.now();
        let due: Vec<SegmentId> =
            work.put_off.iter().filter(|(_, put_off)| put_off.until <= now).map(|(segment, _)| *segment).collect();
        for segment in due {
            let put_off = work.put_off.get_mut(&segment).expect("just seen");
            put_off.until = now.after(put_off.backoff.next_pause());
            if work.leaving.get(&segment).is_some_and(|leaving| !leaving.is_used) {
                self.retire(work, segment).await;
            } else if self.shared().table.get(segment).is_some_and(|segment| segment.is_dead()) {
                work.candidates.insert(segment);
            } else {
                work.put_off.remove(&segment);
            }
        }
    }

    /// Everything in which nothing is live becomes a candidate.
    async fn gather_dead(&self, work: &mut Work<I::File>) {
        let mut last = None;
        loop {
            let some = self.shared().table.after(last);
            let Some(end) = some.last() else { return };
            last = Some(end.id);
            work.candidates.extend(some.iter().filter(|segment| segment.is_dead()).map(|segment| segment.id));
            self.0.io.yield_now().await;
        }
    }

    async fn reclaim_candidates(&self, work: &mut Work<I::File>) {
        let is_complete = self.shared().uncounted.is_none();
        if !is_complete && !self.shared().is_incomplete() {
            return;
        }
        let oldest = self.oldest(work, None);
        while let Some((until, id)) = work.blocked.first().copied()
            && oldest.is_none_or(|oldest| oldest >= until)
        {
            work.blocked.pop_first();
            work.candidates.insert(id);
        }
        for (step, id) in std::mem::take(&mut work.candidates).into_iter().enumerate() {
            if step % STEP == STEP - 1 {
                self.0.io.yield_now().await;
            }
            let Some(segment) = self.shared().table.get(id) else { continue };
            let is_counted = is_complete || id >= work.first_of_life;
            // It comes again when it is sealed or fenced, or when its last live record goes.
            if !segment.is_dead() || !is_counted {
                continue;
            }
            if segment.is_applied() {
                self.take_out(work, segment).await;
            } else {
                work.candidates.insert(id);
            }
        }
    }

    /// The oldest segment that exists and may hold a blob, `without` aside.
    fn oldest(&self, work: &Work<I::File>, without: Option<SegmentId>) -> Option<SegmentId> {
        if self.shared().is_incomplete() {
            // Nobody knows.
            return Some(SegmentId(0));
        }
        // One that is still without any record gets none that is older than a deletion of today.
        let in_table = self.shared().table.oldest_with_blobs(without);
        let leaving = work.leaving_with_blobs.first().filter(|_| !is_planted(Mutant::ForgetLeaving)).copied();
        in_table.into_iter().chain(leaving).min()
    }

    /// Takes a dead segment out of the table, once its tombstones are safe.
    async fn take_out(&self, work: &mut Work<I::File>, segment: Arc<Segment<I::File>>) {
        let id = segment.id;
        if !self.dir(segment.dir).health().takes_writes() {
            // Until the next start.
            work.put_off.remove(&id);
            return;
        }
        let (mut has_blobs, mut written) = (true, None);
        let file;
        if !is_planted(Mutant::ReclaimEarly) {
            let will = match self.last_will(&segment).await {
                Ok(will) => will,
                Err(Withheld::ForNow) => return self.put_off(work, id),
                Err(Withheld::ForGood) => {
                    work.put_off.remove(&id);
                    return;
                }
            };
            (has_blobs, written) = (will.has_blobs, will.written);
            if !has_blobs {
                self.shared().table.holds_no_blob(id);
            }
            let oldest = self.oldest(work, Some(id));
            let is_needed = |entry: &FooterEntry| oldest.is_some_and(|oldest| oldest.0 < entry.watermark);
            let mut needed = Needed::default();
            for piece in will.tombstones.pieces() {
                piece.filter(is_needed).for_each(|entry| {
                    needed.count += 1;
                    needed.until = needed.until.max(entry.watermark);
                });
                self.0.io.yield_now().await;
            }
            let carried_bytes = (needed.count * FIXED_SIZE) as u64;
            // One with blobs goes at any price: it is itself what the tombstones of others wait
            // for.
            if !has_blobs
                && carried_bytes * self.shared().options.limits.carry_divisor
                    > segment.file_bytes.load(Ordering::Acquire)
            {
                work.blocked.insert((SegmentId(needed.until), id));
                work.put_off.remove(&id);
                return will.tombstones.free(&self.0.io).await;
            }
            file = self.open_dead(&segment).await;
            if file.is_none() {
                will.tombstones.free(&self.0.io).await;
                return self.put_off(work, id);
            }
            let mut carried = work.carried.remove(&id).unwrap_or_default();
            let result = match needed.count {
                0 => Ok(()),
                _ => self.carry(&will.tombstones, is_needed, &mut carried).await,
            };
            will.tombstones.free(&self.0.io).await;
            if let Err(failure) = result {
                work.carried.insert(id, carried);
                if failure == CarryFailure::Full {
                    // Something else may make room at any time.
                    work.candidates.insert(id);
                }
                return self.put_off(work, id);
            }
        } else {
            file = self.open_dead(&segment).await;
        }
        let Some(file) = file else { return self.put_off(work, id) };
        self.shared().table.remove(id);
        if has_blobs {
            work.leaving_with_blobs.insert(id);
        }
        let is_bad = segment.is_fenced();
        let size = segment.file_bytes.load(Ordering::Acquire);
        work.put_off.remove(&id);
        let held = segment.take_held().into_iter().collect();
        work.leaving
            .insert(id, Leaving { dir: segment.dir, is_used: true, file: Some(file), size, written, is_bad, held });
        let events = self.shared().events.clone();
        // This task has one reference of its own.
        if Arc::strong_count(&segment) > 1 {
            probe::hit(ProbeEvent::RetiredAfterUse);
        }
        segment.when_unused(move || {
            let _ = events.send(Event::Unused(id));
        });
    }

    /// The file of a dead segment, to give it up: opened to read alone, it may have been.
    async fn open_dead(&self, segment: &Segment<I::File>) -> Option<I::File> {
        let path = file_path(&self.shared().options.dirs[segment.dir], segment.id);
        let opened = self.dir(segment.dir).open(&path, OpenMode::ReadWrite).await;
        // Of a directory that is taken out it was said once.
        if let Err(error) = &opened
            && taken_out(error).is_none()
        {
            tracing::warn!(
                segment = %segment.id, %error,
                "the file of a dead segment can't be opened: it is kept for now"
            );
        }
        opened.ok()
    }

    /// Makes the free files that uploads leave to those that make space; not before there is a
    /// sealed segment, as there is nothing to make it of. A disk that has no room for them gets
    /// them from the next segments that are retired.
    pub(super) async fn keep_reserve(&self) {
        let free = self.shared().free.get().expect("set at recovery");
        let table = &self.shared().table;
        for (index, dir) in self.shared().options.dirs.iter().enumerate() {
            if let Err(error) = fill_reserve(self.dir(index), dir, index, free, || table.next_id()).await {
                tracing::debug!(dir = %dir.display(), %error, "no room for the files that compaction needs on a full disk");
            }
        }
    }

    async fn retire(&self, work: &mut Work<I::File>, id: SegmentId) {
        let Some(leaving) = work.leaving.get_mut(&id) else { return };
        let Some(file) = leaving.file.clone() else { return };
        let free = FreeFile { number: id, file, size: leaving.size };
        let dir = &self.shared().options.dirs[leaving.dir];
        let files = self.shared().free.get().expect("set at recovery");
        let none = FreeFiles::new(&vec![0; leaving.dir + 1]);
        let kept = if leaving.is_bad { &none } else { files.as_ref() };
        match retire(self.dir(leaving.dir), dir, leaving.dir, free, kept).await {
            Ok(()) => {
                let Leaving { written, held, .. } = work.leaving.remove(&id).expect("it was there");
                work.leaving_with_blobs.remove(&id);
                work.put_off.remove(&id);
                if let Some(written) = written {
                    self.settle_doubts(id, &written).await;
                }
                for (segment, bytes) in held {
                    if let Some(segment) = self.shared().table.get(segment) {
                        self.count_dead(&segment, bytes);
                    }
                }
                self.keep_reserve().await;
                self.shared().background.space_changed();
                self.shared().background.segment_left(id);
            }
            // It may come back, and then the tombstones of what it holds must be there: it goes on
            // counting as existing.
            Err(error) if taken_out(&error).is_some() => {
                leaving.file = None;
                work.put_off.remove(&id);
            }
            Err(error) => {
                tracing::warn!(segment = %id, %error, "a dead segment could not be retired: it is tried again later");
                self.put_off(work, id);
            }
        }
    }

    /// Tells the owners of what was in doubt in a segment that no start will find it.
    async fn settle_doubts(&self, segment: SegmentId, written: &Written) {
        let is_operation =
            |entry: &FooterEntry| matches!(entry.kind, Kind::Blob | Kind::Tombstone) && !written.is_acknowledged(entry);
        for piece in written.entries.pieces() {
            let mut doubts: Vec<Vec<BlobId>> = vec![Vec::new(); usize::from(self.cores())];
            for entry in piece.filter(is_operation) {
                doubts[usize::from(self.owner(&entry.id).0)].push(entry.id);
            }
            for (core, ids) in doubts.into_iter().enumerate() {
                for ids in ids.chunks(STEP) {
                    // A core that is gone has no doubts.
                    self.call(CoreId(core as u16), Request::Settle { segment, ids: ids.to_vec() }).await;
                }
            }
            self.0.io.yield_now().await;
        }
    }
}
