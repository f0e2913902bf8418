//! The file `scrub` of the first data directory: how far the scrub is, and the quarantine.
//!
//! It is replaced as a whole. One that is missing or damaged costs a pass from the start, which
//! finds again what was on the list. Layout: `docs/format.md`, section "Scrub".

use std::io;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::io::{AlignedBuf, BLOCK_SIZE, Io, OpenMode};
use crate::log::codec::{crc32c, get_u32, get_u64, is_blank, put_u32, put_u64};
use crate::log::{FORMAT_VERSION, REREADS};
use crate::store::progress::Position;
use crate::store::quarantine::{Ailment, QUARANTINED_MAX, Quarantined, REASON_BYTES_MAX};
use crate::store::shared::Store;
use crate::types::{BlobId, SegmentId, Sequence};

pub(super) const FILE_NAME: &str = "scrub";
const TEMPORARY_NAME: &str = "scrub.new";
const MAGIC: &[u8; 8] = b"NABUSCR1";

const VERSION_AT: usize = 8;
const COUNT_AT: usize = VERSION_AT + 4;
const STORE_AT: usize = COUNT_AT + 4;
const BEGAN_AT: usize = STORE_AT + 16;
const SEGMENT_AT: usize = BEGAN_AT + 8;
const OFFSET_AT: usize = SEGMENT_AT + 4;
const COMPLETE_AT: usize = OFFSET_AT + 4;
const LAST_END_AT: usize = COMPLETE_AT + 8;
const ENTRIES_LENGTH_AT: usize = LAST_END_AT + 8;
const ENTRIES_CRC_AT: usize = ENTRIES_LENGTH_AT + 4;
const CRC_AT: usize = ENTRIES_CRC_AT + 4;
const ENTRIES_AT: usize = CRC_AT + 4;

/// Bytes of an entry without its reason.
const ENTRY_SIZE: usize = 36;
/// The most bytes of a file that is accepted.
const BYTES_MAX: usize = (ENTRIES_AT + QUARANTINED_MAX * (ENTRY_SIZE + REASON_BYTES_MAX)).next_multiple_of(BLOCK_SIZE);
const _: () = assert!(REASON_BYTES_MAX <= u16::MAX as usize);

/// What the file says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Saved {
    pub position: Position,
    /// By id.
    pub quarantined: Vec<Quarantined>,
}

impl Saved {
    fn encode(&self, store: [u8; 16]) -> AlignedBuf {
        let entries_length: usize = self.quarantined.iter().map(|entry| ENTRY_SIZE + entry.reason.len()).sum();
        let mut out = AlignedBuf::zeroed(ENTRIES_AT + entries_length);
        let mut at = ENTRIES_AT;
        for entry in &self.quarantined {
            let bytes = &mut out[at..at + ENTRY_SIZE + entry.reason.len()];
            bytes[..16].copy_from_slice(&entry.id.0);
            put_u64(bytes, 16, entry.sequence.0);
            put_u64(bytes, 24, entry.found_at_ns);
            bytes[32] = match entry.ailment {
                Ailment::Damaged => 1,
                Ailment::Unreadable => 2,
            };
            bytes[34..36].copy_from_slice(&(entry.reason.len() as u16).to_le_bytes());
            bytes[ENTRY_SIZE..].copy_from_slice(entry.reason.as_bytes());
            at += bytes.len();
        }
        out[..8].copy_from_slice(MAGIC);
        put_u32(&mut out, VERSION_AT, FORMAT_VERSION);
        put_u32(&mut out, COUNT_AT, self.quarantined.len() as u32);
        out[STORE_AT..STORE_AT + 16].copy_from_slice(&store);
        put_u64(&mut out, BEGAN_AT, self.position.began_ns);
        put_u32(&mut out, SEGMENT_AT, self.position.segment.0);
        put_u32(&mut out, OFFSET_AT, self.position.offset_units);
        out[COMPLETE_AT] = u8::from(self.position.is_complete);
        put_u64(&mut out, LAST_END_AT, self.position.last_end_ns);
        put_u32(&mut out, ENTRIES_LENGTH_AT, entries_length as u32);
        let crc = crc32c(&out[ENTRIES_AT..at]);
        put_u32(&mut out, ENTRIES_CRC_AT, crc);
        let crc = crc32c(&out[..CRC_AT]);
        put_u32(&mut out, CRC_AT, crc);
        out
    }

    fn decode(input: &[u8], store: [u8; 16]) -> Result<Self, &'static str> {
        if input.len() < BLOCK_SIZE || &input[..8] != MAGIC || crc32c(&input[..CRC_AT]) != get_u32(input, CRC_AT) {
            return Err("its checksum is wrong");
        }
        if get_u32(input, VERSION_AT) != FORMAT_VERSION || input[STORE_AT..STORE_AT + 16] != store {
            return Err("it is of another version, or of another store");
        }
        let length = get_u32(input, ENTRIES_LENGTH_AT) as usize;
        let (mut rest, blank) = input[ENTRIES_AT..].split_at_checked(length).ok_or("it ends too early")?;
        if crc32c(rest) != get_u32(input, ENTRIES_CRC_AT) || !is_blank(blank) {
            return Err("its checksum is wrong");
        }
        let mut quarantined = Vec::new();
        for _ in 0..get_u32(input, COUNT_AT) {
            quarantined.push(decode_entry(&mut rest).ok_or("an entry is not whole")?);
        }
        let position = Position {
            began_ns: get_u64(input, BEGAN_AT),
            segment: SegmentId(get_u32(input, SEGMENT_AT)),
            offset_units: get_u32(input, OFFSET_AT),
            is_complete: input[COMPLETE_AT] != 0,
            last_end_ns: get_u64(input, LAST_END_AT),
        };
        Ok(Self { position, quarantined })
    }
}

fn decode_entry(rest: &mut &[u8]) -> Option<Quarantined> {
    let (fixed, behind) = rest.split_at_checked(ENTRY_SIZE)?;
    let length = usize::from(u16::from_le_bytes([fixed[34], fixed[35]]));
    let (reason, behind) = behind.split_at_checked(length)?;
    *rest = behind;
    Some(Quarantined {
        id: BlobId(fixed[..16].try_into().expect("sixteen bytes")),
        sequence: Sequence(get_u64(fixed, 16)),
        found_at_ns: get_u64(fixed, 24),
        ailment: match fixed[32] {
            1 => Ailment::Damaged,
            2 => Ailment::Unreadable,
            _ => return None,
        },
        reason: String::from_utf8(reason.to_vec()).ok()?,
    })
}

/// Reads the file, again if it looks damaged: the quarantine is lost with it. `None` when there is
/// none.
pub(super) async fn read<I: Io>(io: &I, dir: &Path, store: [u8; 16]) -> Result<Option<Saved>, String> {
    let mut read = try_read(io, dir, store).await;
    for _ in 0..REREADS {
        if read.is_ok() {
            break;
        }
        read = try_read(io, dir, store).await;
    }
    read
}

async fn try_read<I: Io>(io: &I, dir: &Path, store: [u8; 16]) -> Result<Option<Saved>, String> {
    let file = match io.open(&dir.join(FILE_NAME), OpenMode::Read).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| error.to_string())?,
    };
    let size = io.file_size(&file).await.map_err(|error| error.to_string())?;
    if size == 0 || size > BYTES_MAX as u64 || !size.is_multiple_of(BLOCK_SIZE as u64) {
        return Err(format!("it has {size} bytes"));
    }
    let size = size as usize;
    let (result, buf) = io.read_at(&file, AlignedBuf::zeroed(size), 0..size, 0).await;
    let count = result.map_err(|error| error.to_string())?;
    Ok(Some(Saved::decode(&buf[..count], store)?))
}

/// Puts the file in the place of what is there, atomically and durably.
pub(super) async fn write<I: Io>(io: &I, dir: &Path, store: [u8; 16], saved: &Saved) -> io::Result<()> {
    let temporary = dir.join(TEMPORARY_NAME);
    match io.remove(&temporary).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = io.open(&temporary, OpenMode::Create).await?;
    let buf = saved.encode(store);
    let length = buf.capacity();
    let (result, _) = io.write_at(&file, buf, 0..length, 0).await;
    result?;
    io.sync(&file).await?;
    io.rename(&temporary, &dir.join(FILE_NAME)).await?;
    io.sync_dir(dir).await
}

/// Takes over what the last life left, before anything is served.
pub(in crate::store) async fn recover<I: Io>(io: &I, store: &Store<I::File>, identity: [u8; 16]) {
    let saved = match read(io, &store.0.options.dirs[0], identity).await {
        Ok(None) => return,
        Ok(Some(saved)) => saved,
        Err(why) => {
            tracing::warn!(why, "the file of the scrub can't be used: the scrub starts over");
            return;
        }
    };
    let background = &store.0.background;
    background.scrub.last_pass_end_ns.store(saved.position.last_end_ns, Ordering::Relaxed);
    *background.scrub_position.lock().unwrap_or_else(PoisonError::into_inner) = saved.position;
    if !saved.quarantined.is_empty() {
        tracing::warn!(count = saved.quarantined.len(), "blobs are under quarantine: store them again, or delete them");
    }
    for entry in saved.quarantined {
        background.quarantine.add(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> Saved {
        Saved {
            position: Position {
                began_ns: 7,
                segment: SegmentId(0x2a),
                offset_units: 64,
                is_complete: false,
                last_end_ns: 5,
            },
            quarantined: vec![Quarantined {
                id: BlobId([3; 16]),
                sequence: Sequence(9),
                found_at_ns: 11,
                ailment: Ailment::Unreadable,
                reason: "so".into(),
            }],
        }
    }

    #[test]
    fn the_bytes_of_the_file_are_the_documented_ones() {
        let bytes = saved().encode([7; 16]);
        assert_eq!(bytes.capacity(), BLOCK_SIZE);
        assert_eq!(
            crate::types::hex(&bytes[..120]),
            concat!(
                "4e41425553435231",
                "02000000",
                "01000000",
                "07070707070707070707070707070707",
                "0700000000000000",
                "2a000000",
                "40000000",
                "0000000000000000",
                "0500000000000000",
                "26000000",
                "ef8183fc",
                "ddb067d3",
                "03030303030303030303030303030303",
                "0900000000000000",
                "0b00000000000000",
                "02000200",
                "736f",
                "000000000000",
            )
        );
    }

    #[test]
    fn a_file_is_read_back_and_every_flipped_bit_is_found() {
        let mut bytes = saved().encode([7; 16]);
        assert_eq!(Saved::decode(&bytes, [7; 16]), Ok(saved()));
        assert!(Saved::decode(&bytes, [8; 16]).is_err());
        for bit in 0..BLOCK_SIZE * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Saved::decode(&bytes, [7; 16]).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
