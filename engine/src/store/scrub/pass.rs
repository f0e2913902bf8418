//! The scrub from its start to its end, pass by pass, and what it saves of that.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::fault::{Fault, Halt};
use super::pace::Pacer;
use super::saved::{self, Saved};
use crate::io::{Clock, Instant, Io};
use crate::log::REREADS;
use crate::log::segment::{Segment, State};
use crate::mutant::{Mutant, is_planted};
use crate::probe::{self, Event};
use crate::store::background::Background;
use crate::store::message::Request;
use crate::store::progress::{Position, ScrubCounters};
use crate::store::shard::Shard;
use crate::store::shared::Store;
use crate::store::worker::Worker;
use crate::sync::race;
use crate::types::{CoreId, SegmentId};

/// How often what the disk refused, or what fails its checksum, is read again before it counts.
pub(super) const RETRIES: u32 = REREADS;
/// The position is saved after this much work.
const SAVE_BYTES: u64 = 1 << 30;
const SAVE_TIME: Duration = Duration::from_secs(60);
/// A quarantine that changes often is not saved more often than this.
const SAVE_PAUSE: Duration = Duration::from_secs(1);
/// After a long stop the rest of a pass is spread over this part of the interval at least.
const REST_DIVISOR: u32 = 10;
const PPM: u64 = 1_000_000;

/// What the scrub is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScrubOptions {
    /// From the beginning of a pass to that of the next; `None`: there is no scrub.
    pub interval: Option<Duration>,
    /// How long after a failure a place is read again.
    pub retry_pause: Duration,
}

impl Default for ScrubOptions {
    fn default() -> Self {
        Self { interval: Some(Duration::from_secs(14 * 24 * 3600)), retry_pause: Duration::from_secs(1) }
    }
}

/// Runs the scrub until the store is closed. The cores must be open.
pub async fn scrub<I: Io>(store: &Store<I::File>, io: I, options: ScrubOptions) {
    let Some(interval) = options.interval else { return };
    if store.0.served_without() > 0 {
        // Blobs with pieces in the missing directory would look damaged.
        tracing::warn!("nothing is scrubbed while a data directory is missing");
        return;
    }
    let Some(shard) = store.open_worker(Worker::Scrub, io) else { return };
    let scrub = Scrub::new(shard.clone(), options, interval);
    let Err(Halt::Stopped) = scrub.run().await;
    scrub.save().await;
    shard.close_worker().await;
}

pub(super) struct Scrub<I: Io> {
    pub shard: Shard<I>,
    pub pacer: Pacer<I>,
    pub options: ScrubOptions,
    interval: Duration,
    position: Cell<Position>,
    saved_at: Cell<Instant>,
    /// Bytes that had been read then, and the changes of the quarantine.
    saved_read: Cell<u64>,
    saved_changes: Cell<u64>,
}

/// Nothing.
enum Never {}

impl<I: Io> Scrub<I> {
    fn new(shard: Shard<I>, options: ScrubOptions, interval: Duration) -> Self {
        let background = &shard.shared().background;
        let position = *background.scrub_position.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = background.quarantine.changes();
        Self {
            pacer: Pacer::new(shard.clone()),
            options,
            interval,
            position: Cell::new(position),
            saved_at: Cell::new(shard.io().now()),
            saved_read: Cell::new(0),
            saved_changes: Cell::new(changes),
            shard,
        }
    }

    pub fn background(&self) -> &Background {
        &self.shard.shared().background
    }

    pub fn counters(&self) -> &ScrubCounters {
        &self.background().scrub
    }

    async fn run(&self) -> Result<Never, Halt> {
        loop {
            let position = self.position.get();
            if position.began_ns > 0 && !position.is_complete {
                tracing::info!(segment = %position.segment, "the scrub resumes where it stopped");
            } else {
                self.counters().progress_ppm.store(PPM as u32, Ordering::Relaxed);
                self.rest(position).await?;
                self.begin().await?;
            }
            self.pass().await?;
        }
    }

    /// Waits until the next pass is due.
    async fn rest(&self, position: Position) -> Result<(), Halt> {
        let io = self.shard.io();
        let passed = Duration::from_nanos(io.wall_clock_ns().saturating_sub(position.began_ns));
        let due =
            io.now().after(if position.began_ns == 0 { Duration::ZERO } else { self.interval.saturating_sub(passed) });
        loop {
            self.tend().await?;
            let left = due.since(io.now());
            if left.is_zero() {
                return Ok(());
            }
            let pause = if self.is_list_changed() { left.min(SAVE_PAUSE) } else { left };
            race(self.background().bell(Worker::Scrub).heard(), io.sleep(pause)).await;
        }
    }

    async fn begin(&self) -> Result<(), Halt> {
        // What is written from now on is the next pass's.
        for core in (0..self.shard.cores()).map(CoreId) {
            self.ask(core, Request::Rotate).await?;
        }
        if self.background().is_running(Worker::Compaction) {
            self.ask(Worker::Compaction.core(self.shard.cores()), Request::Rotate).await?;
        }
        let last_end_ns = self.position.get().last_end_ns;
        let began_ns = self.shard.io().wall_clock_ns();
        self.position.set(Position { began_ns, last_end_ns, ..Position::default() });
        self.save().await;
        Ok(())
    }

    async fn pass(&self) -> Result<(), Halt> {
        let table = &self.shard.shared().table;
        let Position { segment: first, offset_units, began_ns, .. } = self.position.get();
        let all = table.all();
        let total = all.len().max(1) as u64;
        let ids: Vec<SegmentId> = all.iter().map(|segment| segment.id).filter(|id| *id >= first).collect();
        let work: u64 = all.iter().filter(|segment| segment.id >= first).map(|segment| bytes_to_read(segment)).sum();
        drop(all);
        let passed = Duration::from_nanos(self.shard.io().wall_clock_ns().saturating_sub(began_ns));
        self.pacer.spread(work, self.interval.saturating_sub(passed).max(self.interval / REST_DIVISOR));
        self.review().await?;
        self.check_files().await?;
        for (index, id) in ids.iter().enumerate() {
            let done = total.saturating_sub((ids.len() - index) as u64);
            self.counters().progress_ppm.store((done * PPM / total) as u32, Ordering::Relaxed);
            // What can't be asked is not looked at; a restart brings it back or says what is
            // missing.
            let is_gone = |segment: &Arc<Segment<I::File>>| self.shard.dir(segment.dir).health().is_gone();
            if let Some(segment) = table.get(*id).filter(|segment| !is_gone(segment)) {
                let from_units = if *id == first { offset_units } else { 0 };
                match segment.state() {
                    State::Active => self.check_active(&segment).await?,
                    State::Sealed | State::Fenced => self.check_segment(&segment, from_units).await?,
                }
            }
            self.advance(SegmentId(id.0 + 1), 0).await;
            self.tend().await?;
        }
        let now = self.shard.io().wall_clock_ns();
        let position = Position { is_complete: true, last_end_ns: now, ..self.position.get() };
        self.position.set(position);
        self.save().await;
        self.counters().passes.fetch_add(1, Ordering::Relaxed);
        self.counters().last_pass_end_ns.store(now, Ordering::Relaxed);
        probe::hit(Event::ScrubPassed);
        tracing::info!(
            segments = ids.len(),
            quarantined = self.background().quarantine.count(),
            "the scrub has read everything"
        );
        Ok(())
    }

    /// Everything before this place is done.
    pub async fn advance(&self, segment: SegmentId, offset_units: u32) {
        self.position.set(Position { segment, offset_units, ..self.position.get() });
        let is_due = self.pacer.read() - self.saved_read.get() >= SAVE_BYTES
            || self.shard.io().now().since(self.saved_at.get()) >= SAVE_TIME;
        if is_due {
            self.save().await;
        }
    }

    /// Damage that costs nobody anything yet.
    pub fn found(&self, segment: &Arc<Segment<I::File>>, offset: u64, what: &str, fault: &Fault) {
        let is_new = self.background().add_damage(segment.id, offset);
        if is_new {
            probe::hit(Event::ScrubFound);
            self.counters().findings.fetch_add(1, Ordering::Relaxed);
            tracing::error!(segment = %segment.id, offset, what, %fault, "a segment is damaged: what is in use in it is moved elsewhere");
        }
        if !segment.is_damaged.swap(true, Ordering::AcqRel) || is_new {
            self.background().space_changed();
        }
    }

    fn is_list_changed(&self) -> bool {
        self.background().quarantine.changes() != self.saved_changes.get()
    }

    /// Saves the quarantine when it has changed, and not too often.
    pub async fn save_list(&self) {
        if self.is_list_changed() && self.shard.io().now().since(self.saved_at.get()) >= SAVE_PAUSE {
            self.save().await;
        }
    }

    /// Saves position and quarantine.
    async fn save(&self) {
        let io = self.shard.dir(0);
        if !io.health().takes_writes() {
            return;
        }
        let changes = self.background().quarantine.changes();
        let quarantined = match is_planted(Mutant::QuarantineForgets) {
            true => Vec::new(),
            false => self.background().quarantine.list(),
        };
        let saved = Saved { position: self.position.get(), quarantined };
        let dir = &self.shard.shared().options.dirs[0];
        // Also after a failure: it is not tried at every step.
        self.saved_at.set(io.now());
        self.saved_read.set(self.pacer.read());
        // Looked at before it is replaced: so nothing that happened to it goes unseen.
        let damage = saved::read(io, dir, self.shard.0.store_uuid).await.err();
        // Of a directory that was taken out meanwhile nothing is known.
        let damage = damage.filter(|_| io.health().takes_writes());
        if let Some(why) = &damage {
            self.found_file(&dir.join(saved::FILE_NAME), why);
        }
        match saved::write(io, dir, self.shard.0.store_uuid, &saved).await {
            Ok(()) => {
                self.saved_changes.set(changes);
                if damage.is_some() {
                    self.background().mended(1);
                }
            }
            Err(error) => tracing::warn!(%error, "the position of the scrub could not be saved"),
        }
    }
}

/// What a segment costs: itself, and the pieces in it once more with their blobs.
fn bytes_to_read<F>(segment: &Segment<F>) -> u64 {
    let pieces = if segment.has_tenants() { segment.live_bytes.load(Ordering::Acquire).max(0) as u64 } else { 0 };
    segment.file_bytes.load(Ordering::Acquire) + pieces
}
