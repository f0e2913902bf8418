//! The footer of a sealed segment: an entry per record, so that recovery reads no heads.
//!
//! It ends the file: entries on a block boundary, then one block with the trailer. A footer is a
//! help and never an authority: when any of it is invalid, the segment is scanned. The trailer
//! repeats what the header says, for a segment whose header can't be read. How a footer gets to the
//! disk and back is the business of [`super::sealed`].

use crate::io::BLOCK_SIZE;
use crate::log::codec::{crc32c, get_u32, get_u64, put_u32, put_u64};
use crate::log::header::SegmentHeader;
use crate::log::record::{Decoded, Head, Kind, Layout};
use crate::log::{FORMAT_VERSION, SEGMENT_SIZE_MAX, SEGMENT_SIZE_MIN};
use crate::types::{BlobId, SegmentId, Sequence};

const MAGIC: &[u8; 8] = b"NABUFTR2";
const MAGIC_AT: usize = 0;
const VERSION_AT: usize = MAGIC_AT + 8;
const SEGMENT_AT: usize = VERSION_AT + 4;
const NONCE_AT: usize = SEGMENT_AT + 4;
const ENTRIES_AT: usize = NONCE_AT + 8;
const COUNT_AT: usize = ENTRIES_AT + 8;
const ENTRIES_CRC_AT: usize = COUNT_AT + 4;
const DATA_END_AT: usize = ENTRIES_CRC_AT + 4;
const SIZE_AT: usize = DATA_END_AT + 8;
const STORE_AT: usize = SIZE_AT + 8;
const CREATED_AT: usize = STORE_AT + 16;
const CRC_AT: usize = CREATED_AT + 8;

/// Bytes of a trailer; the rest of its block is zero.
pub const TRAILER_SIZE: usize = CRC_AT + 4;
/// Bytes of one encoded entry.
pub const ENTRY_SIZE: usize = 48;

/// What recovery must know of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FooterEntry {
    pub kind: Kind,
    pub layout: Layout,
    pub offset_units: u32,
    pub length_units: u32,
    pub id: BlobId,
    pub sequence: Sequence,
    /// Of a tombstone: see [`crate::log::record::Head::link`].
    pub watermark: u32,
    /// See [`crate::log::record::Register::version`]; 0 without a register.
    pub version: u64,
}

impl FooterEntry {
    /// The entry of a record with this head, at this place.
    pub fn new(head: &Head, offset_units: u32, length_units: u32) -> Self {
        Self {
            kind: head.kind,
            layout: head.layout,
            offset_units,
            length_units,
            id: head.id,
            sequence: head.sequence,
            watermark: head.link as u32,
            version: head.register.map_or(0, |register| register.version),
        }
    }

    /// The entry of a record that was read.
    pub fn of(record: &Decoded) -> Self {
        Self::new(&record.head, record.placement.offset_units, record.length_units())
    }

    pub fn encode(&self, out: &mut [u8]) {
        out[0] = self.kind.to_byte();
        out[1] = self.layout.to_byte();
        put_u32(out, 4, self.offset_units);
        put_u32(out, 8, self.length_units);
        put_u32(out, 12, self.watermark);
        put_u64(out, 16, self.sequence.0);
        out[24..40].copy_from_slice(&self.id.0);
        put_u64(out, 40, self.version);
    }

    /// `None`: no entry of this format.
    pub fn decode(input: &[u8]) -> Option<Self> {
        let mut id = [0; 16];
        id.copy_from_slice(&input[24..40]);
        Some(Self {
            kind: Kind::from_byte(input[0])?,
            layout: Layout::from_byte(input[1])?,
            offset_units: get_u32(input, 4),
            length_units: get_u32(input, 8),
            watermark: get_u32(input, 12),
            sequence: Sequence(get_u64(input, 16)),
            id: BlobId(id),
            version: get_u64(input, 40),
        })
    }
}

/// Bytes of the footer of a segment with this many records, trailer included.
pub const fn footer_bytes(entries: usize) -> u64 {
    ((entries * ENTRY_SIZE).next_multiple_of(BLOCK_SIZE) + BLOCK_SIZE) as u64
}

/// The last block of a sealed segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trailer {
    /// The same as at the start of the segment.
    pub header: SegmentHeader,
    /// Where the entries start, in bytes.
    pub entries_offset: u64,
    pub count: u32,
    pub entries_crc: u32,
    /// Where the records end, in bytes.
    pub data_end: u64,
}

impl Trailer {
    /// Decodes the last block of a file; `None` when it is no trailer of this segment's present
    /// life, or points outside the file.
    pub fn decode(block: &[u8], segment: SegmentId, nonce: u64, file_size: u64) -> Option<Self> {
        Self::decode_any(block, file_size)
            .filter(|trailer| trailer.header.segment == segment && trailer.header.nonce == nonce)
    }

    /// Decodes the last block of a file whatever segment it says it is of; `None` when it is no
    /// trailer, or points outside the file.
    pub fn decode_any(block: &[u8], file_size: u64) -> Option<Self> {
        let sound = block.len() >= BLOCK_SIZE
            && &block[..8] == MAGIC
            && crc32c(&block[..CRC_AT]) == get_u32(block, CRC_AT)
            && get_u32(block, VERSION_AT) == FORMAT_VERSION;
        if !sound {
            return None;
        }
        let mut store = [0; 16];
        store.copy_from_slice(&block[STORE_AT..STORE_AT + 16]);
        let trailer = Self {
            header: SegmentHeader {
                segment: SegmentId(get_u32(block, SEGMENT_AT)),
                size: get_u64(block, SIZE_AT),
                store,
                nonce: get_u64(block, NONCE_AT),
                created_at_ns: get_u64(block, CREATED_AT),
            },
            entries_offset: get_u64(block, ENTRIES_AT),
            count: get_u32(block, COUNT_AT),
            entries_crc: get_u32(block, ENTRIES_CRC_AT),
            data_end: get_u64(block, DATA_END_AT),
        };
        let fits = (SEGMENT_SIZE_MIN..=SEGMENT_SIZE_MAX).contains(&trailer.header.size)
            && u64::from(trailer.count) <= SEGMENT_SIZE_MAX / ENTRY_SIZE as u64
            && trailer.data_end <= trailer.entries_offset
            && trailer.entries_offset.is_multiple_of(BLOCK_SIZE as u64)
            && trailer.entries_offset.checked_add(footer_bytes(trailer.count as usize)) == Some(file_size);
        fits.then_some(trailer)
    }

    /// Bytes of the entries in whole blocks.
    pub fn entries_bytes(&self) -> usize {
        (self.count as usize * ENTRY_SIZE).next_multiple_of(BLOCK_SIZE)
    }

    /// Encodes the block that ends the file of a segment.
    pub fn encode(&self, block: &mut [u8]) {
        block[..BLOCK_SIZE].fill(0);
        block[MAGIC_AT..MAGIC_AT + 8].copy_from_slice(MAGIC);
        put_u32(block, VERSION_AT, FORMAT_VERSION);
        put_u32(block, SEGMENT_AT, self.header.segment.0);
        put_u64(block, NONCE_AT, self.header.nonce);
        put_u64(block, ENTRIES_AT, self.entries_offset);
        put_u32(block, COUNT_AT, self.count);
        put_u32(block, ENTRIES_CRC_AT, self.entries_crc);
        put_u64(block, DATA_END_AT, self.data_end);
        put_u64(block, SIZE_AT, self.header.size);
        block[STORE_AT..STORE_AT + 16].copy_from_slice(&self.header.store);
        put_u64(block, CREATED_AT, self.header.created_at_ns);
        let crc = crc32c(&block[..CRC_AT]);
        put_u32(block, CRC_AT, crc);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u32) -> FooterEntry {
        FooterEntry {
            kind: Kind::Blob,
            layout: Layout::Inline,
            offset_units: 64 + number,
            length_units: 1,
            id: BlobId([number as u8; 16]),
            sequence: Sequence(u64::from(number)),
            watermark: 0,
            version: 0,
        }
    }

    fn header() -> SegmentHeader {
        SegmentHeader { segment: SegmentId(5), size: 1 << 20, store: [7; 16], nonce: 77, created_at_ns: 11 }
    }

    #[test]
    fn the_bytes_of_an_entry_are_the_documented_ones() {
        let mut bytes = [0; ENTRY_SIZE];
        FooterEntry { watermark: 9, version: 6, ..entry(3) }.encode(&mut bytes);
        assert_eq!(
            crate::types::hex(&bytes),
            "010000004300000001000000090000000300000000000000030303030303030303030303030303030600000000000000"
        );
    }

    fn trailer() -> Trailer {
        let size = 1 << 20;
        let entries_offset = size - footer_bytes(1);
        Trailer { header: header(), entries_offset, count: 1, entries_crc: 0x124a_81d1, data_end: 8192 }
    }

    #[test]
    fn the_bytes_of_a_trailer_are_the_documented_ones() {
        let mut block = [9; BLOCK_SIZE];
        trailer().encode(&mut block);
        assert_eq!(
            crate::types::hex(&block[..88]),
            concat!(
                "4e41425546545232",
                "02000000",
                "05000000",
                "4d00000000000000",
                "00e00f0000000000",
                "01000000",
                "d1814a12",
                "0020000000000000",
                "0000100000000000",
                "07070707070707070707070707070707",
                "0b00000000000000",
                "0bae9694",
                "00000000"
            )
        );
    }

    #[test]
    fn a_trailer_is_read_back_and_every_flipped_bit_is_found() {
        let (file_size, mut block) = (1 << 20, [0; BLOCK_SIZE]);
        trailer().encode(&mut block);
        let read = |block: &[u8]| Trailer::decode(block, SegmentId(5), 77, file_size);
        assert_eq!(read(&block), Some(trailer()));
        assert_eq!(Trailer::decode_any(&block, file_size), Some(trailer()));
        assert_eq!(Trailer::decode(&block, SegmentId(6), 77, file_size), None);
        assert_eq!(Trailer::decode(&block, SegmentId(5), 78, file_size), None);
        assert_eq!(Trailer::decode(&block, SegmentId(5), 77, file_size + 4096), None);
        for bit in 0..(CRC_AT + 4) * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&block), None, "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn what_is_no_entry_is_not_decoded() {
        let mut bytes = [0; ENTRY_SIZE];
        entry(3).encode(&mut bytes);
        assert_eq!(FooterEntry::decode(&bytes), Some(entry(3)));
        bytes[0] = 0xee;
        assert_eq!(FooterEntry::decode(&bytes), None);
    }
}
