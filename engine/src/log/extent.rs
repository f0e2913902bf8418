//! Where the pieces of a large blob lie: 24 bytes each, in the payload of its record or of its
//! extent pages.

use crate::log::codec::{get_u32, get_u64, put_u32, put_u64};
use crate::types::SegmentId;

/// Bytes of one encoded extent.
pub const EXTENT_SIZE: usize = 24;
/// The most extents of one page.
pub const PAGE_EXTENTS_MAX: usize = 2048;

const _: () = assert!(EXTENT_SIZE * PAGE_EXTENTS_MAX <= crate::log::PACKED_PAYLOAD_MAX);

/// A frame, or an extent page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    pub segment: SegmentId,
    /// In units of [`crate::log::RECORD_ALIGN`].
    pub offset_units: u32,
    /// Bytes of the record's payload.
    pub payload_length: u32,
    /// Bytes of the blob's content that it stands for; of a frame the same as its payload.
    pub content_length: u64,
}

/// Appends the encoded extents to `out`.
pub fn encode(extents: &[Extent], out: &mut Vec<u8>) {
    for extent in extents {
        let mut bytes = [0; EXTENT_SIZE];
        put_u32(&mut bytes, 0, extent.segment.0);
        put_u32(&mut bytes, 4, extent.offset_units);
        put_u32(&mut bytes, 8, extent.payload_length);
        put_u64(&mut bytes, 16, extent.content_length);
        out.extend_from_slice(&bytes);
    }
}

/// Decodes extents that passed their checksum; `None` when they are not whole.
pub fn decode(bytes: &[u8]) -> Option<Vec<Extent>> {
    let chunks = bytes.chunks_exact(EXTENT_SIZE);
    if !chunks.remainder().is_empty() {
        return None;
    }
    Some(
        chunks
            .map(|chunk| Extent {
                segment: SegmentId(get_u32(chunk, 0)),
                offset_units: get_u32(chunk, 4),
                payload_length: get_u32(chunk, 8),
                content_length: get_u64(chunk, 16),
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_an_extent_are_the_documented_ones() {
        let extent =
            Extent { segment: SegmentId(1), offset_units: 2, payload_length: 3, content_length: 0x0102_0304_0506_0708 };
        let mut bytes = Vec::new();
        encode(&[extent], &mut bytes);
        assert_eq!(crate::types::hex(&bytes), "010000000200000003000000000000000807060504030201");
        assert_eq!(decode(&bytes), Some(vec![extent]));
        assert_eq!(decode(&bytes[1..]), None);
    }
}
