//! Parts of records, from the cache or else from the disk into the cache.
//!
//! Whoever misses first reads, everybody else who asks meanwhile waits for that. When the cache has
//! no room to be had, because readers hold all of its memory, the part is read for its asker alone,
//! in small pieces out of the core's own memory.

use std::ops::Range;
use std::sync::Arc;

use crate::cache::{Charge, Key, Leader, Lookup, Reserved};
use crate::index::Location;
use crate::io::{AlignedBuf, BLOCK_SIZE, Io, SharedBuf};
use crate::log::extent::{self, Extent};
use crate::log::record::{Decoded, Kind, Layout, decode_head};
use crate::log::segment::Segment;
use crate::log::{CHECK_SIZE, HEAD_ROOM, bytes};
use crate::memory::Frame;
use crate::store::cached::{Cached, CachedExtents, CachedHead, Payload, RecordPlace, head_bytes};
use crate::store::error::StoreError;
use crate::store::meta::BlobMeta;
use crate::store::records::Record;
use crate::store::shard::Shard;
use crate::types::BlobId;

/// A payload of at most this many bytes is kept beside its head; a longer one for itself, in memory
/// that can be sent without a copy.
pub const SMALL_PAYLOAD_MAX: usize = 16 << 10;
/// Bytes that are read at once without the cache.
const BYPASS_MAX: usize = 4 * CHECK_SIZE;
/// A payload of at most this many bytes is read whole, whatever is wanted of it.
const WHOLE_MIN: usize = 2 * CHECK_SIZE;

/// A record of which parts are wanted.
pub(super) struct Wanted<I: Io> {
    pub id: BlobId,
    pub place: RecordPlace,
    pub kind: Kind,
    pub payload_length: usize,
    /// The head, where it is known.
    pub head: Option<Arc<CachedHead>>,
    /// Where the record lies, if it is held already.
    pub segment: Option<Arc<Segment<I::File>>>,
}

/// A part of a payload.
pub(super) enum Part {
    Shared(Payload),
    /// Read for the asker alone: `frame[range]`, from this byte of the payload on.
    Own {
        frame: Frame,
        range: Range<usize>,
        from: usize,
    },
}

/// What to read from the disk, into memory of the cache or of the core.
struct Raw {
    /// Of the payload.
    span: Range<usize>,
    /// Where in the buffer its first byte lies.
    at: usize,
    /// Where in the file to read, and how much.
    offset: u64,
    length: usize,
}

/// Turns that a reservation may take; with each as many entries go as one may evict.
const RESERVATION_TURNS_MAX: usize = 64;

impl<I: Io> Shard<I> {
    /// Bytes of the cache's budget for a large entry, which lets others have their turn while many
    /// small ones go for it. `None` when readers hold too much of it.
    pub(super) async fn reserve(&self, bytes: usize) -> Option<Charge> {
        for _ in 0..RESERVATION_TURNS_MAX {
            match self.cache().try_reserve(bytes) {
                Reserved::Charged(charge) => return Some(charge),
                Reserved::Full => return None,
                Reserved::NotYet => self.0.io.yield_now().await,
            }
        }
        None
    }

    pub(super) fn cached_head(&self, place: RecordPlace) -> Option<Arc<CachedHead>> {
        self.cache().peek(&place.head()).map(Cached::into_head)
    }

    /// The head of a blob's record.
    pub(super) async fn blob_head(
        &self,
        id: BlobId,
        location: &Location,
        segment: &Arc<Segment<I::File>>,
    ) -> Result<Arc<CachedHead>, StoreError> {
        let place = RecordPlace::of(location);
        match self.cache().lookup(place.head()).await {
            Lookup::Found(found) => Ok(found.into_head()),
            Lookup::Lead(leader) => {
                let record = self.open_record(id, location, segment.clone()).await?;
                Ok(self.keep_record(place, record, leader))
            }
        }
    }

    /// Puts what was read of a record into the cache.
    fn keep_record(&self, place: RecordPlace, record: Record<I>, leader: Leader<Cached>) -> Arc<CachedHead> {
        let Record { decoded, whole, .. } = record;
        let (offset, length) = (decoded.shape.payload_offset, decoded.shape.payload_length);
        let payload = whole.as_ref().map(|(frame, skip)| &frame[skip + offset..skip + offset + length]);
        if decoded.head.layout == Layout::Inline
            && let Some(payload) = payload
            && length > SMALL_PAYLOAD_MAX
            && let Some((copy, size)) = self.copy(payload)
        {
            self.cache().insert(place.payload(), Cached::Payload(copy), size);
            return self.keep_head(decoded, None, leader);
        }
        let payload = payload.map(Arc::from);
        self.keep_head(decoded, payload, leader)
    }

    /// A payload in memory of the cache; `None` when it has none.
    pub(super) fn copy(&self, payload: &[u8]) -> Option<(Payload, usize)> {
        let size = AlignedBuf::footprint(payload.len());
        let charge = self.cache().reserve(size)?;
        let mut buf = AlignedBuf::stale(payload.len());
        buf[..payload.len()].copy_from_slice(payload);
        Some((Payload { buf: SharedBuf::new(buf, charge), range: 0..payload.len(), from: 0 }, size))
    }

    /// Heads are small: one that finds no room in the cache is used all the same, by its asker
    /// alone.
    fn keep_head(&self, decoded: Decoded, payload: Option<Arc<[u8]>>, leader: Leader<Cached>) -> Arc<CachedHead> {
        let (head, size) = self.new_head(decoded, payload);
        if head.charge.is_some() {
            leader.fill(Cached::Head(head.clone()), size);
        }
        head
    }

    /// Enters a head that nobody asked for.
    pub(super) fn insert_head(&self, place: RecordPlace, decoded: Decoded, payload: Option<Arc<[u8]>>) {
        let (head, size) = self.new_head(decoded, payload);
        if head.charge.is_some() {
            self.cache().insert(place.head(), Cached::Head(head), size);
        }
    }

    fn new_head(&self, decoded: Decoded, payload: Option<Arc<[u8]>>) -> (Arc<CachedHead>, usize) {
        let size = head_bytes(&decoded, payload.as_ref().map_or(0, |payload| payload.len()));
        let charge = self.cache().reserve(size);
        (Arc::new(CachedHead { meta: meta_of(&decoded), decoded, payload, charge }), size)
    }

    /// The extents of a blob, or of a page of them.
    pub(super) async fn extents(&self, wanted: &Wanted<I>) -> Result<Arc<CachedExtents>, StoreError> {
        let leader = match self.cache().lookup(wanted.place.extents()).await {
            Lookup::Found(found) => return Ok(found.into_extents()),
            Lookup::Lead(leader) => leader,
        };
        let extents = self.read_extents_of(wanted).await?;
        let size = size_of::<CachedExtents>() + extents.len() * size_of::<Extent>();
        let charge = self.cache().reserve(size);
        let is_charged = charge.is_some();
        let extents = Arc::new(CachedExtents { extents, _charge: charge });
        if is_charged {
            leader.fill(Cached::Extents(extents.clone()), size);
        }
        Ok(extents)
    }

    async fn read_extents_of(&self, wanted: &Wanted<I>) -> Result<Vec<Extent>, StoreError> {
        if wanted.kind == Kind::ExtentPage {
            let extent = Extent {
                segment: wanted.place.segment,
                offset_units: wanted.place.offset_units,
                payload_length: wanted.payload_length as u32,
                content_length: 0,
            };
            return self.read_page(wanted.id, &extent).await;
        }
        let head = wanted.head.as_ref().expect("the head of a blob is known");
        if let Some(payload) = &head.payload {
            return extent::decode(payload).ok_or_else(|| {
                tracing::error!(id = %wanted.id, segment = %wanted.place.segment, "the extents of a blob are not whole");
                StoreError::Damaged { id: wanted.id }
            });
        }
        let segment = self.segment_of(wanted)?;
        let length = bytes(head.decoded.length_units());
        let record = self.read_record(wanted.id, segment, wanted.place.offset_units, length).await?;
        self.read_extents(wanted.id, &record).await
    }

    fn segment_of(&self, wanted: &Wanted<I>) -> Result<Arc<Segment<I::File>>, StoreError> {
        if let Some(segment) = &wanted.segment {
            return Ok(segment.clone());
        }
        self.shared().table.get(wanted.place.segment).ok_or_else(|| {
            if let Err(degraded) = self.absent(()) {
                return degraded;
            }
            tracing::error!(id = %wanted.id, segment = %wanted.place.segment, "a segment that holds a piece of a blob is missing");
            StoreError::Damaged { id: wanted.id }
        })
    }

    /// The whole payload, if it is in memory.
    pub(super) fn cached_payload(&self, place: RecordPlace) -> Option<Payload> {
        self.cache().peek(&place.payload()).map(Cached::into_payload)
    }

    /// The whole payload into the cache, ahead of its use; not at all when the cache has no room.
    pub(super) async fn fetch_ahead(&self, wanted: &Wanted<I>) -> Option<Payload> {
        let whole = 0..wanted.payload_length;
        match self.fetch_shared(wanted, whole, wanted.place.payload()).await {
            Ok(Some(payload)) => Some(payload),
            // Who needs it will read it again, and tell of the error.
            Ok(None) | Err(_) => None,
        }
    }

    /// A part of a payload that starts with the first byte of `range`, which is not empty. It may
    /// end earlier or later.
    pub(super) async fn fetch(&self, wanted: &Wanted<I>, range: Range<usize>) -> Result<Part, StoreError> {
        debug_assert!(!range.is_empty() && range.end <= wanted.payload_length);
        if let Some(payload) = self.cached_payload(wanted.place) {
            return Ok(Part::Shared(payload));
        }
        let span = check_span(&range, wanted.payload_length);
        let mostly = span.len() * 2 >= wanted.payload_length || wanted.payload_length <= WHOLE_MIN;
        let (span, key) = match mostly {
            true => (0..wanted.payload_length, wanted.place.payload()),
            false => (span.clone(), wanted.place.span(&span)),
        };
        if let Some(payload) = self.fetch_shared(wanted, span, key).await? {
            return Ok(Part::Shared(payload));
        }
        self.fetch_alone(wanted, range).await
    }

    /// `None` when the cache has no memory for it.
    async fn fetch_shared(
        &self,
        wanted: &Wanted<I>,
        span: Range<usize>,
        key: Key,
    ) -> Result<Option<Payload>, StoreError> {
        let leader = match self.cache().lookup(key).await {
            Lookup::Found(found) => return Ok(Some(found.into_payload())),
            Lookup::Lead(leader) => leader,
        };
        let (raw, head) = self.plan(wanted, span).await?;
        let size = AlignedBuf::footprint(raw.length);
        let Some(charge) = self.reserve(size).await else { return Ok(None) };
        let segment = self.segment_of(wanted)?;
        // The charge goes with the buffer: should the disk not answer, both come free when it does.
        let mut owned = Some((AlignedBuf::stale(raw.length), charge));
        let read = async || {
            let dir = self.dir(segment.dir);
            let file = self.file_of(wanted.id, &segment, raw.offset).await?;
            let (buf, charge) = owned.take().expect("given back");
            let (result, back) = dir.read_owned(&file, buf, charge, 0..raw.length, raw.offset).await;
            let count = self.read_ended(wanted.id, &segment, raw.offset, result)?;
            let (buf, charge) = back.expect("a read that ended gives its buffer back");
            let checked = self.verify(wanted, &segment, &raw, head.as_deref(), &buf[..count]);
            owned = Some((buf, charge));
            Ok(checked)
        };
        self.reread(wanted.id, (&segment, wanted.place.offset_units), read).await?;
        let (buf, charge) = owned.expect("read into");
        let range = raw.at..raw.at + raw.span.len();
        let payload = Payload { buf: SharedBuf::new(buf, charge), range, from: raw.span.start };
        leader.fill(Cached::Payload(payload.clone()), size);
        Ok(Some(payload))
    }

    /// The start of a range, in memory of the core, whatever the cache does.
    pub(super) async fn fetch_alone(&self, wanted: &Wanted<I>, range: Range<usize>) -> Result<Part, StoreError> {
        let end = range.end.min(range.start / CHECK_SIZE * CHECK_SIZE + BYPASS_MAX);
        let (raw, head) = self.plan(wanted, check_span(&(range.start..end), wanted.payload_length)).await?;
        let segment = self.segment_of(wanted)?;
        let mut frame = self.take_frame(raw.length).await?;
        let read = async || {
            let count = self.read(wanted.id, &segment, &mut frame, raw.length, raw.offset).await?;
            Ok(self.verify(wanted, &segment, &raw, head.as_deref(), &frame[..count]))
        };
        self.reread(wanted.id, (&segment, wanted.place.offset_units), read).await?;
        Ok(Part::Own { frame, range: raw.at..raw.at + raw.span.len(), from: raw.span.start })
    }

    /// What to read for a span: with the head before it when that comes with the same read.
    async fn plan(&self, wanted: &Wanted<I>, span: Range<usize>) -> Result<(Raw, Option<Arc<CachedHead>>), StoreError> {
        let start = bytes(wanted.place.offset_units);
        let aligned = |length: usize| length.next_multiple_of(BLOCK_SIZE);
        let known = wanted.head.clone().or_else(|| self.cached_head(wanted.place));
        let head = match known {
            Some(head) => head,
            None if span.start == 0 => {
                let length = aligned(HEAD_ROOM + span.end);
                return Ok((Raw { span, at: HEAD_ROOM, offset: start, length }, None));
            }
            None => self.piece_head(wanted).await?,
        };
        let payload_at = start + head.decoded.shape.payload_offset as u64;
        if !payload_at.is_multiple_of(BLOCK_SIZE as u64) {
            // A packed record: read with the blocks around it.
            let skip = (payload_at % BLOCK_SIZE as u64) as usize;
            let offset = payload_at - skip as u64 + span.start as u64;
            return Ok((Raw { length: aligned(skip + span.len()), at: skip, offset, span }, Some(head)));
        }
        let offset = payload_at + span.start as u64;
        Ok((Raw { length: aligned(span.len()), at: 0, offset, span }, Some(head)))
    }

    /// The head of a piece, which is read for its checksums.
    async fn piece_head(&self, wanted: &Wanted<I>) -> Result<Arc<CachedHead>, StoreError> {
        let leader = match self.cache().lookup(wanted.place.head()).await {
            Lookup::Found(found) => return Ok(found.into_head()),
            Lookup::Lead(leader) => leader,
        };
        let segment = self.segment_of(wanted)?;
        let mut frame = self.take_frame(HEAD_ROOM).await?;
        let offset = bytes(wanted.place.offset_units);
        let read = async || {
            let count = self.read(wanted.id, &segment, &mut frame, HEAD_ROOM, offset).await?;
            Ok(decode_piece(wanted, &segment, &frame[..count]))
        };
        let decoded = self.reread(wanted.id, (&segment, wanted.place.offset_units), read).await?;
        Ok(self.keep_head(decoded, None, leader))
    }

    /// Makes sure that what was read is what was written, or says what is wrong with it.
    fn verify(
        &self,
        wanted: &Wanted<I>,
        segment: &Segment<I::File>,
        raw: &Raw,
        head: Option<&CachedHead>,
        read: &[u8],
    ) -> Result<(), &'static str> {
        let range = raw.at..raw.at + raw.span.len();
        if read.len() < range.end {
            return Err("the segment ends within it");
        }
        let decoded;
        let known = match head {
            Some(head) => &head.decoded,
            None => {
                decoded = decode_piece(wanted, segment, read)?;
                &decoded
            }
        };
        // Checksums go at some ten times the speed of hashes.
        self.0.io.count_bulk(raw.span.len() / 8);
        if known.verify(&read[range], raw.span.start) { Ok(()) } else { Err("its payload fails its checksum") }
    }
}

/// The head of a piece, or what is wrong with it.
fn decode_piece<I: Io>(wanted: &Wanted<I>, segment: &Segment<I::File>, input: &[u8]) -> Result<Decoded, &'static str> {
    if input.len() < HEAD_ROOM {
        return Err("the segment ends within it");
    }
    let decoded = decode_head(&input[..HEAD_ROOM], segment.id, wanted.place.offset_units, segment.nonce)
        .map_err(|_| "its head fails its checksum")?;
    if decoded.head.kind != wanted.kind || decoded.shape.payload_offset != HEAD_ROOM {
        return Err("another record lies there");
    }
    if decoded.shape.payload_length != wanted.payload_length {
        return Err("its length is another");
    }
    Ok(decoded)
}

/// The check blocks that hold a range of a payload.
fn check_span(range: &Range<usize>, payload_length: usize) -> Range<usize> {
    range.start / CHECK_SIZE * CHECK_SIZE..range.end.next_multiple_of(CHECK_SIZE).min(payload_length)
}

/// What is told of a blob; `None` for the head of a piece.
fn meta_of(decoded: &Decoded) -> Option<BlobMeta> {
    let head = &decoded.head;
    (head.kind == Kind::Blob).then(|| BlobMeta {
        id: head.id,
        hash: head.hash,
        size: head.size,
        created_at_ns: head.created_at_ns,
        policy: head.policy,
        labels: head.labels.clone(),
    })
}
