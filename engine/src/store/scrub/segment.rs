//! One segment from its first byte to its last.
//!
//! A sealed segment is taken apart into stretches by its footer, so damage in one does not hide the
//! next. What fails is looked at again: a blob that lives there goes to `blob.rs`; anything else
//! that fails a second time is damage that costs nobody anything yet, and what is live beside it is
//! moved away by compaction.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::blob::Haste;
use super::content::Content;
use super::fault::{Fault, Halt, Trouble};
use super::pass::{RETRIES, Scrub};
use super::verify;
use super::window::{Reach, SPAN_MAX, Window};
use crate::index::Location;
use crate::io::{BLOCK_SIZE, Io};
use crate::log::bytes;
use crate::log::entries::Entries;
use crate::log::footer::{ENTRY_SIZE, FooterEntry, TRAILER_SIZE, Trailer};
use crate::log::header::DATA_START;
use crate::log::health::taken_out;
use crate::log::record::{Kind, Layout};
use crate::log::scan::scan;
use crate::log::sealed::read_footer;
use crate::log::segment::{Segment, State};
use crate::mutant::{Mutant, is_planted};
use crate::sha256::Sha256;
use crate::store::location::has_extents;
use crate::types::BlobId;

/// Ids asked for in one message.
const IDS_AT_ONCE: usize = 1024;

/// What should lie in a stretch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meaning {
    Header,
    Record(FooterEntry),
    /// Zeros.
    Blank,
}

/// A range of bytes with one meaning.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Stretch {
    range: Range<u64>,
    meaning: Meaning,
}

/// What is known of a segment's stretches.
#[derive(Default)]
struct Books {
    entries: Entries,
    /// Where what lies behind the records must be zero.
    blanks: Vec<Range<u64>>,
    /// The footer can't be used.
    fault: Option<Fault>,
}

impl Books {
    fn new(entries: Entries, trailer: &Trailer, size: u64) -> Self {
        let records_end = entries.last().map_or(DATA_START, |last| bytes(last.offset_units) + bytes(last.length_units));
        let entries_end = trailer.entries_offset + (entries.len() * ENTRY_SIZE) as u64;
        let trailer_at = size - BLOCK_SIZE as u64;
        let blanks =
            vec![records_end..trailer.entries_offset, entries_end..trailer_at, trailer_at + TRAILER_SIZE as u64..size];
        Self { entries, blanks, fault: None }
    }
}

/// Gaps are looked at in pieces of this size.
const GAP_SIZE: u64 = 1 << 20;
const _: () = assert!(GAP_SIZE as usize <= SPAN_MAX);

/// The stretches of a segment in the order of the file.
fn stretches(books: &Books) -> impl Iterator<Item = Stretch> + '_ {
    let header = Stretch { range: 0..DATA_START, meaning: Meaning::Header };
    let mut at = DATA_START;
    let records = books.entries.iter().flat_map(move |entry| {
        let range = bytes(entry.offset_units)..bytes(entry.offset_units) + bytes(entry.length_units);
        let gap = at..range.start.max(at);
        at = range.end.max(at);
        blank(gap).chain([Stretch { range, meaning: Meaning::Record(entry) }])
    });
    std::iter::once(header).chain(records).chain(books.blanks.iter().cloned().flat_map(blank))
}

fn blank(range: Range<u64>) -> impl Iterator<Item = Stretch> {
    let Range { start, end } = range;
    (start..end).step_by(GAP_SIZE as usize).map(move |from| {
        let range = from..end.min(from + GAP_SIZE);
        Stretch { range, meaning: Meaning::Blank }
    })
}

impl<I: Io> Scrub<I> {
    /// Looks at a whole segment, then at the large blobs whose records lie in it, from this offset
    /// on; nothing of the segment itself if it is not 0.
    pub(super) async fn check_segment(&self, segment: &Arc<Segment<I::File>>, from_units: u32) -> Result<(), Halt> {
        // A footer that fails is no matter for a moment: what it said is read from the records.
        let books = self.books(segment).await?;
        if from_units == 0 {
            self.check_places(segment, &books).await?;
            self.counters().segments.fetch_add(1, Ordering::Relaxed);
        }
        let is_large = |entry: &FooterEntry| entry.kind == Kind::Blob && entry.layout != Layout::Inline;
        let large: Vec<FooterEntry> = books.entries.iter().filter(is_large).collect();
        for entry in large.into_iter().filter(|entry| entry.offset_units >= from_units) {
            // Everything before it is done.
            self.advance(segment.id, entry.offset_units).await;
            if self.live_at(segment, &entry).await?.is_some() {
                self.check_blob(entry.id, Haste::GivesWay).await?;
            }
            self.tend().await?;
        }
        Ok(())
    }

    async fn check_places(&self, segment: &Arc<Segment<I::File>>, books: &Books) -> Result<(), Halt> {
        let is_sealed = segment.state() == State::Sealed;
        let mut suspicious = Vec::new();
        if is_sealed && let Some(fault) = &books.fault {
            let at = segment.file_bytes.load(Ordering::Acquire).saturating_sub(BLOCK_SIZE as u64);
            self.found(segment, at, "its footer", fault);
        }
        if !self.walk(segment, stretches(books), &mut suspicious).await? {
            return Ok(());
        }
        for (stretch, fault) in suspicious {
            if let Meaning::Record(entry) = stretch.meaning
                && fault != Fault::Padding
                && let Some(id) = self.tenant_of(segment, &entry).await?
            {
                self.check_blob(id, Haste::GivesWay).await?;
                if self.is_listed(id).await? {
                    // The list says what was found first in the blob: this may be another stretch.
                    self.confirm(segment, stretch, Some(id)).await?;
                    continue;
                }
            }
            // Of a segment that is not sealed only what is live has a meaning.
            if is_sealed {
                self.confirm(segment, stretch, None).await?;
            }
        }
        Ok(())
    }

    /// Looks at stretches one after the other. False when the segment has left meanwhile.
    async fn walk(
        &self,
        segment: &Arc<Segment<I::File>>,
        stretches: impl Iterator<Item = Stretch>,
        suspicious: &mut Vec<(Stretch, Fault)>,
    ) -> Result<bool, Halt> {
        let size = segment.file_bytes.load(Ordering::Acquire);
        let mut window = match Window::new(&self.shard, &self.pacer, segment, size, Reach::Ahead).await {
            Ok(window) => window,
            Err(trouble) => return trouble.or_later().map(|()| false),
        };
        let mut read = self.pacer.read();
        for stretch in stretches {
            match self.check_stretch(&mut window, segment, &stretch).await {
                Ok(()) => {}
                Err(Trouble::Fault(fault)) => suspicious.push((stretch, fault)),
                // Its directory was taken out meanwhile.
                Err(trouble) => return trouble.or_later().map(|()| false),
            }
            if self.pacer.read() != read {
                if self.shard.shared().table.get(segment.id).is_none() {
                    return Ok(false);
                }
                self.tend().await?;
                read = self.pacer.read();
            }
        }
        Ok(true)
    }

    async fn check_stretch(
        &self,
        window: &mut Window<'_, I>,
        segment: &Segment<I::File>,
        stretch: &Stretch,
    ) -> Result<(), Trouble> {
        if stretch.range.end - stretch.range.start > SPAN_MAX as u64 {
            return Err(Fault::Damaged("its footer names a record that is too long").into());
        }
        let input = window.bytes(stretch.range.clone()).await?;
        match stretch.meaning {
            Meaning::Header => verify::headers(input, segment.id, segment.nonce, &self.shard.0.store_uuid)?,
            Meaning::Blank => verify::blank(input)?,
            Meaning::Record(entry) => {
                let sound = verify::record(input, segment.id, entry.offset_units, segment.nonce)?;
                if FooterEntry::of(&sound.decoded) != entry {
                    return Err(Fault::Damaged("its footer lists another record").into());
                }
                let head = &sound.decoded.head;
                if head.kind == Kind::Blob && head.layout == Layout::Inline && !is_planted(Mutant::ScrubTrustsFooter) {
                    let actual = Sha256::digest(sound.payload(input));
                    if actual != head.hash.0 {
                        return Err(Fault::Hash.into());
                    }
                    self.counters().blobs.fetch_add(1, Ordering::Relaxed);
                }
                if !sound.is_padded {
                    return Err(Fault::Padding.into());
                }
            }
        }
        Ok(())
    }

    async fn look_at(&self, segment: &Arc<Segment<I::File>>, stretch: &Stretch) -> Result<(), Trouble> {
        let size = segment.file_bytes.load(Ordering::Acquire);
        let reach = Reach::Exact((stretch.range.end - stretch.range.start).min(SPAN_MAX as u64) as usize);
        let mut window = Window::new(&self.shard, &self.pacer, segment, size, reach).await?;
        self.check_stretch(&mut window, segment, stretch).await
    }

    /// Reads a stretch again, as often as it takes to be sure, and says so if it is damaged. It may
    /// belong to a blob that is under quarantine for it already.
    async fn confirm(
        &self,
        segment: &Arc<Segment<I::File>>,
        stretch: Stretch,
        listed: Option<BlobId>,
    ) -> Result<(), Halt> {
        let mut is_refused = false;
        for attempt in 1.. {
            if is_refused {
                self.pacer.pause(self.options.retry_pause).await?;
            }
            match self.look_at(segment, &stretch).await {
                Err(Trouble::Stopped(halt)) => return Err(halt),
                // A dead blob's hash is nobody's business.
                Ok(()) | Err(Trouble::Fault(Fault::Hash)) => return Ok(()),
                Err(Trouble::Busy | Trouble::Moved | Trouble::Interrupted) => return Ok(()),
                Err(Trouble::Fault(Fault::Unreadable(_))) if attempt <= RETRIES => is_refused = true,
                Err(Trouble::Fault(fault)) if let Some(id) = listed => {
                    let (segment, offset) = (segment.id, stretch.range.start);
                    tracing::warn!(%id, %segment, offset, %fault, "a part of a blob under quarantine is damaged");
                    return Ok(());
                }
                Err(Trouble::Fault(fault)) => {
                    let what = match stretch.meaning {
                        Meaning::Header => "its header",
                        Meaning::Record(_) => "a record that is not in use",
                        Meaning::Blank => "what should be zero",
                    };
                    self.found(segment, stretch.range.start, what, &fault);
                    return Ok(());
                }
            }
        }
        unreachable!("the attempts are counted")
    }

    /// Looks at the header of a segment that is written to: the next start needs it.
    pub(super) async fn check_active(&self, segment: &Arc<Segment<I::File>>) -> Result<(), Halt> {
        let stretch = Stretch { range: 0..DATA_START, meaning: Meaning::Header };
        match self.look_at(segment, &stretch).await {
            Err(Trouble::Stopped(halt)) => Err(halt),
            Err(Trouble::Fault(_)) => self.confirm(segment, stretch, None).await,
            _ => Ok(()),
        }
    }

    /// What a segment should hold: by its footer, or else by what a scan finds.
    async fn books(&self, segment: &Arc<Segment<I::File>>) -> Result<Books, Halt> {
        let size = segment.file_bytes.load(Ordering::Acquire);
        let io = self.shard.dir(segment.dir);
        let mut fault = None;
        if segment.state() == State::Sealed {
            for attempt in 0..=RETRIES {
                if attempt > 0 {
                    self.pacer.pause(self.options.retry_pause).await?;
                }
                match read_footer(io, segment, size).await {
                    Err(error) if taken_out(&error).is_some() => return Ok(Books::default()),
                    Ok(Some((trailer, entries))) => return Ok(Books::new(entries, &trailer, size)),
                    Ok(None) => fault = Some(Fault::Damaged("it fails its checksum")),
                    Err(error) => fault = Some(Fault::Unreadable(error.to_string())),
                }
            }
        }
        let entries = scan(io, segment, size).await.map(|scan| scan.records.into_iter().collect()).unwrap_or_default();
        Ok(Books { entries, blanks: Vec::new(), fault })
    }

    /// The blob that a record belongs to: its own, or that of which it is a piece; `None` when it
    /// is not in use.
    async fn tenant_of(&self, segment: &Arc<Segment<I::File>>, entry: &FooterEntry) -> Result<Option<BlobId>, Halt> {
        match entry.kind {
            Kind::Tombstone => return Ok(None),
            Kind::Blob => return Ok(self.live_at(segment, entry).await?.map(|_| entry.id)),
            Kind::Frame | Kind::ExtentPage => {}
            Kind::Part | Kind::Stub => unreachable!("a store that holds one is not opened"),
        }
        for some in segment.tenants().chunks(IDS_AT_ONCE) {
            for (id, found) in some.iter().zip(self.locate(some).await?) {
                let Some(location) = found.filter(has_extents) else { continue };
                match Content::new(&self.shard, &self.pacer, *id).pieces(&location).await {
                    Ok(pieces) => {
                        let is_here = |piece: &crate::log::extent::Extent| {
                            piece.segment == segment.id && piece.offset_units == entry.offset_units
                        };
                        if pieces.iter().any(is_here) {
                            return Ok(Some(*id));
                        }
                    }
                    Err(Trouble::Stopped(halt)) => return Err(halt),
                    // Its own list fails: a matter for itself.
                    Err(_) => self.shard.shared().background.suspect(*id),
                }
            }
        }
        Ok(None)
    }

    /// Where a blob is, if the index says that it is this record.
    async fn live_at(&self, segment: &Segment<I::File>, entry: &FooterEntry) -> Result<Option<Location>, Halt> {
        let found = self.locate(&[entry.id]).await?.pop().flatten();
        Ok(found.filter(|at| at.segment == segment.id && at.offset_units == entry.offset_units))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::footer::footer_bytes;
    use crate::log::header::SegmentHeader;
    use crate::types::{SegmentId, Sequence};

    fn entry(offset_units: u32, length_units: u32) -> FooterEntry {
        FooterEntry {
            kind: Kind::Blob,
            layout: Layout::Inline,
            offset_units,
            length_units,
            id: BlobId([1; 16]),
            sequence: Sequence(1),
            watermark: 0,
            version: 0,
        }
    }

    #[test]
    fn the_places_of_a_sealed_segment_leave_no_byte_out() {
        let entries = Entries::from_iter([entry(128, 3), entry(131, 61), entry(256, 2)]);
        let data_end = bytes(258).next_multiple_of(BLOCK_SIZE as u64);
        let size = data_end + footer_bytes(entries.len());
        let header = SegmentHeader { segment: SegmentId(1), size: 1 << 20, store: [3; 16], nonce: 2, created_at_ns: 4 };
        let entries_offset = data_end;
        let trailer = Trailer { header, entries_offset, count: entries.len() as u32, entries_crc: 0, data_end };
        let (entries_offset, trailer_at) = (trailer.entries_offset, size - BLOCK_SIZE as u64);
        let entries_end = entries_offset + 3 * ENTRY_SIZE as u64;
        let books = Books::new(entries, &trailer, size);
        let mut seen = vec![0; size as usize];
        for stretch in stretches(&books) {
            stretch.range.for_each(|at| seen[at as usize] += 1);
        }
        // The entries and the trailer were read with the footer.
        seen[entries_offset as usize..entries_end as usize].iter_mut().for_each(|count| *count += 1);
        seen[trailer_at as usize..trailer_at as usize + TRAILER_SIZE].iter_mut().for_each(|count| *count += 1);
        assert!(seen.iter().all(|count| *count == 1));
    }
}
