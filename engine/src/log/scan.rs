//! What a segment without a valid footer holds.
//!
//! The records are read one after the other, every checksum verified. Where one is missing or torn, at `X`, this table decides:
//!
//! | later record says "durable up to" | then `X` is | and the scan |
//! | --- | --- | --- |
//! | none exists, or at most `X` | a torn tail: nothing behind it was acknowledged | cuts the segment at `X` |
//! | more than `X` | damage to what was durable | reports it, keeps what is sound behind it |
//! | a block of the segment can't be read | not decidable | keeps everything sound, and the segment is not sealed |
//!
//! A record behind a hole is found by its magic at multiples of the record alignment. Its head checksum is keyed with the segment's nonce, which no
//! client knows, so content can't pose as a record.

use std::io;

use crate::io::{AlignedBuf, BLOCK_SIZE, Io};
use crate::log::footer::FooterEntry;
use crate::log::record::{Decoded, HEAD_LENGTH_MAX, Invalid, candidates, decode_head};
use crate::log::segment::{DATA_START, Segment};
use crate::log::{FRAME_SIZE, RECORD_ALIGN, bytes, units};
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
    /// Bytes that the disk refused to read.
    pub unreadable_bytes: u64,
}

/// A record, or a hole, in the order of the segment.
enum Found {
    Record { entry: FooterEntry, end: u64, durable_to: u64, payload_sound: bool },
    Hole { damage: Damage, blank: bool },
}

/// Reads a segment of `file_size` bytes from its first record on, and decides what counts.
pub async fn scan<I: Io>(io: &I, segment: &Segment<I::File>, file_size: u64) -> io::Result<Scan> {
    let mut window = Window::new(io, segment, file_size);
    let found = find_all(&mut window).await?;
    let durable_to = found
        .iter()
        .map(|found| match found {
            Found::Record { durable_to, .. } => *durable_to,
            Found::Hole { .. } => 0,
        })
        .max()
        .unwrap_or(0);
    let mut scan =
        Scan { data_end: DATA_START, durable_to, unreadable_bytes: window.unreadable_bytes, ..Scan::default() };
    for found in found {
        let torn_at = match &found {
            Found::Record { payload_sound: true, .. } => None,
            Found::Record { entry, .. } => Some(bytes(entry.offset_units)),
            Found::Hole { damage, .. } => Some(damage.offset),
        };
        let torn = !matches!(&found, Found::Hole { blank: true, .. });
        if let Some(offset) = torn_at {
            let durable = offset < durable_to && !cfg!(feature = "mutant-cut-in-the-middle");
            if !durable && scan.unreadable_bytes == 0 {
                scan.cut = Some(offset);
                scan.is_torn = torn;
                if torn {
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

/// Writes a part of a segment once more, as it is, and makes it durable.
///
/// What a scan finds behind the last durable record may be readable and yet not be on its way to the disk: after a sync that failed, the next one
/// reports success without doing anything for what the first gave up. Only a new write is covered by a new sync.
pub async fn rewrite<I: Io>(io: &I, segment: &Segment<I::File>, from: u64, to: u64) -> io::Result<()> {
    let mut at = from / BLOCK_SIZE as u64 * BLOCK_SIZE as u64;
    let to = to.next_multiple_of(BLOCK_SIZE as u64);
    let mut buf = AlignedBuf::zeroed((to - at).min(WINDOW_SIZE as u64) as usize);
    while at < to {
        let length = (to - at).min(WINDOW_SIZE as u64) as usize;
        let (result, back) = io.read_at(&segment.file, buf, 0..length, at).await;
        if result? < length {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the segment's file shrank while it was read"));
        }
        let (result, back) = io.write_at(&segment.file, back, 0..length, at).await;
        result?;
        buf = back;
        at += length as u64;
    }
    io.sync(&segment.file).await
}

/// Every record and every hole. The part behind the last record is a hole too.
async fn find_all<I: Io>(window: &mut Window<'_, I>) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut at = DATA_START;
    while at + (RECORD_ALIGN as u64) <= window.file_size {
        if let Some(decoded) = window.record_at(at).await? {
            let record = window.verified(decoded).await?;
            let Found::Record { end, .. } = record else { unreachable!("a record was verified") };
            found.push(record);
            at = end;
            continue;
        }
        // A batch ends with zeros up to the next block.
        let block_end = at.next_multiple_of(BLOCK_SIZE as u64);
        if block_end > at && window.zeros(at, block_end).await? {
            at = block_end;
            continue;
        }
        let next = window.next_record(at).await?;
        let end = next.unwrap_or(window.file_size);
        let blank = next.is_none() && window.zeros(at, at + BLOCK_SIZE as u64).await?;
        found.push(Found::Hole { damage: Damage { offset: at, length: end - at }, blank });
        at = end;
    }
    Ok(found)
}

/// A part of the file in memory.
struct Window<'s, I: Io> {
    io: &'s I,
    segment: &'s Segment<I::File>,
    file_size: u64,
    buf: Option<AlignedBuf>,
    start: u64,
    length: usize,
    unreadable_bytes: u64,
    /// Up to here unreadable bytes were counted.
    counted_to: u64,
}

impl<'s, I: Io> Window<'s, I> {
    fn new(io: &'s I, segment: &'s Segment<I::File>, file_size: u64) -> Self {
        Self { io, segment, file_size, buf: None, start: 0, length: 0, unreadable_bytes: 0, counted_to: 0 }
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
            AlignedBuf::zeroed(file.min(WINDOW_SIZE as u64) as usize)
        });
        let (result, mut buf) = self.io.read_at(&self.segment.file, buf, 0..length, self.start).await;
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

    /// Reads block by block; what can't be read counts as zeros.
    async fn fill_by_blocks(&mut self, mut buf: AlignedBuf, length: usize) -> (usize, AlignedBuf) {
        for block in (0..length).step_by(BLOCK_SIZE) {
            let range = block..block + BLOCK_SIZE;
            let offset = self.start + block as u64;
            let (result, back) = self.io.read_at(&self.segment.file, buf, range.clone(), offset).await;
            buf = back;
            if result.is_err() {
                buf[range].fill(0);
                if offset >= self.counted_to {
                    self.unreadable_bytes += BLOCK_SIZE as u64;
                    self.counted_to = offset + BLOCK_SIZE as u64;
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
        Ok(input[..length.min(input.len())].iter().all(|byte| *byte == 0))
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
