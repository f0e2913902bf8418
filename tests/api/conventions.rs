//! What holds for every endpoint: paths, methods, request ids, tokens and roles, limits of the
//! head.

use crate::start;
use crate::support::content::{content, id_of};
use crate::support::http::Request;
use crate::support::server::{ADMIN_TOKEN, READ_TOKEN, WRITE_TOKEN};

const ID: &str = "000102030405060708090a0b0c0d0e0f";

#[test]
fn an_unknown_path_is_404_and_another_method_405_with_allow() {
    let (server, _data) = start();
    let mut connection = server.connect();
    for path in ["/", "/v1", "/v1/blobs/", "/v1/blob", "/V1/blobs", "/v1/blobs/a/b", "/v1/cluster", "/v3/blobs"] {
        let response = connection.exchange(&Request::get(path).token(ADMIN_TOKEN));
        if path == "/v1/blobs/" {
            response.expect_error(400, "invalid blob ID");
        } else {
            response.expect_error(404, "not found");
        }
    }
    for (method, path, allow) in [
        ("PUT", "/v1/blobs", "GET, HEAD, POST"),
        ("DELETE", "/v1/blobs", "GET, HEAD, POST"),
        ("POST", &*format!("/v1/blobs/{ID}"), "GET, HEAD, DELETE"),
        ("PATCH", &*format!("/v1/blobs/{ID}"), "GET, HEAD, DELETE"),
        ("POST", "/healthz", "GET, HEAD"),
        ("DELETE", "/readyz", "GET, HEAD"),
        ("POST", "/v1/cluster/state", "GET, HEAD"),
        ("GET", "/v1/cluster/join", "POST"),
        ("BREW", "/v1/blobs", "GET, HEAD, POST"),
    ] {
        // Without a token too: which methods a path has is no secret.
        let response = connection.exchange(&Request::new(method, path));
        response.expect_error(405, "method not allowed");
        assert_eq!(response.field("Allow"), Some(allow), "{method} {path}");
    }
}

#[test]
fn a_query_parameter_that_an_endpoint_does_not_have_is_400_with_those_it_has() {
    let (server, _data) = start();
    let mut connection = server.connect();
    for (path, known) in [
        ("/v1/blobs?limit=1&prefix=a", "limit and cursor"),
        (&*format!("/v1/blobs/{ID}?versionId=1"), "none"),
        ("/healthz?verbose", "none"),
        ("/v1/cluster/state?x=1", "none"),
    ] {
        let response = connection.exchange(&Request::get(path).token(ADMIN_TOKEN));
        let message = response.expect_error(400, "unknown query parameter");
        assert!(message.contains(known), "{path}: {message}");
    }
    // Who asks comes before what is asked.
    connection.exchange(&Request::get("/v1/blobs?prefix=a")).expect_error(401, "unauthorized");
}

#[test]
fn a_field_that_may_stand_once_and_stands_twice_is_400_as_are_two_kinds_of_credentials() {
    let (server, _data) = start();
    let mut connection = server.connect();
    let get = Request::get("/v1/blobs").token(READ_TOKEN);
    for (request, name) in [
        (get.clone().token(READ_TOKEN), "authorization"),
        (get.clone().field("Range", "bytes=0-1").field("range", "bytes=0-1"), "range"),
        (Request::upload(b"x").token(WRITE_TOKEN).field("Content-Type", "application/json"), "content-type"),
        (get.clone().field("X-API-Key", READ_TOKEN), "X-API-Key"),
    ] {
        let message = connection.exchange(&request).expect_error(400, "repeated field");
        assert!(message.contains(name), "{message}");
    }
    assert!(server.list(10).is_empty(), "nothing was stored");
}

#[test]
fn a_sane_request_id_comes_back_and_any_other_is_replaced() {
    let (server, _data) = start();
    let mut connection = server.connect();
    let mut id_for = |sent: Option<&str>| {
        let mut request = Request::get("/healthz");
        if let Some(sent) = sent {
            request = request.field("X-Request-Id", sent);
        }
        connection.exchange(&request).expect(200).field("X-Request-Id").expect("an id").to_owned()
    };
    assert_eq!(id_for(Some("trace-1.a_b:c")), "trace-1.a_b:c");
    let first = id_for(None);
    assert_ne!(first, id_for(None));
    for sent in ["", "two words", "quote\"", &"x".repeat(1000), "\u{e4}"] {
        let id = id_for(Some(sent));
        assert!(!id.is_empty() && id != sent && id.is_ascii(), "{id}");
    }
    // Errors carry it too, those of the parser a fresh one.
    let response = server.exchange(&Request::get("/nowhere").field("X-Request-Id", "mine"));
    assert_eq!(response.field("X-Request-Id"), Some("mine"));
    let mut connection = server.connect();
    connection.send(b"GET / HTTP/9.9\r\n\r\n").unwrap();
    assert!(connection.response(false).unwrap().field("X-Request-Id").is_some());
}

#[test]
fn a_token_is_needed_and_may_come_either_way() {
    let (server, _data) = start();
    let mut connection = server.connect();
    let list = Request::get("/v1/blobs");
    for request in [
        list.clone(),
        list.clone().token("a-token-that-nobody-knows"),
        list.clone().token(""),
        list.clone().token(&READ_TOKEN.to_uppercase()),
        list.clone().token(&READ_TOKEN[1..]),
        list.clone().field("Authorization", READ_TOKEN),
        list.clone().field("Authorization", &format!("Basic {READ_TOKEN}")),
        list.clone().field("Authorization", &format!("Bearer{READ_TOKEN}")),
        list.clone().field("X-API-Key", "a-token-that-nobody-knows"),
        Request::get(&format!("/v1/blobs/{ID}")),
        Request::get("/v1/blobs/no-id"),
        Request::get("/v1/cluster/state"),
        Request::new("DELETE", &format!("/v1/blobs/{ID}")),
        Request::upload(b"x"),
        Request::json("/v1/cluster/join", "{}"),
    ] {
        let response = connection.exchange(&request);
        let message = response.expect_error(401, "unauthorized");
        assert_eq!(response.field("WWW-Authenticate"), Some("Bearer"));
        assert!(!message.contains("nobody"), "an answer repeats a token: {message}");
    }
    for request in [
        list.clone().token(READ_TOKEN),
        list.clone().field("authorization", &format!("bearer {READ_TOKEN}")),
        list.clone().field("AUTHORIZATION", &format!("BEARER   {READ_TOKEN}")),
        list.clone().field("X-API-Key", READ_TOKEN),
        list.clone().field("x-api-key", ADMIN_TOKEN),
    ] {
        connection.exchange(&request).expect(200);
    }
    for open in ["/healthz", "/readyz"] {
        connection.exchange(&Request::get(open)).expect(200);
        connection.exchange(&Request::get(open).token("a-token-that-nobody-knows")).expect(200);
    }
}

#[test]
fn a_role_may_do_what_the_lower_ones_may_and_no_more() {
    let (server, _data) = start();
    let mut connection = server.connect();
    let body = content(1, 100);
    let blob = format!("/v1/blobs/{}", id_of(&body));
    let operations = [
        (Request::upload(&body), [403, 201, 200]),
        (Request::get("/v1/blobs"), [200, 200, 200]),
        (Request::get(&blob), [200, 200, 200]),
        (Request::new("HEAD", &blob), [200, 200, 200]),
        (Request::get("/v1/cluster/state"), [200, 200, 200]),
        (Request::json("/v1/cluster/join", "{}"), [403, 403, 503]),
        (Request::new("DELETE", &blob), [403, 200, 404]),
    ];
    for (request, statuses) in operations {
        for (token, status) in [READ_TOKEN, WRITE_TOKEN, ADMIN_TOKEN].iter().zip(statuses) {
            let response = connection.exchange(&request.clone().token(token)).expect(status);
            if status == 403 {
                let message = response.expect_error(403, "forbidden");
                assert!(message.contains("role"), "{message}");
            }
        }
    }
}

#[test]
fn a_head_over_its_limits_is_refused_and_the_connection_closed() {
    let (server, _data) = start();
    let long = "x".repeat(20_000);
    let many: String = (0..2_000).map(|number| format!("X-{number}: y\r\n")).collect();
    for (request, status, error) in [
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414, "URI too long"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"), 431, "request header fields too large"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431, "request header fields too large"),
    ] {
        let mut connection = server.connect();
        connection.send(request.as_bytes()).unwrap();
        let response = connection.response(false).unwrap();
        response.expect_error(status, error);
        assert_eq!(response.field("Connection"), Some("close"));
        connection.expect_closed();
    }
}

#[test]
fn answers_tell_no_path_of_the_host() {
    let (server, data) = start();
    let mut connection = server.connect();
    let path = data.path().to_string_lossy().into_owned();
    for request in [
        Request::get("/v1/blobs/x").token(READ_TOKEN),
        Request::get(&format!("/v1/blobs/{ID}")).token(READ_TOKEN),
        Request::get("/v1/cluster/state").token(READ_TOKEN),
        Request::get("/nowhere"),
        Request::json("/v1/blobs", "{").token(WRITE_TOKEN),
    ] {
        let text = connection.exchange(&request).text();
        assert!(!text.contains(&path) && !text.contains("src/"), "{text}");
    }
}
