//! Little-endian integers at fixed offsets, and the checksum of the wire.

use crc_fast::{CrcAlgorithm, Digest};

pub(super) fn get_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

pub(super) fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn get_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

pub(super) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// CRC32C (Castagnoli; RFC 3720, appendix B.4).
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// The CRC32C of some bytes followed by `second_bytes` others, from the checksums of both. So what
/// was summed once, piece by piece, isn't read again to be sent.
pub fn crc32c_joined(first: u32, second: u32, second_bytes: u64) -> u32 {
    crc_fast::checksum_combine(CrcAlgorithm::Crc32Iscsi, u64::from(first), u64::from(second), second_bytes) as u32
}

/// CRC32C of bytes that come in pieces.
#[derive(Debug)]
pub struct Crc32c(Digest);

impl Crc32c {
    pub fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of what came so far.
    pub fn value(&self) -> u32 {
        self.0.finalize() as u32
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_matches_the_published_vectors() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn pieces_and_joined_checksums_are_the_checksum_of_the_whole() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1_000).collect();
        for cut in [0, 1, 7, 64, 512, 999, 1_000] {
            let (first, second) = bytes.split_at(cut);
            let mut pieces = Crc32c::new();
            pieces.update(first);
            pieces.update(second);
            assert_eq!(pieces.value(), crc32c(&bytes), "{cut}");
            assert_eq!(crc32c_joined(crc32c(first), crc32c(second), second.len() as u64), crc32c(&bytes), "{cut}");
        }
    }
}
