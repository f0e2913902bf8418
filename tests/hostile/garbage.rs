//! Random and mutated bytes at the port: the server answers or closes, and everything else is as it
//! was.
//!
//! `NABU_HOSTILE_GARBAGE_SECONDS` makes it last that long; `scripts/garbage` sets it.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::seeded;
use crate::support::content::{Random, content, id_of};
use crate::support::http::{Connection, Request};
use crate::support::server::{Options, READ_TOKEN, Server, WRITE_TOKEN, directory};

const REQUESTS: u64 = 20_000;
const CLIENTS: u64 = 4;
/// Requests between two looks at whether everything is as it was.
const LOOK_EVERY: u64 = 1_000;

/// Requests to be mutated: every kind of target, body and field.
fn samples(id: &str) -> Vec<Vec<u8>> {
    let body = content(77, 3_000);
    let small = br#"{"data":"aGVsbG8=","labels":{"a":"b"}}"#;
    let requests = [
        Request::upload(&body).token(WRITE_TOKEN).field("X-Nabu-Label-a", "b"),
        Request::upload(&body[..10]).token(WRITE_TOKEN).field("Expect", "100-continue"),
        Request::new("POST", "/v1/blobs")
            .field("Content-Type", "application/octet-stream")
            .token(WRITE_TOKEN)
            .chunked(&body, &[1, 100, 2_000]),
        Request::json("/v1/blobs", std::str::from_utf8(small).expect("it is text")).token(WRITE_TOKEN),
        Request::get(&format!("/v1/blobs/{id}")).token(READ_TOKEN).field("Range", "bytes=5-100, 7-, -3"),
        Request::get(&format!("/v1/blobs/{id}")).token(READ_TOKEN).field("If-None-Match", "\"x\", W/\"y\""),
        Request::new("HEAD", &format!("/v1/blobs/{id}")).token(READ_TOKEN),
        Request::get("/v1/blobs?limit=10&cursor=").token(READ_TOKEN),
        Request::get("/v1/cluster/state").token(READ_TOKEN),
        Request::new("DELETE", "/v1/blobs/00000000000000000000000000000000").token(WRITE_TOKEN),
        Request::new("OPTIONS", "*"),
        Request::get("/healthz").field("Connection", "close"),
    ];
    requests.iter().map(Request::bytes).collect()
}

/// Pieces that parsers stumble over.
const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 18446744073709551616\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Host: b\r\n",
    b"ffffffffffffffff\r\n",
    b"0\r\n\r\n",
    b"%00",
    b"%zz",
    b"../",
    b"\xff\xfe",
    b"HTTP/1.0",
    b"HTTP/9.9",
    b"bytes=0-18446744073709551615",
    b"Expect: 100-continue\r\n",
    b"Upgrade: h2c\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01",
];

fn mutated(random: &mut Random, samples: &[Vec<u8>]) -> Vec<u8> {
    if random.below(8) == 0 {
        let size = 1 + random.below(2_000) as usize;
        return random.bytes(size);
    }
    let mut bytes = random.pick(samples).clone();
    for _ in 0..random.below(4) {
        bytes.extend_from_slice(&random.pick(samples).clone());
    }
    for _ in 0..random.below(6) {
        let place = random.below(bytes.len() as u64) as usize;
        match random.below(5) {
            0 => bytes[place] = random.next() as u8,
            1 => bytes[place] ^= 1 << random.below(8),
            2 => drop(bytes.splice(place..place, random.pick(PIECES).iter().copied())),
            3 => {
                let end = (place + random.below(40) as usize).min(bytes.len());
                bytes.drain(place..end);
            }
            _ => {
                let end = (place + random.below(200) as usize).min(bytes.len());
                let piece = bytes[place..end].to_vec();
                drop(bytes.splice(place..place, piece));
            }
        }
        if bytes.is_empty() {
            break;
        }
    }
    if random.below(4) == 0 {
        bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
    }
    bytes
}

/// Sends one; what comes back is only received.
fn send(address: SocketAddr, random: &mut Random, bytes: &[u8]) {
    let mut connection = Connection::open(address).expect("the server takes connections");
    let mut rest = bytes;
    while !rest.is_empty() {
        // In pieces now and then, so that borders fall everywhere.
        let size = if random.below(3) == 0 { 1 + random.below(rest.len() as u64) as usize } else { rest.len() };
        if let Err(error) = connection.send(&rest[..size]) {
            assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
            return;
        }
        rest = &rest[size..];
    }
    if random.below(3) > 0 && connection.end_sending().is_ok() {
        connection.read_to_end();
    }
}

fn look(server: &Server, id: &str, body: &[u8]) {
    assert!(server.get(id).expect(200).body == body, "{id} came back changed");
    server.exchange(&Request::get("/readyz")).expect(200);
}

#[test]
fn random_bytes_at_the_port_disturb_nothing() {
    let (_, mut random) = seeded();
    let seconds = std::env::var("NABU_HOSTILE_GARBAGE_SECONDS").map(|text| text.parse().expect("a number of seconds"));
    let deadline = seconds.ok().map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let data = directory();
    // What waits for more bytes is soon ended.
    let limits =
        "segment_size: 16MiB\nlimits:\n  head_timeout_ms: 500\n  idle_timeout_ms: 500\n  progress_timeout_ms: 500\n";
    let options = Options { config: limits.to_owned(), ..Options::new(data.path()) };
    let server = options.start();
    let body = content(random.next(), 10_000);
    let id = server.put(&body).expect(201).string("id");
    assert_eq!(id, id_of(&body));
    let samples = samples(&id);
    let sent = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let mut random = Random::new(random.next());
            let (server, samples, sent, id, body) = (&server, &samples, &sent, &id, &body);
            scope.spawn(move || {
                loop {
                    let number = sent.fetch_add(1, Ordering::Relaxed);
                    match deadline {
                        Some(deadline) if Instant::now() >= deadline => break,
                        None if number >= REQUESTS => break,
                        _ => {}
                    }
                    let bytes = mutated(&mut random, samples);
                    send(server.address, &mut random, &bytes);
                    if number.is_multiple_of(LOOK_EVERY) {
                        look(server, id, body);
                    }
                }
            });
        }
    });
    look(&server, &id, &body);
    println!("{} requests of garbage", sent.load(Ordering::Relaxed));
    let log = server.stop();
    assert!(!log.contains("panicked"), "{log}");
}
