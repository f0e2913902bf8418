//! What a dead segment holds that must outlive it: its tombstones. And what any segment holds that
//! counts.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::io::Io;
use crate::log::entries::Entries;
use crate::log::footer::{FooterEntry, footer_bytes};
use crate::log::record::Kind;
use crate::log::scan::{Scan, scan};
use crate::log::sealed::{fold_footer, read_footer};
use crate::log::segment::{Books, Contents, Segment, Written};
use crate::probe::{self, Event as ProbeEvent};
use crate::store::shard::Shard;

/// Why a dead segment stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Withheld {
    /// The disk refuses to tell what it holds.
    ForNow,
    /// What it holds is not known, or its writer is not done yet and will tell.
    ForGood,
}

/// What must be known of a segment that is to go.
#[derive(Default)]
pub(super) struct LastWill {
    pub(super) has_blobs: bool,
    pub(super) tombstones: Entries,
    pub(super) written: Option<Arc<Written>>,
}

impl LastWill {
    fn gather(&mut self, entry: FooterEntry) {
        match entry.kind {
            Kind::Blob => self.has_blobs = true,
            Kind::Tombstone => self.tombstones.push(&entry),
            Kind::Frame | Kind::ExtentPage | Kind::Part | Kind::Stub => {}
        }
    }
}

impl<I: Io> Shard<I> {
    /// What a dead segment leaves behind.
    pub(super) async fn last_will(&self, segment: &Segment<I::File>) -> Result<LastWill, Withheld> {
        match segment.books() {
            // It comes again when its writer is done.
            Books::Open => Err(Withheld::ForGood),
            Books::Closed(written) => {
                let mut will = LastWill::default();
                for piece in written.entries.pieces() {
                    for entry in piece {
                        // What is in doubt may be there, too.
                        will.has_blobs |= entry.kind == Kind::Blob;
                        if written.is_acknowledged(&entry) {
                            will.gather(entry);
                        }
                    }
                    self.0.io.yield_now().await;
                }
                Ok(LastWill { written: Some(written), ..will })
            }
            Books::OnDisk if segment.is_fenced() => self.look_again(segment).await,
            Books::OnDisk => self.gather_sealed(segment, LastWill::gather).await,
        }
    }

    /// What is sound in a segment that the start found damaged, if it is the same as it was then.
    async fn look_again(&self, segment: &Segment<I::File>) -> Result<LastWill, Withheld> {
        let found = match scan(self.dir(segment.dir), segment, segment.file_bytes.load(Ordering::Acquire)).await {
            Ok(found) if found.unreadable_bytes == 0 => found,
            Ok(_) => return Err(Withheld::ForNow),
            Err(error) => {
                tracing::warn!(
                    segment = %segment.id, %error,
                    "a damaged segment can't be read again: it is kept for now"
                );
                return Err(Withheld::ForNow);
            }
        };
        if segment.contents() != Some(Contents::of(found.records.iter().copied())) {
            tracing::warn!(
                segment = %segment.id,
                "a damaged segment reads differently now: it is kept until the next start"
            );
            return Err(Withheld::ForGood);
        }
        for damage in &found.damage {
            tracing::warn!(
                segment = %segment.id, offset = damage.offset, length = damage.length,
                "a damaged segment is given up: what was sound in it lies elsewhere or is dead"
            );
        }
        probe::hit(ProbeEvent::DamagedSegmentLeft);
        let mut will = LastWill::default();
        found.records.into_iter().for_each(|entry| will.gather(entry));
        Ok(will)
    }

    /// Gathers something from the records of a segment that count, in no particular order; `None`
    /// when they are not known.
    pub(in crate::store) async fn gather_countable<T: Default>(
        &self,
        segment: &Segment<I::File>,
        mut gather: impl FnMut(&mut T, FooterEntry),
    ) -> Option<T> {
        let mut gathered = T::default();
        match segment.books() {
            Books::Open => None,
            Books::Closed(written) => {
                for piece in written.entries.pieces() {
                    piece.filter(|entry| written.is_acknowledged(entry)).for_each(|entry| gather(&mut gathered, entry));
                    self.0.io.yield_now().await;
                }
                Some(gathered)
            }
            Books::OnDisk if segment.is_fenced() => {
                let size = segment.file_bytes.load(Ordering::Acquire);
                let found = scan(self.dir(segment.dir), segment, size).await.ok()?;
                found.records.into_iter().for_each(|entry| gather(&mut gathered, entry));
                Some(gathered)
            }
            Books::OnDisk => self.gather_sealed(segment, gather).await.ok(),
        }
    }

    /// The same for a sealed segment, by its footer. The footer, and the cut to what it holds, may
    /// have been lost with the power after a start had seen them, while the records were durable
    /// all along: then by a scan.
    async fn gather_sealed<T: Default>(
        &self,
        segment: &Segment<I::File>,
        mut gather: impl FnMut(&mut T, FooterEntry),
    ) -> Result<T, Withheld> {
        let size = segment.file_bytes.load(Ordering::Acquire);
        let found = match fold_footer(self.dir(segment.dir), segment, size, &mut gather).await {
            Ok(Some((_, gathered))) => return Ok(gathered),
            Ok(None) => scan(self.dir(segment.dir), segment, size).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(scan) if self.is_whole(segment, size, &scan).await => {
                let mut gathered = T::default();
                scan.records.into_iter().for_each(|entry| gather(&mut gathered, entry));
                Ok(gathered)
            }
            Ok(scan) if scan.unreadable_bytes > 0 => {
                tracing::warn!(
                    segment = %segment.id, scan.unreadable_bytes,
                    "a part of a sealed segment can't be read: it is kept for now"
                );
                Err(Withheld::ForNow)
            }
            Ok(_) => {
                tracing::error!(segment = %segment.id, "a sealed segment is damaged: its space is kept");
                Err(Withheld::ForGood)
            }
            Err(error) => {
                tracing::warn!(segment = %segment.id, %error, "a sealed segment can't be read: it is kept for now");
                Err(Withheld::ForNow)
            }
        }
    }

    /// Whether a scan without the footer found all that a sealed segment held: behind the last
    /// record nothing but the footer may be missing.
    async fn is_whole(&self, segment: &Segment<I::File>, size: u64, scan: &Scan) -> bool {
        if !scan.damage.is_empty() || scan.unreadable_bytes > 0 {
            return false;
        }
        let cut_to = scan.data_end + footer_bytes(scan.records.len());
        // As long as it was before the cut, it is as it was then, or has its footer where the cut
        // was.
        size == cut_to
            || (size == segment.size
                && (!scan.is_torn || matches!(read_footer(self.dir(segment.dir), segment, cut_to).await, Ok(Some(_)))))
    }
}
