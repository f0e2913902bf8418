//! Reading what ends the file of a sealed segment. What it means is the business of
//! [`super::footer`].

use std::io;

use crate::io::{AlignedBuf, BLOCK_SIZE, Io};
use crate::log::REREADS;
use crate::log::footer::{FooterEntry, Trailer};
use crate::log::segment::Segment;

/// Reads the trailer of a file, whatever segment it says it is of; `None` when it has no valid one.
pub async fn read_trailer<I: Io>(io: &I, file: &I::File, file_size: u64) -> io::Result<Option<Trailer>> {
    let block_size = BLOCK_SIZE as u64;
    if file_size < 2 * block_size || !file_size.is_multiple_of(block_size) {
        return Ok(None);
    }
    let (result, block) = io.read_at(file, AlignedBuf::zeroed(BLOCK_SIZE), 0..BLOCK_SIZE, file_size - block_size).await;
    if result? < BLOCK_SIZE {
        return Ok(None);
    }
    Ok(Trailer::decode_any(&block, file_size))
}

/// Reads the footer of a segment; `None` when it has no valid one, however often it is read.
pub async fn read_footer<I: Io>(
    io: &I,
    segment: &Segment<I::File>,
    file_size: u64,
) -> io::Result<Option<(Trailer, Vec<FooterEntry>)>> {
    let mut outcome = Ok(None);
    for _ in 0..=REREADS {
        outcome = try_read_footer(io, segment, file_size).await;
        if matches!(outcome, Ok(Some(_))) {
            break;
        }
    }
    outcome
}

async fn try_read_footer<I: Io>(
    io: &I,
    segment: &Segment<I::File>,
    file_size: u64,
) -> io::Result<Option<(Trailer, Vec<FooterEntry>)>> {
    let is_ours = |trailer: &Trailer| trailer.header.segment == segment.id && trailer.header.nonce == segment.nonce;
    let Some(trailer) = read_trailer(io, &segment.file, file_size).await?.filter(is_ours) else { return Ok(None) };
    let length = trailer.entries_bytes();
    if length == 0 {
        return Ok(Some((trailer, Vec::new())));
    }
    let (result, buf) = io.read_at(&segment.file, AlignedBuf::zeroed(length), 0..length, trailer.entries_offset).await;
    if result? < length {
        return Ok(None);
    }
    Ok(trailer.decode_entries(&buf[..length]).map(|entries| (trailer, entries)))
}
