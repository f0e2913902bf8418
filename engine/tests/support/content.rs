//! The blobs of a seed: sizes around every boundary of the format, and content in which every eight
//! bytes tell where they belong.

use std::ops::Range;

use nabu_engine::sim::Random;
use nabu_engine::types::{BlobId, ContentHash};
use sha2::{Digest, Sha256};

/// Sizes at which the store changes its ways.
const BOUNDARIES: [usize; 6] = [4 << 10, 16 << 10, 64 << 10, 128 << 10, 256 << 10, 1 << 20];

/// One blob.
#[derive(Clone)]
pub struct Content {
    pub bytes: Vec<u8>,
    pub id: BlobId,
    pub hash: ContentHash,
}

impl Content {
    pub fn new(key: u64, size: usize) -> Self {
        let mut bytes = vec![0; size];
        let mut words = Random::new(key);
        words.fill(&mut bytes);
        let hash = ContentHash(Sha256::digest(&bytes).into());
        Self { id: BlobId::of(&hash), hash, bytes }
    }

    /// Whether `found` is what lies at `range`.
    pub fn matches(&self, range: Range<u64>, found: &[u8]) -> bool {
        &self.bytes[range.start as usize..range.end as usize] == found
    }
}

/// The contents of a scenario: mostly small, so that seeds are cheap; some around the boundaries;
/// seldom a few MiB.
pub fn pool(seed: u64, random: &mut Random) -> Vec<Content> {
    let count = 6 + random.index(16);
    let heavy = random.chance(0.1);
    let mut contents: Vec<Content> = (0..count)
        .map(|number| Content::new(seed.wrapping_mul(0x1_0001).wrapping_add(number as u64), size(random, heavy)))
        .collect();
    // The empty blob has one content only.
    contents.sort_by_key(|content| content.id);
    contents.dedup_by_key(|content| content.id);
    contents
}

fn size(random: &mut Random, heavy: bool) -> usize {
    match random.below(if heavy { 24 } else { 23 }) {
        0 => 0,
        1..=8 => 1 + random.index(300),
        9..=13 => random.index(12 << 10),
        14..=16 => near(BOUNDARIES[random.index(2)], random),
        17..=19 => near(BOUNDARIES[2], random),
        20 => near(BOUNDARIES[3], random),
        21 => near(BOUNDARIES[4], random),
        22 => random.index(if heavy { 400 << 10 } else { 100 << 10 }),
        _ => near(BOUNDARIES[5] * (1 + random.index(3)), random),
    }
}

/// The boundary itself, a byte beside it, or anything within some bytes of it.
fn near(boundary: usize, random: &mut Random) -> usize {
    match random.below(4) {
        0 => boundary,
        1 => boundary - 1,
        2 => boundary + 1,
        _ => boundary - 200 + random.index(400),
    }
}
