//! A store looked at while nobody serves it: what its segments hold, and whether every byte is what
//! was written.
//!
//! Nothing is changed: the store is opened read-only, on one core.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::content::Pace;
use crate::io::Io;
use crate::log::entries::Entries;
use crate::log::header::DATA_START;
use crate::log::record::Kind;
use crate::log::scan::{Damage, Scan, scan};
use crate::log::sealed::read_footer;
use crate::log::segment::Segment;
use crate::sha256::Sha256;
use crate::store::{Limits, OpenError, Quarantined, Shard, Store, StoreError, StoreOptions};
use crate::types::{BlobId, ContentHash, CoreId, SegmentId};

/// Ids listed at a time.
const PAGE_SIZE: usize = 1024;
/// Bytes of memory for frames.
const MEMORY_BYTES: u64 = 64 << 20;

/// How a segment stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegmentCondition {
    /// Complete, with a valid footer.
    Sealed,
    /// Being written when the store stopped, or without a valid footer.
    Open,
    /// With damage that the last start found.
    Damaged,
}

/// What a segment holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentReport {
    pub segment: SegmentId,
    /// Index of the data directory.
    pub dir: usize,
    pub condition: SegmentCondition,
    pub file_bytes: u64,
    /// Bytes of all records.
    pub data_bytes: u64,
    /// Bytes of records that are in use.
    pub live_bytes: u64,
    pub blobs: u64,
    /// Pieces of large blobs.
    pub pieces: u64,
    pub tombstones: u64,
}

impl SegmentReport {
    /// Bytes that compaction would give back.
    pub fn dead_bytes(&self) -> u64 {
        self.data_bytes.saturating_sub(self.live_bytes)
    }
}

/// Something that is not as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// A part of a segment fails its checksum, or can't be read. Of a sealed segment the footer
    /// says what lies there, so that a blob in it is found to be damaged, too; of another nobody
    /// knows.
    Segment { segment: SegmentId, dir: usize, damage: Damage, is_sealed: bool },
    /// A segment can't be read at all.
    Unreadable { segment: SegmentId, dir: usize, reason: String },
    /// The footer of a segment lists other records than it holds.
    Footer { segment: SegmentId, dir: usize },
    /// A blob can't be read.
    Blob { id: BlobId, reason: String },
    /// The checksums of a blob hold, and yet its SHA-256 is another.
    Hash { id: BlobId, expected: ContentHash, actual: ContentHash },
}

/// What a check has done so far.
#[derive(Clone, Copy, Default, Debug)]
pub struct CheckProgress {
    pub segments: u64,
    pub segments_total: u64,
    pub blobs: u64,
    pub blobs_total: u64,
    /// Bytes of segments and blobs read.
    pub bytes: u64,
}

/// A store opened to be looked at.
pub struct Offline<I: Io> {
    shard: Shard<I>,
}

impl<I: Io> Offline<I> {
    /// Opens the store in these directories, read-only. One that is served at the same time changes
    /// underneath: lock it first.
    pub async fn open(io: I, dirs: Vec<PathBuf>) -> Result<Self, OpenError> {
        let store = Store::new(StoreOptions {
            dirs,
            cores: 1,
            memory_bytes: MEMORY_BYTES,
            segment_size: None,
            read_only: true,
            callers_files: &[],
            limits: Limits::default(),
        });
        let shard = store.open(CoreId(0), io).await?;
        Ok(Self { shard })
    }

    pub fn blob_count(&self) -> u64 {
        self.shard.0.index.borrow().len() as u64
    }

    /// The blobs that the scrub has put under quarantine and that are still there as it found them,
    /// by id.
    pub fn quarantine(&self) -> Vec<Quarantined> {
        let index = self.shard.0.index.borrow();
        let is_current = |entry: &Quarantined| index.get(&entry.id).is_some_and(|at| at.sequence == entry.sequence);
        self.shard.shared().background.quarantine.list().into_iter().filter(is_current).collect()
    }

    /// Every segment and what it holds.
    pub async fn segments(&self) -> Vec<SegmentReport> {
        self.shard.accounted().await;
        let mut reports = Vec::new();
        for segment in self.shard.shared().table.all() {
            reports.push(self.report(&segment).await);
        }
        reports
    }

    async fn report(&self, segment: &Arc<Segment<I::File>>) -> SegmentReport {
        let file_bytes = segment.file_bytes.load(Ordering::Acquire);
        let footer = read_footer(self.shard.dir(segment.dir), segment, file_bytes).await.ok().flatten();
        let (condition, entries, data_end) = match footer {
            Some((trailer, entries)) => (SegmentCondition::Sealed, entries, trailer.data_end),
            None => match scan(self.shard.dir(segment.dir), segment, file_bytes).await {
                Ok(scan) if scan.damage.is_empty() && scan.unreadable_bytes == 0 => {
                    (SegmentCondition::Open, scan.records.into_iter().collect(), scan.data_end)
                }
                Ok(scan) => (SegmentCondition::Damaged, scan.records.into_iter().collect(), scan.data_end),
                Err(_) => (SegmentCondition::Damaged, Entries::default(), DATA_START),
            },
        };
        let count = |kind| entries.iter().filter(|entry| entry.kind == kind).count() as u64;
        SegmentReport {
            segment: segment.id,
            dir: segment.dir,
            condition,
            file_bytes,
            data_bytes: data_end - DATA_START,
            live_bytes: segment.live_bytes.load(Ordering::Acquire).max(0) as u64,
            blobs: count(Kind::Blob),
            pieces: count(Kind::Frame) + count(Kind::ExtentPage),
            tombstones: count(Kind::Tombstone),
        }
    }

    /// Reads everything: every record of every segment against its checksums, and every blob
    /// against its SHA-256.
    pub async fn check(&self, mut progress: impl FnMut(CheckProgress)) -> Vec<Finding> {
        let segments = self.shard.shared().table.all();
        let mut done = CheckProgress {
            segments_total: segments.len() as u64,
            blobs_total: self.blob_count(),
            ..CheckProgress::default()
        };
        let mut findings = Vec::new();
        for segment in segments {
            self.check_segment(&segment, &mut findings).await;
            done.segments += 1;
            done.bytes += segment.file_bytes.load(Ordering::Acquire);
            progress(done);
        }
        let mut after = None;
        loop {
            let page = self.shard.list(after, PAGE_SIZE).await.expect("one core, and not closing");
            for id in &page.ids {
                match self.check_blob(*id).await {
                    Ok(bytes) => done.bytes += bytes,
                    Err(finding) => findings.push(finding),
                }
                done.blobs += 1;
                progress(done);
            }
            after = page.ids.last().copied();
            if !page.has_more {
                return findings;
            }
        }
    }

    async fn check_segment(&self, segment: &Arc<Segment<I::File>>, findings: &mut Vec<Finding>) {
        let (id, dir) = (segment.id, segment.dir);
        let unreadable = |error: std::io::Error| Finding::Unreadable { segment: id, dir, reason: error.to_string() };
        let file_bytes = segment.file_bytes.load(Ordering::Acquire);
        let io = self.shard.dir(segment.dir);
        let footer = match read_footer(io, segment, file_bytes).await {
            Ok(footer) => footer,
            Err(error) => {
                findings.push(unreadable(error));
                None
            }
        };
        // The footer itself would look like a hole behind the records.
        let end = footer.as_ref().map_or(file_bytes, |(trailer, _)| trailer.data_end);
        let Scan { records, damage, cut, unreadable_bytes, .. } = match scan(io, segment, end).await {
            Ok(scan) => scan,
            Err(error) => return findings.push(unreadable(error)),
        };
        let is_sealed = footer.is_some();
        findings.extend(damage.into_iter().map(|damage| Finding::Segment { segment: id, dir, damage, is_sealed }));
        if unreadable_bytes > 0 {
            findings.push(unreadable(std::io::Error::other(format!("{unreadable_bytes} bytes can't be read"))));
        }
        let Some((trailer, entries)) = footer else { return };
        match cut {
            // In a sealed segment everything was durable: nothing is a torn tail.
            Some(offset) => {
                let damage = Damage { offset, length: trailer.data_end - offset };
                findings.push(Finding::Segment { segment: id, dir, damage, is_sealed });
            }
            None if !entries.iter().eq(records) => findings.push(Finding::Footer { segment: id, dir }),
            None => {}
        }
    }

    async fn check_blob(&self, id: BlobId) -> Result<u64, Finding> {
        let failed = |error: StoreError| Finding::Blob { id, reason: error.to_string() };
        let blob = self.shard.open(id).await.map_err(failed)?;
        let blob = blob.ok_or_else(|| Finding::Blob { id, reason: "its segment is missing".into() })?;
        let (size, expected) = (blob.meta().size, blob.meta().hash);
        let mut reader = blob.reader(0..size);
        let mut hasher = Sha256::new();
        while let Some(chunk) = reader.next(Pace::Fast).await.map_err(failed)? {
            hasher.update(chunk.bytes());
        }
        let actual = ContentHash(hasher.finalize());
        if actual == expected && BlobId::of(&actual) == id {
            Ok(size)
        } else {
            Err(Finding::Hash { id, expected, actual })
        }
    }
}
