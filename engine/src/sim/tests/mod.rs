//! What a simulated machine promises, and that it breaks everything it did not promise.

mod blocking;
mod crash;
mod disk;
mod links;
mod nodes;
mod schedule;
mod scheduler;

use std::path::{Path, PathBuf};

use super::{Sim, SimFile, SimIo, SimOptions};
use crate::io::{AlignedBuf, BLOCK_SIZE, Disk, OpenMode};

/// Seeds that tests of what may happen look through.
const SEEDS: std::ops::Range<u64> = 0..200;

fn sim(seed: u64) -> Sim {
    Sim::new(seed, SimOptions::default())
}

fn path(name: &str) -> PathBuf {
    Path::new("/data").join(name)
}

/// A new file of some blocks; nothing of it is durable.
async fn create(io: &SimIo, name: &str, blocks: usize) -> SimFile {
    let file = io.open(&path(name), OpenMode::Create).await.unwrap();
    io.allocate(&file, (blocks * BLOCK_SIZE) as u64).await.unwrap();
    file
}

/// A new file of some blocks, durable, all zeros.
async fn create_durable(io: &SimIo, name: &str, blocks: usize) -> SimFile {
    let file = create(io, name, blocks).await;
    io.sync(&file).await.unwrap();
    io.sync_dir(Path::new("/data")).await.unwrap();
    file
}

async fn write(io: &SimIo, file: &SimFile, block: usize, blocks: usize, fill: u8) -> std::io::Result<()> {
    let mut buf = AlignedBuf::zeroed(blocks * BLOCK_SIZE);
    buf.fill(fill);
    let len = buf.len();
    io.write_at(file, buf, 0..len, (block * BLOCK_SIZE) as u64).await.0
}

/// The content of a block, if a reader sees the file and it is all one byte.
async fn block(io: &SimIo, file: &SimFile, block: usize) -> Option<u8> {
    let buf = AlignedBuf::zeroed(BLOCK_SIZE);
    let (count, buf) = io.read_at(file, buf, 0..BLOCK_SIZE, (block * BLOCK_SIZE) as u64).await;
    assert_eq!(count.unwrap(), BLOCK_SIZE);
    let first = buf[0];
    buf.iter().all(|byte| *byte == first).then_some(first)
}

/// Whether a property holds for some of the seeds and its opposite for others.
fn varies(property: impl FnMut(u64) -> bool) -> bool {
    let outcomes: Vec<bool> = SEEDS.map(property).collect();
    outcomes.contains(&true) && outcomes.contains(&false)
}
