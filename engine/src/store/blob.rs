//! A blob on its way out: found, verified, read in order.
//!
//! Every byte that leaves here was checked against the checksum written with it. What fails is an error, never data.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::index::Location;
use crate::io::{AlignedBuf, BLOCK_SIZE, Io};
use crate::log::extent::{self, Extent};
use crate::log::record::{Decoded, Kind, Layout, decode_head};
use crate::log::segment::Segment;
use crate::log::{CHECK_SIZE, FRAME_SIZE, HEAD_ROOM, bytes, units};
use crate::memory::Frame;
use crate::probe::{self, Event};
use crate::store::readers::Pin;
use crate::store::shard::{Shard, has_extents, record_bytes};
use crate::store::{BlobMeta, StoreError};
use crate::types::BlobId;

/// A record of at most this many bytes is read whole when the blob is opened.
const WHOLE_READ_MAX: u64 = (CHECK_SIZE + HEAD_ROOM + BLOCK_SIZE) as u64;
/// How long a read waits for memory.
const MEMORY_PATIENCE: Duration = Duration::from_secs(10);
/// How often a location is looked up again when its segment has gone meanwhile.
const LOOKUPS_MAX: usize = 8;

/// A stored blob, opened: it stays readable while this lives, also if it is deleted meanwhile.
pub struct Blob<I: Io> {
    shard: Shard<I>,
    meta: BlobMeta,
    record: Record<I>,
    /// Of a blob in pieces that was opened to be read.
    pin: Option<Pin<I>>,
}

/// Verified bytes of a blob: `buf[range]`.
#[derive(Debug)]
pub struct Chunk {
    pub buf: AlignedBuf,
    pub range: Range<usize>,
}

/// A record whose head was read, and what else came with it.
struct Record<I: Io> {
    segment: Arc<Segment<I::File>>,
    decoded: Decoded,
    /// The record as read, and where in the frame it starts, if it was read whole.
    whole: Option<(Frame, usize)>,
}

impl<I: Io> Record<I> {
    /// Where the payload starts in the file.
    fn payload_at(&self) -> u64 {
        bytes(self.decoded.placement.offset_units) + self.decoded.shape.payload_offset as u64
    }

    fn payload_length(&self) -> usize {
        self.decoded.shape.payload_length
    }
}

impl<I: Io> Shard<I> {
    /// Finds a blob and reads its metadata.
    pub async fn open(&self, id: BlobId) -> Result<Option<Blob<I>>, StoreError> {
        for _ in 0..LOOKUPS_MAX {
            let Some(location) = self.lookup(id).await? else { return Ok(None) };
            let mut pin = None;
            if has_extents(&location) {
                pin = Some(self.pin(id, location.sequence));
                if self.lookup(id).await? != Some(location) {
                    continue;
                }
            }
            // Moved or deleted between the two: ask again.
            let Some(segment) = self.segment(&location) else { continue };
            let mut blob = self.open_at(id, &location, segment).await?;
            blob.pin = pin;
            return Ok(Some(blob));
        }
        Err(StoreError::Damaged { id })
    }

    /// Opens the blob whose record lies at `location`.
    pub(super) async fn open_at(
        &self,
        id: BlobId,
        location: &Location,
        segment: Arc<Segment<I::File>>,
    ) -> Result<Blob<I>, StoreError> {
        let length = record_bytes(location);
        let record = self.read_record(id, segment, location.offset_units, length).await?;
        let head = &record.decoded.head;
        let expected_layout = has_extents(location) == (head.layout != Layout::Inline);
        if head.kind != Kind::Blob || head.id != id || head.sequence != location.sequence || !expected_layout {
            return Err(self.damaged(id, &record.segment, location.offset_units, "another record lies there"));
        }
        if head.layout == Layout::Inline && head.size != record.payload_length() as u64 {
            return Err(self.damaged(id, &record.segment, location.offset_units, "the sizes disagree"));
        }
        let meta = BlobMeta {
            id,
            hash: head.hash,
            size: head.size,
            created_at_ns: head.created_at_ns,
            policy: head.policy,
            labels: head.labels.clone(),
        };
        Ok(Blob { shard: self.clone(), meta, record, pin: None })
    }

    /// Reads and verifies a head; the whole record when it is short, and then its payload is verified too.
    async fn read_record(
        &self,
        id: BlobId,
        segment: Arc<Segment<I::File>>,
        offset_units: u32,
        length: u64,
    ) -> Result<Record<I>, StoreError> {
        let offset = bytes(offset_units);
        let start = offset / BLOCK_SIZE as u64 * BLOCK_SIZE as u64;
        let skip = (offset - start) as usize;
        let want = if length <= WHOLE_READ_MAX { length as usize } else { HEAD_ROOM };
        let span = (skip + want).next_multiple_of(BLOCK_SIZE);
        let mut frame = self.take_frame(span).await?;
        let count = self.read(id, &segment, &mut frame, span, start).await?;
        if count < skip + want {
            return Err(self.damaged(id, &segment, offset_units, "the segment ends within it"));
        }
        let input = &frame[skip..skip + want];
        let decoded = decode_head(input, segment.id, offset_units, segment.nonce)
            .map_err(|_| self.damaged(id, &segment, offset_units, "its head fails its checksum"))?;
        if decoded.length_units() != units(length) {
            return Err(self.damaged(id, &segment, offset_units, "it has another length"));
        }
        if length > WHOLE_READ_MAX {
            return Ok(Record { segment, decoded, whole: None });
        }
        let from = decoded.shape.payload_offset;
        if !decoded.verify(&input[from..from + decoded.shape.payload_length], 0) {
            return Err(self.damaged(id, &segment, offset_units, "its payload fails its checksum"));
        }
        Ok(Record { segment, decoded, whole: Some((frame, skip)) })
    }

    pub(super) async fn take_frame(&self, size: usize) -> Result<Frame, StoreError> {
        self.0.frames.take(&self.0.io, size, MEMORY_PATIENCE).await.ok_or(StoreError::Busy)
    }

    async fn read(
        &self,
        id: BlobId,
        segment: &Segment<I::File>,
        frame: &mut Frame,
        length: usize,
        offset: u64,
    ) -> Result<usize, StoreError> {
        let (result, buf) = self.0.io.read_at(&segment.file, frame.lend(), 0..length, offset).await;
        frame.put_back(buf);
        result.map_err(|error| {
            tracing::error!(%id, segment = %segment.id, offset, %error, "the disk refused a read");
            StoreError::ReadFailed { id, reason: error.to_string() }
        })
    }

    fn damaged(&self, id: BlobId, segment: &Segment<I::File>, offset_units: u32, what: &str) -> StoreError {
        tracing::error!(%id, segment = %segment.id, offset = bytes(offset_units), what, "a stored record is damaged");
        StoreError::Damaged { id }
    }

    /// Reads the whole payload of a record of extents.
    async fn read_extents(&self, id: BlobId, record: &Record<I>) -> Result<Vec<Extent>, StoreError> {
        let offset_units = record.decoded.placement.offset_units;
        let extents = match &record.whole {
            Some((frame, skip)) => {
                let from = skip + record.decoded.shape.payload_offset;
                extent::decode(&frame[from..from + record.payload_length()])
            }
            None => {
                let span = record.payload_length().next_multiple_of(BLOCK_SIZE);
                let mut frame = self.take_frame(span).await?;
                let count = self.read(id, &record.segment, &mut frame, span, record.payload_at()).await?;
                let payload = &frame[..record.payload_length().min(count)];
                let sound = payload.len() == record.payload_length() && record.decoded.verify(payload, 0);
                sound.then(|| extent::decode(payload)).flatten()
            }
        };
        extents.ok_or_else(|| self.damaged(id, &record.segment, offset_units, "its extents fail their checksum"))
    }

    /// Reads a page of extents.
    async fn read_page(&self, id: BlobId, page: &Extent) -> Result<Vec<Extent>, StoreError> {
        let record = self.open_piece(id, page, Kind::ExtentPage).await?;
        probe::hit(Event::ExtentPageRead);
        self.read_extents(id, &record).await
    }

    /// The record of an extent.
    async fn open_piece(&self, id: BlobId, extent: &Extent, kind: Kind) -> Result<Record<I>, StoreError> {
        let Some(segment) = self.shared().table.get(extent.segment) else {
            tracing::error!(%id, segment = %extent.segment, "a segment that holds a piece of a blob is missing");
            return Err(StoreError::Damaged { id });
        };
        let length = bytes(units((HEAD_ROOM + extent.payload_length as usize) as u64));
        let record = self.read_record(id, segment, extent.offset_units, length).await?;
        if record.decoded.head.kind != kind {
            return Err(self.damaged(id, &record.segment, extent.offset_units, "another record lies there"));
        }
        Ok(record)
    }

    /// Calls `visit` with the segment and the bytes of every record that a blob at `location` takes, the first one aside.
    pub(super) async fn visit_pieces(
        &self,
        id: BlobId,
        location: &Location,
        mut visit: impl FnMut(&Arc<Segment<I::File>>, u64),
    ) -> Result<(), StoreError> {
        let Some(segment) = self.segment(location) else { return Err(StoreError::Damaged { id }) };
        let blob = self.open_at(id, location, segment).await?;
        let extents = self.read_extents(id, &blob.record).await?;
        let paged = blob.record.decoded.head.layout == Layout::ExtentPages;
        self.visit_extents(id, &extents, paged, &mut visit).await
    }

    pub(super) async fn visit_extents(
        &self,
        id: BlobId,
        extents: &[Extent],
        paged: bool,
        visit: &mut impl FnMut(&Arc<Segment<I::File>>, u64),
    ) -> Result<(), StoreError> {
        for extent in extents {
            if paged {
                for frame in self.read_page(id, extent).await? {
                    self.visit_extent(&frame, visit);
                }
            }
            self.visit_extent(extent, visit);
        }
        Ok(())
    }

    fn visit_extent(&self, extent: &Extent, visit: &mut impl FnMut(&Arc<Segment<I::File>>, u64)) {
        if let Some(segment) = self.shared().table.get(extent.segment) {
            visit(&segment, bytes(units((HEAD_ROOM + extent.payload_length as usize) as u64)));
        }
    }
}

impl<I: Io> Blob<I> {
    pub fn meta(&self) -> &BlobMeta {
        &self.meta
    }

    /// Reads `range` of the content (`start <= end <= size`) in order.
    pub fn reader(self, range: Range<u64>) -> BlobReader<I> {
        assert!(range.start <= range.end && range.end <= self.meta.size, "{range:?} of {} bytes", self.meta.size);
        let source = match self.record.decoded.head.layout {
            Layout::Inline => Source::Inline,
            layout => Source::Unread { paged: layout == Layout::ExtentPages },
        };
        let (record, piece) = match source {
            Source::Inline => {
                let start = 0;
                (None, Some(Piece { start, record: self.record }))
            }
            _ => (Some(self.record), None),
        };
        BlobReader {
            shard: self.shard,
            _pin: self.pin,
            id: self.meta.id,
            position: range.start,
            end: range.end,
            manifest: record,
            source,
            piece,
            frame: None,
        }
    }
}

/// Where the pieces of the content are listed.
enum Source {
    /// The record holds the content itself.
    Inline,
    /// The extents were not read yet.
    Unread {
        paged: bool,
    },
    Extents(Extents),
}

/// Extents and how far they were followed.
struct Extents {
    /// Pages that were not read yet, last first, each with where its content starts.
    pages: Vec<(u64, Extent)>,
    /// Frames of the current page, last first, each with where its content starts.
    frames: Vec<(u64, Extent)>,
}

/// A record that holds a part of the content.
struct Piece<I: Io> {
    /// Where in the blob its payload starts.
    start: u64,
    record: Record<I>,
}

/// A range of a blob, on its way out.
pub struct BlobReader<I: Io> {
    shard: Shard<I>,
    id: BlobId,
    position: u64,
    end: u64,
    manifest: Option<Record<I>>,
    source: Source,
    piece: Option<Piece<I>>,
    /// The frame of the last chunk; its buffer may be out as a [`Chunk`].
    frame: Option<Frame>,
    _pin: Option<Pin<I>>,
}

impl<I: Io> BlobReader<I> {
    /// Bytes still to come.
    pub fn remaining(&self) -> u64 {
        self.end - self.position
    }

    /// The next bytes, at most about `max_len` of them (64 KiB at least, 1 MiB at most); `None` at the end. Every byte was verified
    /// against its checksum. Memory is charged to the core's budget until [`BlobReader::recycle`] takes the chunk back, or the reader
    /// is dropped.
    pub async fn next(&mut self, max_len: usize) -> Result<Option<Chunk>, StoreError> {
        if self.position == self.end {
            return Ok(None);
        }
        // Whole check blocks: only those can be verified.
        let max_len = max_len.clamp(CHECK_SIZE, FRAME_SIZE) / CHECK_SIZE * CHECK_SIZE;
        let extent = self.find_piece().await?;
        let chunk = match extent {
            Some((start, extent)) => self.read_first(start, extent, max_len).await?,
            None => self.read_more(max_len).await?,
        };
        self.position += chunk.range.len() as u64;
        Ok(Some(chunk))
    }

    /// Gives the buffer back for the next chunk.
    pub fn recycle(&mut self, chunk: Chunk) {
        if let Some(frame) = &mut self.frame {
            frame.put_back(chunk.buf);
        }
    }

    /// Makes sure that the current piece holds the position; else returns the extent that does.
    async fn find_piece(&mut self) -> Result<Option<(u64, Extent)>, StoreError> {
        if let Some(piece) = &self.piece
            && self.position < piece.start + piece.record.payload_length() as u64
        {
            return Ok(None);
        }
        self.piece = None;
        if let Source::Unread { paged } = self.source {
            let manifest = self.manifest.take().expect("read once");
            let listed = with_starts(0, self.shard.read_extents(self.id, &manifest).await?);
            let (pages, frames) = if paged { (listed, Vec::new()) } else { (Vec::new(), listed) };
            self.source = Source::Extents(Extents { pages, frames });
        }
        let Source::Extents(extents) = &mut self.source else {
            return Err(StoreError::Damaged { id: self.id });
        };
        loop {
            while let Some((start, extent)) = extents.frames.pop() {
                if self.position < start + extent.content_length {
                    return Ok(Some((start, extent)));
                }
            }
            let Some((start, page)) = extents.pages.pop() else {
                tracing::error!(id = %self.id, "the extents of a blob end before its content");
                return Err(StoreError::Damaged { id: self.id });
            };
            if self.position < start + page.content_length {
                extents.frames = with_starts(start, self.shard.read_page(self.id, &page).await?);
            }
        }
    }

    /// The frame to read into.
    async fn take_frame(&mut self, size: usize) -> Result<Frame, StoreError> {
        match self.frame.take() {
            Some(frame) if frame.size() >= size && !frame.is_lent() => Ok(frame),
            other => {
                drop(other);
                self.shard.take_frame(size).await
            }
        }
    }

    /// The first bytes of a frame: head and payload come with one read when the position is near its start.
    async fn read_first(&mut self, start: u64, extent: Extent, max_len: usize) -> Result<Chunk, StoreError> {
        let near = self.position - start < CHECK_SIZE as u64;
        let whole = (extent.payload_length as usize).min(CHECK_SIZE);
        if !near || HEAD_ROOM + whole > FRAME_SIZE + HEAD_ROOM {
            let record = self.shard.open_piece(self.id, &extent, Kind::Frame).await?;
            self.check_piece(&record, &extent)?;
            self.piece = Some(Piece { start, record });
            return self.read_more(max_len).await;
        }
        let Some(segment) = self.shard.shared().table.get(extent.segment) else {
            tracing::error!(id = %self.id, segment = %extent.segment, "a segment that holds a piece of a blob is missing");
            return Err(StoreError::Damaged { id: self.id });
        };
        let span = self.span(start, extent.payload_length as usize, max_len);
        let length = (HEAD_ROOM + span.end).next_multiple_of(BLOCK_SIZE);
        let mut frame = self.take_frame(length).await?;
        let count = self.shard.read(self.id, &segment, &mut frame, length, bytes(extent.offset_units)).await?;
        let damaged = |what| self.shard.damaged(self.id, &segment, extent.offset_units, what);
        if count < HEAD_ROOM + span.end {
            return Err(damaged("the segment ends within it"));
        }
        let decoded = decode_head(&frame[..HEAD_ROOM], segment.id, extent.offset_units, segment.nonce)
            .map_err(|_| damaged("its head fails its checksum"))?;
        let record = Record { segment: segment.clone(), decoded, whole: None };
        self.check_piece(&record, &extent)?;
        if record.decoded.head.kind != Kind::Frame || record.decoded.shape.payload_offset != HEAD_ROOM {
            return Err(damaged("another record lies there"));
        }
        if !record.decoded.verify(&frame[HEAD_ROOM..HEAD_ROOM + span.end], 0) {
            return Err(damaged("its payload fails its checksum"));
        }
        self.piece = Some(Piece { start, record });
        let from = HEAD_ROOM + (self.position - start) as usize;
        let to = (HEAD_ROOM + span.end).min(from + (self.end - self.position) as usize);
        Ok(self.lend(frame, from..to))
    }

    fn check_piece(&self, record: &Record<I>, extent: &Extent) -> Result<(), StoreError> {
        if record.payload_length() as u64 != extent.content_length {
            let offset_units = record.decoded.placement.offset_units;
            return Err(self.shard.damaged(self.id, &record.segment, offset_units, "its length is another"));
        }
        Ok(())
    }

    /// The part of a payload to read for the position: on check boundaries, at most `max_len` long.
    fn span(&self, start: u64, payload_length: usize, max_len: usize) -> Range<usize> {
        let position = (self.position - start) as usize;
        let from = position / CHECK_SIZE * CHECK_SIZE;
        let wanted = ((self.end - start).min(payload_length as u64) as usize).next_multiple_of(CHECK_SIZE);
        let to = wanted.min(from + max_len).min(payload_length);
        from..to
    }

    /// More bytes of the current piece, whose head is known.
    async fn read_more(&mut self, max_len: usize) -> Result<Chunk, StoreError> {
        let piece = self.piece.as_mut().expect("found before");
        let (start, length) = (piece.start, piece.record.payload_length());
        if let Some((frame, skip)) = piece.record.whole.take() {
            // Read and verified when the blob was opened.
            let from = skip + piece.record.decoded.shape.payload_offset;
            let begin = from + (self.position - start) as usize;
            let end = from + ((self.end - start) as usize).min(length);
            return Ok(self.lend(frame, begin..end));
        }
        let span = self.span(start, length, max_len);
        let size = span.len().next_multiple_of(BLOCK_SIZE);
        let mut frame = self.take_frame(size).await?;
        let piece = self.piece.as_ref().expect("found before");
        let record = &piece.record;
        let payload_at = record.payload_at();
        let damaged = |what| self.shard.damaged(self.id, &record.segment, record.decoded.placement.offset_units, what);
        if !payload_at.is_multiple_of(BLOCK_SIZE as u64) {
            return Err(damaged("its payload is on no block boundary"));
        }
        let count = self.shard.read(self.id, &record.segment, &mut frame, size, payload_at + span.start as u64).await?;
        if count < span.len() || !record.decoded.verify(&frame[..span.len()], span.start) {
            return Err(damaged("its payload fails its checksum"));
        }
        let from = (self.position - start) as usize - span.start;
        let to = span.len().min(from + (self.end - self.position) as usize);
        Ok(self.lend(frame, from..to))
    }

    fn lend(&mut self, mut frame: Frame, range: Range<usize>) -> Chunk {
        let buf = frame.lend();
        self.frame = Some(frame);
        Chunk { buf, range }
    }
}

/// Extents with where their content starts, last first.
fn with_starts(mut start: u64, extents: Vec<Extent>) -> Vec<(u64, Extent)> {
    let mut listed: Vec<(u64, Extent)> = extents
        .into_iter()
        .map(|extent| {
            let at = start;
            start += extent.content_length;
            (at, extent)
        })
        .collect();
    listed.reverse();
    listed
}
