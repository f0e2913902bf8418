//! A range of a blob on its way out, in order, with what comes next read ahead.
//!
//! Every byte that leaves here was checked against the checksum written with it. What fails is an
//! error, never data.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use crate::content::{Chunk, Pace};
use crate::io::{Body, Io};
use crate::log::CHECK_SIZE;
use crate::log::extent::Extent;
use crate::log::record::{Kind, Layout};
use crate::log::segment::Segment;
use crate::memory::Frame;
use crate::store::blob::Blob;
use crate::store::cached::{CachedExtents, Payload, RecordPlace};
use crate::store::error::StoreError;
use crate::store::fetch::{Part, Wanted};
use crate::store::pin::Pin;
use crate::store::shard::Shard;
use crate::sync::{Promised, promise};
use crate::types::BlobId;

/// Frames that are read ahead of the one that is wanted, once one was not in memory.
const AHEAD_MAX: usize = 3;

/// Where the content lies.
enum Content<I: Io> {
    /// In the record itself.
    Inline(Wanted<I>),
    /// In pieces that the record lists, or that pages list which the record lists.
    Unread {
        record: Wanted<I>,
        paged: bool,
    },
    Pieces(Pieces),
}

/// Lists of extents, and how far they were followed.
struct Pieces {
    pages: Option<List>,
    frames: List,
}

struct List {
    extents: Arc<CachedExtents>,
    next: usize,
    /// Where in the blob the content of the next one starts.
    start: u64,
}

impl List {
    fn new(extents: Arc<CachedExtents>, start: u64) -> Self {
        Self { extents, next: 0, start }
    }

    /// The extent that holds a position at or behind this list's own, with where its content
    /// starts.
    fn advance_to(&mut self, position: u64) -> Option<(u64, Extent)> {
        loop {
            let extent = *self.extents.extents.get(self.next)?;
            let start = self.start;
            self.next += 1;
            self.start += extent.content_length;
            if position < self.start {
                return Some((start, extent));
            }
        }
    }
}

/// A record that holds a part of the content.
struct Piece<I: Io> {
    /// Where in the blob its payload starts.
    start: u64,
    wanted: Wanted<I>,
}

impl<I: Io> Piece<I> {
    fn end(&self) -> u64 {
        self.start + self.wanted.payload_length as u64
    }
}

/// A range of a blob, on its way out.
pub struct BlobReader<I: Io> {
    shard: Shard<I>,
    id: BlobId,
    position: u64,
    end: u64,
    content: Content<I>,
    piece: Option<Piece<I>>,
    ahead: VecDeque<(RecordPlace, Promised<Option<Payload>>)>,
    /// Whether a frame of this range was not in memory: then the next ones are read ahead.
    is_cold: bool,
    /// The frame of the last chunk, whose buffer is out as a [`Chunk`].
    frame: Option<Frame>,
    /// What keeps the record and the pieces where they are.
    _segment: Option<Arc<Segment<I::File>>>,
    pin: Option<Rc<Pin<I>>>,
    failed: Option<StoreError>,
}

impl<I: Io> Blob<I> {
    /// Reads `range` of the content (`start <= end <= size`) in order.
    pub fn reader(self, range: Range<u64>) -> BlobReader<I> {
        let size = self.meta().size;
        assert!(range.start <= range.end && range.end <= size, "{range:?} of {size} bytes");
        BlobReader::new(self, range)
    }
}

impl<I: Io> BlobReader<I> {
    fn new(blob: Blob<I>, range: Range<u64>) -> Self {
        let layout = blob.layout();
        let id = blob.meta().id;
        let Blob { shard, head, place, segment, pin } = blob;
        let payload_length = head.decoded.shape.payload_length;
        let record = Wanted { id, place, kind: Kind::Blob, payload_length, head: Some(head), segment: segment.clone() };
        let content = match layout {
            Layout::Inline => Content::Inline(record),
            layout => Content::Unread { record, paged: layout == Layout::ExtentPages },
        };
        Self {
            shard,
            id,
            position: range.start,
            end: range.end,
            content,
            piece: None,
            ahead: VecDeque::new(),
            is_cold: false,
            frame: None,
            _segment: segment,
            pin: pin.map(Rc::new),
            failed: None,
        }
    }

    /// Bytes still to come.
    pub fn remaining(&self) -> u64 {
        self.end - self.position
    }

    /// The next bytes, at most a frame; `None` at the end. After an error every further call gives
    /// that error: nothing is passed over.
    pub async fn next(&mut self, pace: Pace) -> Result<Option<Chunk>, StoreError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.position == self.end {
            return Ok(None);
        }
        let result = self.read_next(pace).await;
        match result {
            Ok(chunk) => {
                debug_assert!(!chunk.is_empty());
                self.position += chunk.len() as u64;
                Ok(Some(chunk))
            }
            Err(error) => {
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Takes the last `count` bytes of the last chunk back: they come again.
    pub fn unread(&mut self, count: usize) {
        self.position = self.position.checked_sub(count as u64).expect("no more than was read");
        // Who takes bytes back has to wait: nothing is held for it meanwhile.
        self.ahead.clear();
    }

    /// Gives the buffer of a chunk back, for whoever needs one next: the caller may have to wait.
    pub fn recycle(&mut self, body: Body) {
        if let Body::Owned(buf) = body
            && let Some(mut frame) = self.frame.take()
        {
            frame.put_back(buf);
        }
    }

    async fn read_next(&mut self, pace: Pace) -> Result<Chunk, StoreError> {
        if let Content::Inline(record) = &self.content
            && let Some(payload) = record.head.as_ref().and_then(|head| head.payload.as_ref())
        {
            return Ok(Chunk::small(payload.clone(), self.position as usize..self.end as usize));
        }
        let mut piece = self.find_piece().await?;
        let outcome = self.read_piece(&mut piece, pace).await;
        self.piece = Some(piece);
        outcome
    }

    /// The record that holds the position.
    async fn find_piece(&mut self) -> Result<Piece<I>, StoreError> {
        if let Some(piece) = self.piece.take().filter(|piece| (piece.start..piece.end()).contains(&self.position)) {
            return Ok(piece);
        }
        if let Content::Unread { record, paged } = &self.content {
            let list = List::new(self.shard.extents(record).await?, 0);
            let empty = || Arc::new(CachedExtents { extents: Vec::new(), _charge: None });
            let pieces = match paged {
                true => Pieces { pages: Some(list), frames: List::new(empty(), 0) },
                false => Pieces { pages: None, frames: list },
            };
            self.content = Content::Pieces(pieces);
        }
        match &mut self.content {
            Content::Inline(record) => {
                let Wanted { id, place, kind, payload_length, head, segment } = record;
                let (head, segment) = (head.clone(), segment.clone());
                let wanted =
                    Wanted { id: *id, place: *place, kind: *kind, payload_length: *payload_length, head, segment };
                Ok(Piece { start: 0, wanted })
            }
            Content::Unread { .. } => unreachable!("read above"),
            Content::Pieces(pieces) => loop {
                if let Some((start, extent)) = pieces.frames.advance_to(self.position) {
                    return Ok(Piece { start, wanted: wanted_of(self.id, &extent, Kind::Frame) });
                }
                let page = pieces.pages.as_mut().and_then(|pages| pages.advance_to(self.position));
                let Some((start, page)) = page else {
                    tracing::error!(id = %self.id, "the extents of a blob end before its content");
                    return Err(StoreError::Damaged { id: self.id });
                };
                let extents = self.shard.extents(&wanted_of(self.id, &page, Kind::ExtentPage)).await?;
                pieces.frames = List::new(extents, start);
            },
        }
    }

    async fn read_piece(&mut self, piece: &mut Piece<I>, pace: Pace) -> Result<Chunk, StoreError> {
        // What was lent is back, or gone: nobody may wait for memory while holding some.
        self.frame = None;
        let from = (self.position - piece.start) as usize;
        let to = (self.end.min(piece.end()) - piece.start) as usize;
        if pace == Pace::Slow {
            self.ahead.clear();
            let to = to.min((from / CHECK_SIZE + 1) * CHECK_SIZE);
            return match self.shard.cached_payload(piece.wanted.place) {
                Some(payload) => self.copy(&payload, from..to).await,
                None => self.fetch_alone(piece, from..to).await,
            };
        }
        if let Some(payload) = self.take_ahead(piece.wanted.place).await {
            self.read_ahead();
            return Ok(shared(payload, from..to));
        }
        if let Some(payload) = self.shard.cached_payload(piece.wanted.place) {
            return Ok(shared(payload, from..to));
        }
        // A whole frame is missing, so the next ones most likely are too. A small range says
        // nothing of what follows.
        if from == 0 && to == piece.wanted.payload_length {
            self.is_cold = true;
            self.read_ahead();
        }
        match self.shard.fetch(&piece.wanted, from..to).await? {
            Part::Shared(payload) => Ok(shared(payload, from..to)),
            own => Ok(self.lend(own, from..to)),
        }
    }

    async fn fetch_alone(&mut self, piece: &Piece<I>, range: Range<usize>) -> Result<Chunk, StoreError> {
        let part = self.shard.fetch_alone(&piece.wanted, range.clone()).await?;
        Ok(self.lend(part, range))
    }

    /// A part as a chunk; of memory of this core, which stays charged until the next one.
    fn lend(&mut self, part: Part, range: Range<usize>) -> Chunk {
        match part {
            Part::Shared(payload) => shared(payload, range),
            Part::Own { mut frame, range: held, from } => {
                let buf = frame.lend();
                self.frame = Some(frame);
                Chunk::lent(buf, within(&held, from, &range))
            }
        }
    }

    /// Copies a part of a payload, so that nobody's memory is held up.
    async fn copy(&mut self, payload: &Payload, range: Range<usize>) -> Result<Chunk, StoreError> {
        let mut frame = self.shard.take_frame(range.len()).await?;
        let held = within(&payload.range, payload.from, &range);
        frame[..held.len()].copy_from_slice(&payload.buf[held.clone()]);
        let buf = frame.lend();
        self.frame = Some(frame);
        Ok(Chunk::lent(buf, 0..held.len()))
    }

    /// What was read ahead of a piece; reads ahead that the position has passed are forgotten.
    async fn take_ahead(&mut self, place: RecordPlace) -> Option<Payload> {
        while let Some((ahead, promised)) = self.ahead.pop_front() {
            if ahead == place {
                return promised.await.flatten();
            }
        }
        None
    }

    /// Starts to read the frames that come next, up to a number of them.
    fn read_ahead(&mut self) {
        let Content::Pieces(Pieces { frames, .. }) = &self.content else { return };
        let mut start = frames.start;
        let coming = frames.extents.extents[frames.next..].iter().take(AHEAD_MAX);
        for (index, extent) in coming.enumerate() {
            // A last frame of which only a little is wanted is not worth it.
            if !self.is_cold || start + extent.content_length / 2 >= self.end {
                return;
            }
            start += extent.content_length;
            if index < self.ahead.len() {
                continue;
            }
            let wanted = wanted_of(self.id, extent, Kind::Frame);
            let (result, promised) = promise();
            self.ahead.push_back((wanted.place, promised));
            let (shard, pin) = (self.shard.clone(), self.pin.clone());
            self.shard.io().spawn(async move {
                result.keep(shard.fetch_ahead(&wanted).await);
                drop(pin);
            });
        }
    }
}

fn wanted_of<I: Io>(id: BlobId, extent: &Extent, kind: Kind) -> Wanted<I> {
    let place = RecordPlace { segment: extent.segment, offset_units: extent.offset_units };
    Wanted { id, place, kind, payload_length: extent.payload_length as usize, head: None, segment: None }
}

/// Where a range of the payload lies in a buffer that holds `held`, whose first byte is the
/// payload's byte `from`.
fn within(held: &Range<usize>, from: usize, range: &Range<usize>) -> Range<usize> {
    let start = held.start + range.start - from;
    start..held.end.min(held.start + range.end - from)
}

fn shared(payload: Payload, range: Range<usize>) -> Chunk {
    let range = within(&payload.range, payload.from, &range);
    Chunk::shared(payload.buf, range)
}
