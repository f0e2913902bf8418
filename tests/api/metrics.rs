//! `GET /metrics`: valid, documented, and exact.

use crate::support::content::{content, id_of};
use crate::support::exposition::{Exposition, check_documented};
use crate::support::http::{Connection, Request};
use crate::support::server::{ADMIN_TOKEN, Options, READ_TOKEN, Server, WRITE_TOKEN, directory};
use crate::support::wait_for;
use crate::{start, start_with};

#[track_caller]
fn scrape_on(connection: &mut Connection) -> (Exposition, usize) {
    let response = connection.exchange(&Request::get("/metrics").token(READ_TOKEN)).expect(200);
    assert_eq!(response.field("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = std::str::from_utf8(&response.body).expect("a scrape is text");
    (Exposition::parse(text), response.body.len())
}

/// A scrape when nothing but itself is being served: an answer may arrive before it is counted.
#[track_caller]
fn settled(connection: &mut Connection) -> (Exposition, usize) {
    let mut bytes = 0;
    let scrape = wait_for("all requests to be counted", || {
        let (scrape, size) = scrape_on(connection);
        bytes += size;
        (scrape.value("nabu_http_requests_in_flight", &[]) == 1.0).then_some(scrape)
    });
    (scrape, bytes)
}

#[track_caller]
fn scrape(server: &Server) -> Exposition {
    settled(&mut server.connect()).0
}

#[test]
fn a_scrape_is_valid_and_documented_and_so_is_one_of_a_server_that_worked() {
    let (server, _data) = start();
    check_documented(&scrape(&server));
    let bytes = content(1, 5 << 20);
    server.put(&bytes).expect(201);
    server.get(&id_of(&bytes)).expect(200);
    server.delete(&id_of(&bytes)).expect(200);
    let scrape = scrape(&server);
    check_documented(&scrape);
    assert_eq!(scrape.find("nabu_ready", &[]), Some(1.0));
    assert_eq!(scrape.sum("nabu_core_answered"), 2.0);
    assert!(scrape.value("nabu_process_resident_memory_bytes", &[]) > 1e6);
    assert!(scrape.sum("nabu_core_busy_seconds_total") > 0.0);
    assert!(scrape.value("nabu_store_capacity_bytes", &[]) > scrape.value("nabu_store_available_bytes", &[]));
}

#[test]
fn counters_move_by_exactly_the_requests_that_were_made() {
    // With one core and one connection every request is counted before the next one.
    let data = directory();
    let server = Options { cores: 1, ..Options::new(data.path()) }.start();
    let mut connection = server.connect();
    let (small, large) = (content(1, 3_000), content(2, 5 << 20));
    let (small_blob, large_blob) = (format!("/v1/blobs/{}", id_of(&small)), format!("/v1/blobs/{}", id_of(&large)));
    let (before, scrape_bytes) = scrape_on(&mut connection);
    let upload = |bytes: &[u8]| Request::upload(bytes).token(WRITE_TOKEN);
    let get = |target: &str| Request::get(target).token(READ_TOKEN);
    let chunked = Request::new("POST", "/v1/blobs")
        .field("Content-Type", "application/octet-stream")
        .token(WRITE_TOKEN)
        .chunked(&small, &[7, 1000]);
    let made = [
        (upload(&small), "/v1/blobs", 201),
        (upload(&large), "/v1/blobs", 201),
        (chunked, "/v1/blobs", 200),
        (get(&small_blob), "/v1/blobs/{id}", 200),
        (get(&small_blob), "/v1/blobs/{id}", 200),
        (get(&large_blob), "/v1/blobs/{id}", 200),
        (get(&large_blob).field("Range", "bytes=100000-299999"), "/v1/blobs/{id}", 206),
        (get(&large_blob).field("Range", "bytes=99999999-"), "/v1/blobs/{id}", 416),
        (Request::new("HEAD", &large_blob).token(READ_TOKEN), "/v1/blobs/{id}", 200),
        (get("/v1/blobs?limit=10"), "/v1/blobs", 200),
        (Request::new("DELETE", &small_blob).token(WRITE_TOKEN), "/v1/blobs/{id}", 200),
        (get(&small_blob), "/v1/blobs/{id}", 404),
        (Request::get("/v1/blobs/xyz").token(READ_TOKEN), "/v1/blobs/{id}", 400),
        (Request::get("/v1/blobs"), "/v1/blobs", 401),
        (Request::new("BREW", "/v1/blobs"), "/v1/blobs", 405),
        (Request::get("/healthz"), "/healthz", 200),
        (Request::get("/nowhere/at/all"), "unknown", 404),
    ];
    let mut sent_bytes = scrape_bytes;
    for (request, route, status) in &made {
        let response = connection.exchange(request).expect(*status);
        assert!(!response.body.is_empty() || request.is_head(), "{route} {status}");
        sent_bytes += response.body.len();
    }
    let (after, _) = scrape_on(&mut connection);
    let moved = |name: &str, labels: &[(&str, &str)]| after.value(name, labels) - before.value(name, labels);
    let requests = |route: &str, method: &str, status: u16| {
        let status = status.to_string();
        moved("nabu_http_requests_total", &[("route", route), ("method", method), ("status", &status)])
    };
    for (route, method, status, count) in [
        ("/v1/blobs", "POST", 201, 2.0),
        ("/v1/blobs", "POST", 200, 1.0),
        ("/v1/blobs", "GET", 200, 1.0),
        ("/v1/blobs", "GET", 401, 1.0),
        ("/v1/blobs", "other", 405, 1.0),
        ("/v1/blobs/{id}", "GET", 200, 3.0),
        ("/v1/blobs/{id}", "GET", 206, 1.0),
        ("/v1/blobs/{id}", "GET", 416, 1.0),
        ("/v1/blobs/{id}", "GET", 404, 1.0),
        ("/v1/blobs/{id}", "GET", 400, 1.0),
        ("/v1/blobs/{id}", "HEAD", 200, 1.0),
        ("/v1/blobs/{id}", "DELETE", 200, 1.0),
        ("/healthz", "GET", 200, 1.0),
        ("unknown", "GET", 404, 1.0),
        ("/metrics", "GET", 200, 1.0),
    ] {
        assert_eq!(requests(route, method, status), count, "{method} {route} {status}");
    }
    let total = made.len() as f64 + 1.0;
    assert_eq!(after.sum("nabu_http_requests_total") - before.sum("nabu_http_requests_total"), total);
    for family in ["nabu_http_request_duration_seconds", "nabu_http_time_to_first_byte_seconds"] {
        let labels = [("route", "/v1/blobs/{id}"), ("method", "GET")];
        assert_eq!(moved(&format!("{family}_count"), &labels), 7.0, "{family}");
        assert!(moved(&format!("{family}_sum"), &labels) > 0.0, "{family}");
    }
    let received = 2 * small.len() + large.len();
    assert_eq!(moved("nabu_http_received_body_bytes_total", &[]), received as f64);
    assert_eq!(moved("nabu_http_sent_body_bytes_total", &[]), sent_bytes as f64);
    for (error, count) in [
        ("range_not_satisfiable", 1.0),
        ("blob_not_found", 1.0),
        ("invalid_blob_id", 1.0),
        ("unauthorized", 1.0),
        ("method_not_allowed", 1.0),
        ("not_found", 1.0),
    ] {
        assert_eq!(moved("nabu_errors_total", &[("error", error)]), count, "{error}");
    }
    assert_eq!(after.sum("nabu_errors_total") - before.sum("nabu_errors_total"), 6.0);
    // Two blobs and a deletion; the content that was there already needed no record.
    assert_eq!(moved("nabu_log_records_total", &[]), 4.0, "the pieces of a large blob have a commit of their own");
    assert_eq!(moved("nabu_log_commit_duration_seconds_count", &[]), moved("nabu_log_commits_total", &[]));
    assert_eq!(moved("nabu_log_commit_records_sum", &[]), moved("nabu_log_records_total", &[]));
    assert!(moved("nabu_log_written_bytes_total", &[]) > large.len() as f64);
    assert_eq!(moved("nabu_store_blobs", &[]), 1.0);
    assert!(moved("nabu_cache_hits_total", &[]) > 0.0);
    assert_eq!(moved("nabu_http_answers_broken_total", &[]), 0.0);
    assert_eq!(
        after.value("nabu_connections_accepted_total", &[("core", "0")]),
        after.sum("nabu_connections_accepted_total")
    );
}

#[test]
fn the_cores_are_added_up_whoever_answers() {
    let (server, _data) = start();
    let before = scrape(&server);
    // Enough connections that both cores get some.
    let mut connections: Vec<Connection> = (0..32).map(|_| server.connect()).collect();
    for connection in &mut connections {
        connection.exchange(&Request::get("/healthz")).expect(200);
    }
    let after = scrape(&server);
    let labels = [("route", "/healthz"), ("method", "GET"), ("status", "200")];
    let moved = after.value("nabu_http_requests_total", &labels) - before.value("nabu_http_requests_total", &labels);
    assert_eq!(moved, 32.0);
    assert!(after.sum("nabu_connections") >= 33.0, "those and the one of the scrape");
    drop(connections);
    wait_for("the connections to be gone", || (scrape(&server).sum("nabu_connections") < 33.0).then_some(()));
}

#[test]
fn a_token_that_may_read_is_needed() {
    let (server, _data) = start();
    let mut connection = server.connect();
    connection.exchange(&Request::get("/metrics")).expect_error(401, "unauthorized");
    connection.exchange(&Request::get("/metrics").token("a-token-that-nobody-knows")).expect_error(401, "unauthorized");
    for token in [READ_TOKEN, WRITE_TOKEN, ADMIN_TOKEN] {
        connection.exchange(&Request::get("/metrics").token(token)).expect(200);
    }
    let head = connection.exchange(&Request::new("HEAD", "/metrics").token(READ_TOKEN)).expect(200);
    assert!(head.number("Content-Length") > 1000);
    let response = connection.exchange(&Request::new("POST", "/metrics").token(ADMIN_TOKEN));
    response.expect_error(405, "method not allowed");
    assert_eq!(response.field("Allow"), Some("GET, HEAD"));
}

#[test]
fn what_is_no_request_is_counted_as_unknown_and_a_connection_over_the_limit_as_refused() {
    let (server, _data) = start_with("limits:\n  connections_max: 3\n");
    let mut connection = wait_for("a free connection", || {
        let mut connection = server.connect();
        (connection.exchange(&Request::get("/healthz")).status() == 200).then_some(connection)
    });
    let (before, _) = settled(&mut connection);
    // Those that asked whether the server is ready may still be on their way out, so the limit is
    // reached by the second to fourth of these.
    let mut held = Vec::new();
    loop {
        let mut next = server.connect();
        if next.exchange(&Request::get("/healthz")).status() == 503 {
            break;
        }
        held.push(next);
        assert!(held.len() < 3, "more connections than the limit");
    }
    let (after, _) = settled(&mut connection);
    let moved = |name: &str| after.value(name, &[]) - before.value(name, &[]);
    assert_eq!(moved("nabu_connections_refused_total"), 1.0);
    assert_eq!(after.value("nabu_errors_total", &[("error", "too_many_connections")]), 1.0);
    assert_eq!(after.value("nabu_connections_max", &[]), 3.0);

    let (server, _data) = start();
    let mut connection = server.connect();
    connection.send(b"GET / HTTP/9.9\r\n\r\n").unwrap();
    connection.response(false).unwrap().expect_error(505, "HTTP version not supported");
    let labels = [("route", "unknown"), ("method", "other"), ("status", "505")];
    let counted = || scrape(&server).find("nabu_http_requests_total", &labels);
    assert_eq!(wait_for("the request to be counted", counted), 1.0);
    assert_eq!(scrape(&server).value("nabu_errors_total", &[("error", "http_version_not_supported")]), 1.0);
}
