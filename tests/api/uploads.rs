//! `POST /v1/blobs`: what is stored, and what is refused with nothing stored.

use simd_json::prelude::*;

use crate::support::content::{base64, content, hex, id_of, sha256};
use crate::support::http::Request;
use crate::support::server::{READ_TOKEN, WRITE_TOKEN};
use crate::{start, start_with};

#[test]
fn content_gets_the_id_that_its_hash_gives_whichever_way_it_comes() {
    let (server, _data) = start();
    let mut connection = server.connect();
    // Around the sizes at which the log changes what it does: blocks, checksum units, frames.
    for size in [0, 1, 17, 4_095, 4_096, 65_535, 65_536, 65_537, 1 << 20, (1 << 20) + 1, 3_000_001] {
        let body = content(size as u64, size);
        let id = id_of(&body);
        let response = connection.exchange(&Request::upload(&body).token(WRITE_TOKEN)).expect(201);
        assert_eq!(response.string("id"), id);
        assert_eq!(response.json().get_u64("size"), Some(size as u64));
        assert_eq!(response.field("Location"), Some(&*format!("/v1/blobs/{id}")));
        // Again in each way: it is there already, so 200 with the same body.
        let text = format!(r#"{{"data":"{}"}}"#, base64(&body));
        let chunked = Request::new("POST", "/v1/blobs").field("Content-Type", "application/octet-stream");
        for request in
            [Request::upload(&body), Request::json("/v1/blobs", &text), chunked.chunked(&body, &[1, 70_000, 3])]
        {
            let again = connection.exchange(&request.token(WRITE_TOKEN)).expect(200);
            assert_eq!((again.body.clone(), again.field("Location")), (response.body.clone(), None));
        }
        let read = connection.exchange(&Request::get(&format!("/v1/blobs/{id}")).token(READ_TOKEN)).expect(200);
        assert!(read.body == body, "{size} bytes came back changed");
    }
}

#[test]
fn json_content_gets_the_same_id_when_it_comes_first() {
    let (server, _data) = start();
    for size in [0, 1, 2, 3, 100_000] {
        let body = content(7, size);
        let text = format!(r#"{{ "labels": {{}}, "policy": 1, "data": "{}" }}"#, base64(&body));
        let response = server.exchange(&Request::json("/v1/blobs", &text).token(WRITE_TOKEN)).expect(201);
        assert_eq!(response.string("id"), id_of(&body));
        assert!(server.get(&id_of(&body)).expect(200).body == body);
    }
}

#[test]
fn labels_and_policy_are_kept() {
    let (server, _data) = start();
    let text = r#"{"data":"SGVsbG8=","policy":1,"labels":{"env":"prod","Model":"l\u00e4ma 3"}}"#;
    let id = server.exchange(&Request::json("/v1/blobs", text).token(WRITE_TOKEN)).expect(201).string("id");
    let raw = Request::upload(b"raw").field("X-Nabu-Policy", "0").field("x-nabu-label-Env", "test").token(WRITE_TOKEN);
    let response = server.exchange(&raw).expect(201);
    assert_eq!(response.field("X-Nabu-Policy"), Some("1"), "the answer names the effective policy");
    let raw_id = response.string("id");
    let stat = |id: &str| server.exchange(&Request::new("HEAD", &format!("/v1/blobs/{id}")).token(READ_TOKEN));
    let first = stat(&id).expect(200);
    assert_eq!(first.field("X-Nabu-Label-env"), Some("prod"));
    assert_eq!(first.field("X-Nabu-Label-model"), Some("l\u{e4}ma 3"));
    let second = stat(&raw_id).expect(200);
    assert_eq!(second.field("X-Nabu-Label-env"), Some("test"));
    assert_eq!(second.field("X-Nabu-Policy"), Some("1"));
}

#[test]
fn a_policy_that_needs_more_nodes_is_412_with_the_numbers() {
    let (server, _data) = start();
    let mut connection = server.connect();
    for (policy, message) in [
        (2, "not enough nodes for REPLICA2 (have 1, need 2)"),
        (3, "not enough nodes for REPLICA3 (have 1, need 3)"),
        (4, "not enough nodes for EC (have 1, need 6)"),
        (5, "not enough nodes for EC (have 1, need 10)"),
    ] {
        let raw = Request::upload(b"x").field("X-Nabu-Policy", &policy.to_string());
        let json = Request::json("/v1/blobs", &format!(r#"{{"data":"eA==","policy":{policy}}}"#));
        for request in [raw, json] {
            let response = connection.exchange(&request.token(WRITE_TOKEN));
            assert_eq!(response.expect_error(412, "not enough nodes"), message);
        }
    }
    for policy in ["6", "-1", "EC42", "01", ""] {
        let request = Request::upload(b"x").field("X-Nabu-Policy", policy).token(WRITE_TOKEN);
        connection.exchange(&request).expect_error(400, "unknown policy");
    }
    let request = Request::json("/v1/blobs", r#"{"data":"eA==","policy":6}"#).token(WRITE_TOKEN);
    connection.exchange(&request).expect_error(400, "unknown policy");
    assert!(server.list(100).is_empty(), "nothing was stored");
}

#[test]
fn a_promised_digest_is_kept_or_nothing_is_stored() {
    let (server, _data) = start();
    let body = content(3, 100_000);
    let hash = sha256(&body);
    let digest = |hash: &[u8]| format!("sha-256=:{}:", base64(hash));
    let mut wrong = hash;
    wrong[31] ^= 1;
    let json = Request::json("/v1/blobs", &format!(r#"{{"data":"{}"}}"#, base64(&body)));
    for request in [
        Request::upload(&body).field("Repr-Digest", &digest(&wrong)),
        Request::upload(&body).field("X-Nabu-Content-SHA256", &hex(&wrong)),
        Request::upload(&body).field("Repr-Digest", &format!("sha-512=:AAAA:, {}", digest(&wrong))),
        json.clone().field("Repr-Digest", &digest(&wrong)),
        json.clone().field("X-Nabu-Content-SHA256", &hex(&wrong)),
    ] {
        let response = server.exchange(&request.token(WRITE_TOKEN));
        let message = response.expect_error(422, "digest mismatch");
        assert!(message.contains(&hex(&hash)) && message.contains(&hex(&wrong)), "{message}");
        server.get(&id_of(&body)).expect(404);
    }
    for (name, value) in
        [("Repr-Digest", "sha-256=:AAAA:"), ("Repr-Digest", "sha-256"), ("X-Nabu-Content-SHA256", "abc")]
    {
        let request = Request::upload(&body).field(name, value).token(WRITE_TOKEN);
        server.exchange(&request).expect_error(400, "malformed digest");
    }
    assert!(server.list(100).is_empty(), "nothing was stored");
    let right = Request::upload(&body).field("Repr-Digest", &digest(&hash)).field("X-Nabu-Content-SHA256", &hex(&hash));
    server.exchange(&right.token(WRITE_TOKEN)).expect(201);
    // A wrong promise is refused also when the content is there already.
    let request = Request::upload(&body).field("Repr-Digest", &digest(&wrong)).token(WRITE_TOKEN);
    server.exchange(&request).expect_error(422, "digest mismatch");
    assert!(server.get(&id_of(&body)).expect(200).body == body);
}

#[test]
fn what_is_no_upload_is_refused_by_kind() {
    let (server, _data) = start();
    let post = || Request::new("POST", "/v1/blobs").token(WRITE_TOKEN);
    for request in [
        post().body(b"x"),
        post().field("Content-Type", "text/plain").body(b"x"),
        post().field("Content-Type", "application/x-www-form-urlencoded").body(b"x"),
    ] {
        server.exchange(&request).expect_error(415, "unsupported media type");
    }
    let no_length = post().field("Content-Type", "application/octet-stream");
    server.exchange(&no_length).expect_error(411, "length required");
    for (text, status, error, named) in [
        ("{", 400, "malformed JSON", "byte 1"),
        ("", 400, "malformed JSON", "byte 0"),
        (r#"{"data": }"#, 400, "malformed JSON", "byte 9"),
        (r#"{"data":"eA=="} x"#, 400, "malformed JSON", "byte 16"),
        (r#"{}"#, 400, "missing field", "data"),
        (r#"[]"#, 422, "unprocessable value", "object"),
        (r#"{"data":5}"#, 422, "unprocessable value", "data"),
        (r#"{"data":"eA=="  ,"labels":[]}"#, 422, "unprocessable value", "labels"),
        (r#"{"data":"eA==","labels":{"a b":"c"}}"#, 422, "unprocessable value", "a b"),
        (r#"{"data":"eA==","labels":{"a":"b\r\nX: c"}}"#, 422, "unprocessable value", "a"),
        (r#"{"data":"eA==","policy":"1"}"#, 422, "unprocessable value", "policy"),
        (r#"{"data":"e!=="}"#, 422, "malformed base64", "character 1"),
        (r#"{"data":"eA=="  ,"data":"eA=="}"#, 422, "unprocessable value", "data"),
    ] {
        let response = server.exchange(&Request::json("/v1/blobs", text).token(WRITE_TOKEN));
        let message = response.expect_error(status, error);
        assert!(message.contains(named), "{text}: {message}");
    }
    let labels: Vec<String> = (0..200).map(|number| format!(r#""label{number}":"value""#)).collect();
    let text = format!(r#"{{"data":"eA==","labels":{{{}}}}}"#, labels.join(","));
    server.exchange(&Request::json("/v1/blobs", &text).token(WRITE_TOKEN)).expect_error(422, "too many labels");
    assert!(server.list(100).is_empty(), "nothing was stored");
}

#[test]
fn a_body_over_its_limit_is_413_with_nothing_stored() {
    let (server, _data) = start_with("limits:\n  blob_bytes_max: 100KiB\n  json_bytes_max: 200KiB\n");
    let largest = content(1, 100 << 10);
    server.put(&largest).expect(201);
    let larger = content(2, (100 << 10) + 1);
    server.put(&larger).expect_error(413, "blob too large");
    let chunked = Request::new("POST", "/v1/blobs").field("Content-Type", "application/octet-stream");
    server.exchange(&chunked.chunked(&larger, &[4_000]).token(WRITE_TOKEN)).expect_error(413, "blob too large");
    let text = format!(r#"{{"data":"{}"}}"#, base64(&larger));
    server.exchange(&Request::json("/v1/blobs", &text).token(WRITE_TOKEN)).expect_error(413, "blob too large");
    let text = format!(r#"{{"data":"{}"}}"#, base64(&content(3, 300_000)));
    server.exchange(&Request::json("/v1/blobs", &text).token(WRITE_TOKEN)).expect_error(413, "body too large");
    assert_eq!(server.list(100), [id_of(&largest)]);
}

#[test]
fn a_chunk_that_is_announced_over_the_limit_is_413_before_it_comes() {
    let (server, _data) = start_with("limits:\n  blob_bytes_max: 100KiB\n  json_bytes_max: 100KiB\n");
    for media_type in ["application/octet-stream", "application/json"] {
        for (chunks, error) in [("19001\r\n", "too large"), ("3\r\n   \r\n18ffe\r\n", "too large")] {
            let request = Request::new("POST", "/v1/blobs")
                .field("Content-Type", media_type)
                .field("Transfer-Encoding", "chunked")
                .token(WRITE_TOKEN);
            let mut connection = server.connect();
            connection.send(&request.head_bytes()).unwrap();
            connection.send(chunks.as_bytes()).unwrap();
            let response = connection.response(false).unwrap().expect(413);
            assert!(response.text().contains(error), "{media_type} {chunks:?}: {}", response.text());
        }
    }
    assert!(server.list(10).is_empty(), "nothing was stored");
}

#[test]
fn json_uploads_that_stall_hold_up_no_others() {
    let (server, _data) = start_with("memory: 256MiB\n");
    let mut stalled = Vec::new();
    for _ in 0..8 {
        let mut connection = server.connect();
        let request = Request::new("POST", "/v1/blobs")
            .field("Content-Type", "application/json")
            .field("Content-Length", &(64 << 20).to_string())
            .token(WRITE_TOKEN);
        connection.send(&request.head_bytes()).unwrap();
        connection.send(br#"{"data":"AAAA"#).unwrap();
        stalled.push(connection);
    }
    for number in 0..8 {
        let body = content(number, 1_000_000);
        let text = format!(r#"{{"data":"{}"}}"#, base64(&body));
        server.exchange(&Request::json("/v1/blobs", &text).token(WRITE_TOKEN)).expect(201);
    }
    drop(stalled);
}

#[test]
fn json_content_is_stored_whatever_stands_around_it() {
    let (server, _data) = start();
    let body = content(1, 300_000);
    let text = format!(
        r#"{{ "labels": {{"data": "no"}}, "d\u0061ta" : "{}", "policy": 1, "other": ["data", {{"data": 5}}] }}"#,
        base64(&body).replace('/', "\\/")
    );
    let request = Request::new("POST", "/v1/blobs").field("Content-Type", "application/json").token(WRITE_TOKEN);
    for pieces in [&[1 << 20][..], &[1, 2, 3, 50_000], &[7]] {
        let response = server.exchange(&request.clone().chunked(text.as_bytes(), pieces));
        assert!([200, 201].contains(&response.status()), "{}", response.text());
        assert_eq!(response.string("id"), id_of(&body).to_string());
    }
    let head = server.exchange(&Request::get(&format!("/v1/blobs/{}", id_of(&body))).token(READ_TOKEN)).expect(200);
    assert_eq!(head.field("X-Nabu-Label-data"), Some("no"));
}

#[test]
fn a_promised_terabyte_too_much_is_refused_before_a_byte_is_sent() {
    let (server, _data) = start();
    for (length, status) in [(u64::MAX, 413), ((5 << 40) + 1, 413)] {
        let request = Request::new("POST", "/v1/blobs")
            .field("Content-Type", "application/octet-stream")
            .field("Content-Length", &length.to_string())
            .field("Expect", "100-continue")
            .token(WRITE_TOKEN);
        let mut connection = server.connect();
        connection.send(&request.head_bytes()).unwrap();
        let head = connection.head().unwrap();
        assert_eq!(head.status, status, "{head:?}");
    }
}

#[test]
fn an_expectation_is_met_only_where_the_body_is_wanted() {
    let (server, _data) = start();
    let body = content(5, 50_000);
    let wanted = Request::upload(&body).field("Expect", "100-continue").token(WRITE_TOKEN);
    let mut connection = server.connect();
    connection.send(&wanted.head_bytes()).unwrap();
    assert_eq!(connection.head().unwrap().status, 100);
    connection.send(wanted.body_bytes()).unwrap();
    connection.response(false).unwrap().expect(201);

    for (request, status) in [
        (Request::upload(&body), 401),
        (Request::upload(&body).token(READ_TOKEN), 403),
        (Request::upload(&body).field("X-Nabu-Policy", "4").token(WRITE_TOKEN), 412),
        (Request::upload(&body).field("X-Nabu-Policy", "9").token(WRITE_TOKEN), 400),
        (Request::new("POST", "/nowhere").body(&body), 404),
        (Request::new("PUT", "/v1/blobs").body(&body), 405),
        (Request::new("POST", "/v1/blobs").field("Content-Type", "text/plain").body(&body).token(WRITE_TOKEN), 415),
        (Request::upload(&body).field("Repr-Digest", "sha-256=x").token(WRITE_TOKEN), 400),
    ] {
        let mut connection = server.connect();
        connection.send(&request.field("Expect", "100-continue").head_bytes()).unwrap();
        // The first head is the answer: no 100 comes before it, and the body is never sent.
        let head = connection.head().unwrap();
        assert_eq!(head.status, status, "{head:?}");
        connection.body(&head, false).unwrap();
        assert_eq!(head.field("Connection"), Some("close"), "whether the body will follow is unknown");
        connection.end_sending().unwrap();
        connection.expect_closed();
    }
    let unknown = Request::upload(&body).field("Expect", "200-ok").token(WRITE_TOKEN);
    let mut connection = server.connect();
    connection.send(&unknown.head_bytes()).unwrap();
    assert_eq!(connection.head().unwrap().status, 417);
}

#[test]
fn labels_of_content_that_is_stored_again_are_added_and_bounded_as_those_of_one_upload() {
    let (server, _data) = start();
    let body = content(11, 100_000);
    let put = |labels: &[(&str, &str)]| {
        let request = labels.iter().fold(Request::upload(&body), |request, (name, value)| {
            request.field(&format!("X-Nabu-Label-{name}"), value)
        });
        server.exchange(&request.token(WRITE_TOKEN))
    };
    let stat =
        || server.exchange(&Request::new("HEAD", &format!("/v1/blobs/{}", id_of(&body))).token(READ_TOKEN)).expect(200);
    put(&[("model", "llama"), ("env", "test")]).expect(201);
    let created_at = stat().field("X-Nabu-Created-At").expect("always there").to_owned();
    put(&[("env", "prod"), ("shard", "1")]).expect(200);
    put(&[]).expect(200);
    let text = format!(r#"{{"data":"{}","labels":{{"by":"json"}}}}"#, base64(&body));
    server.exchange(&Request::json("/v1/blobs", &text).token(WRITE_TOKEN)).expect(200);
    let expect_all = || {
        let all = stat();
        for (name, value) in [("model", "llama"), ("env", "prod"), ("shard", "1"), ("by", "json")] {
            assert_eq!(all.field(&format!("X-Nabu-Label-{name}")), Some(value), "{name}");
        }
        assert_eq!(all.field("X-Nabu-Created-At"), Some(&*created_at), "it is the blob that it was");
    };
    expect_all();
    let names: Vec<String> = (0..64).map(|number| format!("n{number}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    let message = put(&many).expect_error(422, "too many labels");
    assert!(message.contains(&id_of(&body)) && message.contains("64"), "{message}");
    expect_all();
    assert!(server.get(&id_of(&body)).expect(200).body == body);
}

#[test]
fn an_announced_length_that_cannot_fit_is_507_before_a_byte_is_asked_for() {
    let (server, data) = start();
    let size = nabu_engine::store::BLOB_SIZE_MAX;
    if nabu_engine::ring::sys::space(data.path()).is_ok_and(|space| space.available >= size) {
        println!("SKIPPED: the disk has room for the largest blob there may be");
        return;
    }
    let head = format!(
        "POST /v1/blobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {WRITE_TOKEN}\r\nContent-Type: application/octet-stream\r\n\
         Content-Length: {size}\r\nExpect: 100-continue\r\n\r\n"
    );
    let mut connection = server.connect();
    connection.send(head.as_bytes()).expect("sent");
    let response = connection.response(false).expect("an answer");
    let message = response.expect_error(507, "insufficient storage");
    assert!(message.contains("5.0 TiB can't fit") && message.contains("iB are free"), "{message}");
    // What fits is asked for as ever.
    let body = content(12, 3 << 20);
    let request = Request::upload(&body).field("Expect", "100-continue").token(WRITE_TOKEN);
    let mut connection = server.connect();
    connection.send(&request.head_bytes()).expect("sent");
    assert_eq!(connection.head().expect("an answer").status, 100);
}
