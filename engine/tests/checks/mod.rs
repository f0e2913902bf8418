//! The properties of the decoders of the disk format that hold for every input. The fuzz target
//! `record` and the replay of its corpus in `corpus.rs` call them; each panics when a property does
//! not hold.
//!
//! The first byte of an input picks the decoder. Checksums would keep a fuzzer out, so each input
//! is also tried with its checksums put right.

use nabu_engine::io::BLOCK_SIZE;
use nabu_engine::log::codec::{crc32c, crc32c_keyed, get_u32, put_u32};
use nabu_engine::log::footer::{ENTRY_SIZE, FooterEntry, Trailer};
use nabu_engine::log::header::SegmentHeader;
use nabu_engine::log::record::{HEAD_LENGTH_MAX, Placement, decode_head, encode_head};
use nabu_engine::log::superblock::{FILE_BYTES, Superblock};
use nabu_engine::log::{CHECK_SIZE, FRAME_SIZE, extent};
use nabu_engine::types::SegmentId;

const SEGMENT: SegmentId = SegmentId(7);
const OFFSET_UNITS: u32 = 64;
/// The nonce under which inputs are decoded.
pub const NONCE: u64 = 0x0123_4567_89ab_cdef;

/// Decodes an input by whichever decoder its first byte picks.
pub fn check_record(input: &[u8]) {
    let Some((selector, bytes)) = input.split_first() else { return };
    match selector % 5 {
        0 => check_head(bytes),
        1 => check_trailer(bytes),
        2 => check_segment_header(bytes),
        3 => check_superblock(bytes),
        _ => check_extents(bytes),
    }
}

/// What is decoded is encoded to the same bytes, within all bounds.
fn check_head(bytes: &[u8]) {
    check_decoded_head(bytes);
    let mut sound = bytes.to_vec();
    if sound.len() >= 24 {
        let head_length = get_u32(&sound, 20) as usize;
        if (12..=HEAD_LENGTH_MAX.min(sound.len())).contains(&head_length) {
            put_u32(&mut sound, 8, 0);
            let crc = crc32c_keyed(NONCE, &[&sound[..head_length]]);
            put_u32(&mut sound, 8, crc);
            check_decoded_head(&sound);
        }
    }
}

fn check_decoded_head(bytes: &[u8]) {
    let Ok(decoded) = decode_head(bytes, SEGMENT, OFFSET_UNITS, NONCE) else { return };
    let shape = decoded.shape;
    assert!(shape.payload_length <= FRAME_SIZE && shape.payload_offset <= HEAD_LENGTH_MAX);
    assert!(shape.head_length <= shape.payload_offset);
    assert_eq!(decoded.checks.len(), shape.payload_length.div_ceil(CHECK_SIZE));
    assert_eq!(decoded.placement.segment, SEGMENT);
    assert!(decoded.end() > 0);
    let mut encoded = vec![0xee; HEAD_LENGTH_MAX];
    let placement = Placement { ..decoded.placement };
    encode_head(&mut encoded, &decoded.head, shape, placement, NONCE, decoded.checks.iter().copied());
    let again = decode_head(&encoded, SEGMENT, OFFSET_UNITS, NONCE).expect("what was encoded is decoded");
    assert_eq!(again, decoded);
}

fn check_trailer(bytes: &[u8]) {
    // The entries first, then the trailer's block.
    let entries_length = bytes.len().min(64 * ENTRY_SIZE) / ENTRY_SIZE * ENTRY_SIZE;
    let (entries, rest) = bytes.split_at(entries_length);
    let mut block = vec![0; BLOCK_SIZE];
    let count = rest.len().min(BLOCK_SIZE);
    block[..count].copy_from_slice(&rest[..count]);
    let file_size = 1 << 20;
    for repaired in [false, true] {
        if repaired {
            put_u32(&mut block, 36, crc32c(entries));
            let crc = crc32c(&block[..80]);
            put_u32(&mut block, 80, crc);
        }
        let Some(trailer) = Trailer::decode(&block, SEGMENT, NONCE, file_size) else { continue };
        assert!(trailer.data_end <= trailer.entries_offset && trailer.entries_offset < file_size);
        let mut again = vec![0xee; BLOCK_SIZE];
        trailer.encode(&mut again);
        assert_eq!(Trailer::decode(&again, SEGMENT, NONCE, file_size), Some(trailer));
    }
    for encoded in entries.chunks_exact(ENTRY_SIZE) {
        let Some(entry) = FooterEntry::decode(encoded) else { continue };
        let mut again = vec![0; ENTRY_SIZE];
        entry.encode(&mut again);
        assert_eq!(FooterEntry::decode(&again), Some(entry));
    }
}

fn check_segment_header(bytes: &[u8]) {
    let mut block = vec![0; BLOCK_SIZE];
    let count = bytes.len().min(BLOCK_SIZE);
    block[..count].copy_from_slice(&bytes[..count]);
    for repaired in [false, true] {
        if repaired {
            let crc = crc32c(&block[..56]);
            put_u32(&mut block, 56, crc);
        }
        let Some(header) = SegmentHeader::decode(&block) else { continue };
        let mut encoded = vec![0xee; BLOCK_SIZE];
        header.encode(&mut encoded);
        assert_eq!(SegmentHeader::decode(&encoded), Some(header));
    }
    // A short block is refused, whatever it holds.
    assert_eq!(SegmentHeader::decode(&block[..BLOCK_SIZE - 1]), None);
}

fn check_superblock(bytes: &[u8]) {
    let mut block = vec![0; BLOCK_SIZE];
    let count = bytes.len().min(BLOCK_SIZE);
    block[..count].copy_from_slice(&bytes[..count]);
    for repaired in [false, true] {
        if repaired {
            let at = 48 + 64 * 8;
            let crc = crc32c(&block[..at]);
            put_u32(&mut block, at, crc);
        }
        let Ok(superblock) = Superblock::decode(&block) else { continue };
        let mut encoded = vec![0xee; FILE_BYTES];
        superblock.encode_file(&mut encoded);
        assert_eq!(Superblock::decode_file(&encoded), Ok(superblock));
    }
}

fn check_extents(bytes: &[u8]) {
    let Some(extents) = extent::decode(bytes) else {
        assert!(!bytes.len().is_multiple_of(extent::EXTENT_SIZE));
        return;
    };
    let mut encoded = Vec::new();
    extent::encode(&extents, &mut encoded);
    assert_eq!(extent::decode(&encoded), Some(extents));
}
