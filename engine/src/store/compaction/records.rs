//! Moving the records of blobs: read in runs as they lie, verified, locked in batches, written, and
//! entered.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Compaction, Halt};
use crate::index::Location;
use crate::io::{BLOCK_SIZE, Io};
use crate::log::error::LogError;
use crate::log::open_segment::Placed;
use crate::log::packed::PackedPayload;
use crate::log::record::{Decoded, Head, Kind, Layout, decode_head};
use crate::log::segment::Segment;
use crate::log::writer::Log;
use crate::log::{FRAME_SIZE, HEAD_ROOM, PACKED_PAYLOAD_MAX, bytes};
use crate::memory::Frame;
use crate::mutant::{Mutant, is_planted};
use crate::probe::{self, Event};
use crate::store::cached::{self, RecordPlace};
use crate::store::error::StoreError;
use crate::store::location::{has_extents, location_length, record_bytes};
use crate::store::message::Held;
use crate::sync::{Promised, promise};
use crate::types::{BlobId, Sequence};

/// Bytes read at a time.
const RUN_BYTES: u64 = 1 << 20;
/// Dead bytes between two records that are read along.
const GAP_MAX: u64 = 64 << 10;

const _: () = assert!(RUN_BYTES as usize <= FRAME_SIZE + HEAD_ROOM);

/// A record that was read, on its way.
struct Moving {
    id: BlobId,
    from: Location,
    decoded: Decoded,
    payload: Payload,
}

pub(super) enum Payload {
    /// Of a record that goes into a batch.
    Packed(Vec<u8>),
    /// The record as it lies: head room, then the payload.
    Direct(Frame),
}

impl<I: Io> Compaction<I> {
    /// Moves records that lie in a segment, in the order of their places.
    pub(super) async fn move_records(
        &self,
        segment: &Arc<Segment<I::File>>,
        mut live: Vec<(BlobId, Location)>,
    ) -> Result<(), Halt> {
        let mut failure = None;
        live.reverse();
        while !live.is_empty() {
            let run = next_run(&mut live, self.limits().records_at_once);
            let moving = match self.read_run(segment, &run).await {
                Ok((moving, damaged)) => {
                    failure = damaged.or(failure);
                    moving
                }
                Err(StoreError::Closed) => return Err(Halt::Stopped),
                Err(error) => {
                    failure = Some(error);
                    continue;
                }
            };
            let moved = self.move_run(segment, moving).await?;
            self.paced(moved).await?;
        }
        failure.map_or(Ok(()), |error| Err(Halt::Failed(error)))
    }

    /// Reads and verifies a run with one read. What is damaged is left where it is, for the scrub
    /// to look at.
    async fn read_run(
        &self,
        segment: &Arc<Segment<I::File>>,
        run: &[(BlobId, Location)],
    ) -> Result<(Vec<Moving>, Option<StoreError>), StoreError> {
        let (first, last) = (&run[0].1, &run[run.len() - 1].1);
        let start = bytes(first.offset_units) / BLOCK_SIZE as u64 * BLOCK_SIZE as u64;
        let end = bytes(last.offset_units) + record_bytes(last);
        let span = (end - start).next_multiple_of(BLOCK_SIZE as u64) as usize;
        let mut frame = self.shard.take_frame(span).await?;
        let count = self.shard.read(run[0].0, segment, &mut frame, span, start).await?;
        let mut moving = Vec::with_capacity(run.len());
        let mut damaged = None;
        for (id, from) in run {
            let at = (bytes(from.offset_units) - start) as usize;
            let length = record_bytes(from) as usize;
            match verify(frame.get(at..(at + length).min(count)), *id, from, segment) {
                Some(decoded) if decoded.shape.payload_length <= PACKED_PAYLOAD_MAX => {
                    let payload = at + decoded.shape.payload_offset;
                    let payload = Payload::Packed(frame[payload..payload + decoded.shape.payload_length].to_vec());
                    moving.push(Moving { id: *id, from: *from, decoded, payload });
                }
                Some(decoded) => {
                    // A direct record is a run of its own: see `next_run`.
                    assert!(at == 0 && decoded.shape.payload_offset == HEAD_ROOM, "a direct record starts its run");
                    moving.push(Moving { id: *id, from: *from, decoded, payload: Payload::Direct(frame) });
                    return Ok((moving, None));
                }
                None => {
                    self.shard.shared().background.suspect(*id);
                    damaged = Some(self.shard.damaged(*id, segment, from.offset_units, "it can't be moved"));
                }
            }
        }
        Ok((moving, damaged))
    }

    /// Writes records to the mover's log, makes them durable and enters them. Returns the bytes
    /// written.
    async fn move_run(&self, segment: &Arc<Segment<I::File>>, moving: Vec<Moving>) -> Result<u64, Halt> {
        let wanted: Vec<(BlobId, Location)> = moving.iter().map(|record| (record.id, record.from)).collect();
        // Whoever wants one of these blobs waits for this thread: it must not be one that gives way
        // to everybody while they are locked.
        let _hurry = self.hurry();
        let held = self.hold(&wanted).await?;
        let log = self.log_of(segment);
        let mut writes = Vec::new();
        for (record, held) in moving.into_iter().zip(held) {
            let Some(Held { sequence, .. }) = held else { continue };
            writes.push((record.id, record.from, sequence, self.write(&log, record.decoded, record.payload, sequence)));
        }
        let (mut entered, mut dead, mut failure, mut refused) = (Vec::new(), Vec::new(), None, Vec::new());
        let mut written: Vec<Placed<I::File>> = Vec::new();
        for (id, from, sequence, promised) in writes {
            match promised.await.unwrap_or(Err(LogError::Closed)) {
                Ok(placed) => {
                    let to = location_of(&placed, has_extents(&from), sequence);
                    cached::rekey(self.shard.cache(), RecordPlace::of(&from), RecordPlace::of(&to));
                    entered.push((id, Some(to)));
                    dead.push((from.segment, record_bytes(&from)));
                    written.push(placed);
                }
                // Whether the next start finds the new record or not: the old one says the same,
                // and stays.
                Err(error) => {
                    entered.push((id, None));
                    refused.extend_from_slice(error.segments());
                    failure = Some(StoreError::from(error));
                }
            }
        }
        self.release(entered).await?;
        self.shard.applied_in(&refused);
        for placed in &written {
            self.shard.applied(placed.segment());
        }
        let moved: u64 = written.iter().map(|placed| placed.length()).sum();
        self.shard.shared().background.compaction.moved_records.fetch_add(written.len() as u64, Ordering::Relaxed);
        self.shard.count_records_dead(&dead);
        failure.map_or(Ok(moved), |error| Err(error.into()))
    }

    /// Writes a record to the mover's log, as another of its blob's operations; the promise is kept
    /// when it is durable.
    pub(super) fn write(
        &self,
        log: &Log<I>,
        decoded: Decoded,
        payload: Payload,
        sequence: Sequence,
    ) -> Promised<Result<Placed<I::File>, LogError>> {
        let kept = decoded.head.sequence;
        let sequence = if is_planted(Mutant::MoveKeepsSequence) { kept } else { sequence };
        let head = Head { sequence, ..decoded.head };
        let (result, promised) = promise();
        let (log, shard) = (log.clone(), self.shard.clone());
        self.shard.io().spawn(async move {
            let written = match payload {
                Payload::Packed(payload) => log.commit(head, PackedPayload::Bytes(payload)).await,
                Payload::Direct(mut frame) => {
                    let length = decoded.shape.payload_length;
                    match log.append_direct(&head, &mut frame, length, decoded.checks).await {
                        Ok(placed) if is_planted(Mutant::MoveUndurable) => Ok(placed),
                        Ok(placed) => match log.durable(&placed).await {
                            Ok(()) => Ok(placed),
                            Err(error) => {
                                shard.count_dead(placed.segment(), placed.length());
                                Err(error)
                            }
                        },
                        Err(error) => Err(error),
                    }
                }
            };
            probe::hit(Event::RecordMoved);
            result.keep(written);
        });
        promised
    }

    /// The mover's log in the directory of a segment, so that each directory makes its own space.
    pub(super) fn log_of(&self, segment: &Segment<I::File>) -> Log<I> {
        let mut logs = self.shard.0.logs.iter();
        logs.find(|log| log.dir_index() == segment.dir).expect("the mover has a log in every directory").clone()
    }
}

pub(super) fn location_of<F>(placed: &Placed<F>, extents: bool, sequence: Sequence) -> Location {
    Location {
        segment: placed.segment().id,
        offset_units: placed.offset_units,
        length_units: location_length(placed.length_units, extents),
        sequence,
    }
}

fn is_direct(location: &Location) -> bool {
    record_bytes(location) > (PACKED_PAYLOAD_MAX + HEAD_ROOM) as u64
}

/// Takes records from the end of the list (which is in descending order) that are read together:
/// neighbours, or one that lies alone in its blocks.
fn next_run(live: &mut Vec<(BlobId, Location)>, most: usize) -> Vec<(BlobId, Location)> {
    let first = live.pop().expect("asked for while there are some");
    let start = bytes(first.1.offset_units);
    let mut run = vec![first];
    while let Some((_, last)) = run.last().filter(|(_, last)| !is_direct(last)) {
        let end = bytes(last.offset_units) + record_bytes(last);
        let joins = |next: &Location| {
            let (from, to) = (bytes(next.offset_units), bytes(next.offset_units) + record_bytes(next));
            !is_direct(next) && from - end <= GAP_MAX && to - start <= RUN_BYTES
        };
        match live.last().filter(|(_, next)| joins(next)) {
            Some(_) if run.len() < most => run.push(live.pop().expect("looked at")),
            _ => break,
        }
    }
    run
}

/// The record at a location, if it is sound and the one that the index means.
fn verify<F>(input: Option<&[u8]>, id: BlobId, from: &Location, segment: &Segment<F>) -> Option<Decoded> {
    let input = input?;
    let decoded = decode_head(input, segment.id, from.offset_units, segment.nonce).ok()?;
    let head = &decoded.head;
    let is_meant = head.kind == Kind::Blob
        && head.id == id
        && head.sequence == from.sequence
        && has_extents(from) == (head.layout != Layout::Inline)
        && bytes(decoded.length_units()) == record_bytes(from);
    let payload = decoded.shape.payload_offset..decoded.shape.payload_offset + decoded.shape.payload_length;
    let is_sound = is_meant && decoded.verify(input.get(payload)?, 0);
    is_sound.then_some(decoded)
}
