//! The content of one blob, read from the disk piece by piece and compared with its hash.
//!
//! Nothing is held while it is read, so it may be moved or deleted meanwhile. Its content stays the
//! same, wherever it lies: after a move the hash continues with the new list of pieces where it
//! was.

use super::fault::{Fault, Trouble};
use super::pace::Pacer;
use super::verify;
use super::window::{Reach, Window};
use crate::index::Location;
use crate::io::{BLOCK_SIZE, Io};
use crate::log::extent::{self, Extent};
use crate::log::record::{Decoded, Kind, Layout};
use crate::log::{HEAD_ROOM, bytes, units};
use crate::sha256::Sha256;
use crate::store::location::{has_extents, record_bytes};
use crate::store::shard::Shard;
use crate::types::{BlobId, SegmentId};

/// A record as a blob's books name it.
#[derive(Clone, Copy)]
struct Piece {
    kind: Kind,
    segment: SegmentId,
    offset_units: u32,
    /// Bytes of the record.
    length: u64,
}

impl Piece {
    fn of(kind: Kind, extent: &Extent) -> Self {
        let length = bytes(units((HEAD_ROOM + extent.payload_length as usize) as u64));
        Self { kind, segment: extent.segment, offset_units: extent.offset_units, length }
    }
}

/// A blob on its way through the hash.
pub(super) struct Content<'c, I: Io> {
    shard: &'c Shard<I>,
    pacer: &'c Pacer<I>,
    id: BlobId,
    hasher: Sha256,
    /// Bytes of the content that went through it.
    position: u64,
    /// Where the last piece that was read lies.
    last: (SegmentId, u64),
    /// Stops between two frames when a reader has found something that can't wait.
    pub gives_way: bool,
}

/// What a list of extents lists.
pub(super) struct List {
    pub extents: Vec<Extent>,
    /// Pages of extents, not frames.
    pub is_paged: bool,
}

impl<'c, I: Io> Content<'c, I> {
    pub fn new(shard: &'c Shard<I>, pacer: &'c Pacer<I>, id: BlobId) -> Self {
        Self { shard, pacer, id, hasher: Sha256::new(), position: 0, last: (SegmentId(0), 0), gives_way: false }
    }

    /// Starts over.
    pub fn rewind(&mut self) {
        self.hasher = Sha256::new();
        self.position = 0;
    }

    /// Where the piece lies that was read last: the one to blame.
    pub fn last(&self) -> (SegmentId, u64) {
        self.last
    }

    /// Reads on to the end of the content, as it lies now, and compares it with its hash.
    pub async fn verify(&mut self, location: &Location) -> Result<(), Trouble> {
        let (decoded, payload) = self.read_record(location).await?;
        let head = &decoded.head;
        if head.layout == Layout::Inline {
            self.rewind();
            self.hasher.update(&payload);
            self.position = payload.len() as u64;
        } else {
            let extents = extent::decode(&payload).ok_or(Fault::Damaged("its list of pieces is not whole"))?;
            let list = List { extents, is_paged: head.layout == Layout::ExtentPages };
            self.hash_list(&list).await?;
        }
        let actual: [u8; 32] = self.hasher.clone().finalize();
        if self.position != head.size || actual != head.hash.0 {
            self.rewind();
            return Err(Fault::Hash.into());
        }
        Ok(())
    }

    /// Every piece of a blob at a location, the frames of its pages too.
    pub async fn pieces(&mut self, location: &Location) -> Result<Vec<Extent>, Trouble> {
        if !has_extents(location) {
            return Ok(Vec::new());
        }
        let (decoded, payload) = self.read_record(location).await?;
        let mut all = extent::decode(&payload).ok_or(Fault::Damaged("its list of pieces is not whole"))?;
        if decoded.head.layout == Layout::ExtentPages {
            for page in all.clone() {
                all.extend(self.read_page(&page).await?);
            }
        }
        Ok(all)
    }

    async fn read_record(&mut self, location: &Location) -> Result<(Decoded, Vec<u8>), Trouble> {
        let Location { segment, offset_units, .. } = *location;
        let piece = Piece { kind: Kind::Blob, segment, offset_units, length: record_bytes(location) };
        let (decoded, payload) = self.read(piece).await?;
        let head = &decoded.head;
        let is_meant = head.id == self.id
            && head.sequence == location.sequence
            && has_extents(location) == (head.layout != Layout::Inline);
        if is_meant { Ok((decoded, payload)) } else { Err(Fault::Damaged("another record lies there").into()) }
    }

    async fn hash_list(&mut self, list: &List) -> Result<(), Trouble> {
        let mut start = 0;
        for extent in &list.extents {
            let end = start + extent.content_length;
            if end > self.position && list.is_paged {
                let mut frame_start = start;
                for frame in self.read_page(extent).await? {
                    self.hash_frame(frame_start, &frame).await?;
                    frame_start += frame.content_length;
                }
            } else if end > self.position {
                self.hash_frame(start, extent).await?;
            }
            start = end;
        }
        Ok(())
    }

    async fn read_page(&mut self, page: &Extent) -> Result<Vec<Extent>, Trouble> {
        let (_, payload) = self.read(Piece::of(Kind::ExtentPage, page)).await?;
        Ok(extent::decode(&payload).ok_or(Fault::Damaged("a page of its list of pieces is not whole"))?)
    }

    async fn hash_frame(&mut self, start: u64, frame: &Extent) -> Result<(), Trouble> {
        if start + frame.content_length <= self.position {
            return Ok(());
        }
        if start != self.position {
            // Stored again meanwhile, cut in another way.
            self.rewind();
            return Err(Trouble::Moved);
        }
        if self.gives_way && self.shard.shared().background.has_suspects() {
            return Err(Trouble::Interrupted);
        }
        let (_, payload) = self.read(Piece::of(Kind::Frame, frame)).await?;
        if payload.len() as u64 != frame.content_length {
            return Err(Fault::Damaged("a piece has another length").into());
        }
        self.hasher.update(&payload);
        self.position += payload.len() as u64;
        Ok(())
    }

    /// Reads a record, and gives its payload.
    async fn read(&mut self, piece: Piece) -> Result<(Decoded, Vec<u8>), Trouble> {
        let at = bytes(piece.offset_units);
        self.last = (piece.segment, at);
        let segment = self.shard.shared().table.get(piece.segment);
        // The last start may not have been able to read it: nothing is concluded from what is
        // missing.
        let segment = segment.ok_or_else(|| Fault::Unreadable("the segment of a piece is missing".into()))?;
        // What a record takes of an active segment is there, whatever the file's length says.
        let size = (at + piece.length).next_multiple_of(BLOCK_SIZE as u64);
        let reach = Reach::Exact(piece.length as usize);
        let mut window = Window::new(self.shard, self.pacer, &segment, size, reach).await?;
        let input = window.bytes(at..at + piece.length).await?;
        let sound = verify::record(input, segment.id, piece.offset_units, segment.nonce)?;
        if sound.decoded.head.kind != piece.kind {
            return Err(Fault::Damaged("another record lies there").into());
        }
        let payload = sound.payload(input).to_vec();
        Ok((sound.decoded, payload))
    }
}

impl<I: Io> Shard<I> {
    /// Whether a blob can be read whole, and is what its hash says.
    pub(in crate::store) async fn is_readable(&self, id: BlobId, location: &Location) -> bool {
        let pacer = Pacer::new(self.clone());
        let mut content = Content::new(self, &pacer, id);
        content.verify(location).await.is_ok()
    }
}
