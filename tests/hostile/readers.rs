//! Clients that ask for much and don't read it. A token that may read is all it takes, so what they
//! hold must not be what others need.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::load::get;
use crate::support::content::content;
use crate::support::http::{Connection, Request};
use crate::support::server::{Options, READ_TOKEN, Server, directory};
use crate::support::wait_for;

/// More than sockets and pipes hold for one reader.
const BLOB_SIZE: usize = 24 << 20;
/// More than the cache of a server with 64 MiB holds, so that most is read beside it.
const LARGE_BLOB_SIZE: usize = 64 << 20;
/// Many more than such a server has frames for, and than it splices to.
const SILENT: usize = 900;
/// What a reader that doesn't read may have the server hold in all: the least share of those that
/// have stalled, on two cores, and a second's worth beyond.
const HELD_BYTES_MAX: u64 = 2 * (64 << 20) + (32 << 20);

/// Sends the request, and reads nothing of the answer.
fn ask(server: &Server, id: &str) -> Connection {
    let mut connection = server.connect();
    connection.send(&get(id).bytes()).expect("the server takes the request");
    connection
}

/// Bytes that the sockets of this port hold since their peers have not taken them.
fn bytes_in_sockets(address: SocketAddr) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel lists its sockets");
    let local = format!(":{:04X}", address.port());
    let queued = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let is_ours = fields.next().is_some_and(|field| field.ends_with(&local));
        let queues = fields.nth(2).filter(|_| is_ours)?;
        u64::from_str_radix(queues.split(':').next()?, 16).ok()
    };
    table.lines().skip(1).filter_map(queued).sum()
}

#[test]
fn readers_that_never_read_hold_a_small_share_and_no_memory_that_others_wait_for() {
    let data = directory();
    let server = Options::new(data.path()).start();
    let body = content(1, LARGE_BLOB_SIZE);
    let id = server.put(&body).expect(201).string("id");
    let silent: Vec<Connection> = (0..SILENT).map(|_| ask(&server, &id)).collect();
    wait_for("all to have stalled", || {
        let stalled = server.metric("nabu_http_stalled_answers");
        let broken_off = server.metric("nabu_http_stalled_broken_off_total");
        (stalled + broken_off >= SILENT as f64).then_some(())
    });
    wait_for("their frames to come free", || (server.metric("nabu_frames_bytes") == 0.0).then_some(()));
    let scrape = server.exchange(&Request::get("/metrics").token(READ_TOKEN)).expect(200).body;
    assert!(!String::from_utf8_lossy(&scrape).contains("busy\"}"), "somebody waited for frames in vain");
    wait_for("what they hold to be no more than their share", || {
        (bytes_in_sockets(server.address) <= HELD_BYTES_MAX).then_some(())
    });
    assert!(server.metric("nabu_http_stalled_broken_off_total") > 0.0, "whoever held too much was broken off");
    // Everybody else is served.
    let other = content(2, 8 << 20);
    let other_id = server.put(&other).expect(201).string("id");
    assert!(server.get(&other_id).expect(200).body == other);
    assert!(server.get(&id).expect(200).body == body);
    drop(silent);
    server.stop();
}

/// What such a reader takes at a time, and how often: a third of what it must.
const TAKEN: usize = 16 << 10;
const TAKEN_EVERY: Duration = Duration::from_millis(50);

#[test]
fn a_reader_below_the_least_rate_is_cut_off_though_it_never_stops() {
    let data = directory();
    let limits = "segment_size: 16MiB\nlimits: {progress_timeout_ms: 1000, answer_bytes_per_second_min: 1MiB}\n";
    let server = Options { config: limits.to_owned(), ..Options::new(data.path()) }.start();
    let body = content(1, BLOB_SIZE);
    let id = server.put(&body).expect(201).string("id");
    let mut reader = ask(&server, &id);
    let began = Instant::now();
    let is_cut_off = (0..BLOB_SIZE / TAKEN).any(|number| {
        // How slowly it reads is what it does wrong.
        thread::sleep((began + TAKEN_EVERY * number as u32).saturating_duration_since(Instant::now()));
        reader.take(TAKEN).is_err()
    });
    assert!(is_cut_off, "a reader that takes a third of the least rate got all of it");
    // Another one that reads as it comes is not.
    assert!(server.get(&id).expect(200).body == body);
    server.stop();
}

#[test]
fn a_reader_that_pauses_for_less_than_the_timeout_gets_all_of_it() {
    let data = directory();
    let server = Options::new(data.path()).start();
    let body = content(1, BLOB_SIZE);
    let id = server.put(&body).expect(201).string("id");
    let mut readers: Vec<Connection> = (0..8).map(|_| ask(&server, &id)).collect();
    wait_for("all to have stalled", || {
        (server.metric("nabu_http_stalled_answers") == readers.len() as f64).then_some(())
    });
    for reader in &mut readers {
        assert!(reader.response(false).expect("the rest comes").expect(200).body == body);
    }
    server.stop();
}
