//! The store without a network: how fast it fills, and how long it takes to open.
//!
//! ```text
//! cargo bench -p nabu-engine --bench store -- fill DIR COUNT SIZE [CORES]   puts COUNT blobs of SIZE bytes, then dies as by kill -9
//! cargo bench -p nabu-engine --bench store -- open DIR [CORES]              opens it, prints the time, and stops cleanly
//! ```

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use nabu_engine::io::Spawn;
use nabu_engine::runtime::{RingIo, RuntimeOptions, run};
use nabu_engine::store::{CommitOptions, Limits, Shard, Store, StoreOptions};
use nabu_engine::sync::Notify;

/// Puts under way at the same time on each core.
const CLIENTS: u64 = 64;

fn options(dir: &str, cores: u16) -> StoreOptions {
    StoreOptions {
        dirs: vec![PathBuf::from(dir)],
        cores,
        memory_bytes: 1 << 30,
        segment_size: None,
        read_only: false,
        limits: Limits::default(),
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("{text} is not a number"));
    match words[..] {
        ["fill", dir, count, size] => fill(dir, number(count), number(size) as usize, 2),
        ["fill", dir, count, size, cores] => fill(dir, number(count), number(size) as usize, number(cores) as u16),
        ["open", dir] => open(dir, 2),
        ["open", dir, cores] => open(dir, number(cores) as u16),
        _ => eprintln!("usage: store -- fill DIR COUNT SIZE [CORES] | open DIR [CORES]"),
    }
}

/// A content that differs from every other by its first bytes.
fn content(number: u64, size: usize) -> Vec<u8> {
    let mut content = vec![0x5a; size];
    let length = size.min(8);
    content[..length].copy_from_slice(&number.to_le_bytes()[..length]);
    content
}

fn fill(dir: &str, count: u64, size: usize, cores: u16) {
    std::fs::create_dir_all(dir).expect("the directory can be made");
    let store = Store::new(options(dir, cores));
    let next = Arc::new(AtomicU64::new(0));
    let cores_left = Arc::new(AtomicU32::new(u32::from(cores)));
    let began = Instant::now();
    run(&RuntimeOptions { cores, pin: true }, move |core, io| {
        let (store, next, cores_left) = (store.clone(), next.clone(), cores_left.clone());
        async move {
            let shard = store.open(core, io.clone()).await.expect("the store opens");
            put_all(&io, &shard, &next, count, size).await;
            if cores_left.fetch_sub(1, Ordering::AcqRel) > 1 {
                std::future::pending::<()>().await;
            }
            let seconds = began.elapsed().as_secs_f64();
            let status = shard.status().await;
            println!(
                "{count} blobs of {size} B on {cores} cores with {CLIENTS} clients each: {:.0} blobs/s, {:.1} MB/s, {:.1} blobs a sync, index {:.1} B a blob",
                count as f64 / seconds,
                (count * size as u64) as f64 / seconds / 1e6,
                status.log.records as f64 / status.log.commits as f64,
                status.index_bytes as f64 / status.blob_count as f64,
            );
            // As by kill -9: nothing is closed.
            std::process::abort();
        }
    })
    .expect("the runtime starts");
}

async fn put_all(io: &RingIo, shard: &Shard<RingIo>, next: &Arc<AtomicU64>, count: u64, size: usize) {
    let left = Rc::new(Cell::new(CLIENTS));
    let ended = Rc::new(Notify::default());
    for _ in 0..CLIENTS {
        let (shard, next, left, ended) = (shard.clone(), next.clone(), left.clone(), ended.clone());
        io.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    break;
                }
                let mut upload = shard.upload(Some(size as u64)).await.expect("memory is there");
                upload.write(&content(number, size)).await.expect("the disk takes it");
                upload.commit(CommitOptions { policy: 1, ..CommitOptions::default() }).await.expect("it is stored");
            }
            left.set(left.get() - 1);
            ended.notify();
        });
    }
    ended.wait_for(|| (left.get() == 0).then_some(())).await;
}

fn open(dir: &str, cores: u16) {
    let store = Store::new(options(dir, cores));
    let began = Instant::now();
    run(&RuntimeOptions { cores, pin: true }, move |core, io| {
        let store = store.clone();
        async move {
            let shard = store.open(core, io).await.expect("the store opens");
            if core.0 == 0 {
                let milliseconds = began.elapsed().as_secs_f64() * 1e3;
                let status = shard.status().await;
                println!(
                    "{} blobs open in {milliseconds:.0} ms on {cores} cores, index {:.1} B a blob",
                    status.blob_count,
                    status.index_bytes as f64 / status.blob_count.max(1) as f64
                );
            }
            shard.close().await;
        }
    })
    .expect("the runtime starts");
}
