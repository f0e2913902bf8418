//! Records as they lie on the disk: read, and verified before anybody sees a byte.
//!
//! What fails its checksum, each time that it is read, is an error, never data. Nothing here knows
//! the cache: whoever must know what the disk holds asks here, everybody else asks `fetch`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::index::Location;
use crate::io::{BLOCK_SIZE, Io};
use crate::log::extent::{self, Extent};
use crate::log::health::taken_out;
use crate::log::record::{Decoded, Kind, Layout, decode_head};
use crate::log::segment::{Segment, Tenant};
use crate::log::{CHECK_SIZE, HEAD_ROOM, REREADS, bytes, units};
use crate::memory::Frame;
use crate::probe::{self, Event};
use crate::store::error::StoreError;
use crate::store::location::{has_extents, record_bytes};
use crate::store::shard::Shard;
use crate::types::BlobId;

/// A record of at most this many bytes is read whole when its head is.
pub(super) const WHOLE_READ_MAX: u64 = (CHECK_SIZE + HEAD_ROOM + BLOCK_SIZE) as u64;
/// How long a read waits for memory.
const MEMORY_PATIENCE: Duration = Duration::from_secs(10);

/// A record whose head was read, and what else came with it.
pub(super) struct Record<I: Io> {
    pub segment: Arc<Segment<I::File>>,
    pub decoded: Decoded,
    /// The record as read, and where in the frame it starts, if it was read whole.
    pub whole: Option<(Frame, usize)>,
}

impl<I: Io> Record<I> {
    /// Where the payload starts in the file.
    pub fn payload_at(&self) -> u64 {
        bytes(self.decoded.placement.offset_units) + self.decoded.shape.payload_offset as u64
    }

    pub fn payload_length(&self) -> usize {
        self.decoded.shape.payload_length
    }
}

impl<I: Io> Shard<I> {
    /// Reads the record of a blob from the disk and makes sure that it is the one the index means.
    pub(super) async fn open_record(
        &self,
        id: BlobId,
        location: &Location,
        segment: Arc<Segment<I::File>>,
    ) -> Result<Record<I>, StoreError> {
        let record = self.read_record(id, segment, location.offset_units, record_bytes(location)).await?;
        let head = &record.decoded.head;
        let expected_layout = has_extents(location) == (head.layout != Layout::Inline);
        if head.kind != Kind::Blob || head.id != id || head.sequence != location.sequence || !expected_layout {
            return Err(self.damaged(id, &record.segment, location.offset_units, "another record lies there"));
        }
        if head.layout == Layout::Inline && head.size != record.payload_length() as u64 {
            return Err(self.damaged(id, &record.segment, location.offset_units, "the sizes disagree"));
        }
        Ok(record)
    }

    /// Reads and verifies a head; the whole record when it is short, and then its payload is
    /// verified too.
    pub(super) async fn read_record(
        &self,
        id: BlobId,
        segment: Arc<Segment<I::File>>,
        offset_units: u32,
        length: u64,
    ) -> Result<Record<I>, StoreError> {
        let place = (&*segment, offset_units);
        let (decoded, whole) = self.reread(id, place, async || self.try_read_record(id, place, length).await).await?;
        Ok(Record { segment, decoded, whole })
    }

    /// Reads something until it is sound, a bounded number of times. `Err` within `Ok` says what is
    /// wrong with what was read.
    pub(super) async fn reread<T>(
        &self,
        id: BlobId,
        (segment, offset_units): (&Segment<I::File>, u32),
        mut read: impl AsyncFnMut() -> Result<Result<T, &'static str>, StoreError>,
    ) -> Result<T, StoreError> {
        let mut attempt = 0;
        loop {
            match read().await? {
                Ok(sound) => {
                    if attempt > 0 {
                        probe::hit(Event::RereadHelped);
                        tracing::warn!(
                            %id, segment = %segment.id, offset = bytes(offset_units),
                            "a read gave wrong bytes, and the right ones when it was tried again"
                        );
                    }
                    return Ok(sound);
                }
                Err(what) if attempt == REREADS => return Err(self.damaged(id, segment, offset_units, what)),
                Err(_) => attempt += 1,
            }
        }
    }

    async fn try_read_record(
        &self,
        id: BlobId,
        (segment, offset_units): (&Segment<I::File>, u32),
        length: u64,
    ) -> Result<Result<(Decoded, Option<(Frame, usize)>), &'static str>, StoreError> {
        let offset = bytes(offset_units);
        let start = offset / BLOCK_SIZE as u64 * BLOCK_SIZE as u64;
        let skip = (offset - start) as usize;
        let want = if length <= WHOLE_READ_MAX { length as usize } else { HEAD_ROOM };
        let span = (skip + want).next_multiple_of(BLOCK_SIZE);
        let mut frame = self.take_frame(span).await?;
        let count = self.read(id, segment, &mut frame, span, start).await?;
        if count < skip + want {
            return Ok(Err("the segment ends within it"));
        }
        let input = &frame[skip..skip + want];
        let Ok(decoded) = decode_head(input, segment.id, offset_units, segment.nonce) else {
            return Ok(Err("its head fails its checksum"));
        };
        if decoded.length_units() != units(length) {
            return Ok(Err("it has another length"));
        }
        if length > WHOLE_READ_MAX {
            return Ok(Ok((decoded, None)));
        }
        let from = decoded.shape.payload_offset;
        if !decoded.verify(&input[from..from + decoded.shape.payload_length], 0) {
            return Ok(Err("its payload fails its checksum"));
        }
        Ok(Ok((decoded, Some((frame, skip)))))
    }

    pub(super) async fn take_frame(&self, size: usize) -> Result<Frame, StoreError> {
        self.0.frames.take(&self.0.io, size, MEMORY_PATIENCE).await.ok_or(StoreError::Busy)
    }

    pub(super) async fn read(
        &self,
        id: BlobId,
        segment: &Segment<I::File>,
        frame: &mut Frame,
        length: usize,
        offset: u64,
    ) -> Result<usize, StoreError> {
        let file = self.file_of(id, segment, offset).await?;
        let result = self.dir(segment.dir).read_frame(&file, frame, 0..length, offset).await;
        self.read_ended(id, segment, offset, result)
    }

    /// The file of a segment, for a read at this offset.
    pub(super) async fn file_of(
        &self,
        id: BlobId,
        segment: &Segment<I::File>,
        offset: u64,
    ) -> Result<I::File, StoreError> {
        match segment.file(self.dir(segment.dir)).await {
            Ok(file) => Ok(file),
            Err(error) => Err(self.read_failure(id, segment, offset, &error)),
        }
    }

    pub(super) fn read_ended(
        &self,
        id: BlobId,
        segment: &Segment<I::File>,
        offset: u64,
        result: io::Result<usize>,
    ) -> Result<usize, StoreError> {
        result.map_err(|error| self.read_failure(id, segment, offset, &error))
    }

    fn read_failure(&self, id: BlobId, segment: &Segment<I::File>, offset: u64, error: &io::Error) -> StoreError {
        if let Some(out) = taken_out(error) {
            return StoreError::DirectoryOut { dir: out.dir, reason: out.reason.clone() };
        }
        if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) {
            // That says nothing of the disk.
            tracing::error!(
                %id, segment = %segment.id, %error,
                "no descriptor is left for a read: raise the limit of open files (ulimit -n)"
            );
            return StoreError::Busy;
        }
        self.shared().health.dir(segment.dir).read_failed(segment.id, offset, error);
        tracing::error!(%id, segment = %segment.id, offset, %error, "the disk refused a read");
        StoreError::ReadFailed { id, dir: segment.dir, reason: error.to_string() }
    }

    pub(super) fn damaged(&self, id: BlobId, segment: &Segment<I::File>, offset_units: u32, what: &str) -> StoreError {
        tracing::error!(%id, segment = %segment.id, offset = bytes(offset_units), what, "a stored record is damaged");
        self.shared().background.suspect(id);
        StoreError::Damaged { id }
    }

    /// Reads the whole payload of a record of extents.
    pub(super) async fn read_extents(&self, id: BlobId, record: &Record<I>) -> Result<Vec<Extent>, StoreError> {
        let offset_units = record.decoded.placement.offset_units;
        if let Some((frame, skip)) = &record.whole {
            let from = skip + record.decoded.shape.payload_offset;
            return extent::decode(&frame[from..from + record.payload_length()])
                .ok_or_else(|| self.damaged(id, &record.segment, offset_units, "its extents are not whole"));
        }
        let span = record.payload_length().next_multiple_of(BLOCK_SIZE);
        let read = async || {
            let mut frame = self.take_frame(span).await?;
            let count = self.read(id, &record.segment, &mut frame, span, record.payload_at()).await?;
            let payload = &frame[..record.payload_length().min(count)];
            let sound = payload.len() == record.payload_length() && record.decoded.verify(payload, 0);
            Ok(sound.then(|| extent::decode(payload)).flatten().ok_or("its extents fail their checksum"))
        };
        self.reread(id, (&record.segment, offset_units), read).await
    }

    /// Reads a page of extents.
    pub(super) async fn read_page(&self, id: BlobId, page: &Extent) -> Result<Vec<Extent>, StoreError> {
        let record = self.open_piece(id, page, Kind::ExtentPage).await?;
        probe::hit(Event::ExtentPageRead);
        self.read_extents(id, &record).await
    }

    /// The record of an extent.
    async fn open_piece(&self, id: BlobId, extent: &Extent, kind: Kind) -> Result<Record<I>, StoreError> {
        let Some(segment) = self.shared().table.get(extent.segment) else {
            self.absent(())?;
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

    /// Reads a piece whole and verifies it: in the frame, its head room, then its payload.
    pub(super) async fn read_whole_piece(
        &self,
        id: BlobId,
        segment: &Arc<Segment<I::File>>,
        extent: &Extent,
        kind: Kind,
    ) -> Result<(Decoded, Frame), StoreError> {
        let length = HEAD_ROOM + extent.payload_length as usize;
        let span = length.next_multiple_of(BLOCK_SIZE);
        let read = async || {
            let mut frame = self.take_frame(span).await?;
            let count = self.read(id, segment, &mut frame, span, bytes(extent.offset_units)).await?;
            let Some(input) = frame.get(..length.min(count)).filter(|input| input.len() == length) else {
                return Ok(Err("the segment ends within it"));
            };
            let Ok(decoded) = decode_head(input, segment.id, extent.offset_units, segment.nonce) else {
                return Ok(Err("its head fails its checksum"));
            };
            if decoded.head.kind != kind || decoded.length_units() != units(length as u64) {
                return Ok(Err("another record lies there"));
            }
            if !decoded.verify(&input[HEAD_ROOM..], 0) {
                return Ok(Err("its payload fails its checksum"));
            }
            Ok(Ok((decoded, frame)))
        };
        self.reread(id, (segment, extent.offset_units), read).await
    }

    /// Calls `visit` with the segment and the bytes of every record that a blob at `location`
    /// takes, the first one aside.
    pub(super) async fn visit_pieces(
        &self,
        id: BlobId,
        location: &Location,
        mut visit: impl FnMut(&Arc<Segment<I::File>>, u64),
    ) -> Result<(), StoreError> {
        let Some(segment) = self.segment(location) else { return Err(StoreError::Damaged { id }) };
        let record = self.open_record(id, location, segment).await?;
        let extents = self.read_extents(id, &record).await?;
        let paged = record.decoded.head.layout == Layout::ExtentPages;
        for extent in &extents {
            if paged {
                for frame in self.read_page(id, extent).await? {
                    self.visit_extent(&frame, &mut visit);
                }
            }
            self.visit_extent(extent, &mut visit);
        }
        Ok(())
    }

    /// Whether a piece of a blob lies in a segment that is not there, or that does not know it as
    /// this tenant's: its space may be used for something else any time.
    pub(super) async fn lacks_pieces(
        &self,
        id: BlobId,
        record: &Record<I>,
        tenant: Option<Tenant>,
    ) -> Result<bool, StoreError> {
        let is_kept = |segment: &Segment<I::File>| tenant.is_none_or(|tenant| segment.has_tenant(&tenant));
        let lacks = |extent: &Extent| self.shared().table.get(extent.segment).is_none_or(|segment| !is_kept(&segment));
        let extents = self.read_extents(id, record).await?;
        if extents.iter().any(lacks) {
            return Ok(true);
        }
        if record.decoded.head.layout == Layout::ExtentPages {
            for page in &extents {
                if self.read_page(id, page).await?.iter().any(lacks) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn visit_extent(&self, extent: &Extent, visit: &mut impl FnMut(&Arc<Segment<I::File>>, u64)) {
        if let Some(segment) = self.shared().table.get(extent.segment) {
            visit(&segment, bytes(units((HEAD_ROOM + extent.payload_length as usize) as u64)));
        }
    }
}
