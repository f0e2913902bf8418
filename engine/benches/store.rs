//! The store without a network: how fast it fills, how long it takes to open, and how long a core
//! with millions of blobs is busy at a time.
//!
//! ```text
//! cargo bench -p nabu-engine --bench store -- fill DIR COUNT SIZE [CORES]
//! cargo bench -p nabu-engine --bench store -- open DIR [CORES]
//! cargo bench -p nabu-engine --bench store --features steps -- walk DIR [CORES]
//! ```
//!
//! `fill` puts COUNT blobs of SIZE bytes, then dies as by kill -9. `open` opens the store, prints
//! the time and the memory, and stops cleanly. `walk` opens it, lists all ids, reads and deletes
//! 100,000 of them while the live bytes are counted, and prints how long the steps of each core
//! were (`engine/src/runtime/steps.rs`).

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nabu_engine::content::Pace;
use nabu_engine::io::{Clock, Spawn};
use nabu_engine::runtime::{RingIo, RuntimeOptions, run, steps};
use nabu_engine::store::{CommitOptions, Limits, Shard, Store, StoreOptions};
use nabu_engine::sync::Notify;
use nabu_engine::types::{BlobId, CoreId};

/// Puts under way at the same time on each core.
const CLIENTS: u64 = 64;

fn options(dir: &str, cores: u16) -> StoreOptions {
    StoreOptions {
        dirs: vec![PathBuf::from(dir)],
        cores,
        memory_bytes: 1 << 30,
        segment_size: None,
        read_only: false,
        callers_files: &[],
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
        ["walk", dir] => walk(dir, 2),
        ["walk", dir, cores] => walk(dir, number(cores) as u16),
        _ => eprintln!("usage: store -- fill DIR COUNT SIZE [CORES] | open DIR [CORES] | walk DIR [CORES]"),
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
                print_opened(&shard, began).await;
            }
            shard.close().await;
        }
    })
    .expect("the runtime starts");
}

async fn print_opened(shard: &Shard<RingIo>, began: Instant) {
    let milliseconds = began.elapsed().as_secs_f64() * 1e3;
    let status = shard.status().await;
    println!(
        "{} blobs open in {milliseconds:.0} ms, index {:.1} B a blob, {} segments; the process took at most {} MiB",
        status.blob_count,
        status.index_bytes as f64 / status.blob_count.max(1) as f64,
        status.segments.active + status.segments.sealed + status.segments.fenced,
        memory_kib("VmHWM:") / 1024,
    );
}

/// A figure of this process from the kernel (proc_pid_status(5)).
fn memory_kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc is mounted");
    let line = status.lines().find(|line| line.starts_with(name)).expect("the kernel tells");
    line.split_whitespace().nth(1).and_then(|value| value.parse().ok()).expect("a number")
}

/// Ids in one page of a list.
const PAGE: usize = 1000;
/// Blobs that are read, and then deleted.
const TOUCHED: usize = 100_000;

fn walk(dir: &str, cores: u16) {
    let store = Store::new(options(dir, cores));
    let began = Instant::now();
    let is_done = Arc::new(AtomicBool::new(false));
    // As the server does.
    let _warmer = store.warm_up();
    run(&RuntimeOptions { cores, pin: true }, move |core, io| {
        let (store, is_done) = (store.clone(), is_done.clone());
        async move {
            let shard = store.open(core, io.clone()).await.expect("the store opens");
            // The step that opened it is not counted.
            io.yield_now().await;
            steps::take();
            if core.0 == 0 {
                print_opened(&shard, began).await;
                use_all(&shard).await;
                is_done.store(true, Ordering::Release);
            }
            while !is_done.load(Ordering::Acquire) {
                io.sleep(Duration::from_millis(10)).await;
            }
            print_steps(core, "all");
            shard.close().await;
        }
    })
    .expect("the runtime starts");
}

fn print_steps(core: CoreId, what: &str) {
    let steps = steps::take();
    let above = |bits| format!("{} of {} us or more", steps.count_from(bits), 1u64 << bits);
    println!(
        "core {}, {what}: {} steps, the longest {} us; {}",
        core.0,
        steps.count(),
        steps.longest().as_micros(),
        [7, 8, 9, 10].map(above).join(", ")
    );
}

/// Runs an operation for each of these, some at a time.
async fn for_each<F: Future<Output = ()> + 'static>(
    shard: &Shard<RingIo>,
    ids: &Rc<Vec<BlobId>>,
    operation: impl Fn(Shard<RingIo>, BlobId) -> F + Clone + 'static,
) {
    let (next, left, ended) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(CLIENTS)), Rc::new(Notify::default()));
    for _ in 0..CLIENTS {
        let (shard, ids, operation) = (shard.clone(), ids.clone(), operation.clone());
        let (next, left, ended) = (next.clone(), left.clone(), ended.clone());
        shard.io().clone().spawn(async move {
            while let Some(id) = ids.get(next.replace(next.get() + 1)) {
                operation(shard.clone(), *id).await;
            }
            left.set(left.get() - 1);
            ended.notify();
        });
    }
    ended.wait_for(|| (left.get() == 0).then_some(())).await;
}

async fn use_all(shard: &Shard<RingIo>) {
    let mut began = Instant::now();
    let mut took = |what: &str, count: usize| {
        println!("{what} {count} blobs: {:.1} s", began.elapsed().as_secs_f64());
        began = Instant::now();
    };
    // In pages: the benchmark's own memory must not be seen in the steps.
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = shard.list(after, PAGE).await.expect("the store is open");
        after = page.ids.last().copied();
        pages.push(page.ids);
        if !page.has_more {
            break;
        }
    }
    let count: usize = pages.iter().map(Vec::len).sum();
    took("listed", count);
    print_steps(CoreId(0), "listing");
    let step = (count / TOUCHED).max(1);
    let touched: Rc<Vec<BlobId>> = Rc::new(pages.into_iter().flatten().step_by(step).collect());
    shard.io().yield_now().await;
    steps::take();
    let read = async |shard: Shard<RingIo>, id| {
        let blob = shard.open(id).await.expect("it can be read").expect("it was listed");
        let size = blob.meta().size;
        let mut reader = blob.reader(0..size);
        while reader.next(Pace::Fast).await.expect("it can be read").is_some() {}
    };
    for_each(shard, &touched, read).await;
    took("read", touched.len());
    print_steps(CoreId(0), "reading");
    let delete = async |shard: Shard<RingIo>, id| {
        shard.delete(id).await.expect("it was listed");
    };
    for_each(shard, &touched, delete).await;
    took("deleted", touched.len());
    print_steps(CoreId(0), "deleting");
}
