//! The identity of a data directory: which store it belongs to, and which directories belong
//! together.
//!
//! It is the file `store`, replaced as a whole, which holds the same block twice: one of them is
//! enough. A directory of an older or a newer format, of another store, or one that holds something
//! else is refused: guessing could lose what is there.

use crate::io::BLOCK_SIZE;
use crate::log::FORMAT_VERSION;
use crate::log::codec::{crc32c, get_u32, get_u64, put_u32, put_u64};

const MAGIC: &[u8; 8] = b"NABUSTOR";
const MAGIC_AT: usize = 0;
const VERSION_AT: usize = MAGIC_AT + 8;
const COUNT_AT: usize = VERSION_AT + 4;
const STORE_AT: usize = COUNT_AT + 4;
const OWN_AT: usize = STORE_AT + 16;
const CREATED_AT: usize = OWN_AT + 8;
const MEMBERS_AT: usize = CREATED_AT + 8;

/// The name of the file.
pub const FILE_NAME: &str = "store";
/// The most data directories of one store.
pub const DIRS_MAX: usize = 64;

const CRC_AT: usize = MEMBERS_AT + DIRS_MAX * 8;
/// Bytes of a block that mean something; the rest is zero.
pub const SUPERBLOCK_SIZE: usize = CRC_AT + 4;
/// How often the block lies in the file.
const COPIES: usize = 2;
/// Bytes of the file.
pub const FILE_BYTES: usize = COPIES * BLOCK_SIZE;
const _: () = assert!(SUPERBLOCK_SIZE <= BLOCK_SIZE);

/// What the file says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Superblock {
    pub store: [u8; 16],
    /// This directory's own number.
    pub own: u64,
    pub created_at_ns: u64,
    /// The numbers of all directories of the store, this one included.
    pub members: Vec<u64>,
}

/// Why a file is no superblock that this program can use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// It does not start like one.
    NotOurs,
    /// Every copy fails its checksum.
    Damaged,
    Older {
        version: u32,
    },
    Newer {
        version: u32,
    },
}

impl Superblock {
    /// Encodes the whole file, [`FILE_BYTES`] long.
    pub fn encode_file(&self, out: &mut [u8]) {
        out[..FILE_BYTES].chunks_exact_mut(BLOCK_SIZE).for_each(|block| self.encode(block));
    }

    /// Decodes a file by the first of its blocks that is sound.
    pub fn decode_file(input: &[u8]) -> Result<Self, Refused> {
        let mut refused = Refused::NotOurs;
        for block in input.chunks_exact(BLOCK_SIZE).take(COPIES) {
            match Self::decode(block) {
                Ok(superblock) => return Ok(superblock),
                // What says most is told.
                Err(error) if refused.weight() < error.weight() => refused = error,
                Err(_) => {}
            }
        }
        Err(refused)
    }

    /// One block.
    pub fn encode(&self, out: &mut [u8]) {
        assert!((1..=DIRS_MAX).contains(&self.members.len()), "{} members", self.members.len());
        out[..BLOCK_SIZE].fill(0);
        out[MAGIC_AT..MAGIC_AT + 8].copy_from_slice(MAGIC);
        put_u32(out, VERSION_AT, FORMAT_VERSION);
        put_u32(out, COUNT_AT, self.members.len() as u32);
        out[STORE_AT..STORE_AT + 16].copy_from_slice(&self.store);
        put_u64(out, OWN_AT, self.own);
        put_u64(out, CREATED_AT, self.created_at_ns);
        for (index, member) in self.members.iter().enumerate() {
            put_u64(out, MEMBERS_AT + index * 8, *member);
        }
        let crc = crc32c(&out[..CRC_AT]);
        put_u32(out, CRC_AT, crc);
    }

    pub fn decode(input: &[u8]) -> Result<Self, Refused> {
        if input.len() < BLOCK_SIZE || &input[..8] != MAGIC {
            return Err(Refused::NotOurs);
        }
        let version = get_u32(input, VERSION_AT);
        if version > FORMAT_VERSION {
            return Err(Refused::Newer { version });
        }
        if (1..FORMAT_VERSION).contains(&version) {
            return Err(Refused::Older { version });
        }
        let count = get_u32(input, COUNT_AT) as usize;
        let sound =
            crc32c(&input[..CRC_AT]) == get_u32(input, CRC_AT) && version > 0 && (1..=DIRS_MAX).contains(&count);
        if !sound {
            return Err(Refused::Damaged);
        }
        let mut store = [0; 16];
        store.copy_from_slice(&input[STORE_AT..STORE_AT + 16]);
        Ok(Self {
            store,
            own: get_u64(input, OWN_AT),
            created_at_ns: get_u64(input, CREATED_AT),
            members: (0..count).map(|index| get_u64(input, MEMBERS_AT + index * 8)).collect(),
        })
    }
}

impl Refused {
    fn weight(self) -> u8 {
        match self {
            Refused::NotOurs => 0,
            Refused::Damaged => 1,
            Refused::Older { .. } | Refused::Newer { .. } => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_superblock_is_read_back_and_a_newer_or_foreign_one_is_refused() {
        let superblock = Superblock { store: [3; 16], own: 5, created_at_ns: 9, members: vec![4, 5] };
        let mut block = vec![0; BLOCK_SIZE];
        superblock.encode(&mut block);
        assert_eq!(
            crate::types::hex(&block[..64]),
            "4e41425553544f52020000000200000003030303030303030303030303030303\
             0500000000000000090000000000000004000000000000000500000000000000"
        );
        assert_eq!(Superblock::decode(&block), Ok(superblock));
        block[20] ^= 1;
        assert_eq!(Superblock::decode(&block), Err(Refused::Damaged));
        put_u32(&mut block, VERSION_AT, 1);
        assert_eq!(Superblock::decode(&block), Err(Refused::Older { version: 1 }));
        put_u32(&mut block, VERSION_AT, FORMAT_VERSION + 1);
        assert_eq!(Superblock::decode(&block), Err(Refused::Newer { version: FORMAT_VERSION + 1 }));
        block[0] = b'X';
        assert_eq!(Superblock::decode(&block), Err(Refused::NotOurs));
    }
    #[test]
    fn one_sound_copy_is_enough() {
        let superblock = Superblock { store: [3; 16], own: 5, created_at_ns: 9, members: vec![4, 5] };
        let mut file = vec![0xee; FILE_BYTES];
        superblock.encode_file(&mut file);
        for damaged in [20, BLOCK_SIZE + 20] {
            let mut flipped = file.clone();
            flipped[damaged] ^= 1;
            assert_eq!(Superblock::decode_file(&flipped), Ok(superblock.clone()));
        }
        file[20] ^= 1;
        file[BLOCK_SIZE + 20] ^= 1;
        assert_eq!(Superblock::decode_file(&file), Err(Refused::Damaged));
        file[0] = b'X';
        assert_eq!(Superblock::decode_file(&file), Err(Refused::Damaged), "the second one is still ours");
        assert_eq!(Superblock::decode_file(&[]), Err(Refused::NotOurs));
    }
}
