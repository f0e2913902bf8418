//! The end of an upload: its hash decides the id, the id's owner gives the turn, and the record
//! makes it durable and visible.

use std::sync::Arc;

use crate::index::Location;
use crate::io::Io;
use crate::log::error::LogError;
use crate::log::extent::{self, EXTENT_SIZE};
use crate::log::open_segment::Placed;
use crate::log::packed::PackedPayload;
use crate::log::record::{Head, Kind, Layout, Shape, checksums};
use crate::log::segment::Tenant;
use crate::log::{HEAD_ROOM, PACKED_PAYLOAD_MAX};
use crate::memory::Frame;
use crate::probe::{self, Event};
use crate::store::hash_steps::Progress;
use crate::store::location::location_length;
use crate::store::message::Outcome;
use crate::store::meta::merge_labels;
use crate::store::written::Kept;
use crate::store::{Ailment, CommitOptions, StoreError, Stored};
use crate::types::{BlobId, ContentHash, SegmentId};

use super::State;

impl<I: Io> State<I> {
    pub(super) async fn commit(&mut self, options: CommitOptions) -> Result<Stored, StoreError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.hash_filled().await?;
        let hash = self.hash.finish().await.ok_or(StoreError::Closed)?;
        if let Some(expected) = options.expected_hash
            && expected != hash
        {
            return Err(StoreError::HashMismatch { expected, actual: hash });
        }
        let id = BlobId::of(&hash);
        let in_pieces = self.ordinal > 0;
        if in_pieces {
            self.finish_pieces().await?;
        } else {
            self.shard.pay(self.size, &mut self.waited).await;
            self.turn_to_a_sound_log();
        }
        let acquired = self.shard.acquire(id).await?;
        let present = match acquired.current {
            Some(location) => self.present(id, hash, &location, acquired.tenant).await,
            None => Ok(None),
        };
        // What is in doubt is written anew, since what is there may be gone at the next start.
        // Until then it is there for everybody, also where it can't be read for now.
        let (present, created) = match present {
            Err(StoreError::ReadFailed { .. }) if acquired.in_doubt => (Ok(None), false),
            present => {
                let is_absent = matches!(present, Ok(None));
                (present, is_absent)
            }
        };
        let is_settled = !created && !acquired.in_doubt;
        let result: Result<_, Unwritten> = match present.and_then(|present| self.head_to_write(&options, id, present)) {
            Ok(head) if is_settled && head.is_as_stored => Ok(None),
            Ok(HeadToWrite { policy, labels, created_at_ns, flags, .. }) => {
                let head = Head {
                    kind: Kind::Blob,
                    layout: Layout::Inline,
                    policy,
                    sequence: acquired.sequence,
                    id,
                    hash,
                    size: self.size,
                    created_at_ns,
                    link: 0,
                    flags,
                    register: None,
                    labels,
                };
                self.write_blob(head, in_pieces).await.map(Some)
            }
            Err(error) => Err(error.into()),
        };
        let stored = |created| Stored { id, hash, size: self.size, created };
        match result {
            Ok(Some((placed, extents))) => {
                let location = Location {
                    segment: placed.segment().id,
                    offset_units: placed.offset_units,
                    length_units: location_length(placed.length_units, extents),
                    sequence: acquired.sequence,
                };
                self.keeps_pieces = true;
                let tenant = Tenant { id, since: acquired.sequence };
                for (home, bytes) in &self.homes {
                    if let Some(home) = self.shard.shared().table.get(*home) {
                        home.add_tenant(tenant, *bytes);
                    }
                }
                let released = self.shard.release(id, Outcome::Insert(location)).await?;
                self.shard.applied(placed.segment());
                if is_settled {
                    probe::hit(Event::LabelsAdded);
                }
                let stored = stored(created);
                // A record is replaced when it is damaged or in doubt, or had other labels; what it
                // held is dead now.
                self.shard.forget(released).await;
                Ok(stored)
            }
            Ok(None) => {
                self.shard.release(id, Outcome::Nothing).await?;
                Ok(stored(false))
            }
            Err(Unwritten { error, in_doubt }) => {
                let outcome = match &*in_doubt {
                    [] => Outcome::Nothing,
                    segments => Outcome::InDoubt(segments.to_vec()),
                };
                self.keeps_pieces = !in_doubt.is_empty();
                self.shard.release(id, outcome).await?;
                if let [segment] = *in_doubt {
                    let pieces: Vec<_> = self.homes.iter().map(|(home, bytes)| (*home, *bytes)).collect();
                    self.shard.hold_pieces(segment, &pieces);
                }
                self.shard.applied_in(&in_doubt);
                Err(error)
            }
        }
    }

    /// What of the head is the caller's, and what stays of a record that is there.
    fn head_to_write(
        &self,
        options: &CommitOptions,
        id: BlobId,
        present: Option<Head>,
    ) -> Result<HeadToWrite, StoreError> {
        let (stored, policy, created_at_ns, flags) = match present {
            Some(head) => (head.labels, head.policy, head.created_at_ns, head.flags),
            None => (Vec::new(), options.policy, self.shard.0.io.wall_clock_ns(), 0),
        };
        let labels = merge_labels(&stored, &options.labels).ok_or(StoreError::TooManyLabels { id })?;
        let is_as_stored = labels == stored;
        Ok(HeadToWrite { policy, labels, created_at_ns, flags, is_as_stored })
    }

    /// The head of this very content, if it is stored and readable. A damaged record counts as
    /// absent, so that an upload mends it, and so does one that the scrub could not read and that
    /// can't be read now.
    async fn present(
        &self,
        id: BlobId,
        hash: ContentHash,
        location: &Location,
        tenant: Option<Tenant>,
    ) -> Result<Option<Head>, StoreError> {
        match self.shard.shared().background.quarantine.ailment(&id, location.sequence) {
            None => {}
            Some(Ailment::Damaged) => return Ok(None),
            Some(Ailment::Unreadable) if !self.shard.is_readable(id, location).await => return Ok(None),
            Some(Ailment::Unreadable) => {}
        }
        let Some(segment) = self.shard.segment(location) else { return Ok(None) };
        let record = match self.shard.open_record(id, location, segment).await {
            Ok(record) => record,
            Err(StoreError::Damaged { .. }) => return Ok(None),
            // Nobody can read it there; written anew it is there for everybody.
            Err(StoreError::DirectoryOut { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if record.decoded.head.hash != hash {
            return Err(StoreError::Collision { id });
        }
        if record.decoded.head.layout != Layout::Inline {
            // Its pieces may have been lost with a directory that was given up, or with the list,
            // which could not be read when they were to be counted.
            match self.shard.lacks_pieces(id, &record, tenant).await {
                Ok(false) => {}
                Ok(true) | Err(StoreError::Damaged { .. } | StoreError::DirectoryOut { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(record.decoded.head))
    }

    /// Writes the record of the blob, durably. True: it holds extents.
    async fn write_blob(&mut self, mut head: Head, in_pieces: bool) -> Result<(Placed<I::File>, bool), Unwritten> {
        if !in_pieces {
            let frame = self.frame.take().expect("an upload in one piece has its frame");
            let checks = std::mem::take(&mut self.progress);
            return Ok((self.commit_frame(head, frame, self.filled, Some(checks)).await?, false));
        }
        let (layout, extents) =
            if self.pages.is_empty() { (Layout::Extents, &self.extents) } else { (Layout::ExtentPages, &self.pages) };
        head.layout = layout;
        let mut payload = Vec::with_capacity(extents.len() * EXTENT_SIZE);
        extent::encode(extents, &mut payload);
        if payload.len() <= PACKED_PAYLOAD_MAX {
            let kept = Kept::Small(Arc::from(payload.as_slice()));
            let (shape, checks) = (Shape::packed(&head, payload.len()), checksums(&payload).collect());
            let placed = self.log.commit(head.clone(), PackedPayload::Bytes(payload)).await?;
            self.shard.blob_written(&placed, head, shape, checks, kept);
            return Ok((placed, true));
        }
        let mut frame = self.shard.take_frame(HEAD_ROOM + payload.len()).await?;
        frame[HEAD_ROOM..HEAD_ROOM + payload.len()].copy_from_slice(&payload);
        Ok((self.commit_frame(head, frame, payload.len(), None).await?, true))
    }

    async fn commit_frame(
        &self,
        head: Head,
        mut frame: Frame,
        length: usize,
        progress: Option<Progress>,
    ) -> Result<Placed<I::File>, LogError> {
        let payload = &frame[HEAD_ROOM..HEAD_ROOM + length];
        let checks: Vec<u32> = match progress {
            Some(progress) => progress.into_checks(payload),
            None => checksums(payload).collect(),
        };
        if length <= PACKED_PAYLOAD_MAX {
            let kept = self.shard.keep_copy(payload);
            let shape = Shape::packed(&head, length);
            let placed = self.log.commit(head.clone(), PackedPayload::Frame(frame, length)).await?;
            self.shard.blob_written(&placed, head, shape, checks, kept);
            return Ok(placed);
        }
        let shape = Shape::direct(&head, length);
        let placed = self.log.append_direct(&head, &mut frame, length, checks.clone()).await?;
        let kept = self.shard.keep_frame(frame, length).await;
        if let Err(error) = self.log.durable(&placed).await {
            self.shard.count_dead(placed.segment(), placed.length());
            return Err(error);
        }
        self.shard.blob_written(&placed, head, shape, checks, kept);
        Ok(placed)
    }
}

/// What the record of a blob says that doesn't follow from its content.
struct HeadToWrite {
    policy: u8,
    /// By name, ascending.
    labels: Vec<(String, String)>,
    created_at_ns: u64,
    flags: u64,
    /// The record that is there says the same.
    is_as_stored: bool,
}

/// Why the record of a blob was not written.
struct Unwritten {
    error: StoreError,
    /// It may have been, and lies in one of these segments then.
    in_doubt: Vec<SegmentId>,
}

impl From<LogError> for Unwritten {
    fn from(error: LogError) -> Self {
        Self { in_doubt: error.segments().to_vec(), error: error.into() }
    }
}

impl From<StoreError> for Unwritten {
    fn from(error: StoreError) -> Self {
        Self { error, in_doubt: Vec::new() }
    }
}
