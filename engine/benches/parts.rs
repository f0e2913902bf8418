//! The parts of the engine alone: how long does one operation of each take?
//!
//! ```text
//! cargo bench -p nabu-engine --bench parts              all of them
//! cargo bench -p nabu-engine --bench parts -- index     one group
//! ```
//!
//! Without a group, the hit rates of the cache's policy beside LRU come first.
//!
//! Elsewhere: the log's group commit in `store`, ways to wake a core in `wakeup`, routes of an
//! answer in `send`, the parser of request heads in `net/benches/head.rs`. Nothing here touches a
//! disk. Times on a shared machine are upper bounds: compare runs on an idle one.

mod support;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use nabu_engine::cache::policy::S3Fifo;
use nabu_engine::cache::{Cache, Charge, ENTRY_OVERHEAD, Key, Lookup};
use nabu_engine::index::{Entry, Index, Location};
use nabu_engine::log::codec::crc32c;
use nabu_engine::log::record::{Head, Kind, Layout, Placement, Shape, decode_head, encode_head};
use nabu_engine::log::{FRAME_SIZE, HEAD_ROOM, PACKED_PAYLOAD_MAX};
use nabu_engine::mailbox::{Receiver, Sender, mailbox};
use nabu_engine::runtime::{RuntimeOptions, run};
use nabu_engine::sha256::Sha256;
use nabu_engine::types::{BlobId, ContentHash, SegmentId, Sequence};
use sha2::Digest;

/// Entries of the index that is asked.
const INDEXED: u64 = 1_000_000;
/// Entries that are inserted in a row, and removed again untimed.
const INSERTED: u64 = 10_000;
/// Entries of the cache, and bytes of each.
const CACHED: u32 = 4096;
const CACHED_BYTES: usize = 64 << 10;

/// Numbers without a pattern, the same in every run: SplitMix64 (Steele et al., OOPSLA 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// At least 0, below 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The id of the blob with this number, spread as a hash is.
fn id_of(number: u64) -> BlobId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&mix(number).to_be_bytes());
    id[8..].copy_from_slice(&number.to_be_bytes());
    BlobId(id)
}

fn entry_of(number: u64) -> Entry {
    let location = Location {
        segment: SegmentId((number >> 16) as u32),
        offset_units: number as u32,
        length_units: 64,
        sequence: Sequence(number),
    };
    Entry { id: id_of(number), location }
}

fn index(criterion: &mut Criterion) {
    let mut index = Index::new();
    for number in 0..INDEXED {
        index.insert(entry_of(number));
    }
    let mut group = criterion.benchmark_group("index of 1 M");
    let mut random = Random(1);
    group.bench_function("get, hit", |bencher| {
        bencher.iter(|| index.get(&id_of(random.next() % INDEXED)).expect("it was inserted"));
    });
    group.bench_function("get, miss", |bencher| {
        bencher.iter(|| assert!(index.get(&id_of(INDEXED + random.next() % INDEXED)).is_none()));
    });
    group.bench_function("insert", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            let mut left = iterations;
            while left > 0 {
                let first = INDEXED + random.next() % INDEXED;
                let numbers = first..first + left.min(INSERTED);
                let start = Instant::now();
                for number in numbers.clone() {
                    index.insert(entry_of(number));
                }
                spent += start.elapsed();
                left -= numbers.end - numbers.start;
                for number in numbers {
                    index.remove(&id_of(number));
                }
            }
            spent
        });
    });
    group.finish();
}

type Value = Arc<Charge>;

fn key_of(number: u32) -> Key {
    Key { segment: SegmentId(number >> 10), offset_units: number, part: 0 }
}

/// What a future comes to that never has to wait.
fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nobody else reads"),
    }
}

/// Looks up; what is not there is entered as if it had been read, which evicts others when the
/// cache is full.
fn ask(cache: &Cache<Value>, number: u32) -> Value {
    match at_once(cache.lookup(key_of(number))) {
        Lookup::Found(value) => value,
        Lookup::Lead(leader) => {
            let value = Arc::new(cache.reserve(CACHED_BYTES).expect("what nobody holds can be evicted"));
            leader.fill(value.clone(), CACHED_BYTES);
            value
        }
    }
}

fn cache(criterion: &mut Criterion) {
    let cache: Cache<Value> = Cache::new(CACHED as usize * (CACHED_BYTES + ENTRY_OVERHEAD));
    for number in 0..CACHED {
        ask(&cache, number);
    }
    assert_eq!(cache.status().entries, u64::from(CACHED), "it holds exactly these");
    let mut group = criterion.benchmark_group("cache of 4096");
    let mut random = Random(2);
    group.bench_function("hit", |bencher| {
        bencher.iter(|| ask(&cache, random.next() as u32 % CACHED));
    });
    for threads in [1, 2] {
        group.bench_function(BenchmarkId::new("hit of one key, threads", threads), |bencher| {
            bencher.iter_custom(|iterations| hits_of_one_key(&cache, threads, iterations));
        });
    }
    let mut next = CACHED;
    group.bench_function("miss, lead, evict and fill", |bencher| {
        bencher.iter(|| {
            next = next.wrapping_add(1);
            ask(&cache, next)
        });
    });
    group.finish();
}

/// The time until each thread has asked so many times.
fn hits_of_one_key(cache: &Cache<Value>, threads: usize, iterations: u64) -> Duration {
    let ready = Barrier::new(threads);
    let asker = || {
        ready.wait();
        let start = Instant::now();
        for _ in 0..iterations {
            black_box(ask(cache, 0));
        }
        start.elapsed()
    };
    std::thread::scope(|scope| {
        let askers: Vec<_> = (0..threads).map(|_| scope.spawn(asker)).collect();
        askers.into_iter().map(|asker| asker.join().expect("an asker")).max().expect("at least one")
    })
}

fn checksums(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checksums");
    let mut random = Random(3);
    for (name, size) in [("4 KiB", 4 << 10), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20)] {
        let bytes: Vec<u8> = (0..size / 8).flat_map(|_| random.next().to_le_bytes()).collect();
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("CRC32C", name), |bencher| bencher.iter(|| crc32c(black_box(&bytes))));
        group.bench_function(BenchmarkId::new("SHA-256", name), |bencher| {
            bencher.iter(|| Sha256::digest(black_box(&bytes)));
        });
        group.bench_function(BenchmarkId::new("SHA-256 of RustCrypto", name), |bencher| {
            bencher.iter(|| sha2::Sha256::digest(black_box(&bytes)));
        });
    }
    group.finish();
}

fn record_head(criterion: &mut Criterion) {
    let blob = Head {
        kind: Kind::Blob,
        layout: Layout::Inline,
        policy: 1,
        sequence: Sequence(7),
        id: id_of(7),
        hash: ContentHash([7; 32]),
        size: PACKED_PAYLOAD_MAX as u64,
        created_at_ns: 1,
        link: 0,
        flags: 0,
        register: None,
        labels: [("format", "safetensors"), ("model", "llama-3-8b")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
    };
    let frame = Head::piece(Kind::Frame, 7, 7);
    let blob_shape = Shape::packed(&blob, PACKED_PAYLOAD_MAX);
    let frame_shape = Shape::direct(&frame, FRAME_SIZE);
    let placement = Placement { segment: SegmentId(7), offset_units: 64, durable_to_units: 64 };
    const NONCE: u64 = 0x0123_4567_89ab_cdef;
    let mut group = criterion.benchmark_group("record head");
    let mut out = [0; HEAD_ROOM];
    for (name, head, shape) in [("blob of 64 KiB", &blob, blob_shape), ("frame", &frame, frame_shape)] {
        let table = (shape.head_length - head.encoded_length(0)) / 4;
        group.bench_function(BenchmarkId::new("encode", name), |bencher| {
            bencher.iter(|| {
                encode_head(&mut out, black_box(head), shape, placement, NONCE, (0..table).map(|check| check as u32));
            });
        });
        group.bench_function(BenchmarkId::new("decode", name), |bencher| {
            bencher.iter(|| {
                decode_head(black_box(&out), placement.segment, placement.offset_units, NONCE).expect("it was encoded")
            });
        });
    }
    group.finish();
}

/// What one of two players has: where the ball comes from, and where it goes.
type Ends = (Sender<u32>, Receiver<u32>);

/// The time of so many messages there and back between two cores of the runtime, each asleep until
/// its message is there.
fn there_and_back(iterations: u64) -> Duration {
    let (to_second, from_first) = mailbox();
    let (to_first, from_second) = mailbox();
    let ends: Arc<Mutex<[Option<Ends>; 2]>> =
        Arc::new(Mutex::new([Some((to_second, from_second)), Some((to_first, from_first))]));
    let spent = Arc::new(Mutex::new(Duration::ZERO));
    let result = spent.clone();
    run(&RuntimeOptions { cores: 2, pin: true }, move |core, _io| {
        let ends = ends.lock().expect("no player panics with it")[usize::from(core.0)].take();
        let (sender, mut receiver) = ends.expect("each core takes its own");
        let spent = spent.clone();
        async move {
            if core.0 == 1 {
                while let Some(ball) = receiver.recv().await {
                    sender.send(ball).expect("the first core waits for it");
                }
                return;
            }
            let start = Instant::now();
            for ball in 0..iterations {
                sender.send(ball as u32).expect("the second core waits for it");
                assert_eq!(receiver.recv().await, Some(ball as u32));
            }
            *spent.lock().expect("no player panics with it") = start.elapsed();
        }
    })
    .expect("the runtime starts");
    let spent = result.lock().expect("no player panics with it");
    *spent
}

fn mailboxes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mailbox");
    let (sender, mut receiver) = mailbox();
    group.bench_function("send and receive on one thread", |bencher| {
        bencher.iter(|| {
            sender.send(7u32).expect("the receiver is here");
            at_once(receiver.recv())
        });
    });
    group.bench_function("there and back between two sleeping cores", |bencher| {
        bencher.iter_custom(there_and_back);
    });
    group.finish();
}

/// Keys by falling popularity: the one of rank `n` is asked for in proportion to `1 / n^exponent`.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(keys: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let mut sums: Vec<f64> = (1..=keys)
            .map(|rank| {
                sum += f64::from(rank).powf(-exponent);
                sum
            })
            .collect();
        sums.iter_mut().for_each(|part| *part /= sum);
        Self(sums)
    }

    fn next(&self, random: &mut Random) -> u64 {
        let unit = random.unit();
        self.0.partition_point(|part| *part <= unit) as u64
    }
}

/// Least recently used, for comparison.
#[derive(Default)]
struct Lru {
    used_at: HashMap<u64, u64>,
    order: BTreeMap<u64, u64>,
    now: u64,
}

impl Lru {
    fn ask(&mut self, key: u64, size: usize) -> bool {
        self.now += 1;
        let before = self.used_at.insert(key, self.now);
        if let Some(used_at) = before {
            self.order.remove(&used_at);
        } else if self.order.len() == size {
            let (_, oldest) = self.order.pop_first().expect("it is full");
            self.used_at.remove(&oldest);
        }
        self.order.insert(self.now, key);
        before.is_some()
    }
}

fn ask_policy(policy: &mut S3Fifo<u64, ()>, key: u64, size: usize) -> bool {
    if policy.get(&key).is_some() {
        return true;
    }
    while policy.bytes() >= size {
        policy.evict().expect("something is there");
    }
    policy.insert(key, (), 1);
    false
}

/// Prints how often the cache's policy and LRU hit, for entries of one size, once they are full.
fn print_hit_rates() {
    const KEYS: u32 = 100_000;
    const REQUESTS: usize = 1_000_000;
    const SCAN_EVERY: usize = 20_000;
    println!(
        "\nHits of S3-FIFO and of LRU: {REQUESTS} requests, Zipf over {KEYS} keys of one size; with scans, every {SCAN_EVERY} requests as many"
    );
    println!("keys as the cache holds are read once each, which counts as no request.");
    println!("{:>8}  {:>8}  {:>5}  {:>8}  {:>8}", "exponent", "cache", "scans", "S3-FIFO", "LRU");
    for exponent in [0.7, 0.9, 1.1] {
        let zipf = Zipf::new(KEYS, exponent);
        for (share, size) in [("1 %", KEYS as usize / 100), ("10 %", KEYS as usize / 10)] {
            for scans in [false, true] {
                let (mut policy, mut lru, mut random) = (S3Fifo::default(), Lru::default(), Random(4));
                let (mut policy_hits, mut lru_hits) = (0, 0);
                let mut scanned = u64::from(KEYS);
                for request in 0..2 * REQUESTS {
                    let key = zipf.next(&mut random);
                    let hits = (ask_policy(&mut policy, key, size), lru.ask(key, size));
                    // The first half fills them.
                    if request >= REQUESTS {
                        policy_hits += usize::from(hits.0);
                        lru_hits += usize::from(hits.1);
                    }
                    if scans && request % SCAN_EVERY == 0 {
                        for key in scanned..scanned + size as u64 {
                            ask_policy(&mut policy, key, size);
                            lru.ask(key, size);
                        }
                        scanned += size as u64;
                    }
                }
                let percent = |hits: usize| hits as f64 * 100.0 / REQUESTS as f64;
                println!(
                    "{exponent:>8}  {share:>8}  {:>5}  {:>6.1} %  {:>6.1} %",
                    if scans { "yes" } else { "no" },
                    percent(policy_hits),
                    percent(lru_hits)
                );
            }
        }
    }
    println!();
}

criterion_group!(parts, index, cache, checksums, record_head, mailboxes);

fn main() {
    support::print_machine();
    print_hit_rates();
    parts();
    Criterion::default().configure_from_args().final_summary();
}
