//! Moving the pieces of a large blob: those in one segment are copied, and a new record lists them
//! together with those that stay.
//!
//! The copies are durable before the record is written, and nobody is locked meanwhile. Whoever
//! reads the blob by its old record continues with the old pieces, which are counted as dead when
//! the last such reader is gone.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::records::{Payload, location_of};
use super::{Compaction, Halt};
use crate::index::Location;
use crate::io::Io;
use crate::log::error::LogError;
use crate::log::extent::{self, Extent};
use crate::log::open_segment::Placed;
use crate::log::record::{Decoded, Kind, Layout, checksums};
use crate::log::segment::Segment;
use crate::log::{HEAD_ROOM, PACKED_PAYLOAD_MAX, bytes, units};
use crate::memory::Frame;
use crate::mutant::{Mutant, is_planted};
use crate::probe::{self, Event};
use crate::store::cached::{self, RecordPlace};
use crate::store::error::StoreError;
use crate::store::in_use::Condemned;
use crate::store::location::{has_extents, record_bytes};
use crate::store::message::Held;
use crate::types::{BlobId, SegmentId};

/// Copies of pieces on the way.
struct Copies<F> {
    /// In the order in which they were written.
    placed: Vec<Placed<F>>,
    /// What they stand for, with its bytes.
    replaced: Vec<(SegmentId, u64)>,
    /// The old and the new places of those that say the same.
    places: Vec<(RecordPlace, RecordPlace)>,
}

impl<F> Default for Copies<F> {
    fn default() -> Self {
        Self { placed: Vec::new(), replaced: Vec::new(), places: Vec::new() }
    }
}

fn piece_bytes(extent: &Extent) -> u64 {
    bytes(units((HEAD_ROOM + extent.payload_length as usize) as u64))
}

fn extent_place(extent: &Extent) -> RecordPlace {
    RecordPlace { segment: extent.segment, offset_units: extent.offset_units }
}

impl<I: Io> Compaction<I> {
    /// Moves the pieces that a blob has in a segment, if it has any.
    pub(super) async fn move_pieces(&self, segment: &Arc<Segment<I::File>>, id: BlobId) -> Result<(), Halt> {
        let Some(from) = self.locate(&[id]).await?.pop().flatten().filter(has_extents) else { return Ok(()) };
        let Some(home) = self.shard.segment(&from) else { return Ok(()) };
        let record = match self.shard.open_record(id, &from, home).await {
            Ok(record) => record,
            Err(error) => return Err(self.suspect(id, error)),
        };
        let mut extents = match self.shard.read_extents(id, &record).await {
            Ok(extents) => extents,
            Err(error) => return Err(self.suspect(id, error)),
        };
        let mut copies = Copies::default();
        let copied = match record.decoded.head.layout {
            Layout::ExtentPages => self.copy_pages(segment, id, &mut extents, &mut copies).await,
            _ => self.copy_frames(segment, id, &mut extents, &mut copies).await,
        };
        if let Err(halt) = copied {
            self.abandon(&copies);
            // What has gone meanwhile is no failure.
            let is_there = self.locate(&[id]).await?.pop().flatten() == Some(from);
            return if is_there || matches!(halt, Halt::Stopped) { Err(halt) } else { Ok(()) };
        }
        if copies.placed.is_empty() {
            return Ok(());
        }
        let (decoded, shard) = (record.decoded, &self.shard);
        drop(record.whole);
        let replaced = match self.replace_record(segment, id, &from, decoded, &extents, &copies).await {
            Ok(Some(moved)) => moved,
            // Somebody is at it, or it has gone.
            Ok(None) => {
                self.abandon(&copies);
                return Ok(());
            }
            Err(halt) => return Err(halt),
        };
        for (old, new) in &copies.places {
            cached::rekey(shard.cache(), *old, *new);
        }
        let mut dead = copies.replaced;
        dead.push((from.segment, record_bytes(&from)));
        let condemned = match is_planted(Mutant::MoveUnderReaders) {
            true => Some(Condemned::Moved(dead)),
            false => shard.shared().in_use.condemn(id, from.sequence, Condemned::Moved(dead)),
        };
        match condemned {
            Some(Condemned::Moved(dead)) => shard.count_records_dead(&dead),
            // The last reader does.
            _ => probe::hit(Event::MovedWhileRead),
        }
        probe::hit(Event::PiecesMoved);
        self.paced(replaced).await
    }

    /// Has the scrub look at a blob that can't be read.
    fn suspect(&self, id: BlobId, error: StoreError) -> Halt {
        if matches!(error, StoreError::Damaged { .. }) {
            self.shard.shared().background.suspect(id);
        }
        error.into()
    }

    /// Copies the frames that lie in a segment, and puts the copies in their place.
    async fn copy_frames(
        &self,
        segment: &Arc<Segment<I::File>>,
        id: BlobId,
        extents: &mut [Extent],
        copies: &mut Copies<I::File>,
    ) -> Result<(), Halt> {
        for extent in extents.iter_mut().filter(|extent| extent.segment == segment.id) {
            self.copy_piece(segment, id, extent, Kind::Frame, copies).await?;
        }
        Ok(())
    }

    /// The same through pages: one that lists a copy, or lies in the segment itself, is written
    /// anew.
    async fn copy_pages(
        &self,
        segment: &Arc<Segment<I::File>>,
        id: BlobId,
        pages: &mut [Extent],
        copies: &mut Copies<I::File>,
    ) -> Result<(), Halt> {
        for page in pages {
            let mut frames = self.shard.read_page(id, page).await.map_err(|error| self.suspect(id, error))?;
            if !frames.iter().any(|frame| frame.segment == segment.id) {
                if page.segment == segment.id {
                    self.copy_piece(segment, id, page, Kind::ExtentPage, copies).await?;
                }
                continue;
            }
            self.copy_frames(segment, id, &mut frames, copies).await?;
            let home = self.shard.shared().table.get(page.segment).ok_or(StoreError::Damaged { id })?;
            let (mut decoded, mut frame) = self.read_piece(&home, id, page, Kind::ExtentPage).await?;
            let mut payload = Vec::with_capacity(decoded.shape.payload_length);
            extent::encode(&frames, &mut payload);
            frame[HEAD_ROOM..HEAD_ROOM + payload.len()].copy_from_slice(&payload);
            decoded.checks = checksums(&payload).collect();
            // What it lists is another: not what the cache may hold of it.
            self.write_piece(segment, page, decoded, frame, copies).await?;
        }
        Ok(())
    }

    async fn copy_piece(
        &self,
        segment: &Arc<Segment<I::File>>,
        id: BlobId,
        extent: &mut Extent,
        kind: Kind,
        copies: &mut Copies<I::File>,
    ) -> Result<(), Halt> {
        let (decoded, frame) = self.read_piece(segment, id, extent, kind).await?;
        let old = extent_place(extent);
        self.write_piece(segment, extent, decoded, frame, copies).await?;
        copies.places.push((old, extent_place(extent)));
        self.paced(piece_bytes(extent)).await
    }

    /// Reads and verifies a piece as it lies: head room, then the payload.
    async fn read_piece(
        &self,
        home: &Arc<Segment<I::File>>,
        id: BlobId,
        extent: &Extent,
        kind: Kind,
    ) -> Result<(Decoded, Frame), Halt> {
        let read = self.shard.read_whole_piece(id, home, extent, kind).await;
        read.map_err(|error| self.suspect(id, error))
    }

    async fn write_piece(
        &self,
        segment: &Segment<I::File>,
        extent: &mut Extent,
        decoded: Decoded,
        mut frame: Frame,
        copies: &mut Copies<I::File>,
    ) -> Result<(), Halt> {
        let length = decoded.shape.payload_length;
        let log = self.log_of(segment);
        let written = log.append_direct(&decoded.head, &mut frame, length, decoded.checks).await;
        let placed = written.map_err(|error| Halt::from(StoreError::from(error)))?;
        copies.replaced.push((extent.segment, piece_bytes(extent)));
        extent.segment = placed.segment().id;
        extent.offset_units = placed.offset_units;
        copies.placed.push(placed);
        Ok(())
    }

    /// Makes the copies durable, then writes the record that lists them and enters it. `None`: the
    /// blob is in use, or not what it was. Returns the bytes of the new record.
    async fn replace_record(
        &self,
        segment: &Arc<Segment<I::File>>,
        id: BlobId,
        from: &Location,
        mut decoded: Decoded,
        extents: &[Extent],
        copies: &Copies<I::File>,
    ) -> Result<Option<u64>, Halt> {
        let log = self.log_of(segment);
        for placed in copies.placed.iter().filter(|_| !is_planted(Mutant::CopiesUndurable)) {
            if let Err(error) = log.durable(placed).await {
                self.abandon(copies);
                return Err(StoreError::from(error).into());
            }
        }
        let mut payload = Vec::with_capacity(decoded.shape.payload_length);
        extent::encode(extents, &mut payload);
        assert_eq!(payload.len(), decoded.shape.payload_length, "the record lists as many pieces as before");
        let payload = if payload.len() <= PACKED_PAYLOAD_MAX {
            Payload::Packed(payload)
        } else {
            let mut frame = match self
                .shard
                .take_frame((HEAD_ROOM + payload.len()).next_multiple_of(crate::io::BLOCK_SIZE))
                .await
            {
                Ok(frame) => frame,
                Err(error) => {
                    self.abandon(copies);
                    return Err(error.into());
                }
            };
            frame[HEAD_ROOM..HEAD_ROOM + payload.len()].copy_from_slice(&payload);
            decoded.checks = checksums(&payload).collect();
            Payload::Direct(frame)
        };
        let _hurry = self.hurry();
        let Some(Held { sequence, tenant }) = self.hold(&[(id, *from)]).await?.pop().flatten() else {
            return Ok(None);
        };
        let placed = match self.write(&log, decoded, payload, sequence).await.unwrap_or(Err(LogError::Closed)) {
            Ok(placed) => placed,
            Err(error) => {
                self.release(vec![(id, None)]).await?;
                match error.segments() {
                    // In doubt: the next start may find the record, and then the copies must be
                    // there.
                    [segment] => {
                        let pieces = copies.placed.iter().map(|placed| (placed.segment().id, placed.length()));
                        self.shard.hold_pieces(*segment, &pieces.collect::<Vec<_>>());
                        self.shard.applied_in(&[*segment]);
                    }
                    _ => self.abandon(copies),
                }
                return Err(StoreError::from(error).into());
            }
        };
        for placed in &copies.placed {
            placed.segment().add_tenant(tenant, placed.length());
        }
        for (segment, bytes) in &copies.replaced {
            let segment = self.shard.shared().table.get(*segment).expect("it holds something that counts as live");
            segment.release_tenant(tenant, *bytes);
        }
        let to = location_of(&placed, true, sequence);
        self.release(vec![(id, Some(to))]).await?;
        self.shard.applied(placed.segment());
        let counters = &self.shard.shared().background.compaction;
        counters.moved_records.fetch_add(copies.placed.len() as u64 + 1, Ordering::Relaxed);
        // The list of extents is another one now: it is not carried over in the cache, the head of
        // the old record neither.
        debug_assert_ne!(RecordPlace::of(from), RecordPlace::of(&to));
        Ok(Some(placed.length()))
    }

    /// Counts copies that nobody refers to as dead.
    fn abandon(&self, copies: &Copies<I::File>) {
        for placed in &copies.placed {
            self.shard.count_dead(placed.segment(), placed.length());
        }
    }
}
