//! Parsing request heads: ours, which checks framing, against httparse, which does not. Criterion
//! measures them one after the other; then rounds of both alternate, so that what else the machine
//! does falls on both alike. Run it pinned: `taskset -c 1 cargo bench -p nabu-net --bench head`.

use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, Throughput};
use nabu_net::http::head::{HeadLimits, HeadParser};

const ROUNDS: usize = 4_000;
const PARSES_PER_ROUND: u32 = 200;

const LIMITS: HeadLimits = HeadLimits { head_bytes: 16_384, target_bytes: 8_192, fields: 64 };

const CURL: &[u8] = b"GET /v1/blobs/a3f2c4d5e6f708192a3b4c5d6e7f8091 HTTP/1.1\r\n\
    Host: store.example:8080\r\n\
    User-Agent: curl/8.5.0\r\n\
    Accept: */*\r\n\
    Authorization: Bearer 2b7e151628aed2a6abf7158809cf4f3c\r\n\r\n";

const BROWSER: &[u8] = b"GET /api/v2/files?page=2&per_page=50&prefix=models%2Fllama3%2F HTTP/1.1\r\n\
    Host: store.example\r\n\
    Connection: keep-alive\r\n\
    Cache-Control: max-age=0\r\n\
    sec-ch-ua: \"Chromium\";v=\"124\", \"Google Chrome\";v=\"124\", \"Not-A.Brand\";v=\"99\"\r\n\
    sec-ch-ua-mobile: ?0\r\n\
    sec-ch-ua-platform: \"Linux\"\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8\r\n\
    Sec-Fetch-Site: none\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-User: ?1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Cookie: session=0f5c6a1e9b7d4c3fa2e8b1d0; theme=dark; csrftoken=Yw3nq1dJ0hBvXkLr5sTz8uCeAo2PfGiM\r\n\
    If-None-Match: \"5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03\"\r\n\r\n";

const INPUTS: [(&str, &[u8]); 2] = [("curl", CURL), ("browser", BROWSER)];

#[inline(never)]
fn parse_ours(parser: &mut HeadParser, input: &[u8]) -> usize {
    let head = parser.parse_in_place(black_box(input)).expect("it is valid").expect("it is complete");
    black_box(head).size()
}

#[inline(never)]
fn parse_httparse(input: &[u8]) -> usize {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let size = request.parse(black_box(input)).expect("it is valid").unwrap();
    black_box(&request);
    size
}

fn measure_apart(criterion: &mut Criterion) {
    for (name, input) in INPUTS {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(input.len() as u64));
        let mut parser = HeadParser::new(LIMITS);
        group.bench_function("nabu-net", |bencher| bencher.iter(|| parse_ours(&mut parser, input)));
        group.bench_function("httparse", |bencher| bencher.iter(|| parse_httparse(input)));
        group.finish();
    }
}

/// The nanoseconds of one parse, taken over a round of them.
fn round(mut parse: impl FnMut() -> usize) -> f64 {
    let start = Instant::now();
    for _ in 0..PARSES_PER_ROUND {
        parse();
    }
    start.elapsed().as_nanos() as f64 / f64::from(PARSES_PER_ROUND)
}

fn measure_interleaved() {
    for (name, input) in INPUTS {
        let mut parser = HeadParser::new(LIMITS);
        let (mut ours, mut theirs): (Vec<_>, Vec<_>) =
            (0..ROUNDS).map(|_| (round(|| parse_ours(&mut parser, input)), round(|| parse_httparse(input)))).unzip();
        ours.sort_by(f64::total_cmp);
        theirs.sort_by(f64::total_cmp);
        println!(
            "{name}, interleaved, median ns: nabu-net {:.1}, httparse {:.1}",
            ours[ROUNDS / 2],
            theirs[ROUNDS / 2]
        );
    }
}

fn main() {
    measure_apart(&mut Criterion::default().configure_from_args());
    // Under `cargo test` the harness is only asked whether the benchmark runs.
    if std::env::args().any(|argument| argument == "--bench") {
        measure_interleaved();
    }
}
