//! How the footer of a segment gets to the disk, and back. What it means is the business of
//! [`super::footer`].
//!
//! It is written and read by pieces ([`super::entries`]), so that a core's clients wait for one
//! piece at most. What is read is believed when the checksum over all pieces is right.

use std::io;
use std::sync::atomic::Ordering;

use crate::io::{AlignedBuf, BLOCK_SIZE, Io};
use crate::log::REREADS;
use crate::log::codec::Crc32c;
use crate::log::entries::{Entries, PIECE_BYTES};
use crate::log::footer::{ENTRY_SIZE, FooterEntry, Trailer, footer_bytes};
use crate::log::segment::Segment;
use crate::mutant::{Mutant, is_planted};
use crate::probe::{self, Event};

/// Writes the footer of a segment whose records are durable, cuts the file to what it holds, and
/// makes that durable. So nothing in a sealed segment is without a meaning, or unchecked.
pub async fn write_footer<I: Io>(
    io: &I,
    segment: &Segment<I::File>,
    file: &I::File,
    data_end: u64,
    entries: &Entries,
) -> io::Result<()> {
    let entries_offset = data_end.next_multiple_of(BLOCK_SIZE as u64);
    let size = entries_offset + footer_bytes(entries.len());
    let now = io.file_size(file).await?;
    let count = entries.len() as u32;
    let mut crc = Crc32c::new();
    let mut offset = entries_offset;
    // A copy: the list is needed where the write fails, and a disk that hangs keeps what it got.
    let mut buf = AlignedBuf::zeroed((entries.len() * ENTRY_SIZE).clamp(BLOCK_SIZE, PIECE_BYTES));
    for piece in entries.encoded() {
        crc.update(piece);
        let blocks = piece.len().next_multiple_of(BLOCK_SIZE);
        buf[..piece.len()].copy_from_slice(piece);
        buf[piece.len()..blocks].fill(0);
        let (result, back) = io.write_at(file, buf, 0..blocks, offset).await;
        result?;
        buf = back;
        offset += blocks as u64;
    }
    let trailer = Trailer { header: segment.header(), entries_offset, count, entries_crc: crc.finish(), data_end };
    trailer.encode(&mut buf);
    let (result, _) = io.write_at(file, buf, 0..BLOCK_SIZE, offset).await;
    result?;
    if size < now {
        probe::hit(Event::SegmentCutShort);
        io.truncate(file, size).await?;
    }
    io.sync(file).await?;
    segment.file_bytes.store(size, Ordering::Release);
    Ok(())
}

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
) -> io::Result<Option<(Trailer, Entries)>> {
    fold_footer(io, segment, file_size, |entries: &mut Entries, entry| entries.push(&entry)).await
}

/// Gathers something from all entries of the footer of a segment, in their order; `None` when it
/// has no valid one, however often it is read. What was gathered from an invalid one is dropped.
pub async fn fold_footer<I: Io, T: Default>(
    io: &I,
    segment: &Segment<I::File>,
    file_size: u64,
    mut gather: impl FnMut(&mut T, FooterEntry),
) -> io::Result<Option<(Trailer, T)>> {
    let mut outcome = Ok(None);
    for _ in 0..=REREADS {
        outcome = try_fold(io, segment, file_size, &mut gather).await;
        if matches!(outcome, Ok(Some(_))) {
            break;
        }
    }
    outcome
}

async fn try_fold<I: Io, T: Default>(
    io: &I,
    segment: &Segment<I::File>,
    file_size: u64,
    gather: &mut impl FnMut(&mut T, FooterEntry),
) -> io::Result<Option<(Trailer, T)>> {
    let is_ours = |trailer: &Trailer| trailer.header.is_same_life(&segment.header());
    let file = segment.file(io).await?;
    let Some(trailer) = read_trailer(io, &file, file_size).await?.filter(is_ours) else { return Ok(None) };
    let gathered = fold_entries(io, &file, &trailer, gather).await?;
    Ok(gathered.map(|gathered| (trailer, gathered)))
}

/// Gathers something from all entries that a trailer names; `None` when they are not as they were
/// written.
pub async fn fold_entries<I: Io, T: Default>(
    io: &I,
    file: &I::File,
    trailer: &Trailer,
    mut gather: impl FnMut(&mut T, FooterEntry),
) -> io::Result<Option<T>> {
    let mut gathered = T::default();
    let mut crc = Crc32c::new();
    let mut left = trailer.count as usize * ENTRY_SIZE;
    let mut offset = trailer.entries_offset;
    let mut buf = AlignedBuf::zeroed(trailer.entries_bytes().clamp(BLOCK_SIZE, PIECE_BYTES));
    while left > 0 {
        let length = left.min(PIECE_BYTES);
        let blocks = length.next_multiple_of(BLOCK_SIZE);
        let (result, back) = io.read_at(file, buf, 0..blocks, offset).await;
        if result? < blocks {
            return Ok(None);
        }
        buf = back;
        crc.update(&buf[..length]);
        for encoded in buf[..length].chunks_exact(ENTRY_SIZE) {
            let Some(entry) = FooterEntry::decode(encoded) else { return Ok(None) };
            gather(&mut gathered, entry);
        }
        left -= length;
        offset += blocks as u64;
    }
    let is_sound = crc.finish() == trailer.entries_crc || is_planted(Mutant::TrustFooter);
    Ok(is_sound.then_some(gathered))
}
