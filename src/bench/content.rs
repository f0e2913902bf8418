//! The contents of objects, made from a seed and a number so that no byte of them has to be kept.
//!
//! All objects of a seed share one tile of random bytes, repeated. Each block of 64 KiB starts with
//! a stamp of 16 bytes that follows from the number of the object and of the block: so no two
//! blocks are alike, an upload costs nothing but its stamps, and any part of an object can be
//! checked at the speed of a comparison. Objects below 8 bytes may come out alike: there are not
//! enough different ones.

use nabu_engine::io::AlignedBuf;
use nabu_engine::sha256::Sha256;
use nabu_engine::types::ContentHash;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Bytes of the tile, and of one send of an upload: the buffers of some connections fit a cache
/// together.
pub const TILE_SIZE: usize = 256 << 10;
const BLOCK_SIZE: usize = 64 << 10;
const STAMP_SIZE: usize = 16;

const _: () = assert!(TILE_SIZE.is_multiple_of(BLOCK_SIZE) && BLOCK_SIZE > STAMP_SIZE);

/// The finisher of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
/// generators", 2014): a bijection whose values look random.
pub fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The contents of one seed.
#[derive(Clone)]
pub struct Contents {
    key: u64,
    tile: std::sync::Arc<[u8]>,
}

impl Contents {
    pub fn new(seed: u64) -> Self {
        let mut tile = vec![0; TILE_SIZE];
        SmallRng::seed_from_u64(seed).fill_bytes(&mut tile);
        Self { key: mix(seed), tile: tile.into() }
    }

    fn stamp(&self, object: u64, block: u64) -> [u8; STAMP_SIZE] {
        let first = mix(object ^ self.key);
        let mut stamp = [0; STAMP_SIZE];
        stamp[..8].copy_from_slice(&first.to_le_bytes());
        stamp[8..].copy_from_slice(&mix(first ^ block).to_le_bytes());
        stamp
    }

    /// A buffer for [`Contents::fill`]: `TILE_SIZE` bytes.
    pub fn buffer(&self) -> AlignedBuf {
        let mut buffer = AlignedBuf::zeroed(TILE_SIZE);
        buffer.copy_from_slice(&self.tile);
        buffer
    }

    /// Makes the buffer the part of an object that starts at `offset`, a multiple of `TILE_SIZE`.
    /// The buffer is one of [`Contents::buffer`] of the same seed, so only its stamps are written.
    pub fn fill(&self, buffer: &mut [u8], object: u64, offset: u64) {
        assert!(offset.is_multiple_of(TILE_SIZE as u64) && buffer.len() == TILE_SIZE);
        let first_block = offset / BLOCK_SIZE as u64;
        for (block, bytes) in (first_block..).zip(buffer.chunks_exact_mut(BLOCK_SIZE)) {
            bytes[..STAMP_SIZE].copy_from_slice(&self.stamp(object, block));
        }
    }

    /// The offset within the object of the first byte that differs from the part that starts at
    /// `offset`.
    pub fn first_difference(&self, object: u64, offset: u64, bytes: &[u8]) -> Option<u64> {
        let mut at = 0;
        while at < bytes.len() {
            let position = offset + at as u64;
            let in_block = (position % BLOCK_SIZE as u64) as usize;
            let (expected_end, expected);
            let stamp;
            if in_block < STAMP_SIZE {
                stamp = self.stamp(object, position / BLOCK_SIZE as u64);
                expected_end = bytes.len().min(at + STAMP_SIZE - in_block);
                expected = &stamp[in_block..in_block + expected_end - at];
            } else {
                let in_tile = (position % TILE_SIZE as u64) as usize;
                expected_end = bytes.len().min(at + BLOCK_SIZE - in_block);
                expected = &self.tile[in_tile..in_tile + expected_end - at];
            }
            let found = &bytes[at..expected_end];
            if found != expected {
                let differs = found.iter().zip(expected).position(|(found, expected)| found != expected);
                return differs.map(|index| position + index as u64);
            }
            at = expected_end;
        }
        None
    }

    /// Starts the SHA-256 of an object.
    pub fn hashing(&self, object: u64, size: u64) -> Hashing {
        Hashing { contents: self.clone(), object, size, offset: 0, buffer: self.tile.to_vec(), hasher: Sha256::new() }
    }
}

/// A SHA-256 in steps, so that who shares a core with it gets a turn.
pub struct Hashing {
    contents: Contents,
    object: u64,
    size: u64,
    offset: u64,
    buffer: Vec<u8>,
    hasher: Sha256,
}

impl Hashing {
    /// Hashes the next `TILE_SIZE` bytes; the hash when those were the last.
    pub fn step(&mut self) -> Option<ContentHash> {
        let count = (self.size - self.offset).min(TILE_SIZE as u64) as usize;
        self.contents.fill(&mut self.buffer, self.object, self.offset);
        self.hasher.update(&self.buffer[..count]);
        self.offset += count as u64;
        (self.offset == self.size).then(|| ContentHash(std::mem::take(&mut self.hasher).finalize()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A whole object, made the way it is uploaded.
    fn object(contents: &Contents, number: u64, size: usize) -> Vec<u8> {
        let mut buffer = contents.buffer();
        let mut bytes = Vec::new();
        while bytes.len() < size {
            contents.fill(&mut buffer, number, bytes.len() as u64);
            bytes.extend_from_slice(&buffer[..TILE_SIZE.min(size - bytes.len())]);
        }
        bytes
    }

    const SIZE: usize = TILE_SIZE * 2 + BLOCK_SIZE + 777;

    #[test]
    fn every_part_of_an_object_checks_out() {
        let contents = Contents::new(1);
        let bytes = object(&contents, 5, SIZE);
        for start in [0, 1, 15, 16, 17, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 3, TILE_SIZE - 5, TILE_SIZE, SIZE - 1]
        {
            for length in [0, 1, 15, 16, 100, BLOCK_SIZE, BLOCK_SIZE + 20, TILE_SIZE + 1, SIZE] {
                let part = &bytes[start..SIZE.min(start + length)];
                assert_eq!(contents.first_difference(5, start as u64, part), None, "{start} {length}");
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_found_where_it_is() {
        let contents = Contents::new(1);
        let mut bytes = object(&contents, 5, SIZE);
        for at in [0, 7, 15, 16, 17, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 15, TILE_SIZE + 16, SIZE - 1] {
            bytes[at] ^= 1 << (at % 8);
            assert_eq!(contents.first_difference(5, 0, &bytes), Some(at as u64));
            assert_eq!(contents.first_difference(5, at as u64, &bytes[at..]), Some(at as u64));
            assert_eq!(contents.first_difference(5, 0, &bytes[..at]), None);
            bytes[at] ^= 1 << (at % 8);
        }
    }

    #[test]
    fn objects_seeds_and_shifted_parts_differ() {
        let contents = Contents::new(1);
        let bytes = object(&contents, 5, SIZE);
        assert_eq!(contents.first_difference(6, 0, &bytes), Some(0));
        assert_eq!(Contents::new(2).first_difference(5, 0, &bytes), Some(0));
        assert!(contents.first_difference(5, TILE_SIZE as u64, &bytes[..TILE_SIZE]).is_some(), "another tile");
        let blocks: std::collections::HashSet<&[u8]> = bytes.chunks(BLOCK_SIZE).collect();
        assert_eq!(blocks.len(), SIZE.div_ceil(BLOCK_SIZE), "no two blocks of an object are alike");
    }

    #[test]
    fn the_hash_is_that_of_the_bytes() {
        let contents = Contents::new(9);
        for size in [0, 1, 4096, TILE_SIZE - 1, TILE_SIZE, TILE_SIZE + 1, SIZE] {
            let mut hashing = contents.hashing(3, size as u64);
            let hash = std::iter::repeat_with(|| hashing.step()).take(10).flatten().next().expect("it ends");
            assert_eq!(hash.0, Sha256::digest(&object(&contents, 3, size)), "{size}");
        }
    }
}
