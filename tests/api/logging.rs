//! The access log and the log of slow requests, as text and as JSON.

use simd_json::OwnedValue;
use simd_json::prelude::*;

use crate::support::content::{content, id_of};
use crate::support::http::Request;
use crate::support::server::{ADMIN_TOKEN, Options, READ_TOKEN, Server, WRITE_TOKEN, directory};

/// A server on one core with an empty store and this below `log`.
#[track_caller]
fn start(log: &str) -> (Server, tempfile::TempDir) {
    let data = directory();
    let mut options = Options { cores: 1, ..Options::new(data.path()) };
    options.config.push_str(&format!("log: {log}\n"));
    (options.start(), data)
}

/// Everything that the server logged, from its start to its end.
#[track_caller]
fn log_of(mut server: Server) -> String {
    server.process.signal("TERM");
    assert!(server.process.wait().success());
    server.process.log.text()
}

/// The events of a target in a log of JSON lines.
fn events(log: &str, target: &str) -> Vec<OwnedValue> {
    let parse = |line: &str| {
        let mut bytes = line.as_bytes().to_vec();
        let keys = line.matches("\"target\":").count();
        assert_eq!(keys, 1, "a key comes twice: {line}");
        simd_json::to_owned_value(&mut bytes).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    log.lines().map(parse).filter(|event| event.get_str("target") == Some(target)).collect()
}

#[test]
fn an_access_log_has_an_event_for_every_request_with_all_that_it_took() {
    // Whatever the level of the rest; without the line that the server listens no test would find
    // it.
    let (server, _data) = start("{level: 'warn,nabu_store::node=info', format: json, access: {enabled: true}}");
    let mut connection = server.connect();
    let bytes = content(1, 100_000);
    let id = id_of(&bytes);
    let request = |request: Request, request_id: &str| {
        request.field("X-Request-Id", request_id).field("User-Agent", "a \"quoted\" agent/1.0")
    };
    connection.exchange(&request(Request::upload(&bytes).token(WRITE_TOKEN), "put")).expect(201);
    let get = Request::get(&format!("/v1/blobs/{id}")).token(READ_TOKEN);
    connection.exchange(&request(get, "get")).expect(200);
    connection
        .exchange(&request(Request::get("/nowhere?secret=hunter2").field("X-API-Key", ADMIN_TOKEN), "lost"))
        .expect(404);
    connection.send(b"GET / HTTP/9.9\r\n\r\n").unwrap();
    connection.response(false).unwrap().expect_error(505, "HTTP version not supported");

    let log = log_of(server);
    let events = events(&log, "nabu_store::access");
    let find = |request_id: &str| {
        let mut found = events.iter().filter(|event| event.get_str("request_id") == Some(request_id));
        let event = found.next().unwrap_or_else(|| panic!("no event of {request_id} in {log}"));
        assert!(found.next().is_none(), "one event a request: {log}");
        assert_eq!(event.get_str("level"), Some("INFO"));
        assert_eq!(event.get_str("user_agent"), Some("a \"quoted\" agent/1.0"));
        assert!(event.get_str("peer").is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{event}");
        assert!(event.get_u64("duration_us").is_some(), "{event}");
        assert_eq!(event.get_bool("complete"), Some(true));
        event
    };
    let put = find("put");
    assert_eq!((put.get_str("method"), put.get_str("path")), (Some("POST"), Some("/v1/blobs")));
    assert_eq!((put.get_u64("status"), put.get_u64("received")), (Some(201), Some(100_000)));
    assert_eq!(put.get_str("blob"), Some(&*id));
    let get = find("get");
    assert_eq!(get.get_str("path"), Some(&*format!("/v1/blobs/{id}")));
    assert_eq!((get.get_u64("status"), get.get_u64("sent")), (Some(200), Some(100_000)));
    assert_eq!((get.get_u64("received"), get.get_str("blob")), (Some(0), Some(&*id)));
    let lost = find("lost");
    assert_eq!((lost.get_u64("status"), lost.get("blob")), (Some(404), None));
    assert_eq!(lost.get_str("path"), Some("/nowhere"), "without the query");
    assert!(events.iter().any(|event| event.get_u64("status") == Some(505)), "what can't be read is there too");
    for secret in [READ_TOKEN, WRITE_TOKEN, ADMIN_TOKEN, "hunter2"] {
        assert!(!log.contains(secret), "{secret} is in {log}");
    }
}

#[test]
fn an_access_log_as_text_has_the_same() {
    let (server, _data) = start("{access: {enabled: true}}");
    server.exchange(&Request::get("/healthz").field("X-Request-Id", "mine")).expect(200);
    let log = log_of(server);
    let mut lines = log.lines().filter(|line| line.contains("request_id=\"mine\""));
    let line = lines.next().unwrap_or_else(|| panic!("{log}"));
    for part in ["INFO nabu_store::access: request ", "method=\"GET\"", "path=\"/healthz\"", "status=200"] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(!line.contains("blob=") && lines.next().is_none(), "{log}");
}

#[test]
fn the_access_log_is_off_by_default_and_a_sample_has_its_part_and_every_failure() {
    for (access, expected) in [("{}", 0), ("{enabled: true, sample: 0}", 1), ("{enabled: true, sample: 0.25}", 26)] {
        let (server, _data) = start(&format!("{{format: json, access: {access}}}"));
        let mut connection = server.connect();
        let probes = "nabu-probe";
        for _ in 0..100 {
            connection.exchange(&Request::get("/healthz").field("User-Agent", probes)).expect(200);
        }
        let join = Request::json("/v1/cluster/join", "{}").token(ADMIN_TOKEN).field("User-Agent", probes);
        connection.exchange(&join).expect(503);
        let log = log_of(server);
        let events = events(&log, "nabu_store::access");
        let ours = events.iter().filter(|event| event.get_str("user_agent") == Some(probes)).count();
        // Of a hundred in a row a quarter, wherever the requests that asked whether the server is
        // ready have left the sample.
        assert_eq!(ours, expected, "{access}");
        assert_eq!(events.iter().filter(|event| event.get_u64("status") == Some(503)).count().min(1), expected.min(1));
    }
}

#[test]
fn a_slow_request_says_where_its_time_went_and_a_clients_time_is_not_the_servers() {
    let (server, _data) = start("{format: json, slow_request_ms: 0}");
    let bytes = content(1, 3 << 20);
    let request =
        Request::upload(&bytes).token(WRITE_TOKEN).field("X-Request-Id", "slow-client").field("Expect", "100-continue");
    let mut connection = server.connect();
    connection.send(&request.head_bytes()).unwrap();
    assert_eq!(connection.head().unwrap().status, 100);
    // The client takes its time; the server waits for it.
    std::thread::sleep(std::time::Duration::from_millis(50));
    connection.send(request.body_bytes()).unwrap();
    connection.response(false).unwrap().expect(201);
    let target = format!("/v1/blobs/{}", id_of(&bytes));
    connection.exchange(&Request::get(&target).token(READ_TOKEN).field("X-Request-Id", "get")).expect(200);

    let log = log_of(server);
    let events = events(&log, "nabu_store::slow");
    let find = |request_id: &str| {
        let found = events.iter().find(|event| event.get_str("request_id") == Some(request_id));
        found.unwrap_or_else(|| panic!("no event of {request_id} in {log}"))
    };
    const OWN: [&str; 6] = ["prepare", "buffer", "hash", "commit", "read", "encrypt"];
    let number = |event: &OwnedValue, key: &str| event.get_u64(key).unwrap_or_else(|| panic!("{key} in {event}"));
    for event in [find("slow-client"), find("get")] {
        let phase = |name: &str| number(event, &format!("{name}_us"));
        let own: u64 = OWN.into_iter().map(phase).sum();
        // Each figure is cut to whole microseconds.
        assert!((own..own + 8).contains(&number(event, "own_us")), "{event}");
        let all = own + phase("receive") + phase("send");
        assert!((all..all + 8).contains(&number(event, "duration_us")), "{event}");
        let slowest = event.get_str("slowest").expect("a phase");
        assert!(OWN.into_iter().all(|name| phase(name) <= phase(slowest)), "{event}");
        assert_eq!(event.get_str("level"), Some("WARN"));
    }
    let put = find("slow-client");
    for phase in ["receive_us", "hash_us", "commit_us"] {
        assert!(number(put, phase) > 0, "{phase} in {put}");
    }
    assert_eq!(number(put, "read_us"), 0, "an upload reads nothing");
    let get = find("get");
    assert_eq!((number(get, "hash_us"), number(get, "commit_us"), number(get, "receive_us")), (0, 0, 0));
    assert!(number(get, "send_us") > 0, "{get}");
}

#[test]
fn nothing_is_slow_below_the_threshold() {
    let (server, _data) = start("{format: json, slow_request_ms: 3600000}");
    server.put(&content(1, 100_000)).expect(201);
    assert_eq!(events(&log_of(server), "nabu_store::slow").len(), 0);
}

#[test]
fn changes_and_refusals_are_logged_with_who_made_them() {
    let (server, _data) = start("{level: 'warn,nabu_store::node=info', format: json, audit: true}");
    let bytes = content(1, 10_000);
    let id = server.put(&bytes).expect(201).string("id");
    let path = format!("/v1/blobs/{id}");
    let asked = |request: Request, request_id: &str| server.exchange(&request.field("X-Request-Id", request_id));
    asked(Request::get(&path).token(READ_TOKEN), "read").expect(200);
    asked(Request::new("DELETE", &path).token(READ_TOKEN), "forbidden").expect(403);
    asked(Request::new("DELETE", &path).token("a-guess-of-a-token"), "guess").expect(401);
    asked(Request::new("DELETE", &path).token(WRITE_TOKEN), "delete").expect(200);
    asked(Request::new("DELETE", &path).token(WRITE_TOKEN), "again").expect(404);
    let log = log_of(server);
    let events = events(&log, "nabu_store::audit");
    let find = |request_id: &str| events.iter().find(|event| event.get_str("request_id") == Some(request_id));
    let delete = find("delete").unwrap_or_else(|| panic!("{log}"));
    assert_eq!((delete.get_str("method"), delete.get_str("blob")), (Some("DELETE"), Some(&*id)));
    assert!(delete.get_str("token").is_some_and(|name| !name.is_empty()), "{delete}");
    let forbidden = find("forbidden").unwrap_or_else(|| panic!("{log}"));
    assert_eq!(forbidden.get_u64("status"), Some(403));
    assert!(forbidden.get_str("token") != delete.get_str("token"), "{forbidden}");
    let guess = find("guess").unwrap_or_else(|| panic!("{log}"));
    assert_eq!((guess.get_u64("status"), guess.get("token")), (Some(401), None));
    assert!(guess.get_str("peer").is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{guess}");
    assert!(find("read").is_none() && find("again").is_none(), "{log}");
    assert_eq!(events.len(), 4, "the upload, too: {log}");
    for secret in [READ_TOKEN, WRITE_TOKEN, "a-guess-of-a-token"] {
        assert!(!log.contains(secret), "{secret} is in {log}");
    }
}

#[test]
fn the_trace_of_a_request_is_in_every_line_about_it() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let log = "{level: info, format: json, audit: true, slow_request_ms: 0, access: {enabled: true, sample: 1}}";
    let (server, _data) = start(log);
    let ask = |request_id: &str, traceparent: &str| {
        let request = Request::upload(b"abc").field("X-Request-Id", request_id).field("traceparent", traceparent);
        server.exchange(&request.token(WRITE_TOKEN)).status()
    };
    assert_eq!(ask("traced", &format!("00-{TRACE}-00f067aa0ba902b7-01")), 201);
    assert_eq!(ask("malformed", &format!("00-{TRACE}-0000000000000000-01")), 200);
    let log = log_of(server);
    for target in ["nabu_store::access", "nabu_store::audit", "nabu_store::slow"] {
        let events = events(&log, target);
        let find = |request_id: &str| {
            let mut events = events.iter();
            events.find(|event| event.get_str("request_id") == Some(request_id)).unwrap_or_else(|| panic!("{log}"))
        };
        let traced = find("traced");
        assert_eq!(
            (traced.get_str("trace_id"), traced.get_str("parent_id")),
            (Some(TRACE), Some("00f067aa0ba902b7")),
            "{traced}"
        );
        assert_eq!(find("malformed").get("trace_id"), None);
    }
}
