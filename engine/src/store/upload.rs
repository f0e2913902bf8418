//! A blob on its way in: received into frames, hashed once, written while it comes.
//!
//! The id is known only after the last byte. A blob that fits one frame becomes one record; of a
//! larger one each full frame is written at once, and a record with the extents ends it. Whatever
//! its size, an upload holds at most [`WRITES_AND_HASHES_MAX`] frames and the one it fills. A slow
//! upload fills small frames first, so it holds little. Nothing is visible before the commit; what
//! a broken upload leaves is counted dead.

mod commit;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use crate::io::{AlignedBuf, Instant, Io};
use crate::log::error::LogError;
use crate::log::extent::{self, EXTENT_SIZE, Extent, PAGE_EXTENTS_MAX};
use crate::log::open_segment::Placed;
use crate::log::record::{Head, Kind, checksums};
use crate::log::writer::Log;
use crate::log::{CHECK_SIZE, FRAME_SIZE, HEAD_ROOM, RECORD_ALIGN};
use crate::memory::Frame;
use crate::mutant::{Mutant, is_planted};
use crate::probe::{self, Event};
use crate::store::error::StoreError;
use crate::store::hash_steps::Progress;
use crate::store::hashing::{Hashing, UploadHash};
use crate::store::meta::BLOB_SIZE_MAX;
use crate::store::shard::Shard;
use crate::sync::{Promised, promise};
use crate::types::{BlobId, ContentHash, SegmentId};

/// Payload bytes of the frames that an upload uses.
const FRAME_SIZES: [usize; 5] = [4 << 10, 16 << 10, CHECK_SIZE, 256 << 10, FRAME_SIZE];
/// The frame that an upload of unknown or larger size starts with.
const FIRST_FRAME: usize = 2;
/// Frames of one upload that are being written, and with those that another core hashes before.
const WRITES_MAX: usize = 4;
const WRITES_AND_HASHES_MAX: usize = 6;
/// Bytes that are received before they are hashed: they stay in the cache. A quarter of it cost a
/// tenth of the speed of one upload on one core, and others on that core gained nothing.
const RECEIVED_AT_ONCE: usize = 1 << 20;
/// An upload that is slower than its largest frame within this time needs no other core's help.
const HELPED_FRAME: Duration = Duration::from_millis(10);
/// How long an upload waits for memory.
const MEMORY_PATIENCE: Duration = Duration::from_secs(10);
/// An upload that fills its largest frame within this time gets the next one at once.
const FAST_FRAME: Duration = Duration::from_secs(1);

/// The most extents that the record of a blob may list.
const MANIFEST_EXTENTS_MAX: usize = FRAME_SIZE / EXTENT_SIZE;
const _: () = assert!(
    // Even of the smallest frames that are written before the end.
    (MANIFEST_EXTENTS_MAX * PAGE_EXTENTS_MAX) as u64 * CHECK_SIZE as u64 >= BLOB_SIZE_MAX
);

/// What comes with the content of an upload.
#[derive(Clone, Default, Debug)]
pub struct CommitOptions {
    pub policy: u8,
    /// Any order; names unique. Of a content that is stored already they are added to those it has.
    pub labels: Vec<(String, String)>,
    /// The hash the client promised.
    pub expected_hash: Option<ContentHash>,
}

/// The answer to an upload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    pub id: BlobId,
    pub hash: ContentHash,
    pub size: u64,
    /// False when the content was stored already.
    pub created: bool,
}

/// A blob on its way in. Dropping it before [`Upload::commit`] leaves nothing visible, and its
/// space is reclaimed.
pub struct Upload<I: Io>(Option<Box<State<I>>>);

/// The length of a piece, and the record that its write will have made.
type PieceWrite<F> = (usize, Promised<Result<Placed<F>, LogError>>);

struct State<I: Io> {
    shard: Shard<I>,
    log: Log<I>,
    hash: UploadHash<I>,
    size: u64,
    number: u64,
    /// The frame being filled, and how far.
    frame: Option<Frame>,
    filled: usize,
    /// How far that is hashed.
    progress: Progress,
    /// It is hashed when it is full, by another core.
    deferred: bool,
    frame_began: Instant,
    /// Frames being written, in order, each with its length.
    writes: VecDeque<PieceWrite<I::File>>,
    /// A page being written, of the extents listed so far.
    page: Option<PieceWrite<I::File>>,
    /// Pieces written since the last page.
    extents: Vec<Extent>,
    pages: Vec<Extent>,
    /// How long it has waited for space.
    waited: Duration,
    /// Where all the pieces lie, with their bytes.
    homes: BTreeMap<SegmentId, u64>,
    ordinal: u64,
    /// The last piece in each segment that is not durable yet.
    undurable: Vec<Placed<I::File>>,
    /// A record refers to the pieces, or the next start may find one that does.
    keeps_pieces: bool,
    failed: Option<StoreError>,
}

impl<I: Io> Shard<I> {
    /// Starts an upload. `expected_size` picks the first buffer; the truth is what comes.
    /// Waits for memory, and ends with [`StoreError::Busy`] when none comes free in time.
    pub async fn upload(&self, expected_size: Option<u64>) -> Result<Upload<I>, StoreError> {
        if self.0.closing.get() || self.shared().options.read_only {
            return Err(StoreError::Closed);
        }
        if expected_size.is_some_and(|size| size > BLOB_SIZE_MAX) {
            return Err(StoreError::TooLarge);
        }
        if let Some(size) = expected_size
            && let Some(room) = self.lacks_room(size).await
        {
            return Err(StoreError::NoRoom { size, room });
        }
        let fitting = FRAME_SIZES[..FIRST_FRAME].iter().copied();
        let payload = fitting
            .into_iter()
            .find(|frame| expected_size.is_some_and(|size| size <= *frame as u64))
            .unwrap_or(FRAME_SIZES[FIRST_FRAME]);
        let Some(frame) = self.0.frames.take(&self.0.io, HEAD_ROOM + payload, MEMORY_PATIENCE).await else {
            return Err(StoreError::Busy);
        };
        let number = self.0.uploads.get();
        self.0.uploads.set(number + 1);
        Ok(Upload(Some(Box::new(State {
            shard: self.clone(),
            log: self.pick_log(),
            hash: UploadHash::new(self, number),
            size: 0,
            number,
            frame: Some(frame),
            filled: 0,
            progress: Progress::default(),
            deferred: false,
            frame_began: self.0.io.now(),
            writes: VecDeque::new(),
            page: None,
            extents: Vec::new(),
            pages: Vec::new(),
            waited: Duration::ZERO,
            homes: BTreeMap::new(),
            ordinal: 0,
            undurable: Vec::new(),
            keeps_pieces: false,
            failed: None,
        }))))
    }
}

impl<I: Io> Upload<I> {
    fn state(&mut self) -> &mut State<I> {
        self.0.as_mut().expect("not committed yet")
    }

    /// Memory to receive into: an owned buffer and the free range in it. Give it back with
    /// [`Upload::fill`] before asking again.
    pub async fn space(&mut self) -> Result<(AlignedBuf, Range<usize>), StoreError> {
        let state = self.state();
        state.make_room().await?;
        let start = HEAD_ROOM + state.filled;
        let frame = state.frame.as_mut().expect("room was made");
        let end = frame.size().min(start + RECEIVED_AT_ONCE);
        Ok((frame.lend(), start..end))
    }

    /// Takes the buffer of [`Upload::space`] back, with `count` more bytes at the start of its
    /// range. Hashes them.
    pub async fn fill(&mut self, buf: AlignedBuf, count: usize) -> Result<(), StoreError> {
        let state = self.state();
        let frame = state.frame.as_mut().expect("lent by `space`");
        frame.put_back(buf);
        state.take(count).await
    }

    /// The same for bytes that lie elsewhere.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        let state = self.state();
        while !bytes.is_empty() {
            state.make_room().await?;
            let start = HEAD_ROOM + state.filled;
            let frame = state.frame.as_mut().expect("room was made");
            let count = bytes.len().min(frame.size() - start);
            frame[start..start + count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            state.take(count).await?;
        }
        Ok(())
    }

    /// Bytes taken so far.
    pub fn size(&self) -> u64 {
        self.0.as_ref().map_or(0, |state| state.size)
    }

    /// Makes the blob durable and visible. Once called it runs to its end, also if the future is
    /// dropped.
    pub async fn commit(mut self, options: CommitOptions) -> Result<Stored, StoreError> {
        let mut state = self.0.take().expect("committed once");
        let shard = state.shard.clone();
        // Boxed here: it is large, and moves several times on its way into a task.
        let operation = Box::pin(async move {
            let result = state.commit(options).await;
            if !state.keeps_pieces {
                state.abandon().await;
            }
            result
        });
        shard.detached(operation).await
    }
}

impl<I: Io> Drop for Upload<I> {
    fn drop(&mut self) {
        if let Some(mut state) = self.0.take()
            && !(state.writes.is_empty() && state.page.is_none() && state.homes.is_empty())
        {
            let io = state.shard.0.io.clone();
            io.spawn(async move { state.abandon().await });
        }
    }
}

impl<I: Io> State<I> {
    /// Counts and hashes bytes that were put behind the filled ones.
    async fn take(&mut self, count: usize) -> Result<(), StoreError> {
        let frame = self.frame.as_ref().expect("being filled");
        let start = HEAD_ROOM + self.filled;
        assert!(start + count <= frame.size(), "more bytes than there was room for");
        self.filled += count;
        self.size += count as u64;
        if !self.deferred {
            self.hash_filled().await?;
        }
        if self.size > BLOB_SIZE_MAX { Err(StoreError::TooLarge) } else { Ok(()) }
    }

    /// Hashes what the frame holds.
    async fn hash_filled(&mut self) -> Result<(), StoreError> {
        let Some(frame) = &self.frame else { return Ok(()) };
        let payload = &frame[HEAD_ROOM..HEAD_ROOM + self.filled];
        if self.hash.hash_here(payload, &mut self.progress).await {
            return Ok(());
        }
        self.failed = Some(StoreError::Closed);
        Err(StoreError::Closed)
    }

    /// Makes sure that a frame has room. An upload that once had none can't be committed: what was
    /// received may be lost.
    async fn make_room(&mut self) -> Result<(), StoreError> {
        let result = self.try_make_room().await;
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }

    /// A larger frame while it grows, the next one when it is full.
    async fn try_make_room(&mut self) -> Result<(), StoreError> {
        let Some(frame) = &self.frame else { return self.next_frame().await };
        let payload = frame.size() - HEAD_ROOM;
        if self.filled < payload {
            return Ok(());
        }
        let payload_max = self.log.payload_max();
        let larger = FRAME_SIZES.iter().find(|size| (payload + 1..=payload_max).contains(*size));
        if let Some(larger) = larger
            && let Some(mut grown) = self.shard.0.frames.try_take(HEAD_ROOM + larger)
        {
            grown[HEAD_ROOM..HEAD_ROOM + self.filled].copy_from_slice(&frame[HEAD_ROOM..HEAD_ROOM + self.filled]);
            self.frame = Some(grown);
            return Ok(());
        }
        // Full, or memory is short: what is there is written, so that it comes free.
        self.flush_frame().await?;
        self.next_frame().await
    }

    async fn next_frame(&mut self) -> Result<(), StoreError> {
        let now = self.shard.0.io.now();
        let took = now.since(self.frame_began);
        let fast = took < FAST_FRAME;
        self.frame_began = now;
        let frames = &self.shard.0.frames;
        let large = fast.then(|| frames.try_take(HEAD_ROOM + self.log.payload_max())).flatten();
        let frame = match large {
            Some(frame) => {
                self.deferred = took < HELPED_FRAME && self.hash.wants_help();
                frame
            }
            None => {
                self.deferred = false;
                let size = HEAD_ROOM + FRAME_SIZES[FIRST_FRAME];
                let taken = frames.take(&self.shard.0.io, size, MEMORY_PATIENCE).await;
                taken.ok_or(StoreError::Busy)?
            }
        };
        if !self.deferred {
            self.hash.release_helper();
        }
        self.frame = Some(frame);
        Ok(())
    }

    /// Starts to write the frame being filled.
    async fn flush_frame(&mut self) -> Result<(), StoreError> {
        let length = std::mem::take(&mut self.filled);
        let frame = self.frame.take().expect("filled");
        let progress = std::mem::take(&mut self.progress);
        if length == 0 {
            return Ok(());
        }
        self.shard.pay(length as u64, &mut self.waited).await;
        self.turn_to_a_sound_log();
        let is_hashed = progress.hashed == length;
        let most = if is_hashed { WRITES_MAX } else { WRITES_AND_HASHES_MAX };
        while self.writes.len() >= most {
            self.take_write().await?;
        }
        let head = Head::piece(Kind::Frame, self.number, self.next_ordinal());
        let (result, promised) = promise();
        let (log, shard) = (self.log.clone(), self.shard.clone());
        let hashing =
            if is_hashed { Hashing::Done(frame, progress) } else { self.hash.hash_there(frame, length, progress) };
        self.shard.0.io.spawn(async move {
            // What got lost with another core ends the upload; this core ends as well.
            let Some((mut frame, progress)) = hashing.done().await else { return result.keep(Err(LogError::Closed)) };
            let checks = progress.into_checks(&frame[HEAD_ROOM..HEAD_ROOM + length]);
            let written = log.append_direct(&head, &mut frame, length, checks).await;
            if let Ok(placed) = &written {
                shard.piece_written(placed, shard.keep_frame(frame, length).await);
            }
            result.keep(written);
        });
        self.writes.push_back((length, promised));
        Ok(())
    }

    /// Before anything of the upload is written: if its log takes nothing more, another one.
    fn turn_to_a_sound_log(&mut self) {
        if self.ordinal > 0 || !self.log.is_passed_over() {
            return;
        }
        let other = self.shard.pick_log();
        // What was received must fit into a record there.
        if other.payload_max() >= self.filled {
            self.log = other;
        }
    }

    fn next_ordinal(&mut self) -> u64 {
        let ordinal = self.ordinal;
        self.ordinal += 1;
        ordinal
    }

    /// Waits for the oldest write, and lists its extent. Whoever stops waiting leaves it where
    /// [`State::abandon`] finds it.
    async fn take_write(&mut self) -> Result<(), StoreError> {
        let (length, promised) = self.writes.front_mut().expect("a write is under way");
        let (length, written) = (*length, promised.await);
        self.writes.pop_front();
        let placed = written.unwrap_or(Err(LogError::Closed))?;
        self.extents.push(extent_of(&placed, length, length as u64));
        self.note_undurable(placed);
        if self.extents.len() == PAGE_EXTENTS_MAX {
            self.flush_page().await?;
        }
        Ok(())
    }

    /// Keeps the piece of each segment that lies last, until it is durable. Pieces written at the
    /// same time need not lie in their order.
    fn note_undurable(&mut self, placed: Placed<I::File>) {
        let id = placed.segment().id;
        *self.homes.entry(id).or_default() += placed.length();
        self.undurable.retain(|other| !other.is_durable());
        match self.undurable.iter_mut().find(|other| other.segment().id == id) {
            Some(other) if other.offset_units > placed.offset_units => {}
            Some(_) if is_planted(Mutant::FirstPieceDurable) => {}
            Some(other) => *other = placed,
            None => self.undurable.push(placed),
        }
    }

    /// Writes the extents listed so far as a page.
    async fn flush_page(&mut self) -> Result<(), StoreError> {
        if self.pages.len() == MANIFEST_EXTENTS_MAX.min(self.log.payload_max() / EXTENT_SIZE) {
            return Err(StoreError::TooLarge);
        }
        let mut payload = Vec::with_capacity(self.extents.len() * EXTENT_SIZE);
        extent::encode(&self.extents, &mut payload);
        let mut frame = self.shard.take_frame(HEAD_ROOM + payload.len()).await?;
        frame[HEAD_ROOM..HEAD_ROOM + payload.len()].copy_from_slice(&payload);
        let head = Head::piece(Kind::ExtentPage, self.number, self.next_ordinal());
        let (result, promised) = promise();
        let (log, length) = (self.log.clone(), payload.len());
        // A task of its own: a client that goes away must not leave a write behind that its segment
        // waits for for ever.
        self.shard.0.io.spawn(async move {
            let checks = checksums(&frame[HEAD_ROOM..HEAD_ROOM + length]).collect();
            let written = log.append_direct(&head, &mut frame, length, checks).await;
            drop(frame);
            result.keep(written);
        });
        let (_, promised) = self.page.insert((length, promised));
        let written = promised.await;
        self.page = None;
        let placed = written.unwrap_or(Err(LogError::Closed))?;
        probe::hit(Event::ExtentPageWritten);
        let content: u64 = self.extents.iter().map(|extent| extent.content_length).sum();
        self.pages.push(extent_of(&placed, length, content));
        self.extents.clear();
        self.note_undurable(placed);
        Ok(())
    }

    /// Writes what is left of the pieces, and makes all of them durable.
    async fn finish_pieces(&mut self) -> Result<(), StoreError> {
        if self.frame.is_some() {
            self.flush_frame().await?;
        }
        while !self.writes.is_empty() {
            self.take_write().await?;
        }
        if !self.pages.is_empty() && !self.extents.is_empty() {
            self.flush_page().await?;
        }
        for placed in std::mem::take(&mut self.undurable) {
            self.log.durable(&placed).await?;
        }
        Ok(())
    }

    /// Counts everything written as dead.
    async fn abandon(&mut self) {
        self.frame = None;
        let under_way: Vec<_> = self.writes.drain(..).chain(self.page.take()).collect();
        for (_, promised) in under_way {
            if let Some(Ok(placed)) = promised.await {
                self.shard.count_dead(placed.segment(), placed.length());
            }
        }
        for (segment, bytes) in &self.homes {
            if let Some(segment) = self.shard.shared().table.get(*segment) {
                self.shard.count_dead(&segment, *bytes);
            }
        }
    }
}

fn extent_of<F>(placed: &Placed<F>, payload_length: usize, content_length: u64) -> Extent {
    debug_assert_eq!(
        placed.length(),
        (HEAD_ROOM + payload_length).next_multiple_of(RECORD_ALIGN) as u64,
        "the length of a piece follows from its payload"
    );
    Extent {
        segment: placed.segment().id,
        offset_units: placed.offset_units,
        payload_length: payload_length as u32,
        content_length,
    }
}
