//! Little-endian integers at fixed offsets, the two checksums, and what means nothing.

use crc_fast::{CrcAlgorithm, Digest};

use crate::io::BLOCK_SIZE;

pub fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub fn get_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

pub fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// CRC32C (Castagnoli; RFC 3720, appendix B.4).
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// CRC32C over a nonce and then the bytes. The nonce of a segment makes a record head unguessable,
/// so that a payload can't pass for a record when recovery looks for one behind a hole.
pub fn crc32c_keyed(nonce: u64, parts: &[&[u8]]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(&nonce.to_le_bytes());
    for part in parts {
        crc.update(part);
    }
    crc.finish()
}

/// CRC32C of bytes that come in pieces.
pub struct Crc32c(Digest);

impl Crc32c {
    pub fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> u32 {
        self.0.finalize() as u32
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether bytes are all zero. Block by block without a branch for each byte: the scrub and a
/// start look at every byte that means nothing.
pub fn is_blank(bytes: &[u8]) -> bool {
    bytes.chunks(BLOCK_SIZE).all(|block| block.iter().fold(0, |any, byte| any | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_anywhere_is_not_blank() {
        let mut bytes = vec![0; 2 * BLOCK_SIZE + 100];
        assert!(is_blank(&bytes) && is_blank(&[]));
        for at in [0, 1, BLOCK_SIZE - 1, BLOCK_SIZE, 2 * BLOCK_SIZE, 2 * BLOCK_SIZE + 99] {
            bytes[at] = 0x10;
            assert!(!is_blank(&bytes), "{at}");
            bytes[at] = 0;
        }
    }

    #[test]
    fn crc32c_matches_the_published_vectors() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn the_keyed_checksum_is_the_plain_one_over_nonce_and_parts() {
        let mut whole = 0x0102_0304_0506_0708u64.to_le_bytes().to_vec();
        whole.extend(b"hello world");
        assert_eq!(crc32c_keyed(0x0102_0304_0506_0708, &[b"hello ", b"world"]), crc32c(&whole));
    }
}
