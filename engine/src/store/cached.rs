//! What the store keeps in the cache: heads of records, lists of extents, and payloads.
//!
//! All of it was verified before it came here. Keys name a record by its place and a part of it by
//! a number.

use std::ops::Range;
use std::sync::Arc;

use crate::cache::{self, Charge, Key};
use crate::index::Location;
use crate::io::SharedBuf;
use crate::log::extent::Extent;
use crate::log::record::Decoded;
use crate::log::{CHECK_SIZE, FRAME_SIZE};
use crate::store::meta::BlobMeta;
use crate::types::SegmentId;

/// Parts that are not spans of check blocks.
const PART_HEAD: u32 = u32::MAX;
const PART_EXTENTS: u32 = u32::MAX - 1;
const PART_PAYLOAD: u32 = u32::MAX - 2;
const BLOCKS_MAX: usize = FRAME_SIZE.div_ceil(CHECK_SIZE);
const _: () = assert!(BLOCKS_MAX * (BLOCKS_MAX + 1) < PART_PAYLOAD as usize);

/// The cache of a store.
pub(super) type Cache = cache::Cache<Cached>;

/// An entry of the cache.
#[derive(Clone)]
pub(super) enum Cached {
    Head(Arc<CachedHead>),
    Extents(Arc<CachedExtents>),
    Payload(Payload),
}

/// The head of a record, and a payload that came with it.
#[derive(Debug)]
pub(super) struct CachedHead {
    pub decoded: Decoded,
    /// Of a blob.
    pub meta: Option<BlobMeta>,
    /// Of a record that was read whole.
    pub payload: Option<Arc<[u8]>>,
    /// None: it is not in the cache.
    pub charge: Option<Charge>,
}

pub(super) struct CachedExtents {
    pub extents: Vec<Extent>,
    pub _charge: Option<Charge>,
}

/// Verified bytes of one record's payload, from `from` on: `buf[range]`.
#[derive(Clone, Debug)]
pub(super) struct Payload {
    pub buf: SharedBuf,
    pub range: Range<usize>,
    /// Where in the payload the first of them is.
    pub from: usize,
}

/// Where a record lies, by which the cache knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RecordPlace {
    pub segment: SegmentId,
    pub offset_units: u32,
}

impl RecordPlace {
    /// Of a record in the index.
    pub fn of(location: &Location) -> Self {
        Self { segment: location.segment, offset_units: location.offset_units }
    }

    fn part(self, part: u32) -> Key {
        Key { segment: self.segment, offset_units: self.offset_units, part }
    }

    pub fn head(self) -> Key {
        self.part(PART_HEAD)
    }

    pub fn extents(self) -> Key {
        self.part(PART_EXTENTS)
    }

    /// The whole payload.
    pub fn payload(self) -> Key {
        self.part(PART_PAYLOAD)
    }

    /// A part of the payload, on check boundaries.
    pub fn span(self, span: &Range<usize>) -> Key {
        let (first, end) = (span.start / CHECK_SIZE, span.end.div_ceil(CHECK_SIZE));
        self.part((first * (BLOCKS_MAX + 1) + end) as u32)
    }
}

impl Cached {
    pub fn into_head(self) -> Arc<CachedHead> {
        match self {
            Cached::Head(head) => head,
            _ => unreachable!("the key is that of a head"),
        }
    }

    pub fn into_extents(self) -> Arc<CachedExtents> {
        match self {
            Cached::Extents(extents) => extents,
            _ => unreachable!("the key is that of extents"),
        }
    }

    pub fn into_payload(self) -> Payload {
        match self {
            Cached::Payload(payload) => payload,
            _ => unreachable!("the key is that of a payload"),
        }
    }
}

/// What is known of a record holds for its new place too. (The numbers of the place within a head
/// are those of the first; nobody asks for them.)
pub(super) fn rekey(cache: &Cache, from: RecordPlace, to: RecordPlace) {
    for part in [PART_HEAD, PART_EXTENTS, PART_PAYLOAD] {
        cache.rekey(&from.part(part), to.part(part));
    }
}

/// What a head takes in memory.
pub(super) fn head_bytes(decoded: &Decoded, payload: usize) -> usize {
    let labels: usize = decoded.head.labels.iter().map(|(name, value)| name.len() + value.len() + 48).sum();
    // A payload of its own is counted by two references before its bytes.
    let payload = if payload > 0 { payload + 2 * size_of::<usize>() } else { 0 };
    // The labels are held twice, as read and as told.
    size_of::<CachedHead>() + 2 * labels + decoded.checks.len() * 4 + payload
}
