//! The log of one core in one data directory: appends, and group commit.
//!
//! Large records are written at once from where they lie ([`Log::append_direct`]); small ones wait
//! for the committer, which packs all that are waiting into one batch, writes it and makes it
//! durable with one sync ([`Log::commit`]). Invariants:
//! - What is acknowledged is durable, and so is everything before it in its segment: recovery may
//!   then cut at the first hole that nothing acknowledged follows.
//! - A failed write or sync fences the segment. Nothing in it is acknowledged afterwards, and a
//!   sync is never tried again: it could report success for data that is gone. For the same reason
//!   a segment is synced once at a time.
//! - Only tombstones may use the last [`Inner::reserve`] bytes of a segment, so that a full disk
//!   can still delete.
//!
//! Preparing and sealing segments lies in [`super::lifecycle`], what is known of the one that is
//! written to in [`super::open_segment`].

use std::cell::{Cell, RefCell};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::io::{BLOCK_SIZE, Clock, Disk, Instant, Io, Spawn};
use crate::log::counters::LogCounters;
use crate::log::dir_io::DirIo;
use crate::log::error::{LogError, in_doubt};
use crate::log::footer::footer_bytes;
use crate::log::free_files::{FreeFiles, Need};
use crate::log::header::DATA_START;
use crate::log::health::{DirState, WRITE_FAILURES_MAX, taken_out};
use crate::log::open_segment::{Claim, OpenSegment, Placed, Reservation};
use crate::log::packed::{Packed, PackedPayload};
use crate::log::record::{Head, Shape, encode_head};
use crate::log::segment::Segment;
use crate::log::table::SegmentTable;
use crate::log::{CHECK_SIZE, FRAME_SIZE, HEAD_ROOM, PACKED_PAYLOAD_MAX, SEGMENT_SIZE_MIN};
use crate::memory::Frame;
use crate::mutant::{Mutant, is_planted};
use crate::sync::{Notify, Turns, promise};
use crate::types::SegmentId;

/// The most bytes of a segment that may be left to tombstones alone.
pub const RESERVE_BYTES_MAX: u64 = 256 << 10;
/// What tombstones make do with when there is no room for a segment of the usual size, as after a
/// restart on a full disk.
const SMALL_SEGMENT: u64 = SEGMENT_SIZE_MIN;
/// How long a log that had no room, or whose disk failed, is passed over for others.
const PASSED_OVER_FOR: Duration = Duration::from_secs(2);

/// Neither a record nor a batch takes more than this part of a segment: it must fit into an empty
/// one beside header, footer and reserve, and what is left at the end of a full one stays a
/// fraction.
pub(super) const RECORD_DIVISOR: u64 = 3;

const _: () = assert!(PACKED_PAYLOAD_MAX <= payload_max(SEGMENT_SIZE_MIN));

/// The most payload bytes of a record in segments of this size: whole check blocks.
const fn payload_max(segment_size: u64) -> usize {
    let room = (segment_size / RECORD_DIVISOR) as usize - HEAD_ROOM;
    if room < FRAME_SIZE { room / CHECK_SIZE * CHECK_SIZE } else { FRAME_SIZE }
}

/// What a log is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Uploads and deletes.
    Clients,
    /// Moving what is live, so that space comes back: it may use the files that are kept for that,
    /// and prepares nothing ahead of its need.
    Compaction,
}

/// What a log is told at birth.
pub struct LogOptions<F> {
    pub purpose: Purpose,
    /// Index of the data directory, and its path.
    pub dir_index: usize,
    pub dir: PathBuf,
    pub store: [u8; 16],
    pub segment_size: u64,
    /// The most bytes of one batch.
    pub batch_bytes_max: usize,
    /// The most bytes that only tombstones may use in a segment.
    pub reserve_bytes_max: u64,
    pub table: Arc<SegmentTable<F>>,
    pub free: Arc<FreeFiles<F>>,
    /// Told of every segment that is sealed, with the bytes it holds.
    pub sealed: Box<dyn Fn(SegmentId, u64)>,
    /// Told of every segment that is fenced, and again when records in it were refused.
    pub fenced: Box<dyn Fn(SegmentId)>,
}

pub(super) struct Inner<I: Io> {
    pub(super) io: DirIo<I>,
    pub(super) options: LogOptions<I::File>,
    pub(super) active: RefCell<Option<Rc<OpenSegment<I::File>>>>,
    pub(super) spare: RefCell<Option<Arc<Segment<I::File>>>>,
    pub(super) waiting: RefCell<Vec<Packed<I::File>>>,
    /// The committer has something to do.
    pub(super) work: Notify,
    pub(super) rotation: Turns,
    pub(super) closing: Cell<bool>,
    /// Tasks that must end before the log is closed: the committer and the sealers.
    pub(super) tasks: Cell<u32>,
    pub(super) task_ended: Notify,
    /// When no segment could be had for want of space, the last time it was tried.
    full_at: Cell<Option<Instant>>,
    /// When the disk last refused a write.
    failed_at: Cell<Option<Instant>>,
    /// Segments that were fenced since the last sync of records that succeeded.
    fenced_in_a_row: Cell<u32>,
    pub(super) counters: Cell<LogCounters>,
}

/// The log; clones share it.
pub struct Log<I: Io>(pub(super) Rc<Inner<I>>);

impl<I: Io> Clone for Log<I> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<I: Io> Inner<I> {
    fn reserve(&self) -> u64 {
        self.options.reserve_bytes_max.min(self.options.segment_size / 32)
    }
}

impl<I: Io> Log<I> {
    /// Starts a log. It takes no space before the first record.
    pub fn start(io: DirIo<I>, options: LogOptions<I::File>) -> Self {
        let log = Self(Rc::new(Inner {
            io,
            options,
            active: RefCell::default(),
            spare: RefCell::default(),
            waiting: RefCell::default(),
            work: Notify::default(),
            rotation: Turns::new(),
            closing: Cell::new(false),
            tasks: Cell::new(0),
            task_ended: Notify::default(),
            full_at: Cell::new(None),
            failed_at: Cell::new(None),
            fenced_in_a_row: Cell::new(0),
            counters: Cell::default(),
        }));
        log.spawn_task(log.clone().committer());
        log
    }

    pub fn counters(&self) -> LogCounters {
        self.0.counters.get()
    }

    /// Records that wait for their commit.
    pub fn waiting_records(&self) -> usize {
        self.0.waiting.borrow().len()
    }

    /// Index of the data directory.
    pub fn dir_index(&self) -> usize {
        self.0.options.dir_index
    }

    /// The most payload bytes of one record: at most a frame, less in small segments.
    pub fn payload_max(&self) -> usize {
        payload_max(self.0.options.segment_size)
    }

    /// Whether a record had better go elsewhere: there was no room a moment ago, the disk failed or
    /// is slow, or its directory takes no more writes.
    pub fn is_passed_over(&self) -> bool {
        let lately = |at: Option<Instant>| at.is_some_and(|at| self.0.io.now().since(at) < PASSED_OVER_FOR);
        self.has_failed() || self.0.io.is_lagging() || lately(self.0.full_at.get()) || lately(self.0.failed_at.get())
    }

    /// Whether the directory takes no more writes until the next start.
    pub fn has_failed(&self) -> bool {
        !self.0.io.health().takes_writes()
    }

    /// Writes a record from where it lies: `frame` is head room, then `payload_length` bytes of
    /// payload with these [`checksums`](super::record::checksums). Not durable yet. On an error the
    /// frame may be without its buffer.
    pub async fn append_direct(
        &self,
        head: &Head,
        frame: &mut Frame,
        payload_length: usize,
        checks: Vec<u32>,
    ) -> Result<Placed<I::File>, LogError> {
        if self.0.closing.get() {
            return Err(LogError::Closed);
        }
        let shape = Shape::direct(head, payload_length);
        let total = shape.direct_bytes();
        let Reservation { open, offset } = self.claim(total as u64, 1, Claim::Data).await?;
        let placement = open.placement(offset);
        let nonce = open.segment.nonce;
        encode_head(frame, head, shape, placement, nonce, checks.into_iter());
        frame[HEAD_ROOM + payload_length..total].fill(0);
        let placed = open.place(head, placement.offset_units, shape.length_units(), offset + total as u64);
        let result = self.0.io.write_frame(&open.file, frame, 0..total, offset).await;
        if let Err(error) = self.write_ended(&open, offset, total, result) {
            open.refuse(head.kind, placed.length_units);
            (self.0.options.fenced)(open.segment.id);
            return Err(error);
        }
        Ok(placed)
    }

    /// Waits until a record is durable.
    pub async fn durable(&self, placed: &Placed<I::File>) -> Result<(), LogError> {
        let open = &placed.open;
        if placed.is_durable() {
            return Ok(());
        }
        if self.0.closing.get() {
            return Err(LogError::Closed);
        }
        open.wanted.set(open.wanted.get().max(placed.end));
        self.0.work.notify();
        open.changed
            .wait_for(|| {
                if open.durable_to.get() >= placed.end {
                    return Some(Ok(()));
                }
                open.segment.is_fenced().then(|| Err(in_doubt(open.segment.id, false)))
            })
            .await
    }

    /// Writes a small record together with others, and returns when it is durable.
    pub async fn commit(&self, head: Head, payload: PackedPayload) -> Result<Placed<I::File>, LogError> {
        assert!(payload.bytes().len() <= PACKED_PAYLOAD_MAX);
        if self.0.closing.get() {
            return Err(LogError::Closed);
        }
        let (reply, result) = promise();
        self.0.waiting.borrow_mut().push(Packed { head, payload, reply });
        self.0.work.notify();
        result.await.expect("the committer answers everything")
    }

    /// Takes no more records, waits for those on their way, and seals.
    pub async fn close(&self) {
        self.0.closing.set(true);
        self.0.work.notify();
        self.0.task_ended.wait_for(|| (self.0.tasks.get() == 0).then_some(())).await;
        let active = self.0.active.take();
        if let Some(open) = active
            && !open.segment.is_fenced()
        {
            self.seal(&open).await;
        }
        self.give_up_spare().await;
    }

    /// A task that [`Log::close`] waits for.
    pub(super) fn spawn_task(&self, task: impl Future<Output = ()> + 'static) {
        let inner = self.0.clone();
        inner.tasks.set(inner.tasks.get() + 1);
        self.0.io.spawn(async move {
            task.await;
            inner.tasks.set(inner.tasks.get() - 1);
            inner.task_ended.notify();
        });
    }

    /// Room for `size` bytes (whole blocks) with `records` records; the write counts as in flight
    /// from here on.
    pub(super) async fn claim(
        &self,
        size: u64,
        records: usize,
        claim: Claim,
    ) -> Result<Reservation<I::File>, LogError> {
        assert!(size.is_multiple_of(BLOCK_SIZE as u64));
        loop {
            if self.has_failed() {
                return Err(LogError::Failed(format!(
                    "{}; repair or replace its disk and restart",
                    self.0.io.health().refusal()
                )));
            }
            if let Some(reservation) = self.claim_in_active(size, records, claim) {
                return Ok(reservation);
            }
            let _turn = self.0.rotation.take().await;
            if self.fits_active(size, records, claim) {
                continue;
            }
            let least =
                (DATA_START + size + footer_bytes(records) + self.0.reserve()).next_multiple_of(BLOCK_SIZE as u64);
            // What compaction moves may come from larger segments than those of today.
            let full_size = self.0.options.segment_size.max(least);
            let mut rotated = self.rotate(full_size, least, self.need()).await;
            if claim == Claim::Data {
                self.0.full_at.set((rotated == Err(LogError::Full)).then(|| self.0.io.now()));
            } else {
                if rotated == Err(LogError::Full) && DATA_START + size + footer_bytes(records) <= SMALL_SEGMENT {
                    rotated = self.rotate(SMALL_SEGMENT, SMALL_SEGMENT, Need::Data).await;
                }
                if rotated == Err(LogError::Full) {
                    rotated = self.rotate(full_size, least, Need::Tombstone).await;
                }
            }
            rotated?;
        }
    }

    fn need(&self) -> Need {
        match self.0.options.purpose {
            Purpose::Clients => Need::Data,
            Purpose::Compaction => Need::Compaction,
        }
    }

    fn fits(&self, open: &OpenSegment<I::File>, size: u64, records: usize, claim: Claim) -> bool {
        let reserve = if claim == Claim::Tombstone { 0 } else { self.0.reserve() };
        let footer = footer_bytes(open.entries.borrow().len() + records);
        !open.segment.is_fenced() && open.append.get() + size + footer + reserve <= open.segment.size
    }

    fn fits_active(&self, size: u64, records: usize, claim: Claim) -> bool {
        self.0.active.borrow().as_ref().is_some_and(|open| self.fits(open, size, records, claim))
    }

    fn claim_in_active(&self, size: u64, records: usize, claim: Claim) -> Option<Reservation<I::File>> {
        let active = self.0.active.borrow();
        let open = active.as_ref().filter(|open| self.fits(open, size, records, claim))?;
        let offset = open.append.get();
        open.append.set(offset + size);
        open.in_flight.borrow_mut().insert(offset);
        Some(Reservation { open: open.clone(), offset })
    }

    pub(super) fn write_ended(
        &self,
        open: &OpenSegment<I::File>,
        offset: u64,
        size: usize,
        result: io::Result<()>,
    ) -> Result<(), LogError> {
        let result = match result {
            Ok(()) => {
                open.in_flight.borrow_mut().remove(&offset);
                let mut counters = self.0.counters.get();
                counters.bytes_written += size as u64;
                self.0.counters.set(counters);
                Ok(())
            }
            Err(error) => {
                // Stays in flight for ever: nothing behind it may count as written.
                self.fence(open, "write", &error);
                Err(in_doubt(open.segment.id, error.raw_os_error() == Some(libc::ENOSPC)))
            }
        };
        open.changed.notify();
        result
    }

    pub(super) fn fence(&self, open: &OpenSegment<I::File>, what: &str, error: &io::Error) {
        self.note_failure();
        if !open.segment.is_fenced() && !is_full(error) && taken_out(error).is_none() {
            // The header of each new segment may well be written and synced: that says nothing of
            // records.
            let fenced = self.0.fenced_in_a_row.get() + 1;
            self.0.fenced_in_a_row.set(fenced);
            if fenced >= WRITE_FAILURES_MAX {
                let reason = format!("{WRITE_FAILURES_MAX} segments in a row failed: {error}");
                self.0.io.health().take_out(DirState::NoWrites, reason);
            }
        }
        open.fence(what, error);
        // Its file goes when nobody has it any more.
        self.0.active.borrow_mut().take_if(|active| std::ptr::eq(&**active, open));
        (self.0.options.fenced)(open.segment.id);
    }

    /// The next records go elsewhere for a while, where there is another log.
    pub(super) fn note_failure(&self) {
        self.0.failed_at.set(Some(self.0.io.now()));
    }

    /// Makes everything below `end` durable with one sync, unless it is already. False when the
    /// segment is fenced.
    pub(super) async fn sync_to(&self, open: &OpenSegment<I::File>, end: u64) -> bool {
        let is_written = is_planted(Mutant::SyncInFlight) || open.written(end).await;
        // Also when it was fenced meanwhile: what is durable is acknowledged, and nothing else is.
        if !is_written || open.durable_to.get() >= end {
            return open.durable_to.get() >= end;
        }
        // One at a time. Of two the kernel may tell the failure to one alone, whichever of them
        // asks first, and the success of the other proves nothing.
        let turn = open.syncs.take();
        let _turn = if is_planted(Mutant::SyncsOverlap) { None } else { Some(turn.await) };
        if open.segment.is_fenced() || open.durable_to.get() >= end {
            return open.durable_to.get() >= end;
        }
        let target = if is_planted(Mutant::SyncInFlight) { open.append.get() } else { open.written_to() };
        let mut result = if is_planted(Mutant::SkipSync) { Ok(()) } else { self.0.io.sync(&open.file).await };
        if is_planted(Mutant::RetrySync) && result.is_err() {
            result = self.0.io.sync(&open.file).await;
        }
        match result {
            Ok(()) if open.segment.is_fenced() => open.durable_to.get() >= end,
            Ok(()) => {
                self.0.fenced_in_a_row.set(0);
                open.durable_to.set(open.durable_to.get().max(target));
                open.changed.notify();
                true
            }
            Err(error) => {
                if !is_planted(Mutant::FenceNothing) {
                    self.fence(open, "sync", &error);
                }
                open.durable_to.get() >= end
            }
        }
    }
}

/// A want of space is no failure of the disk.
fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}
