//! The header of a segment: what decides over all of it, and where it lies.
//!
//! Layout: `docs/format.md`, section "Segment".

use crate::io::BLOCK_SIZE;
use crate::log::codec::{crc32c, get_u32, get_u64, put_u32, put_u64};
use crate::log::{FORMAT_VERSION, SEGMENT_SIZE_MAX, SEGMENT_SIZE_MIN};
use crate::types::SegmentId;

const MAGIC: &[u8; 8] = b"NABUSEG2";
const MAGIC_AT: usize = 0;
const VERSION_AT: usize = MAGIC_AT + 8;
const SEGMENT_AT: usize = VERSION_AT + 4;
const SIZE_AT: usize = SEGMENT_AT + 4;
const STORE_AT: usize = SIZE_AT + 8;
const NONCE_AT: usize = STORE_AT + 16;
const CREATED_AT: usize = NONCE_AT + 8;
const CRC_AT: usize = CREATED_AT + 8;

/// Bytes of a header; the rest of its block is zero.
pub const HEADER_SIZE: usize = CRC_AT + 4;
/// How often a segment's header lies at its start, each in a block of its own.
pub const HEADER_COPIES: usize = 2;
/// Where the first record of a segment starts, in bytes.
pub const DATA_START: u64 = (HEADER_COPIES * BLOCK_SIZE) as u64;
/// What decides over a whole segment. It lies in each of the first [`HEADER_COPIES`] blocks, and
/// once more in the trailer of a sealed segment, so that no single block decides alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    pub segment: SegmentId,
    pub size: u64,
    pub store: [u8; 16],
    pub nonce: u64,
    pub created_at_ns: u64,
}

impl SegmentHeader {
    /// Encodes the header and its copies into the first [`DATA_START`] bytes of a segment.
    pub fn encode_copies(&self, out: &mut [u8]) {
        out[..DATA_START as usize].chunks_exact_mut(BLOCK_SIZE).for_each(|block| self.encode(block));
    }

    /// Encodes the header into one block.
    pub fn encode(&self, out: &mut [u8]) {
        out[..BLOCK_SIZE].fill(0);
        out[MAGIC_AT..MAGIC_AT + 8].copy_from_slice(MAGIC);
        put_u32(out, VERSION_AT, FORMAT_VERSION);
        put_u32(out, SEGMENT_AT, self.segment.0);
        put_u64(out, SIZE_AT, self.size);
        out[STORE_AT..STORE_AT + 16].copy_from_slice(&self.store);
        put_u64(out, NONCE_AT, self.nonce);
        put_u64(out, CREATED_AT, self.created_at_ns);
        let crc = crc32c(&out[..CRC_AT]);
        put_u32(out, CRC_AT, crc);
    }

    /// Decodes a header; `None` when it is not one of this format.
    pub fn decode(input: &[u8]) -> Option<Self> {
        let sound = input.len() >= BLOCK_SIZE
            && &input[..8] == MAGIC
            && crc32c(&input[..CRC_AT]) == get_u32(input, CRC_AT)
            && get_u32(input, VERSION_AT) == FORMAT_VERSION;
        if !sound {
            return None;
        }
        let size = get_u64(input, SIZE_AT);
        if !(SEGMENT_SIZE_MIN..=SEGMENT_SIZE_MAX).contains(&size) {
            return None;
        }
        let mut store = [0; 16];
        store.copy_from_slice(&input[STORE_AT..STORE_AT + 16]);
        Some(Self {
            segment: SegmentId(get_u32(input, SEGMENT_AT)),
            size,
            store,
            nonce: get_u64(input, NONCE_AT),
            created_at_ns: get_u64(input, CREATED_AT),
        })
    }

    /// Whether it is that of this segment of this store.
    pub fn is_of(&self, segment: SegmentId, store: &[u8; 16]) -> bool {
        self.segment == segment && self.store == *store
    }

    /// Whether it is that of the same segment, in the same life of its file.
    pub fn is_same_life(&self, other: &Self) -> bool {
        self.segment == other.segment && self.nonce == other.nonce
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader { segment: SegmentId(0x2a), size: 1 << 20, store: [7; 16], nonce: 9, created_at_ns: 11 }
    }

    #[test]
    fn the_bytes_of_a_header_are_the_documented_ones() {
        let mut block = vec![0xff; BLOCK_SIZE];
        header().encode(&mut block);
        assert_eq!(
            crate::types::hex(&block[..64]),
            concat!(
                "4e41425553454732",
                "02000000",
                "2a000000",
                "0000100000000000",
                "07070707070707070707070707070707",
                "0900000000000000",
                "0b00000000000000",
                "ef731be4",
                "00000000"
            )
        );
        assert_eq!(SegmentHeader::decode(&block), Some(header()));
        for bit in 0..CRC_AT * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&block), None, "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
