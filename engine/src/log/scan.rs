//! What a segment without a valid footer holds.
//!
//! The records are read one after the other, every checksum verified. Where one is missing or torn,
//! at `X`, what later records say of "durable up to" decides:
//!
//! - There is none, or they say at most `X`: a torn tail, and nothing behind it was acknowledged.
//!   The scan cuts the segment at `X`.
//! - One says more than `X`: damage to what was durable. The scan reports it and keeps what is
//!   sound behind it.
//! - A block of the segment can't be read, and `X` does not begin with a block of zeros: not
//!   decidable. The scan keeps everything sound, and the segment is not sealed.
//!
//! A block of zeros where the next record would begin was never written, and nothing behind it was
//! acknowledged, whatever can't be read there: records are acknowledged in the order of the
//! segment.
//!
//! Nothing is concluded from one read: what is missing, torn or refused is read again first.
//!
//! A record behind a hole is found by its magic at multiples of the record alignment. Its head
//! checksum is keyed with the segment's nonce, which no client knows, so content can't pose as a
//! record.

use std::collections::BTreeSet;
use std::io;

use crate::io::{AlignedBuf, BLOCK_SIZE, Io};
use crate::log::codec::is_blank;
use crate::log::footer::FooterEntry;
use crate::log::header::DATA_START;
use crate::log::record::{Decoded, HEAD_LENGTH_MAX, Invalid, candidates, decode_head};
use crate::log::segment::Segment;
use crate::log::{FRAME_SIZE, RECORD_ALIGN, REREADS, bytes, units};
use crate::mutant::{Mutant, is_planted};
use crate::probe::{self, Event};

/// Bytes read at a time; a whole record fits.
const WINDOW_SIZE: usize = 4 << 20;
const _: () = assert!(FRAME_SIZE + HEAD_LENGTH_MAX + BLOCK_SIZE <= WINDOW_SIZE);

/// A part of a segment that should be sound and is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damage {
    /// In bytes from the start of the segment.
    pub offset: u64,
    pub length: u64,
}

/// What a scan found.
#[derive(Debug, Default)]
pub struct Scan {
    pub records: Vec<FooterEntry>,
    /// Where the records that count end, in bytes.
    pub data_end: u64,
    /// Up to here a record says that everything was durable.
    pub durable_to: u64,
    pub damage: Vec<Damage>,
    /// Where a torn tail was cut.
    pub cut: Option<u64>,
    /// There was more than zeros.
    pub is_torn: bool,
    /// Bytes that the disk refused to read, where something may lie that counts.
    pub unreadable_bytes: u64,
}

/// A record, or a hole, in the order of the segment.
enum Found {
    Record { entry: FooterEntry, end: u64, durable_to: u64, payload_sound: bool },
    Hole { damage: Damage, begins: Beginning },
}

/// What lies where a record should begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beginning {
    /// Zeros to the end of the file, as far as there are records to be found.
    Blank,
    /// A block of zeros, and records behind it.
    BlankBlock,
    Bytes,
}

/// Reads a segment of `file_size` bytes from its first record on, and decides what counts.
pub async fn scan<I: Io>(io: &I, segment: &Segment<I::File>, file_size: u64) -> io::Result<Scan> {
    let mut window = Window::new(io, segment, segment.file(io).await?, file_size);
    let found = find_all(&mut window).await?;
    let durable_to = found
        .iter()
        .map(|found| match found {
            Found::Record { durable_to, .. } => *durable_to,
            Found::Hole { .. } => 0,
        })
        .max()
        .unwrap_or(0);
    let unreadable = window.unreadable;
    let unreadable_bytes = |below: u64| unreadable.range(..below).count() as u64 * BLOCK_SIZE as u64;
    let mut scan =
        Scan { data_end: DATA_START, durable_to, unreadable_bytes: unreadable_bytes(file_size), ..Scan::default() };
    for found in found {
        let (torn_at, begins) = match &found {
            Found::Record { payload_sound: true, .. } => (None, Beginning::Bytes),
            Found::Record { entry, .. } => (Some(bytes(entry.offset_units)), Beginning::Bytes),
            Found::Hole { damage, begins } => (Some(damage.offset), *begins),
        };
        if let Some(offset) = torn_at {
            let durable = offset < durable_to && !is_planted(Mutant::CutInTheMiddle);
            let is_decidable = unreadable.is_empty() || begins != Beginning::Bytes;
            if !durable && is_decidable && !is_planted(Mutant::KeepTornTail) {
                scan.cut = Some(offset);
                scan.is_torn = begins != Beginning::Blank;
                scan.unreadable_bytes = unreadable_bytes(offset);
                if scan.is_torn {
                    probe::hit(Event::TornTailCut);
                }
                break;
            }
        }
        match found {
            Found::Record { entry, end, payload_sound, .. } => {
                if !payload_sound {
                    let offset = bytes(entry.offset_units);
                    scan.damage.push(Damage { offset, length: end - offset });
                }
                scan.data_end = end.next_multiple_of(BLOCK_SIZE as u64);
                scan.records.push(entry);
            }
            Found::Hole { damage, .. } if damage.offset < durable_to || scan.unreadable_bytes > 0 => {
                scan.damage.push(damage);
            }
            Found::Hole { .. } => {}
        }
    }
    Ok(scan)
}

/// Writes the records of a segment from an offset on once more, as they are, and makes them
/// durable.
///
/// What a scan finds behind the last durable record may be readable and yet not be on its way to
/// the disk: after a sync that failed, the next one reports success without doing anything for what
/// the first gave up. Only a new write is covered by a new sync. What is written was verified in
/// the very buffer that it is written from: a read that is wrong for once must not become what lies
/// there.
pub async fn rewrite<I: Io>(io: &I, segment: &Segment<I::File>, from: u64, records: &[FooterEntry]) -> io::Result<()> {
    let mut rest = &records[records.partition_point(|entry| bytes(entry.offset_units) < from)..];
    let mut buf = None;
    let file = &segment.file(io).await?;
    // Most often a few small records: clearing a whole window would be the dearest part of it.
    let room = rest.last().map_or(0, |last| {
        let end = bytes(last.offset_units) + bytes(last.length_units);
        let whole = (end - block_of(&rest[0])).next_multiple_of(BLOCK_SIZE as u64);
        whole.min(WINDOW_SIZE as u64) as usize
    });
    while !rest.is_empty() {
        let (records, start, length) = next_run(rest);
        rest = &rest[records.len()..];
        let mut sound = None;
        for attempt in 0..=REREADS {
            let taken = buf.take().unwrap_or_else(|| AlignedBuf::zeroed(room));
            let (result, mut back) = io.read_at(file, taken, 0..length, start).await;
            if result? == length && are_sound(segment, records, start, &mut back[..length]) {
                if attempt > 0 {
                    probe::hit(Event::RereadHelped);
                }
                sound = Some(back);
                break;
            }
            buf = Some(back);
        }
        let Some(sound) = sound else {
            return Err(io::Error::other("what was found in the segment can't be read once more"));
        };
        let (result, back) = io.write_at(file, sound, 0..length, start).await;
        result?;
        buf = Some(back);
    }
    io.sync(file).await
}

/// Where the block starts in which a record does. A batch starts a block; but damage may have taken
/// the first records of the first batch.
fn block_of(entry: &FooterEntry) -> u64 {
    let offset = bytes(entry.offset_units);
    offset - offset % BLOCK_SIZE as u64
}

/// The first of some records that fit into a window together, where the window starts, and its
/// length. The next ones start in a block of their own: a batch does, and is smaller than a window.
fn next_run(records: &[FooterEntry]) -> (&[FooterEntry], u64, usize) {
    let block = BLOCK_SIZE as u64;
    let end = |entry: &FooterEntry| (bytes(entry.offset_units) + bytes(entry.length_units)).next_multiple_of(block);
    let start = block_of(&records[0]);
    let mut count = records.partition_point(|entry| end(entry) - start <= WINDOW_SIZE as u64);
    while records.get(count).is_some_and(|next| !bytes(next.offset_units).is_multiple_of(block)) {
        count -= 1;
    }
    (&records[..count], start, (end(&records[count - 1]) - start) as usize)
}

/// Whether bytes of a segment from `start` on hold these records; clears what lies between them,
/// which means nothing, and leaves what lies before the first, which is damaged.
fn are_sound<F>(segment: &Segment<F>, records: &[FooterEntry], start: u64, bytes_read: &mut [u8]) -> bool {
    let mut at = (bytes(records[0].offset_units) - start) as usize;
    for entry in records {
        let begin = (bytes(entry.offset_units) - start) as usize;
        let end = begin + bytes(entry.length_units) as usize;
        let Some(record) = bytes_read.get_mut(begin..end) else { return false };
        let Ok(decoded) = decode_head(record, segment.id, entry.offset_units, segment.nonce) else { return false };
        let (from, to) = (decoded.shape.payload_offset, decoded.shape.payload_offset + decoded.shape.payload_length);
        if FooterEntry::of(&decoded) != *entry || !decoded.verify(&record[from..to], 0) {
            return false;
        }
        record[decoded.shape.head_length..from].fill(0);
        record[to..].fill(0);
        bytes_read[at..begin].fill(0);
        at = end;
    }
    bytes_read[at..].fill(0);
    true
}

/// Every record and every hole. The part behind the last record is a hole too.
async fn find_all<I: Io>(window: &mut Window<'_, I>) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut at = DATA_START;
    while at + (RECORD_ALIGN as u64) <= window.file_size {
        match find_next(window, at).await? {
            Next::Found(record, end) => {
                found.push(record);
                at = end;
            }
            Next::Padding(end) => at = end,
        }
    }
    Ok(found)
}

enum Next {
    /// A record or a hole, and where it ends.
    Found(Found, u64),
    /// A batch ends with zeros up to the next block.
    Padding(u64),
}

async fn find_next<I: Io>(window: &mut Window<'_, I>, at: u64) -> io::Result<Next> {
    let block_end = at.next_multiple_of(BLOCK_SIZE as u64);
    let mut unsound = None;
    let mut is_blank = true;
    for attempt in 0..=REREADS {
        if attempt > 0 {
            window.forget();
        }
        if let Some(decoded) = window.record_at(at).await? {
            let end = decoded.end();
            let record = window.verified(decoded).await?;
            if matches!(record, Found::Record { payload_sound: true, .. }) {
                if attempt > 0 {
                    probe::hit(Event::RereadHelped);
                }
                return Ok(Next::Found(record, end));
            }
            unsound = Some((record, end));
        } else if block_end > at && window.zeros(at, block_end).await? {
            return Ok(Next::Padding(block_end));
        }
        is_blank &= window.zeros(at, at + BLOCK_SIZE as u64).await? && !window.is_unreadable(at);
    }
    if let Some((record, end)) = unsound {
        return Ok(Next::Found(record, end));
    }
    let mut next = window.next_record(at).await?;
    if !is_blank {
        // A record that is overlooked could have vouched for this place.
        window.forget();
        next = match (next, window.next_record(at).await?) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    let end = next.unwrap_or(window.file_size);
    let begins = match is_blank {
        true if next.is_none() => Beginning::Blank,
        true => Beginning::BlankBlock,
        false => Beginning::Bytes,
    };
    Ok(Next::Found(Found::Hole { damage: Damage { offset: at, length: end - at }, begins }, end))
}

/// A part of the file in memory.
struct Window<'s, I: Io> {
    io: &'s I,
    segment: &'s Segment<I::File>,
    file: I::File,
    file_size: u64,
    buf: Option<AlignedBuf>,
    start: u64,
    length: usize,
    /// Blocks that the disk refuses to read, by their offsets.
    unreadable: BTreeSet<u64>,
}

impl<'s, I: Io> Window<'s, I> {
    fn new(io: &'s I, segment: &'s Segment<I::File>, file: I::File, file_size: u64) -> Self {
        Self { io, segment, file, file_size, buf: None, start: 0, length: 0, unreadable: BTreeSet::new() }
    }

    /// Has everything read again.
    fn forget(&mut self) {
        self.length = 0;
    }

    /// Whether a part of the block at an offset could not be read.
    fn is_unreadable(&self, at: u64) -> bool {
        let end = (at + BLOCK_SIZE as u64).next_multiple_of(BLOCK_SIZE as u64);
        self.unreadable.range(at / BLOCK_SIZE as u64 * BLOCK_SIZE as u64..end).next().is_some()
    }

    /// The bytes from `at`, at least `want` of them unless the file ends before.
    async fn bytes(&mut self, at: u64, want: usize) -> io::Result<&[u8]> {
        let end = (at + want as u64).min(self.file_size);
        if at < self.start || end > self.start + self.length as u64 || self.buf.is_none() {
            self.fill(at).await?;
        }
        let buf = self.buf.as_ref().expect("filled");
        Ok(&buf[(at - self.start) as usize..self.length])
    }

    async fn fill(&mut self, at: u64) -> io::Result<()> {
        self.start = at / BLOCK_SIZE as u64 * BLOCK_SIZE as u64;
        let rest = (self.file_size - self.start).next_multiple_of(BLOCK_SIZE as u64);
        let length = rest.min(WINDOW_SIZE as u64) as usize;
        let buf = self.buf.take().unwrap_or_else(|| {
            let file = self.file_size.next_multiple_of(BLOCK_SIZE as u64);
            // Nothing behind what was read is looked at.
            AlignedBuf::stale(file.min(WINDOW_SIZE as u64) as usize)
        });
        let (result, mut buf) = self.io.read_at(&self.file, buf, 0..length, self.start).await;
        self.length = match result {
            Ok(count) => count,
            Err(_) => {
                let (count, refilled) = self.fill_by_blocks(buf, length).await;
                buf = refilled;
                count
            }
        };
        self.length = self.length.min((self.file_size - self.start) as usize);
        self.buf = Some(buf);
        if self.length as u64 + self.start <= at {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the segment's file shrank while it was read"));
        }
        Ok(())
    }

    /// Reads block by block, those that fail more than once; what can't be read counts as zeros.
    async fn fill_by_blocks(&mut self, mut buf: AlignedBuf, length: usize) -> (usize, AlignedBuf) {
        for block in (0..length).step_by(BLOCK_SIZE) {
            let range = block..block + BLOCK_SIZE;
            let offset = self.start + block as u64;
            let mut is_read = false;
            buf[range.clone()].fill(0);
            for _ in 0..=REREADS {
                let (result, back) = self.io.read_at(&self.file, buf, range.clone(), offset).await;
                buf = back;
                is_read = result.is_ok();
                if is_read {
                    break;
                }
            }
            match is_read {
                true => _ = self.unreadable.remove(&offset),
                false => {
                    buf[range].fill(0);
                    self.unreadable.insert(offset);
                }
            }
        }
        (length, buf)
    }

    /// The sound head at `at`, if one is there and its record lies within the file.
    async fn record_at(&mut self, at: u64) -> io::Result<Option<Decoded>> {
        let (id, nonce, file_size) = (self.segment.id, self.segment.nonce, self.file_size);
        let input = self.bytes(at, HEAD_LENGTH_MAX).await?;
        match decode_head(input, id, units(at), nonce) {
            Ok(decoded) if decoded.end() <= file_size => Ok(Some(decoded)),
            Ok(_) => Ok(None),
            Err(Invalid::NoRecord | Invalid::Short | Invalid::Bounds | Invalid::Checksum | Invalid::Misplaced) => {
                Ok(None)
            }
        }
    }

    /// Verifies the payload of a record.
    async fn verified(&mut self, decoded: Decoded) -> io::Result<Found> {
        let at = bytes(decoded.placement.offset_units);
        let (payload_at, length) = (decoded.shape.payload_offset, decoded.shape.payload_length);
        let input = self.bytes(at, payload_at + length).await?;
        let payload_sound = match input.get(payload_at..payload_at + length) {
            Some(payload) => decoded.verify(payload, 0),
            None => false,
        };
        Ok(Found::Record {
            entry: FooterEntry::of(&decoded),
            end: decoded.end(),
            durable_to: bytes(decoded.placement.durable_to_units),
            payload_sound,
        })
    }

    async fn zeros(&mut self, from: u64, to: u64) -> io::Result<bool> {
        let length = (to.min(self.file_size) - from) as usize;
        let input = self.bytes(from, length).await?;
        Ok(is_blank(&input[..length.min(input.len())]))
    }

    /// Where the next sound record behind `at` starts.
    async fn next_record(&mut self, at: u64) -> io::Result<Option<u64>> {
        let mut from = (at + RECORD_ALIGN as u64) / RECORD_ALIGN as u64 * RECORD_ALIGN as u64;
        while from < self.file_size {
            let input = self.bytes(from, RECORD_ALIGN).await?;
            let length = input.len();
            let offsets: Vec<usize> = candidates(input).collect();
            for offset in offsets {
                if self.record_at(from + offset as u64).await?.is_some() {
                    return Ok(Some(from + offset as u64));
                }
            }
            from += length.next_multiple_of(RECORD_ALIGN) as u64;
        }
        Ok(None)
    }
}
