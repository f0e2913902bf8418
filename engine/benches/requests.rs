//! A load generator for any HTTP/1.1 server: uploads that all differ, and reads of one thing, on
//! kept connections.
//!
//! ```text
//! cargo bench -p nabu-engine --bench requests -- ADDRESS METHOD TARGET SIZE CONNECTIONS SECONDS [FIELD]...
//! cargo bench -p nabu-engine --bench requests -- 127.0.0.1:8080 POST /v1/blobs 4096 64 10 'Authorization: Bearer TOKEN' \
//!     'Content-Type: application/octet-stream'
//! cargo bench -p nabu-engine --bench requests -- 127.0.0.1:8080 PUT /0000000000000000 67108864 16 10
//! cargo bench -p nabu-engine --bench requests -- 127.0.0.1:8080 GET /v1/blobs/ID 0 1 10
//! ```
//!
//! `SIZE` is that of the request's body; a run of 16 zeros in the target is replaced by the number
//! of the request, as is the start of the body. The numbers start at the clock, so two runs don't
//! upload the same. One thread on this crate's own ring, because the machine's CPUs are shared with
//! the server: a body is sent from one MiB over and over, which stays in the cache.
//! `NABU_BENCH_CPU` pins the thread.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nabu_engine::io::Spawn;
use nabu_engine::ring::sys;
use nabu_engine::runtime::{RingIo, RuntimeOptions, Stream, run};
use nabu_engine::sync::Notify;

/// Bytes of one send, at most.
const PIECE: usize = 1 << 20;
/// Digits that are replaced by a number.
const DIGITS: usize = 16;
/// Requests before the measurement, so that the first segments exist.
const WARM_UP: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Load {
    address: SocketAddr,
    head: String,
    size: usize,
    connections: usize,
    seconds: f64,
}

#[derive(Default)]
struct Totals {
    next: Cell<u64>,
    left: Cell<usize>,
    ended: Notify,
    micros: RefCell<Vec<u32>>,
    bytes_received: Cell<u64>,
    failed: Cell<u64>,
    last_failure: RefCell<String>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [address, method, target, size, connections, seconds, fields @ ..] = &arguments[..] else {
        eprintln!("usage: requests -- ADDRESS METHOD TARGET SIZE CONNECTIONS SECONDS [FIELD]...");
        return;
    };
    let size: usize = size.parse().expect("SIZE is a number");
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\n");
    if method != "GET" {
        head += &format!("Content-Length: {size}\r\n");
    }
    for field in fields {
        head += &format!("{field}\r\n");
    }
    head += "\r\n";
    let load = Load {
        address: address.parse().expect("ADDRESS is IP:PORT"),
        head,
        size,
        connections: connections.parse().expect("CONNECTIONS is a number"),
        seconds: seconds.parse().expect("SECONDS is a number"),
    };
    if let Ok(cpu) = std::env::var("NABU_BENCH_CPU") {
        let cpu = cpu.parse().expect("NABU_BENCH_CPU is a number");
        run(&RuntimeOptions { cores: 1, pin: false }, move |_, io| {
            sys::pin_to(cpu).expect("this process may run there");
            measure(io, load.clone())
        })
    } else {
        run(&RuntimeOptions { cores: 1, pin: false }, move |_, io| measure(io, load.clone()))
    }
    .expect("the runtime starts");
}

async fn measure(io: RingIo, load: Load) {
    let since_1970 = std::time::UNIX_EPOCH.elapsed().expect("the clock is right");
    let totals = Rc::new(Totals::default());
    totals.next.set(since_1970.as_micros() as u64);
    totals.left.set(load.connections);
    let began = Instant::now() + WARM_UP;
    let end = began + Duration::from_secs_f64(load.seconds);
    for _ in 0..load.connections {
        let (io_of_task, load, totals) = (io.clone(), load.clone(), totals.clone());
        io.spawn(async move {
            connection(&io_of_task, &load, &totals, began, end).await;
            totals.left.set(totals.left.get() - 1);
            totals.ended.notify();
        });
    }
    totals.ended.wait_for(|| (totals.left.get() == 0).then_some(())).await;
    // What ended within the time counts, and the last ones took a little longer.
    let seconds = began.elapsed().as_secs_f64();
    let mut micros = totals.micros.take();
    micros.sort_unstable();
    let at = |part: f64| micros.get((micros.len() as f64 * part) as usize).or(micros.last()).copied().unwrap_or(0);
    let bytes = (load.size * micros.len()) as u64 + totals.bytes_received.get();
    println!(
        "{:.0} requests/s, {:.1} MB/s, {} failed, µs: p50 {} p90 {} p99 {} p99.9 {} max {}",
        micros.len() as f64 / seconds,
        bytes as f64 / seconds / 1e6,
        totals.failed.get(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0),
    );
    if totals.failed.get() > 0 {
        println!("the last failure: {}", totals.last_failure.borrow());
    }
}

async fn connection(io: &RingIo, load: &Load, totals: &Totals, began: Instant, end: Instant) {
    let stream = Stream::connect(io, load.address).await.expect("the server listens");
    let mut first = load.head.clone().into_bytes();
    let number_in_head = load.head.find(&"0".repeat(DIGITS));
    let in_first = load.size.min(PIECE);
    let body = first.len();
    first.resize(body + in_first, b'x');
    let mut piece = vec![b'y'; PIECE.min(load.size - in_first)];
    let mut answer = Vec::new();
    while Instant::now() < end {
        let number = totals.next.replace(totals.next.get() + 1);
        let digits = format!("{number:0DIGITS$}");
        if let Some(at) = number_in_head {
            first[at..at + DIGITS].copy_from_slice(digits.as_bytes());
        }
        let length = in_first.min(DIGITS);
        first[body..body + length].copy_from_slice(&digits.as_bytes()[DIGITS - length..]);
        let sent_at = Instant::now();
        let result;
        (result, first) = stream.send(first).await;
        result.expect("the server takes a request");
        let mut left = load.size - in_first;
        while left > 0 {
            piece.truncate(left);
            left -= piece.len();
            let result;
            (result, piece) = stream.send(piece).await;
            result.expect("the server takes a body");
        }
        piece.resize(PIECE.min(load.size - in_first), b'y');
        receive(&stream, &mut answer, totals).await;
        let now = Instant::now();
        if now >= began && now <= end {
            totals.micros.borrow_mut().push((now - sent_at).as_micros() as u32);
        }
    }
}

/// Receives one answer, whose length a field tells.
async fn receive(stream: &Stream, answer: &mut Vec<u8>, totals: &Totals) {
    answer.clear();
    let mut body_left: Option<usize> = None;
    while body_left != Some(0) {
        let bytes = stream.recv().await.expect("the server answers");
        assert!(!bytes.is_empty(), "the server closed the connection: {}", String::from_utf8_lossy(answer));
        if let Some(left) = body_left {
            body_left = Some(left.saturating_sub(bytes.len()));
            continue;
        }
        answer.extend_from_slice(&bytes);
        let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.trim().parse().ok());
        let length: usize = length.unwrap_or(0);
        totals.bytes_received.set(totals.bytes_received.get() + length as u64);
        if !head.starts_with("http/1.1 2") {
            totals.failed.set(totals.failed.get() + 1);
            *totals.last_failure.borrow_mut() = head.lines().next().unwrap_or_default().to_owned();
        }
        body_left = Some(length.saturating_sub(answer.len() - end - 4));
    }
}
