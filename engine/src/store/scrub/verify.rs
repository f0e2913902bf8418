//! Whether bytes are what was written there: pure checks over what was read.
//!
//! Every byte of a sealed segment has a meaning: what is neither head nor payload nor footer is
//! zero.

use super::fault::Fault;
use crate::io::BLOCK_SIZE;
use crate::log::codec::is_blank;
use crate::log::header::{HEADER_SIZE, SegmentHeader};
use crate::log::record::{Decoded, Kind, Layout, decode_head};
use crate::log::{bytes, units};
use crate::mutant::{Mutant, is_planted};
use crate::types::SegmentId;

/// The header of a segment in all its copies.
pub(super) fn headers(blocks: &[u8], segment: SegmentId, nonce: u64, store: &[u8; 16]) -> Result<(), Fault> {
    for block in blocks.chunks_exact(BLOCK_SIZE) {
        let header = SegmentHeader::decode(block).ok_or(Fault::Damaged("its header fails its checksum"))?;
        if !header.is_of(segment, store) || header.nonce != nonce {
            return Err(Fault::Damaged("its header is that of another segment"));
        }
        blank(&block[HEADER_SIZE..])?;
    }
    Ok(())
}

/// Bytes without a meaning.
pub(super) fn blank(bytes: &[u8]) -> Result<(), Fault> {
    if is_blank(bytes) { Ok(()) } else { Err(Fault::Padding) }
}

/// A record whose head and payload are sound.
pub(super) struct Sound {
    pub decoded: Decoded,
    /// Whether what is between and behind them is zero.
    pub is_padded: bool,
}

impl Sound {
    pub fn payload<'i>(&self, input: &'i [u8]) -> &'i [u8] {
        &input[self.decoded.shape.payload_offset..self.decoded.shape.payload_offset + self.decoded.shape.payload_length]
    }
}

/// A whole record: `input` is what the books say that it takes.
pub(super) fn record(input: &[u8], segment: SegmentId, offset_units: u32, nonce: u64) -> Result<Sound, Fault> {
    let decoded =
        decode_head(input, segment, offset_units, nonce).map_err(|_| Fault::Damaged("its head fails its checksum"))?;
    if bytes(decoded.length_units()) != input.len() as u64 || decoded.placement.offset_units != offset_units {
        return Err(Fault::Damaged("another record lies there"));
    }
    let shape = decoded.shape;
    let (head, end) = (shape.head_length, shape.payload_offset + shape.payload_length);
    if !is_planted(Mutant::ScrubTrustsFooter) && !decoded.verify(&input[shape.payload_offset..end], 0) {
        return Err(Fault::Damaged("its payload fails its checksum"));
    }
    if decoded.head.kind == Kind::Blob
        && decoded.head.layout == Layout::Inline
        && decoded.head.size != shape.payload_length as u64
    {
        return Err(Fault::Damaged("its sizes disagree"));
    }
    let is_padded = blank(&input[head..shape.payload_offset]).and(blank(&input[end..])).is_ok();
    debug_assert_eq!(units(input.len() as u64), decoded.length_units());
    Ok(Sound { decoded, is_padded })
}
