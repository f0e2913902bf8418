//! Clients that are slow, that reset their connections, or that are cut off: each is ended, nothing
//! of them stays, and nobody else notices.

use std::thread;
use std::time::Duration;

use crate::load::{Load, Model, get};
use crate::network::Network;
use crate::support::content::content;
use crate::support::http::{Connection, Request};
use crate::support::server::{Options, READ_TOKEN, Server, WRITE_TOKEN, directory};
use crate::support::wait_for;
use crate::{seeded, skip};

const LIMITS: &str = "segment_size: 16MiB\nlimits:\n  head_timeout_ms: 1000\n  idle_timeout_ms: 20000\n  progress_timeout_ms: 1000\n  \
     answer_bytes_per_second_min: 16KiB\n";
/// Of each kind.
const SLOW: usize = 8;
/// What a slow reader asks for on one connection: together more than sockets hold, which is up to
/// 36 MiB by default. Small answers, which wait in memory; `readers` is about large ones.
const READER_ANSWERS: usize = 2_000;
/// The same for a reader whose requests fit one argument of a program; what its program did not
/// read makes its socket take little.
const CUT_OFF_ANSWERS: usize = 800;
const READER_BLOB_SIZE: usize = 30_000;
const BYTE_EVERY: Duration = Duration::from_millis(50);
const CLIENTS: usize = 3;
const CHANGES: u64 = 60;

fn start(data: &std::path::Path, listen: &str) -> Server {
    Options { config: LIMITS.to_owned(), listen: listen.to_owned(), ..Options::new(data) }.start()
}

/// Sockets that the server has open.
fn sockets(server: &Server) -> usize {
    let path = format!("/proc/{}/fd", server.process.child.id());
    let links = std::fs::read_dir(path).expect("the server runs").flatten();
    // One may be closed while they are listed.
    let targets = links.filter_map(|link| std::fs::read_link(link.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

/// Everything that broken clients held is given back: their connections, and the space of what they
/// sent.
fn wait_until_nothing_is_left(server: &Server, sockets_before: usize, used_before: u64) {
    wait_for("the connections to be closed", || (sockets(server) <= sockets_before).then_some(()));
    wait_for("the space to come back", || (used_bytes(server) <= used_before).then_some(()));
}

fn used_bytes(server: &Server) -> u64 {
    use simd_json::prelude::*;
    let state = server.exchange(&Request::get("/v1/cluster/state").token(READ_TOKEN)).expect(200).json();
    state.get_array("nodes").and_then(|nodes| nodes[0].get_u64("used_bytes")).expect("a node says what it uses")
}

#[test]
fn slow_clients_are_ended_by_their_deadlines_and_nobody_else_notices() {
    let (_, mut random) = seeded();
    let data = directory();
    let server = start(data.path(), "127.0.0.1:0");
    let read = content(random.next(), READER_BLOB_SIZE);
    let id = server.put(&read).expect(201).string("id");
    server.exchange(&Request::get("/healthz"));
    let load = Load::start(server.address, CLIENTS, &mut random, Model::default());
    let address = server.address;
    thread::scope(|scope| {
        for number in 0..SLOW {
            // A head that comes byte by byte: its deadline is for the whole of it.
            scope.spawn(move || {
                let mut connection = Connection::open(address).expect("the server takes connections");
                let head = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(10_000));
                for byte in head.as_bytes() {
                    if connection.send(&[*byte]).is_err() {
                        break;
                    }
                    thread::sleep(BYTE_EVERY);
                }
                match connection.response(false) {
                    Ok(response) => drop(response.expect_error(408, "request timeout")),
                    Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
                }
            });
            // A body that stops.
            let body = content(number as u64, 200_000);
            scope.spawn(move || {
                let mut connection = Connection::open(address).expect("the server takes connections");
                let bytes = Request::upload(&body).token(WRITE_TOKEN).bytes();
                connection.send(&bytes[..100_000]).expect("the server takes what comes");
                connection.response(false).expect("an answer comes").expect_error(408, "request timeout");
                connection.expect_closed();
            });
            // A reader that never reads, of more than sockets hold.
            let request = get(&id).bytes().repeat(READER_ANSWERS);
            let read = &read;
            scope.spawn(move || {
                let mut connection = Connection::open(address).expect("the server takes connections");
                // The server may stop taking requests, and may be done with this client before it
                // took all.
                drop(connection.send(&request));
                // Longer than the deadline: how long it does not read is what it does wrong.
                thread::sleep(Duration::from_secs(6));
                let cut_off = (0..READER_ANSWERS).any(|_| match connection.response(false) {
                    Ok(response) => {
                        assert!(response.expect(200).body == *read, "a slow reader got wrong bytes");
                        false
                    }
                    Err(_) => true,
                });
                assert!(cut_off, "who reads nothing for so long is cut off");
            });
        }
        load.wait_for_more(CHANGES);
    });
    load.wait_for_more(CHANGES);
    let model = load.finish();
    model.expect_answers(&[]);
    assert!(server.get(&id).expect(200).body == read);
    server.stop();
}

#[test]
fn connections_that_are_reset_in_the_middle_leave_nothing_behind() {
    let (_, mut random) = seeded();
    let data = directory();
    let server = start(data.path(), "127.0.0.1:0");
    let body = content(random.next(), 8 << 20);
    let id = server.put(&body).expect(201).string("id");
    let (sockets_before, used_before) = (sockets(&server), used_bytes(&server));
    for round in 0..60 {
        let mut connection = server.connect();
        if round % 2 == 0 {
            // Closing with something unread resets the connection: here the interim answer.
            let upload = content(random.next(), 5 << 20);
            let request = Request::upload(&upload).token(WRITE_TOKEN).field("Expect", "100-continue");
            connection.send(&request.head_bytes()).expect("the server takes the head");
            let part = random.below(4 << 20) as usize;
            connection.send(&upload[..part]).expect("the server takes the body");
        } else {
            connection.send(&get(&id).bytes()).expect("the server takes the request");
            connection.take(random.below(1 << 20) as usize).expect("the answer comes");
        }
    }
    wait_until_nothing_is_left(&server, sockets_before, used_before);
    assert_eq!(server.list(10), std::slice::from_ref(&id));
    assert!(server.get(&id).expect(200).body == body);
    server.stop();
}

#[test]
fn clients_whose_network_is_cut_without_a_word_are_ended_by_their_deadlines_and_leave_nothing_behind() {
    let network = match Network::new() {
        Ok(network) => network,
        Err(reason) => return skip(&reason),
    };
    let (_, mut random) = seeded();
    let data = directory();
    let server = start(data.path(), &format!("{}:0", network.address));
    let body = content(random.next(), READER_BLOB_SIZE);
    let id = server.put(&body).expect(201).string("id");
    let (sockets_before, used_before) = (sockets(&server), used_bytes(&server));
    let head = "Host: nabu\\r\\nAuthorization: Bearer";
    let upload = format!(
        "POST /v1/blobs HTTP/1.1\\r\\n{head} {WRITE_TOKEN}\\r\\nContent-Type: application/octet-stream\\r\\nContent-Length: 9000000\\r\\n\\r\\nsome"
    );
    let download = format!("GET /v1/blobs/{id} HTTP/1.1\\r\\n{head} {READ_TOKEN}\\r\\n\\r\\n");
    let download = download.repeat(CUT_OFF_ANSWERS);
    // Each returns when it is connected and has sent; the first may have met its deadline by the
    // time that the last has.
    let clients: Vec<_> = (0..4)
        .flat_map(|_| [&upload, &download])
        .map(|bytes| network.silent_client(server.address.port(), bytes))
        .collect();
    network.cut();
    wait_until_nothing_is_left(&server, sockets_before, used_before);
    drop(clients);
    assert!(server.get(&id).expect(200).body == body);
    server.stop();
}
