//! HTTP/1.1 on the wire: keep-alive, pipelining, odd arrivals, what request smuggling lives on, and
//! garbage.

use std::io::ErrorKind;

use crate::start;
use crate::start_with;
use crate::support::content::{Random, content, id_of, seed_of_run};
use crate::support::exposition::Exposition;
use crate::support::http::{Connection, Request};
use crate::support::server::{Options, READ_TOKEN, Server, WRITE_TOKEN, directory};
use crate::support::wait_for;

#[test]
fn a_connection_serves_many_requests_and_pipelined_ones_in_their_order() {
    let (server, _data) = start();
    let bodies: Vec<Vec<u8>> = (0..20).map(|seed| content(seed, (seed * 7_000) as usize)).collect();
    let mut out = Vec::new();
    for body in &bodies {
        out.extend(Request::upload(body).token(WRITE_TOKEN).bytes());
        let target = format!("/v1/blobs/{}", id_of(body));
        out.extend(Request::get(&target).token(READ_TOKEN).bytes());
        out.extend(Request::new("HEAD", &target).token(READ_TOKEN).bytes());
        out.extend(Request::new("DELETE", &target).bytes());
    }
    let mut connection = server.connect();
    // More is sent than either side's buffers hold, so sending and receiving must go on at once.
    let mut sending = connection.second_handle();
    std::thread::scope(|scope| {
        scope.spawn(move || sending.send(&out).expect("the server reads on"));
        for body in &bodies {
            assert_eq!(connection.response(false).unwrap().expect(201).string("id"), id_of(body));
            assert!(connection.response(false).unwrap().expect(200).body == *body);
            assert_eq!(connection.response(true).unwrap().expect(200).number("Content-Length"), body.len() as u64);
            connection.response(false).unwrap().expect_error(401, "unauthorized");
        }
    });
    connection.exchange(&Request::get("/healthz")).expect(200);
}

#[test]
fn an_unwanted_body_does_not_become_the_next_request() {
    let (server, _data) = start();
    let hidden = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut connection = server.connect();
    for request in [
        Request::new("GET", "/nowhere").body(hidden),
        Request::new("GET", "/healthz").body(hidden),
        Request::new("DELETE", "/v1/blobs").body(hidden),
        Request::upload(hidden),
        Request::new("POST", "/v1/blobs").token(WRITE_TOKEN).field("Content-Type", "a/b").body(hidden),
    ] {
        let status = connection.exchange(&request).status();
        assert!(matches!(status, 200 | 401 | 404 | 405 | 415), "{status}");
        connection.exchange(&Request::new("HEAD", "/readyz")).expect(200);
    }
}

#[test]
fn connections_close_when_asked_and_stay_otherwise() {
    let (server, _data) = start();
    for (request, version_10, stays) in [
        ("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", false, true),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false, false),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nconnection: foo, CLOSE\r\n\r\n", false, false),
        ("GET /healthz HTTP/1.0\r\n\r\n", true, false),
        ("GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true, true),
        ("\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", false, true),
        ("GET http://other.example/healthz HTTP/1.1\r\nHost: a\r\n\r\n", false, true),
    ] {
        let mut connection = server.connect();
        connection.send(request.as_bytes()).unwrap();
        let response = connection.response(false).unwrap().expect(200);
        assert_eq!(response.head.version, "HTTP/1.1");
        if stays {
            assert_eq!(response.field("Connection"), version_10.then_some("keep-alive"), "{request}");
            connection.exchange(&Request::get("/healthz")).expect(200);
        } else {
            assert_eq!(response.field("Connection"), Some("close"), "{request}");
            connection.expect_closed();
        }
    }
}

#[test]
fn a_request_may_arrive_byte_by_byte() {
    let (server, _data) = start();
    let body = b"slowly but surely";
    let mut connection = server.connect();
    let chunked = Request::new("POST", "/v1/blobs").field("Content-Type", "application/octet-stream");
    for (request, status) in [
        (Request::upload(body).token(WRITE_TOKEN), 201),
        (chunked.token(WRITE_TOKEN).chunked(body, &[1, 2, 3]), 200),
        (Request::get(&format!("/v1/blobs/{}", id_of(body))).token(READ_TOKEN), 200),
    ] {
        for byte in request.bytes() {
            connection.send(&[byte]).unwrap();
        }
        connection.response(false).unwrap().expect(status);
    }
}

#[test]
fn chunks_may_be_split_anywhere() {
    let (server, _data) = start();
    let seed = seed_of_run("NABU_TEST_SEED");
    println!("NABU_TEST_SEED={seed}");
    let mut random = Random::new(seed);
    for _ in 0..20 {
        let size = random.below(300_000) as usize;
        let body = random.bytes(size);
        let sizes: Vec<usize> = (0..1 + random.below(8)).map(|_| 1 + random.below(40_000) as usize).collect();
        let request = Request::new("POST", "/v1/blobs").field("Content-Type", "application/octet-stream");
        let request = request.token(WRITE_TOKEN).chunked(&body, &sizes);
        let mut connection = server.connect();
        let bytes = request.bytes();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let size = (1 + random.below(30_000) as usize).min(rest.len());
            connection.send(&rest[..size]).unwrap();
            rest = &rest[size..];
        }
        assert_eq!(connection.response(false).unwrap().expect(201).string("id"), id_of(&body));
        assert!(server.get(&id_of(&body)).expect(200).body == body);
    }
}

#[test]
fn extensions_and_trailers_of_chunks_are_read_over() {
    let (server, _data) = start();
    let mut connection = server.connect();
    let head = Request::new("POST", "/v1/blobs")
        .field("Content-Type", "application/octet-stream")
        .field("Transfer-Encoding", "chunked")
        .token(WRITE_TOKEN);
    connection.send(&head.head_bytes()).unwrap();
    connection.send(b"00005;name=value\r\nhello\r\n6\r\n world\r\n0\r\nX-Trailer: y\r\n\r\n").unwrap();
    assert_eq!(connection.response(false).unwrap().expect(201).string("id"), id_of(b"hello world"));
    connection.exchange(&Request::get("/healthz")).expect(200);
}

#[test]
fn malformed_chunks_are_refused_with_nothing_stored() {
    let (server, _data) = start();
    let head = Request::new("POST", "/v1/blobs")
        .field("Content-Type", "application/octet-stream")
        .field("Transfer-Encoding", "chunked")
        .token(WRITE_TOKEN);
    for body in [
        &b"5\nhello\n0\n\n"[..],
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhelloo\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"5;\nhello\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        b"\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
    ] {
        let mut connection = server.connect();
        connection.send(&head.head_bytes()).unwrap();
        connection.send(body).unwrap();
        let response = connection.response(false).unwrap();
        response.expect_error(400, "malformed chunked body");
        assert_eq!(response.field("Connection"), Some("close"), "{}", body.escape_ascii());
        connection.expect_closed();
    }
    assert!(server.list(10).is_empty());
}

/// Heads on which two servers in a row could disagree about where the request ends. What follows
/// each must never be answered.
const SMUGGLING: [&str; 30] = [
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 6\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\n Content-Length: 5\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nX: y\r\n Content-Length: 5\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\u{b}chunked\r\n\r\n",
    "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nX: a\nTransfer-Encoding: chunked\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    "POST / HTTP/1.1\nHost: a\n\n",
    "POST / HTTP/1.1\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "POST /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a b\r\n\r\n",
];

#[test]
fn what_request_smuggling_lives_on_is_refused_and_the_connection_closed() {
    let (server, _data) = start();
    for head in SMUGGLING {
        let mut connection = server.connect();
        let hidden = "0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
        connection.send(format!("{head}{hidden}").as_bytes()).unwrap();
        let response = connection.response(false).unwrap();
        assert!(matches!(response.status(), 400 | 501), "{head:?}: {}", response.text());
        response.expect_error(response.status(), &response.string("error"));
        assert_eq!(response.field("Connection"), Some("close"), "{head:?}");
        connection.expect_closed();
    }
    server.exchange(&Request::get("/healthz")).expect(200);
}

#[test]
fn another_version_is_505() {
    let (server, _data) = start();
    for line in ["GET / HTTP/2.0\r\n\r\n", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut connection = server.connect();
        connection.send(line.as_bytes()).unwrap();
        connection.response(false).unwrap().expect_error(505, "HTTP version not supported");
        connection.expect_closed();
    }
}

/// Sends until everything is sent or the server has had enough.
fn send_what_is_taken(connection: &mut Connection, bytes: &[u8]) {
    if let Err(error) = connection.send(bytes) {
        assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
    }
}

#[test]
fn garbage_does_not_disturb_the_server() {
    let (server, _data) = start();
    let body = content(1, 10_000);
    server.put(&body).expect(201);
    let seed = seed_of_run("NABU_TEST_SEED");
    println!("NABU_TEST_SEED={seed}");
    let mut random = Random::new(seed);
    let valid = Request::upload(&content(2, 5_000)).token(WRITE_TOKEN).field("X-Nabu-Label-a", "b").bytes();
    for round in 0..300 {
        let mut connection = server.connect();
        let mut bytes = match round % 3 {
            0 => {
                let size = 1 + random.below(2_000) as usize;
                random.bytes(size)
            }
            _ => valid.clone(),
        };
        if round % 3 == 1 {
            for _ in 0..1 + random.below(5) {
                let place = random.below(bytes.len() as u64) as usize;
                bytes[place] = random.next() as u8;
            }
        }
        if round % 3 == 2 {
            bytes.truncate(random.below(bytes.len() as u64) as usize);
        }
        send_what_is_taken(&mut connection, &bytes);
        if random.below(2) == 0 {
            // Whatever it answers, it does so and closes: nothing more is to come.
            if connection.end_sending().is_ok() {
                connection.read_to_end();
            }
        }
    }
    assert!(server.get(&id_of(&body)).expect(200).body == body);
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() {
    let (server, _data) = start();
    for size in [5_000, 3_000_000] {
        let body = content(9, size);
        for part in [0, 1, size / 2, size - 1] {
            for request in [
                Request::upload(&body).token(WRITE_TOKEN).bytes(),
                Request::new("POST", "/v1/blobs")
                    .field("Content-Type", "application/octet-stream")
                    .token(WRITE_TOKEN)
                    .chunked(&body, &[1 << 16])
                    .bytes(),
            ] {
                let body_start = request.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
                let mut connection = server.connect();
                connection.send(&request[..body_start + part]).unwrap();
                connection.end_sending().unwrap();
                connection.response(false).unwrap().expect_error(400, "incomplete body");
                connection.expect_closed();
                // And without a word.
                let mut connection = server.connect();
                connection.send(&request[..body_start + part]).unwrap();
                drop(connection);
            }
        }
        server.get(&id_of(&body)).expect(404);
    }
    assert!(server.list(10).is_empty());
    space_comes_back(&server);
}

/// What uploads took that broke off is given back.
fn space_comes_back(server: &Server) {
    use simd_json::prelude::*;
    wait_for("the space of broken uploads to come back", || {
        let state = server.exchange(&Request::get("/v1/cluster/state").token(READ_TOKEN)).expect(200).json();
        let used = state.get_array("nodes")?[0].get_u64("used_bytes")?;
        (used == 0).then_some(())
    });
}

#[test]
fn a_client_that_stops_in_the_middle_is_ended_by_a_timeout() {
    let (server, _data) =
        start_with("limits:\n  head_timeout_ms: 200\n  idle_timeout_ms: 300\n  progress_timeout_ms: 200\n");
    let mut connection = server.connect();
    connection.send(b"GET /healthz HTT").unwrap();
    connection.response(false).unwrap().expect_error(408, "request timeout");
    connection.expect_closed();

    let mut connection = server.connect();
    connection.send(&Request::upload(&content(1, 100_000)).token(WRITE_TOKEN).bytes()[..50_000]).unwrap();
    connection.response(false).unwrap().expect_error(408, "request timeout");
    connection.expect_closed();

    let mut idle = server.connect();
    idle.expect_closed();
    let mut idle = server.connect();
    idle.exchange(&Request::get("/healthz")).expect(200);
    idle.expect_closed();
    assert!(server.list(10).is_empty());
}

/// Takes as many connections as there may be. One that was closed before may still be counted, so
/// one that is refused is tried again; health would be answered all the same.
fn hold(server: &Server, count: usize) -> Vec<Connection> {
    let mut held = Vec::new();
    while held.len() < count {
        let mut connection = server.connect();
        if connection.exchange(&Request::get("/v1/blobs").token(READ_TOKEN)).status() == 200 {
            held.push(connection);
        }
    }
    held
}

#[test]
fn more_connections_than_the_limit_are_told_so() {
    let (server, _data) = start_with("limits:\n  connections_max: 4\n");
    let list = Request::get("/v1/blobs").token(READ_TOKEN);
    let mut held = hold(&server, 4);
    let mut fifth = server.connect();
    let response = fifth.response(false).unwrap();
    response.expect_error(503, "too many connections");
    assert!(response.number("Retry-After") > 0);
    fifth.end_sending().unwrap();
    fifth.expect_closed();
    for connection in &mut held {
        connection.exchange(&Request::get("/healthz")).expect(200);
    }
    held.pop();
    wait_for("the place of a connection that left", || {
        let mut connection = server.connect();
        (connection.try_exchange(&list).ok()?.status() == 200).then_some(())
    });
}

#[test]
fn health_is_answered_also_when_every_connection_is_taken() {
    let (server, _data) = start_with("limits: {connections_max: 2}\n");
    let mut taken = hold(&server, 2);
    for path in ["/healthz", "/livez", "/readyz"] {
        let mut connection = server.connect();
        let response = connection.exchange(&Request::get(path)).expect(200);
        assert_eq!(response.field("Connection"), Some("close"), "{path}");
        connection.expect_closed();
    }
    server.connect().exchange(&Request::get("/v1/blobs").token(READ_TOKEN)).expect_error(503, "too many connections");
    // Who has no place gets little memory: more than a request for health needs is not held.
    let long = Request::get("/healthz").field("X", &"x".repeat(3 << 10));
    server.connect().exchange(&long).expect_error(503, "too many connections");
    taken.pop();
    wait_for("room", || {
        let response = server.connect().exchange(&Request::get("/v1/blobs").token(READ_TOKEN));
        (response.status() == 200).then_some(())
    });
}

#[test]
fn strangers_that_wait_make_room_and_who_has_shown_a_token_does_not() {
    let data = directory();
    let mut options = Options::new(data.path());
    options.cores = 1;
    options.config.push_str("limits: {connections_max: 4}\n");
    let server = options.start();
    let list = Request::get("/v1/blobs").token(READ_TOKEN);
    let mut known = hold(&server, 2);
    let mut silent = server.connect();
    let mut unfinished = server.connect();
    unfinished.send(b"GET / HTTP/1.1\r\n").expect("sent");
    let connections = |known: &mut Connection| {
        let scrape = known.exchange(&Request::get("/metrics").token(READ_TOKEN)).expect(200);
        Exposition::parse(std::str::from_utf8(&scrape.body).expect("text")).sum("nabu_connections")
    };
    wait_for("both to be counted", || (connections(&mut known[0]) == 4.0).then_some(()));
    // What began before has been looked at by then.
    known[0].exchange(&list).expect(200);
    // Health and wrong tokens make nobody known. It takes the place of the silent one.
    let mut guesser = server.connect();
    guesser.exchange(&Request::get("/healthz")).expect(200);
    guesser.exchange(&Request::get("/v1/blobs").token("a-token-that-nobody-knows")).expect(401);
    silent.expect_closed();
    for stranger in [&mut unfinished, &mut guesser] {
        let mut newcomer = server.connect();
        newcomer.exchange(&list).expect(200);
        stranger.expect_closed();
        known.push(newcomer);
    }
    server.connect().exchange(&list).expect_error(503, "too many connections");
    for connection in &mut known {
        connection.exchange(&list).expect(200);
    }
    let scrape = known[0].exchange(&Request::get("/metrics").token(READ_TOKEN)).expect(200);
    let scrape = Exposition::parse(std::str::from_utf8(&scrape.body).expect("text"));
    assert!(scrape.value("nabu_connections_evicted_total", &[("reason", "stranger")]) >= 3.0);
}

#[test]
fn one_address_leaves_room_for_others() {
    let config = "limits: {connections_max: 100, connections_per_address_max: 3, exempt_addresses: 192.0.2.0/24}\n";
    let (server, _data) = start_with(config);
    let mut taken = hold(&server, 3);
    let list = Request::get("/v1/blobs").token(READ_TOKEN);
    let message = server.connect().exchange(&list).expect_error(503, "too many connections");
    assert!(message.contains("3 connections at once from one address"), "{message}");
    taken.pop();
    wait_for("room", || (server.connect().exchange(&list).status() == 200).then_some(()));
}

#[test]
fn heads_that_are_never_finished_are_bounded_in_memory_and_the_oldest_go_first() {
    let data = directory();
    let mut options = Options::new(data.path());
    (options.cores, options.memory) = (1, "16MiB".to_owned());
    let server = options.start();
    // A megabyte is for all of them.
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(15 << 10));
    let mut unfinished: Vec<Connection> = (0..200)
        .map(|_| {
            let mut connection = server.connect();
            connection.send(head.as_bytes()).expect("sent");
            connection
        })
        .collect();
    let evicted = || {
        let scrape = server.exchange(&Request::get("/metrics").token(READ_TOKEN)).expect(200);
        let scrape = Exposition::parse(std::str::from_utf8(&scrape.body).expect("text"));
        scrape.value("nabu_connections_evicted_total", &[("reason", "unfinished")])
    };
    wait_for("enough of them are gone", || (evicted() >= 100.0).then_some(()));
    unfinished[0].expect_closed();
    let last = unfinished.last_mut().expect("there are some");
    last.send(b"\r\n\r\n").expect("sent");
    last.response(false).expect("an answer").expect_error(404, "not found");
}
