//! The committer of a log: packs the small records that wait into one batch, writes it, and makes
//! it durable with one sync.
//!
//! While a batch is on its way the next records gather, so the busier a core is the more of them
//! share a sync. Appends of large records do not pass here; the committer only syncs what they wait
//! for.

use crate::io::{AlignedBuf, BLOCK_SIZE, Clock, Disk, Instant, Io};
use crate::log::error::{LogError, in_doubt};
use crate::log::open_segment::{Claim, Reservation};
use crate::log::packed::Packed;
use crate::log::record::{Shape, checksums, encode_head};
use crate::log::writer::{Log, RECORD_DIVISOR};
use crate::log::{HEAD_ROOM, PACKED_PAYLOAD_MAX, RECORD_ALIGN, SEGMENT_SIZE_MIN, bytes};
use crate::mutant::{Mutant, is_planted};

/// The most bytes that a batch may be given.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

const _: () = assert!(PACKED_PAYLOAD_MAX + HEAD_ROOM <= BATCH_BYTES_MAX);
const _: () = assert!(
    (PACKED_PAYLOAD_MAX + HEAD_ROOM).next_multiple_of(BLOCK_SIZE) <= batch_max(SEGMENT_SIZE_MIN, BATCH_BYTES_MAX)
);

/// The most bytes of a batch in segments of this size: whole blocks.
const fn batch_max(segment_size: u64, most: usize) -> usize {
    let room = (segment_size / RECORD_DIVISOR) as usize;
    if room < most { room / BLOCK_SIZE * BLOCK_SIZE } else { most }
}

impl<I: Io> Log<I> {
    fn batch_max(&self) -> usize {
        batch_max(self.0.options.segment_size, self.0.options.batch_bytes_max)
    }

    /// The committer: one batch after the other, for as long as the log is open.
    pub(super) async fn committer(self) {
        let mut batch_buf = None;
        loop {
            let wanted = || {
                let active = self.0.active.borrow();
                active.clone().filter(|open| open.wanted.get() > open.durable_to.get() && !open.segment.is_fenced())
            };
            let work = self.0.work.wait_for(|| {
                if !self.0.waiting.borrow().is_empty() {
                    return Some(None);
                }
                match wanted() {
                    Some(open) => Some(Some(open)),
                    None => self.0.closing.get().then_some(None),
                }
            });
            let direct = work.await;
            if let Some(open) = direct {
                let end = open.wanted.get();
                let began = self.0.io.now();
                if self.sync_to(&open, end).await {
                    self.count_commit(1, began);
                }
                continue;
            }
            let batch = self.next_batch();
            if batch.is_empty() {
                return;
            }
            self.commit_batch(batch, &mut batch_buf).await;
        }
    }

    /// Takes as many waiting records as one batch holds; tombstones and data are not mixed when
    /// data has no room.
    fn next_batch(&self) -> Vec<Packed<I::File>> {
        let mut waiting = self.0.waiting.borrow_mut();
        let mut size = 0;
        let mut count = 0;
        for packed in waiting.iter() {
            size += bytes(Shape::packed(&packed.head, packed.payload.bytes().len()).length_units()) as usize;
            if size > self.batch_max() {
                break;
            }
            count += 1;
        }
        waiting.drain(..count).collect()
    }

    async fn commit_batch(&self, batch: Vec<Packed<I::File>>, batch_buf: &mut Option<AlignedBuf>) {
        let (tombstones, data): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|packed| packed.claim() == Claim::Tombstone);
        // One batch while there is room; a full disk must still take the tombstones.
        match self.write_batch(data, tombstones, Claim::Data, batch_buf).await {
            Ok(()) => {}
            Err((LogError::Full, data, tombstones)) if !tombstones.is_empty() => {
                refuse(data, &LogError::Full);
                if let Err((error, _, tombstones)) =
                    self.write_batch(Vec::new(), tombstones, Claim::Tombstone, batch_buf).await
                {
                    refuse(tombstones, &error);
                }
            }
            Err((error, data, tombstones)) => {
                refuse(data, &error);
                refuse(tombstones, &error);
            }
        }
    }

    /// Writes and syncs one batch and answers its records; hands them back when there is no room.
    #[allow(clippy::type_complexity)]
    async fn write_batch(
        &self,
        data: Vec<Packed<I::File>>,
        tombstones: Vec<Packed<I::File>>,
        claim: Claim,
        batch_buf: &mut Option<AlignedBuf>,
    ) -> Result<(), (LogError, Vec<Packed<I::File>>, Vec<Packed<I::File>>)> {
        let records = data.len() + tombstones.len();
        let sizes = data
            .iter()
            .chain(&tombstones)
            .map(|packed| bytes(Shape::packed(&packed.head, packed.payload.bytes().len()).length_units()) as usize);
        let total = sizes.sum::<usize>().next_multiple_of(BLOCK_SIZE);
        let claim = if data.is_empty() { Claim::Tombstone } else { claim };
        let Reservation { open, offset } = match self.claim(total as u64, records, claim).await {
            Ok(reservation) => reservation,
            Err(error) => return Err((error, data, tombstones)),
        };
        let mut buf = batch_buf.take().unwrap_or_else(|| AlignedBuf::zeroed(self.batch_max()));
        let end = offset + total as u64;
        let mut at = 0;
        let mut replies = Vec::with_capacity(records);
        for packed in data.into_iter().chain(tombstones) {
            let payload = packed.payload.bytes();
            let shape = Shape::packed(&packed.head, payload.len());
            let placement = open.placement(offset + at as u64);
            let length = bytes(shape.length_units()) as usize;
            let out = &mut buf[at..at + length];
            encode_head(out, &packed.head, shape, placement, open.segment.nonce, checksums(payload));
            let payload_end = shape.payload_offset + payload.len();
            out[shape.payload_offset..payload_end].copy_from_slice(payload);
            out[payload_end..].fill(0);
            let placed = open.place(&packed.head, placement.offset_units, shape.length_units(), end);
            replies.push((packed.reply, packed.head.kind, placed));
            at += length;
        }
        debug_assert!(at.is_multiple_of(RECORD_ALIGN));
        buf[at..total].fill(0);
        let began = self.0.io.now();
        let (result, buf) = self.0.io.write_at(&open.file, buf, 0..total, offset).await;
        *batch_buf = Some(buf).filter(|_| result.is_ok());
        let written = self.write_ended(&open, offset, total, result);
        let durable = match written {
            Ok(()) if is_planted(Mutant::AcknowledgeEarly) => {
                let (log, open) = (self.clone(), open.clone());
                self.spawn_task(async move {
                    let _ = log.sync_to(&open, end).await;
                });
                Ok(())
            }
            Ok(()) => self.sync_to(&open, end).await.then_some(()).ok_or_else(|| in_doubt(open.segment.id, false)),
            Err(error) => Err(error),
        };
        if durable.is_ok() {
            self.count_commit(replies.len() as u64, began);
        }
        for (reply, kind, placed) in replies {
            if durable.is_err() {
                open.refuse(kind, placed.length_units);
            }
            reply.keep(durable.clone().map(|()| placed));
        }
        if durable.is_err() {
            (self.0.options.fenced)(open.segment.id);
        }
        Ok(())
    }

    fn count_commit(&self, records: u64, began: Instant) {
        let mut counters = self.0.counters.get();
        counters.count_commit(records, self.0.io.now().since(began).as_nanos() as u64);
        self.0.counters.set(counters);
    }
}

fn refuse<F>(batch: Vec<Packed<F>>, error: &LogError) {
    for packed in batch {
        packed.reply.keep(Err(error.clone()));
    }
}
