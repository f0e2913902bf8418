//! The index as of a moment, so that recovery need not read every footer.
//!
//! A checkpoint is a file of sections, each with a length and a checksum; the last says that it is
//! complete. One that is not complete and sound in all its parts is ignored: the footers say the
//! same.
//!
//! It is written while the store works, so it is exact in a roundabout way. First it names the
//! segments it *covers*: sealed, and with every outcome in the index. Then come slices of the
//! index, one range of ids after the other, each with the sequence that its owner had reached, and
//! the operations that were under way in that range. Recovery takes a record from a segment that is
//! not covered into account if its sequence is higher, or if it is one of those operations.
//! Everything else is in the slice already, or was deleted before.

use std::io;
use std::path::Path;

use crate::index::{Entry, Location};
use crate::io::{AlignedBuf, BLOCK_SIZE, Io, OpenMode};
use crate::log::FORMAT_VERSION;
use crate::log::codec::{crc32c, get_u32, get_u64, is_blank, put_u32, put_u64};
use crate::types::{BlobId, SegmentId, Sequence};

/// The name of the file in the first data directory.
pub const FILE_NAME: &str = "checkpoint";
const TEMPORARY_NAME: &str = "checkpoint.new";
const MAGIC: &[u8; 8] = b"NABUCKP1";

const SECTION_HEAD: u32 = 1;
const SECTION_SEGMENTS: u32 = 2;
const SECTION_SLICE: u32 = 3;
const SECTION_END: u32 = 4;

const SECTION_HEADER_SIZE: usize = 16;
const SEGMENT_ENTRY_SIZE: usize = 16;
const ENTRY_SIZE: usize = 36;
const OPERATION_SIZE: usize = 24;
const SLICE_HEADER_SIZE: usize = 48;

/// The most entries that a slice may be given.
pub const SLICE_ENTRIES_MAX: usize = 16 << 10;
/// The most bytes of a section that is believed.
const SECTION_BYTES_MAX: usize = 64 << 20;
/// Bytes written and read at a time.
const BUFFER_SIZE: usize = 256 << 10;
/// Segments in one section.
const SEGMENTS_PER_SECTION: usize = 4096;

/// A segment that recovery need not read: all its outcomes are in the slices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Covered {
    pub segment: SegmentId,
    pub nonce: u64,
}

/// One range of the ids of one owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slice {
    /// Inclusive.
    pub first: BlobId,
    /// Inclusive.
    pub last: BlobId,
    /// The highest sequence that the owner had given out.
    pub sequence: Sequence,
    /// Operations under way.
    pub operations: Vec<(BlobId, Sequence)>,
    /// Ascending.
    pub entries: Vec<Entry>,
}

impl Slice {
    /// The same range and operations, without any entry.
    pub fn clone_without_entries(&self) -> Self {
        Self { operations: self.operations.clone(), entries: Vec::new(), ..*self }
    }

    /// Whether the outcome of this operation is not in the slice, and must be replayed.
    pub fn must_replay(&self, id: &BlobId, sequence: Sequence) -> bool {
        sequence > self.sequence || self.operations.contains(&(*id, sequence))
    }
}

/// Removes the checkpoint, durably.
pub async fn remove<I: Io>(io: &I, dir: &Path) -> io::Result<()> {
    io.remove(&dir.join(FILE_NAME)).await?;
    io.sync_dir(dir).await
}

/// Writes a checkpoint, section by section, and puts it in the place of the old one at the end.
pub struct CheckpointWriter<'c, I: Io> {
    io: &'c I,
    dir: &'c Path,
    file: I::File,
    buf: Option<AlignedBuf>,
    filled: usize,
    offset: u64,
    slices: u64,
    entries: u64,
}

impl<'c, I: Io> CheckpointWriter<'c, I> {
    /// Starts a checkpoint in the first data directory.
    pub async fn start(io: &'c I, dir: &'c Path, store: [u8; 16], covered: &[Covered]) -> io::Result<Self> {
        let path = dir.join(TEMPORARY_NAME);
        match io.remove(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = io.open(&path, OpenMode::Create).await?;
        let buf = Some(AlignedBuf::zeroed(BUFFER_SIZE));
        let mut writer = Self { io, dir, file, buf, filled: 0, offset: 0, slices: 0, entries: 0 };
        let mut head = vec![0; 32];
        head[..8].copy_from_slice(MAGIC);
        put_u32(&mut head, 8, FORMAT_VERSION);
        head[16..32].copy_from_slice(&store);
        writer.section(SECTION_HEAD, &head).await?;
        for covered in covered.chunks(SEGMENTS_PER_SECTION) {
            let mut payload = vec![0; covered.len() * SEGMENT_ENTRY_SIZE];
            for (out, covered) in payload.chunks_exact_mut(SEGMENT_ENTRY_SIZE).zip(covered) {
                put_u32(out, 0, covered.segment.0);
                put_u64(out, 8, covered.nonce);
            }
            writer.section(SECTION_SEGMENTS, &payload).await?;
        }
        Ok(writer)
    }

    pub async fn slice(&mut self, slice: &Slice) -> io::Result<()> {
        let operations_bytes = slice.operations.len() * OPERATION_SIZE;
        let mut payload = vec![0; SLICE_HEADER_SIZE + operations_bytes + slice.entries.len() * ENTRY_SIZE];
        payload[..16].copy_from_slice(&slice.first.0);
        payload[16..32].copy_from_slice(&slice.last.0);
        put_u64(&mut payload, 32, slice.sequence.0);
        put_u32(&mut payload, 40, slice.operations.len() as u32);
        put_u32(&mut payload, 44, slice.entries.len() as u32);
        let (operations, entries) = payload[SLICE_HEADER_SIZE..].split_at_mut(operations_bytes);
        for (out, (id, sequence)) in operations.chunks_exact_mut(OPERATION_SIZE).zip(&slice.operations) {
            out[..16].copy_from_slice(&id.0);
            put_u64(out, 16, sequence.0);
        }
        for (out, entry) in entries.chunks_exact_mut(ENTRY_SIZE).zip(&slice.entries) {
            out[..16].copy_from_slice(&entry.id.0);
            put_u64(out, 16, entry.location.sequence.0);
            put_u32(out, 24, entry.location.segment.0);
            put_u32(out, 28, entry.location.offset_units);
            put_u32(out, 32, entry.location.length_units);
        }
        self.slices += 1;
        self.entries += slice.entries.len() as u64;
        self.section(SECTION_SLICE, &payload).await
    }

    /// Completes the checkpoint and makes it the one that counts. Returns its size in bytes.
    pub async fn finish(mut self) -> io::Result<u64> {
        let mut end = vec![0; 16];
        put_u64(&mut end, 0, self.slices);
        put_u64(&mut end, 8, self.entries);
        self.section(SECTION_END, &end).await?;
        self.flush().await?;
        self.io.sync(&self.file).await?;
        self.io.rename(&self.dir.join(TEMPORARY_NAME), &self.dir.join(FILE_NAME)).await?;
        self.io.sync_dir(self.dir).await?;
        Ok(self.offset)
    }

    async fn section(&mut self, kind: u32, payload: &[u8]) -> io::Result<()> {
        let mut header = [0; SECTION_HEADER_SIZE];
        put_u32(&mut header, 0, kind);
        put_u32(&mut header, 4, payload.len() as u32);
        put_u32(&mut header, 8, crc32c(payload));
        let crc = crc32c(&header[..12]);
        put_u32(&mut header, 12, crc);
        self.append(&header).await?;
        self.append(payload).await
    }

    async fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let buf = self.buf.as_mut().expect("not lent");
            let count = bytes.len().min(BUFFER_SIZE - self.filled);
            buf[self.filled..self.filled + count].copy_from_slice(&bytes[..count]);
            self.filled += count;
            bytes = &bytes[count..];
            if self.filled == BUFFER_SIZE {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Writes what is buffered, zero-padded to whole blocks. Only the last flush may hold less than
    /// the buffer.
    async fn flush(&mut self) -> io::Result<()> {
        let length = self.filled.next_multiple_of(BLOCK_SIZE);
        if length == 0 {
            return Ok(());
        }
        let mut buf = self.buf.take().expect("not lent");
        buf[self.filled..length].fill(0);
        let (result, buf) = self.io.write_at(&self.file, buf, 0..length, self.offset).await;
        self.buf = Some(buf);
        result?;
        self.offset += length as u64;
        self.filled = 0;
        Ok(())
    }
}

/// A checkpoint read back, slice by slice. Nothing of it may be believed before
/// [`CheckpointReader::next`] gave `End`.
pub struct CheckpointReader<'c, I: Io> {
    io: &'c I,
    file: I::File,
    buf: Option<AlignedBuf>,
    window: std::ops::Range<usize>,
    offset: u64,
    store: [u8; 16],
    slices: u64,
    entries: u64,
}

/// What a checkpoint holds next.
#[derive(Debug)]
pub enum Item {
    Covered(Vec<Covered>),
    Slice(Slice),
    /// It is complete and sound.
    End,
}

/// Why a checkpoint can't be used.
#[derive(Debug)]
pub enum Unusable {
    /// There is none.
    Missing,
    Damaged(&'static str),
    Io(io::Error),
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        Unusable::Io(error)
    }
}

impl<'c, I: Io> CheckpointReader<'c, I> {
    pub async fn open(io: &'c I, dir: &Path, store: [u8; 16]) -> Result<Self, Unusable> {
        let file = match io.open(&dir.join(FILE_NAME), OpenMode::Read).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unusable::Missing),
            opened => opened?,
        };
        let buf = Some(AlignedBuf::zeroed(BUFFER_SIZE));
        let mut reader = Self { io, file, buf, window: 0..0, offset: 0, store, slices: 0, entries: 0 };
        let (kind, head) = reader.section().await?;
        let sound = kind == SECTION_HEAD && head.len() == 32 && &head[..8] == MAGIC;
        if !sound || get_u32(&head, 8) != FORMAT_VERSION {
            return Err(Unusable::Damaged("it does not start like a checkpoint of this format"));
        }
        if head[16..32] != reader.store {
            return Err(Unusable::Damaged("it belongs to another store"));
        }
        Ok(reader)
    }

    pub async fn next(&mut self) -> Result<Item, Unusable> {
        let (kind, payload) = self.section().await?;
        match kind {
            SECTION_SEGMENTS => Ok(Item::Covered(
                payload
                    .chunks_exact(SEGMENT_ENTRY_SIZE)
                    .map(|entry| Covered { segment: SegmentId(get_u32(entry, 0)), nonce: get_u64(entry, 8) })
                    .collect(),
            )),
            SECTION_SLICE => {
                let slice = decode_slice(&payload).ok_or(Unusable::Damaged("a slice does not fit its section"))?;
                self.slices += 1;
                self.entries += slice.entries.len() as u64;
                Ok(Item::Slice(slice))
            }
            SECTION_END if payload.len() == 16 => {
                if (get_u64(&payload, 0), get_u64(&payload, 8)) != (self.slices, self.entries) {
                    return Err(Unusable::Damaged("slices are missing"));
                }
                Ok(Item::End)
            }
            _ => Err(Unusable::Damaged("a section of an unknown kind")),
        }
    }

    /// Whether nothing but zeros lies behind the end.
    pub async fn is_blank_behind(&mut self) -> io::Result<bool> {
        loop {
            let buf = self.buf.as_ref().expect("not lent");
            if !is_blank(&buf[self.window.clone()]) {
                return Ok(false);
            }
            if self.fill().await? == 0 {
                return Ok(true);
            }
        }
    }

    /// Reads on behind the window; 0 at the end of the file.
    async fn fill(&mut self) -> io::Result<usize> {
        let buf = self.buf.take().expect("not lent");
        let (result, buf) = self.io.read_at(&self.file, buf, 0..BUFFER_SIZE, self.offset).await;
        self.buf = Some(buf);
        let count = result?;
        self.offset += count as u64;
        self.window = 0..count;
        Ok(count)
    }

    async fn section(&mut self) -> Result<(u32, Vec<u8>), Unusable> {
        let header = self.take(SECTION_HEADER_SIZE).await?;
        if crc32c(&header[..12]) != get_u32(&header, 12) {
            return Err(Unusable::Damaged("the checksum of a section header is wrong"));
        }
        let length = get_u32(&header, 4) as usize;
        if length > SECTION_BYTES_MAX {
            return Err(Unusable::Damaged("a section is longer than any can be"));
        }
        let payload = self.take(length).await?;
        if crc32c(&payload) != get_u32(&header, 8) {
            return Err(Unusable::Damaged("the checksum of a section is wrong"));
        }
        Ok((get_u32(&header, 0), payload))
    }

    async fn take(&mut self, length: usize) -> Result<Vec<u8>, Unusable> {
        let mut out = Vec::with_capacity(length);
        while out.len() < length {
            if self.window.is_empty() && self.fill().await? == 0 {
                return Err(Unusable::Damaged("it ends too early"));
            }
            let count = self.window.len().min(length - out.len());
            let buf = self.buf.as_ref().expect("not lent");
            out.extend_from_slice(&buf[self.window.start..self.window.start + count]);
            self.window.start += count;
        }
        Ok(out)
    }
}

fn decode_slice(payload: &[u8]) -> Option<Slice> {
    fn id(bytes: &[u8]) -> BlobId {
        BlobId(bytes[..16].try_into().expect("sixteen bytes"))
    }
    let (header, rest) = payload.split_at_checked(SLICE_HEADER_SIZE)?;
    let operations_bytes = get_u32(header, 40) as usize * OPERATION_SIZE;
    let (operations, entries) = rest.split_at_checked(operations_bytes)?;
    if entries.len() != get_u32(header, 44) as usize * ENTRY_SIZE {
        return None;
    }
    Some(Slice {
        first: id(header),
        last: id(&header[16..]),
        sequence: Sequence(get_u64(header, 32)),
        operations: operations
            .chunks_exact(OPERATION_SIZE)
            .map(|bytes| (id(bytes), Sequence(get_u64(bytes, 16))))
            .collect(),
        entries: entries
            .chunks_exact(ENTRY_SIZE)
            .map(|bytes| Entry {
                id: id(bytes),
                location: Location {
                    segment: SegmentId(get_u32(bytes, 24)),
                    offset_units: get_u32(bytes, 28),
                    length_units: get_u32(bytes, 32),
                    sequence: Sequence(get_u64(bytes, 16)),
                },
            })
            .collect(),
    })
}
