//! The small nouns that every room shares: identities that must not be swapped for one another.

use std::fmt;
use std::str::FromStr;

/// The first 16 bytes of the SHA-256 of a blob's content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(pub [u8; 16]);

/// The whole SHA-256 of a blob's content.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentHash(pub [u8; 32]);

/// A core of this process: `0..cores`. Not the number of a CPU.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CoreId(pub u16);

/// A segment of the log, unique over all data directories of a store and never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct SegmentId(pub u32);

/// The order of the operations on one blob id. Assigned by the owner of the id; the highest wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Sequence(pub u64);

/// An id that is not 32 lowercase hexadecimal characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidBlobId;

impl BlobId {
    /// The id of a content with this hash.
    pub fn of(hash: &ContentHash) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&hash.0[..16]);
        Self(id)
    }

    /// The leading 64 bits, by which ids are spread over cores and buckets. Big-endian, so that
    /// the order of the prefixes is the order of the ids.
    pub fn prefix(&self) -> u64 {
        u64::from_be_bytes(self.0[..8].try_into().expect("8 of 16 bytes"))
    }

    /// The core that owns this id: owners are contiguous ranges of ids, in the order of the cores.
    pub fn owner(&self, cores: u16) -> CoreId {
        CoreId(((u128::from(self.prefix()) * u128::from(cores)) >> 64) as u16)
    }
}

impl ContentHash {
    /// The 64 lowercase hexadecimal characters of the hash.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }
}

/// Lowercase hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)] as char);
        out.push(DIGITS[usize::from(byte & 15)] as char);
    }
    out
}

/// The inverse of [`hex`]: exactly `2 * N` lowercase characters, else `None`.
pub fn unhex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    fn digit(character: u8) -> Option<u8> {
        match character {
            b'0'..=b'9' => Some(character - b'0'),
            b'a'..=b'f' => Some(character - b'a' + 10),
            _ => None,
        }
    }
    if text.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

impl FromStr for BlobId {
    type Err = InvalidBlobId;

    fn from_str(text: &str) -> Result<Self, InvalidBlobId> {
        unhex(text.as_bytes()).map(Self).ok_or(InvalidBlobId)
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.to_hex())
    }
}

impl fmt::Display for InvalidBlobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a blob ID is exactly 32 lowercase hex characters")
    }
}

impl std::error::Error for InvalidBlobId {}

impl fmt::Display for SegmentId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:08x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_and_unhex_are_inverse_and_strict() {
        let bytes = [0x00, 0x9f, 0xa0, 0xff];
        assert_eq!(hex(&bytes), "009fa0ff");
        assert_eq!(unhex::<4>(b"009fa0ff"), Some(bytes));
        assert_eq!(unhex::<4>(b"009FA0FF"), None);
        assert_eq!(unhex::<4>(b"009fa0f"), None);
        assert_eq!(unhex::<4>(b"009fa0fg"), None);
    }

    #[test]
    fn owners_are_contiguous_ranges_over_all_cores() {
        for cores in [1, 2, 3, 7, 64] {
            let mut last = CoreId(0);
            for step in 0..=1000u128 {
                let prefix = (step * u128::from(u64::MAX) / 1000) as u64;
                let mut id = [0; 16];
                id[..8].copy_from_slice(&prefix.to_be_bytes());
                let owner = BlobId(id).owner(cores);
                assert!(owner >= last && owner.0 < cores);
                last = owner;
            }
            assert_eq!(last.0, cores - 1);
        }
    }
}
