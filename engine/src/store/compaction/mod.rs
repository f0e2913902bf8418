//! Compaction: what is live in segments that are mostly dead moves to new segments, and the old
//! ones are retired.
//!
//! The mover writes to logs of its own, never to those of the cores. A move is an operation on the
//! blob like any other: its owner locks the id if the record still lies where it was found and
//! gives it a sequence; the record is written with that and made durable; then the owner enters the
//! new place and unlocks. So whatever happens meanwhile, and wherever it stops, recovery finds the
//! old record or the new one, and a deletion that comes later overrules both. Readers are not held
//! up; what they read stays where it is until they are done (`in_use.rs`).
//!
//! A segment that has become dead this way is the reclaimer's, like any other: it sees to its
//! tombstones and retires it.
//!
//! | file | question |
//! | --- | --- |
//! | [`policy`] | which segment is next? |
//! | [`super::space`] | how fast? |
//! | [`records`] | how do records move? |
//! | [`pieces`] | how do the pieces of large blobs move? |

mod pieces;
mod policy;
mod records;

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use self::policy::{Balance, Candidate, Cause};
use crate::index::Location;
use crate::io::{BLOCK_SIZE, Disk, Instant, Io};
use crate::log::HEAD_ROOM;
use crate::log::entries::Entries;
use crate::log::extent::{EXTENT_SIZE, PAGE_EXTENTS_MAX};
use crate::log::footer::{FooterEntry, footer_bytes};
use crate::log::free_files::RESERVED_FILES;
use crate::log::header::DATA_START;
use crate::log::record::{Kind, Layout};
use crate::log::segment::{Contents, Segment, State};
use crate::probe::{self, Event};
use crate::store::error::StoreError;
use crate::store::limits::CompactionLimits;
use crate::store::location::{has_extents, record_bytes};
use crate::store::message::{Held, Reply, Request};
use crate::store::shard::Shard;
use crate::store::shared::Store;
use crate::store::space::Space;
use crate::store::worker::Worker;
use crate::sync::race;
use crate::types::{BlobId, CoreId, SegmentId};

/// After this many tries in vain, each twice as long after the one before, a segment is left alone
/// until something in it has changed.
const TRIES_MAX: u32 = 5;
/// What a page of extents takes.
const PAGE_BYTES: u64 = (HEAD_ROOM + PAGE_EXTENTS_MAX * EXTENT_SIZE) as u64;

/// Runs compaction until the store is closed. The cores must be open.
pub async fn compact<I: Io>(store: &Store<I::File>, io: I) {
    let Some(shard) = store.open_worker(Worker::Compaction, io) else { return };
    let mut compaction = Compaction {
        shard: shard.clone(),
        stuck: HashMap::new(),
        free: 0,
        can_help: false,
        is_full: false,
        is_pressing: Cell::new(false),
    };
    compaction.run().await;
    shard.shared().background.pressure.set(Space::default(), 0, false);
    shard.close_worker().await;
}

struct Compaction<I: Io> {
    shard: Shard<I>,
    /// Segments that could not be emptied.
    stuck: HashMap<SegmentId, Stuck>,
    /// Bytes that were free when the last segment was chosen.
    free: u64,
    /// Whether it could make space if it had to.
    can_help: bool,
    /// The last segment was not emptied for want of space.
    is_full: bool,
    /// Somebody waits for space, or for the end.
    is_pressing: Cell<bool>,
}

/// Why a segment is left alone, and for how long.
struct Stuck {
    /// What was live in it after the last try: anything else is a change.
    live_bytes: i64,
    tries: u32,
    /// When it is tried again; `None`: when something has changed.
    until: Option<Instant>,
    /// Space was wanting when this much was free: more is a change, too.
    wanted_space: Option<u64>,
}

/// While it lives, the thread of the mover is one like any other.
struct Hurry<'c, I: Io>(&'c Compaction<I>);

impl<I: Io> Drop for Hurry<'_, I> {
    fn drop(&mut self) {
        self.0.shard.io().set_pressing(self.0.is_pressing.get());
    }
}

/// Why a segment was not emptied.
enum Halt {
    /// The store is being closed.
    Stopped,
    Failed(StoreError),
    /// What it holds is not known.
    Unreadable,
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::Closed) { Halt::Stopped } else { Halt::Failed(error) }
    }
}

impl<I: Io> Compaction<I> {
    async fn run(&mut self) {
        let shard = self.shard.clone();
        let background = &shard.shared().background;
        while !background.is_stopping() {
            let candidates = self.candidates().await;
            let space = self.space().await;
            self.free = space.free;
            let next = shard.shared().table.watermark();
            match policy::choose(&candidates, next, space.is_urgent(), &self.limits()) {
                Some((id, cause)) => {
                    let candidate = *candidates.iter().find(|candidate| candidate.id == id).expect("one of them");
                    let done = match candidate.is_active {
                        true => self.seal_all(candidate.id).await,
                        false => self.empty(candidate, cause).await,
                    };
                    if let Err(Halt::Stopped) = done {
                        return;
                    }
                    if std::mem::take(&mut self.is_full) {
                        self.rest().await;
                    }
                }
                None => self.rest().await,
            }
        }
    }

    fn limits(&self) -> CompactionLimits {
        self.shard.shared().options.limits.compaction
    }

    /// Waits until there may be something to do.
    async fn rest(&mut self) {
        let io = self.shard.io();
        let background = &self.shard.shared().background;
        let now = io.now();
        match self.stuck.values().filter_map(|stuck| stuck.until).filter(|until| *until > now).min() {
            Some(until) => {
                race(background.bell(Worker::Compaction).heard(), io.sleep(until.since(now))).await;
            }
            None => background.bell(Worker::Compaction).heard().await,
        }
        if !background.is_stopping() {
            race(background.stopped(Worker::Compaction), io.sleep(self.limits().gathering)).await;
        }
    }

    /// The segments that hold something; none before everything is counted.
    async fn candidates(&mut self) -> Vec<Candidate> {
        let shared = self.shard.shared();
        self.stuck.retain(|id, _| shared.table.get(*id).is_some());
        if !shared.uncounted.is_none() {
            return Vec::new();
        }
        let mut all: Vec<Arc<Segment<I::File>>> = Vec::new();
        let mut last = None;
        loop {
            let some = shared.table.after(last);
            let Some(end) = some.last() else { break };
            last = Some(end.id);
            all.extend(some.into_iter().filter(|segment| !segment.is_unused()));
            self.shard.io().yield_now().await;
        }
        let mut candidates = Vec::with_capacity(all.len());
        // What has no blob keeps no tombstone needed.
        let live = |segment: &&Arc<Segment<I::File>>| segment.live_bytes.load(Ordering::Acquire) > 0;
        let oldest = all.iter().filter(live).map(|segment| segment.id).min();
        // What lies in a directory that takes no writes can't move within it.
        let is_movable = |segment: &&Arc<Segment<I::File>>| self.shard.dir(segment.dir).health().takes_writes();
        for segment in all.iter().filter(is_movable) {
            let contents = self.contents(segment).await;
            let needed = oldest.is_some_and(|oldest| oldest.0 < contents.watermark);
            let live_bytes = segment.live_bytes.load(Ordering::Acquire).max(0) as u64;
            let overhead =
                u128::from(contents.overhead_bytes) * u128::from(live_bytes) / u128::from(contents.data_bytes.max(1));
            candidates.push(Candidate {
                id: segment.id,
                file_bytes: segment.file_bytes.load(Ordering::Acquire),
                live_bytes,
                // Whole blocks: a segment with one small record gives nothing when it is moved into
                // another such.
                kept_bytes: (live_bytes + overhead as u64).next_multiple_of(BLOCK_SIZE as u64)
                    + DATA_START
                    + footer_bytes(1),
                tombstone_bytes: if needed { contents.tombstone_bytes } else { 0 },
                // What is live in a fenced one goes elsewhere, and then it is retired like any
                // other.
                is_damaged: segment.is_damaged.load(Ordering::Acquire) || segment.is_fenced(),
                is_stuck: self.is_stuck(segment),
                is_active: segment.state() == State::Active,
            });
        }
        let balance = Balance::of(&candidates);
        let counters = &shared.background.compaction;
        counters.sealed_bytes.store(balance.sealed_bytes, Ordering::Relaxed);
        counters.dead_bytes.store(balance.dead_bytes + balance.tombstone_bytes, Ordering::Relaxed);
        self.can_help = policy::can_help(&candidates, &self.limits());
        candidates
    }

    /// What a segment holds; of one that the checkpoint covered its footer tells.
    async fn contents(&self, segment: &Arc<Segment<I::File>>) -> Contents {
        if let Some(known) = segment.contents() {
            return known;
        }
        let contents = self.shard.gather_countable(segment, |all: &mut Contents, entry| all.add(&entry)).await;
        let contents = contents.unwrap_or_default();
        segment.set_contents(contents);
        contents
    }

    /// Has everybody seal what they write to: a segment that has become the oldest keeps tombstones
    /// needed.
    async fn seal_all(&mut self, oldest: SegmentId) -> Result<(), Halt> {
        for log in &self.shard.0.logs {
            log.seal_active().await;
        }
        for core in (0..self.shard.cores()).map(CoreId) {
            let Some(Reply::Rotated) = self.shard.call(core, Request::Rotate).await else { return Err(Halt::Stopped) };
        }
        // One that could not be sealed, because the disk is full, is not tried again and again.
        let oldest = self.shard.shared().table.get(oldest);
        if let Some(segment) = oldest.filter(|segment| segment.state() == State::Active) {
            self.leave_alone(&segment, None);
        }
        Ok(())
    }

    /// Moves everything that is live out of a segment.
    async fn empty(&mut self, candidate: Candidate, cause: Cause) -> Result<(), Halt> {
        let Some(segment) = self.shard.shared().table.get(candidate.id) else { return Ok(()) };
        if cause == Cause::Dead && self.overhead(&segment).await? * 2 > candidate.gain() {
            self.leave_alone(&segment, None);
            return Ok(());
        }
        let counters = &self.shard.shared().background.compaction;
        let moved = counters.moved_bytes.load(Ordering::Relaxed);
        let result = self.move_all(&segment).await;
        let moved = counters.moved_bytes.load(Ordering::Relaxed) - moved;
        let left = segment.live_bytes.load(Ordering::Acquire);
        let is_empty = left == 0;
        tracing::debug!(segment = %segment.id, ?cause, moved, left, "compaction went over a segment");
        match result {
            Ok(()) if is_empty => {
                probe::hit(Event::SegmentEmptied);
                counters.segments.fetch_add(1, Ordering::Relaxed);
                counters.freed_bytes.fetch_add(candidate.file_bytes.saturating_sub(moved), Ordering::Relaxed);
            }
            // Somebody is at a blob of it, or reads it: another time.
            Ok(()) => self.leave_alone(&segment, None),
            // No space, not even in reserve: another time, when something has gone.
            Err(Halt::Failed(StoreError::Full)) => {
                self.is_full = true;
                self.leave_alone(&segment, Some(self.free));
            }
            Err(Halt::Failed(error)) => self.give_up(&segment, error),
            Err(Halt::Unreadable) => self.give_up(&segment, "its records can't be read"),
            Err(Halt::Stopped) => return Err(Halt::Stopped),
        }
        Ok(())
    }

    /// Notes that a segment could not be emptied because something failed.
    fn give_up(&mut self, segment: &Segment<I::File>, error: impl fmt::Display) {
        self.shard.shared().background.compaction.failures.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(segment = %segment.id, %error, "compaction could not empty a segment: it is tried again later");
        self.leave_alone(segment, None);
    }

    /// Whether a segment could not be emptied and nothing has changed since.
    fn is_stuck(&self, segment: &Segment<I::File>) -> bool {
        let Some(stuck) = self.stuck.get(&segment.id) else { return false };
        let has_space = stuck.wanted_space.is_some_and(|then| self.free > then);
        let is_due = stuck.until.is_some_and(|until| self.shard.io().now() >= until);
        segment.live_bytes.load(Ordering::Acquire) == stuck.live_bytes && !has_space && !is_due
    }

    /// Leaves a segment alone that could not be emptied. What is tried for nothing again and again
    /// comes to rest.
    fn leave_alone(&mut self, segment: &Segment<I::File>, wanted_space: Option<u64>) {
        let live_bytes = segment.live_bytes.load(Ordering::Acquire);
        let before = self.stuck.get(&segment.id).filter(|stuck| stuck.live_bytes == live_bytes);
        let tries = before.map_or(1, |stuck| stuck.tries + 1);
        let until =
            (tries < TRIES_MAX).then(|| self.shard.io().now().after(self.limits().stuck_for * (1 << (tries - 1))));
        self.stuck.insert(segment.id, Stuck { live_bytes, tries, until, wanted_space });
    }

    /// Bytes of records that become dead elsewhere when the pieces in a segment move, because they
    /// list them.
    async fn overhead(&self, segment: &Arc<Segment<I::File>>) -> Result<u64, Halt> {
        let tenants = segment.tenants();
        let mut overhead = 0;
        for some in tenants.chunks(self.limits().ids_at_once) {
            for (id, from) in some.iter().zip(self.locate(some).await.or(Err(Halt::Stopped))?) {
                let Some(from) = from.filter(has_extents) else { continue };
                overhead += record_bytes(&from);
                let Some(home) = self.shard.segment(&from) else { continue };
                // One that can't be read is found when it is to be moved.
                let Ok(record) = self.shard.open_record(*id, &from, home).await else { continue };
                if record.decoded.head.layout == Layout::ExtentPages {
                    overhead += PAGE_BYTES;
                }
            }
        }
        Ok(overhead)
    }

    async fn move_all(&self, segment: &Arc<Segment<I::File>>) -> Result<(), Halt> {
        let mut failure = None;
        // First what large blobs have here: their records move with their pieces.
        for id in segment.tenants() {
            match self.move_pieces(segment, id).await {
                Ok(()) => {}
                Err(Halt::Failed(error)) => failure = Some(error),
                Err(halt) => return Err(halt),
            }
        }
        let gather = |blobs: &mut Entries, entry: FooterEntry| {
            if entry.kind == Kind::Blob {
                blobs.push(&entry);
            }
        };
        let Some(blobs) = self.shard.gather_countable(segment, gather).await else {
            return Err(Halt::Unreadable);
        };
        let live = self.live(segment, &blobs).await?;
        blobs.free(self.shard.io()).await;
        match self.move_records(segment, live).await {
            Ok(()) => {}
            Err(Halt::Failed(error)) => failure = Some(error),
            Err(halt) => return Err(halt),
        }
        failure.map_or(Ok(()), |error| Err(Halt::Failed(error)))
    }

    /// Those records of blobs that the index knows to lie in a segment, in the order of their
    /// places.
    async fn live(&self, segment: &Segment<I::File>, entries: &Entries) -> Result<Vec<(BlobId, Location)>, StoreError> {
        let mut live = Vec::new();
        let mut rest = entries.iter();
        while rest.len() > 0 {
            let some: Vec<FooterEntry> = rest.by_ref().take(self.limits().ids_at_once).collect();
            let ids: Vec<BlobId> = some.iter().map(|entry| entry.id).collect();
            for (entry, found) in some.iter().zip(self.locate(&ids).await?) {
                let is_here = |at: &Location| at.segment == segment.id && at.offset_units == entry.offset_units;
                live.extend(found.filter(is_here).map(|at| (entry.id, at)));
            }
        }
        live.sort_by_key(|(_, at)| at.offset_units);
        Ok(live)
    }

    /// Where these blobs are, in their order.
    async fn locate(&self, ids: &[BlobId]) -> Result<Vec<Option<Location>>, StoreError> {
        let mut found = vec![None; ids.len()];
        for (core, part) in self.by_owner(ids.iter().copied().enumerate(), |(_, id)| *id) {
            let wanted = part.iter().map(|(_, id)| *id).collect();
            let Some(Reply::Located(places)) = self.shard.call(core, Request::Locate(wanted)).await else {
                return Err(StoreError::Closed);
            };
            for ((index, _), place) in part.iter().zip(places) {
                found[*index] = place;
            }
        }
        Ok(found)
    }

    /// Locks records to be moved, in their order. What is not where it was, or in use, is left
    /// alone.
    async fn hold(&self, records: &[(BlobId, Location)]) -> Result<Vec<Option<Held>>, StoreError> {
        let mut held = vec![None; records.len()];
        for (core, part) in self.by_owner(records.iter().copied().enumerate(), |(_, (id, _))| *id) {
            let wanted = part.iter().map(|(_, record)| *record).collect();
            let Some(Reply::Held(answers)) = self.shard.call(core, Request::Hold(wanted)).await else {
                return Err(StoreError::Closed);
            };
            for ((index, _), answer) in part.iter().zip(answers) {
                held[*index] = answer;
            }
        }
        Ok(held)
    }

    /// Unlocks what was held, and enters the new places.
    async fn release(&self, records: Vec<(BlobId, Option<Location>)>) -> Result<(), StoreError> {
        for (core, part) in self.by_owner(records.into_iter(), |(id, _)| *id) {
            let Some(Reply::Moved) = self.shard.call(core, Request::Moved(part)).await else {
                return Err(StoreError::Closed);
            };
        }
        Ok(())
    }

    fn hurry(&self) -> Hurry<'_, I> {
        self.shard.io().set_pressing(true);
        Hurry(self)
    }

    /// The space there is; told to the uploads, and to the scheduler.
    async fn space(&self) -> Space {
        let space = self.shard.space().await;
        // A stop waits for it, too.
        self.is_pressing.set(space.shortage() > 0 || self.shard.shared().background.is_stopping());
        self.shard.io().set_pressing(self.is_pressing.get());
        let shared = self.shard.shared();
        // What each core may take next, and what nobody but compaction takes.
        let last = self.segment_bytes() * (u64::from(shared.options.cores) + RESERVED_FILES as u64);
        shared.background.pressure.set(space, last, self.can_help);
        space
    }

    /// Bytes of the largest segment that is written now.
    fn segment_bytes(&self) -> u64 {
        let free = self.shard.shared().free.get().expect("set at recovery");
        (0..self.shard.shared().options.dirs.len()).map(|dir| free.segment_size(dir)).max().expect("there is one")
    }

    fn by_owner<T>(&self, items: impl Iterator<Item = T>, id: impl Fn(&T) -> BlobId) -> Vec<(CoreId, Vec<T>)> {
        let mut parts: Vec<(CoreId, Vec<T>)> = Vec::new();
        for item in items {
            let owner = self.shard.owner(&id(&item));
            match parts.iter_mut().find(|(core, _)| *core == owner) {
                Some((_, part)) => part.push(item),
                None => parts.push((owner, vec![item])),
            }
        }
        parts
    }

    /// Counts bytes that were moved, and waits as the space allows; ends when the store is being
    /// closed.
    async fn paced(&self, moved: u64) -> Result<(), Halt> {
        let shared = self.shard.shared();
        shared.background.compaction.moved_bytes.fetch_add(moved, Ordering::Relaxed);
        let pause = self.space().await.pause(moved);
        if !pause.is_zero() {
            race(shared.background.stopped(Worker::Compaction), self.shard.io().sleep(pause)).await;
        }
        if shared.background.is_stopping() { Err(Halt::Stopped) } else { Ok(()) }
    }
}

impl<I: Io> Shard<I> {
    /// The space of the tightest data directory.
    pub(in crate::store) async fn space(&self) -> Space {
        let shared = self.shared();
        let free_files = shared.free.get().expect("set at recovery");
        let mut tightest: Option<Space> = None;
        for (index, dir) in shared.options.dirs.iter().enumerate() {
            // Without the answer of the file system nothing is urgent.
            let Ok(of_dir) = self.dir(index).space(dir).await else { continue };
            let kept = free_files.count(index) as u64 * free_files.segment_size(index);
            let space = Space { total: of_dir.total, free: of_dir.available + kept };
            if tightest.is_none_or(|tightest| space.shortage() > tightest.shortage()) {
                tightest = Some(space);
            }
        }
        tightest.unwrap_or_default()
    }
}
