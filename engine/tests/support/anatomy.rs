//! The bytes of a store on a simulated disk by what they mean, so that a test can damage each kind
//! on purpose.

use std::path::{Path, PathBuf};

use nabu_engine::io::BLOCK_SIZE;
use nabu_engine::log::bytes;
use nabu_engine::log::codec::crc32c;
use nabu_engine::log::footer::{ENTRY_SIZE, FooterEntry, TRAILER_SIZE, Trailer};
use nabu_engine::log::header::{DATA_START, HEADER_SIZE, SegmentHeader};
use nabu_engine::log::record::{Kind, decode_head};
use nabu_engine::sim::Sim;
use nabu_engine::types::{BlobId, SegmentId};

use super::machine;

/// What a byte is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    SegmentHeader,
    /// Behind a segment's header, in the same block.
    HeaderPadding,
    Head(Kind),
    Payload(Kind),
    /// Between head and payload, or behind the payload.
    RecordPadding(Kind),
    /// Between a batch and the next block.
    BatchPadding,
    FooterEntry,
    FooterPadding,
    Trailer,
    TrailerPadding,
    Checkpoint,
    Superblock,
    ScrubFile,
}

/// A range of bytes of one meaning.
#[derive(Clone, Debug)]
pub struct Part {
    pub path: PathBuf,
    pub range: std::ops::Range<u64>,
    pub meaning: Meaning,
    /// The record that it belongs to.
    pub record: Option<(SegmentId, FooterEntry)>,
}

impl Part {
    /// The blob or tombstone that it belongs to.
    pub fn id(&self) -> Option<BlobId> {
        let (_, entry) = self.record.as_ref()?;
        matches!(entry.kind, Kind::Blob | Kind::Tombstone).then_some(entry.id)
    }
}

/// Everything in the data directories that has a meaning, active segments aside.
pub fn parts(sim: &Sim) -> Vec<Part> {
    let mut parts = Vec::new();
    for path in machine::segment_files(sim) {
        segment_parts(&path, &sim.read_file(&path).expect("just listed"), &mut parts);
    }
    for path in sim.files() {
        let meaning = match path.file_name().and_then(|name| name.to_str()) {
            Some("checkpoint") => Meaning::Checkpoint,
            Some("store") => Meaning::Superblock,
            Some("scrub") => Meaning::ScrubFile,
            _ => continue,
        };
        let size = sim.read_file(&path).expect("just listed").len() as u64;
        parts.push(Part { path, range: 0..size, meaning, record: None });
    }
    parts
}

/// What the footer of a sealed segment lists.
pub fn footer_entries(trailer: &Trailer, content: &[u8]) -> Vec<FooterEntry> {
    let encoded = &content[trailer.entries_offset as usize..][..trailer.count as usize * ENTRY_SIZE];
    assert_eq!(crc32c(encoded), trailer.entries_crc, "a valid footer");
    encoded.chunks_exact(ENTRY_SIZE).map(|entry| FooterEntry::decode(entry).expect("an entry")).collect()
}

fn segment_parts(path: &Path, content: &[u8], parts: &mut Vec<Part>) {
    let Some(header) = SegmentHeader::decode(content) else { return };
    let size = content.len() as u64;
    let trailer_at = content.len() - BLOCK_SIZE;
    let Some(trailer) = Trailer::decode(&content[trailer_at..], header.segment, header.nonce, size) else { return };
    let entries_at = trailer.entries_offset as usize;
    let entries = footer_entries(&trailer, content);
    let mut push = |range: std::ops::Range<u64>, meaning, record: Option<FooterEntry>| {
        if !range.is_empty() {
            let record = record.map(|entry| (header.segment, entry));
            parts.push(Part { path: path.into(), range, meaning, record });
        }
    };
    for copy in (0..DATA_START).step_by(BLOCK_SIZE) {
        push(copy..copy + HEADER_SIZE as u64, Meaning::SegmentHeader, None);
        push(copy + HEADER_SIZE as u64..copy + BLOCK_SIZE as u64, Meaning::HeaderPadding, None);
    }
    let mut at = DATA_START;
    for entry in &entries {
        let start = bytes(entry.offset_units);
        let end = start + bytes(entry.length_units);
        push(at..start, Meaning::BatchPadding, None);
        let input = &content[start as usize..end as usize];
        let decoded = decode_head(input, header.segment, entry.offset_units, header.nonce).expect("a sound record");
        let head_end = start + decoded.shape.head_length as u64;
        let payload_at = start + decoded.shape.payload_offset as u64;
        let payload_end = payload_at + decoded.shape.payload_length as u64;
        push(start..head_end, Meaning::Head(entry.kind), Some(*entry));
        push(head_end..payload_at, Meaning::RecordPadding(entry.kind), Some(*entry));
        push(payload_at..payload_end, Meaning::Payload(entry.kind), Some(*entry));
        push(payload_end..end, Meaning::RecordPadding(entry.kind), Some(*entry));
        at = end;
    }
    let entries_end = (entries_at + entries.len() * ENTRY_SIZE) as u64;
    push(at..trailer.entries_offset, Meaning::BatchPadding, None);
    push(trailer.entries_offset..entries_end, Meaning::FooterEntry, None);
    push(entries_end..trailer_at as u64, Meaning::FooterPadding, None);
    push(trailer_at as u64..(trailer_at + TRAILER_SIZE) as u64, Meaning::Trailer, None);
    push((trailer_at + TRAILER_SIZE) as u64..size, Meaning::TrailerPadding, None);
}
