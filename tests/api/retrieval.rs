//! `GET`, `HEAD` and `DELETE /v1/blobs/{id}`: bytes, ranges, conditions.

use crate::start;
use crate::support::content::{base64, content, hex, id_of, sha256};
use crate::support::http::{Request, Response};
use crate::support::server::{READ_TOKEN, Server, WRITE_TOKEN};

const UNKNOWN_ID: &str = "000102030405060708090a0b0c0d0e0f";

fn get_with(server: &Server, id: &str, fields: &[(&str, &str)]) -> Response {
    let mut request = Request::get(&format!("/v1/blobs/{id}")).token(READ_TOKEN);
    for (name, value) in fields {
        request = request.field(name, value);
    }
    server.exchange(&request)
}

#[test]
fn a_blob_comes_with_all_its_fields_and_head_has_the_same() {
    let (server, _data) = start();
    let body = content(1, 200_000);
    let hash = sha256(&body);
    server.put(&body).expect(201);
    let target = format!("/v1/blobs/{}", id_of(&body));
    let get = server.exchange(&Request::get(&target).token(READ_TOKEN)).expect(200);
    assert!(get.body == body);
    let head = server.exchange(&Request::new("HEAD", &target).token(READ_TOKEN)).expect(200);
    assert!(head.body.is_empty());
    for response in [&get, &head] {
        assert_eq!(response.field("Content-Type"), Some("application/octet-stream"));
        assert_eq!(response.number("Content-Length"), 200_000);
        assert_eq!(response.number("X-Nabu-Blob-Size"), 200_000);
        assert_eq!(response.field("X-Nabu-Policy"), Some("1"));
        assert_eq!(response.field("ETag"), Some(&*format!("\"{}\"", hex(&hash))));
        assert_eq!(response.field("Accept-Ranges"), Some("bytes"));
        assert_eq!(response.field("Repr-Digest"), Some(&*format!("sha-256=:{}:", base64(&hash))));
        assert_eq!(response.field("Cache-Control"), Some("private, max-age=31536000, immutable"));
        assert!(response.field("Last-Modified").is_some_and(|date| date.ends_with(" GMT")));
        assert!(response.field("Date").is_some_and(|date| date.ends_with(" GMT")));
        assert!(response.number("X-Nabu-Created-At") > 1_700_000_000_000_000_000);
    }
    assert_eq!(get.number("X-Nabu-Created-At"), head.number("X-Nabu-Created-At"));
}

#[test]
fn an_id_that_is_none_is_400_and_an_unknown_one_404() {
    let (server, _data) = start();
    let mut connection = server.connect();
    let full_hash = "ab".repeat(32);
    for bad in ["x", "", &UNKNOWN_ID[1..], &full_hash, &UNKNOWN_ID.to_uppercase(), "%zz", "..", "g".repeat(32).as_str()]
    {
        for method in ["GET", "DELETE"] {
            let request = Request::new(method, &format!("/v1/blobs/{bad}")).token(WRITE_TOKEN);
            connection.exchange(&request).expect_error(400, "invalid blob ID");
        }
    }
    for method in ["GET", "DELETE"] {
        let request = Request::new(method, &format!("/v1/blobs/{UNKNOWN_ID}")).token(WRITE_TOKEN);
        let message = connection.exchange(&request).expect_error(404, "blob not found");
        assert!(message.contains(UNKNOWN_ID) && message.contains("not found on any node"), "{message}");
    }
    let request = Request::new("HEAD", &format!("/v1/blobs/{UNKNOWN_ID}")).token(READ_TOKEN);
    assert!(connection.exchange(&request).expect(404).body.is_empty());
    // The connection is as good as before: a HEAD has no body also when it fails.
    connection.exchange(&Request::get("/healthz")).expect(200);
}

#[test]
fn a_deleted_blob_is_gone_and_can_be_stored_again() {
    let (server, _data) = start();
    for size in [0, 10, 2_000_000] {
        let body = content(2, size);
        let id = id_of(&body);
        for _ in 0..3 {
            server.put(&body).expect(201);
            assert_eq!(server.delete(&id).expect(200).body, br#"{"deleted":true}"#);
            server.get(&id).expect_error(404, "blob not found");
            server.delete(&id).expect_error(404, "blob not found");
        }
    }
    assert!(server.list(10).is_empty());
}

#[test]
fn ranges_select_what_they_say() {
    let (server, _data) = start();
    // Frames are 1 MiB and checksums cover 64 KiB, so that ranges cross both.
    let body = content(3, 2_500_000);
    let size = body.len();
    let id = id_of(&body);
    server.put(&body).expect(201);
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=0-9", 0, 10),
        ("bytes=65535-65536", 65_535, 65_537),
        ("bytes=1048575-1048576", 1_048_575, 1_048_577),
        ("bytes=100000-2400000", 100_000, 2_400_001),
        ("bytes=2499999-", 2_499_999, size),
        ("bytes=0-", 0, size),
        ("bytes=-1", size - 1, size),
        ("bytes=-2499999", 1, size),
        ("bytes=-99999999999", 0, size),
        ("bytes=10-99999999999", 10, size),
        ("BYTES=5-6", 5, 7),
    ] {
        let response = get_with(&server, &id, &[("Range", range)]).expect(206);
        assert!(response.body == body[from..to], "{range}");
        assert_eq!(response.field("Content-Range"), Some(&*format!("bytes {from}-{}/{size}", to - 1)));
        assert_eq!(response.number("X-Nabu-Blob-Size"), size as u64);
    }
    for range in ["bytes=2500000-", "bytes=2500000-2500001", "bytes=-0", "bytes=99999999999-"] {
        let response = get_with(&server, &id, &[("Range", range)]);
        response.expect_error(416, "range not satisfiable");
        assert_eq!(response.field("Content-Range"), Some("bytes */2500000"), "{range}");
    }
    // What is no range of bytes, or asks for several, is answered with everything.
    for range in ["bytes=5-4", "bytes=", "bytes=a-b", "lines=0-1", "bytes 0-1", "bytes=0-1,5-6"] {
        assert!(get_with(&server, &id, &[("Range", range)]).expect(200).body == body, "{range}");
    }
    let head = Request::new("HEAD", &format!("/v1/blobs/{id}")).token(READ_TOKEN).field("Range", "bytes=0-1");
    assert_eq!(server.exchange(&head).expect(200).number("Content-Length"), size as u64);
}

#[test]
fn random_ranges_are_slices_of_the_blob() {
    let (server, _data) = start();
    let mut random = crate::support::content::Random::new(11);
    let body = content(12, 3 << 20);
    let id = id_of(&body);
    server.put(&body).expect(201);
    let mut connection = server.connect();
    for _ in 0..300 {
        let from = random.below(body.len() as u64) as usize;
        let most = if random.below(4) == 0 { 3 << 20 } else { 70_000 };
        let to = (from + 1 + random.below(most) as usize).min(body.len());
        let request = Request::get(&format!("/v1/blobs/{id}")).token(READ_TOKEN);
        let response = connection.exchange(&request.field("Range", &format!("bytes={from}-{}", to - 1))).expect(206);
        assert!(response.body == body[from..to], "{from}..{to}");
    }
}

#[test]
fn the_empty_blob_is_a_blob() {
    let (server, _data) = start();
    let id = server.put(b"").expect(201).string("id");
    assert_eq!(id, "e3b0c44298fc1c149afbf4c8996fb924");
    let response = server.get(&id).expect(200);
    assert_eq!((response.body.len(), response.number("Content-Length")), (0, 0));
    for range in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
        let response = get_with(&server, &id, &[("Range", range)]);
        assert!(matches!(response.status(), 200 | 416), "{range}: {}", response.text());
    }
}

#[test]
fn conditions_compare_with_the_hash() {
    let (server, _data) = start();
    let body = content(4, 1_000);
    let id = id_of(&body);
    server.put(&body).expect(201);
    let etag = format!("\"{}\"", hex(&sha256(&body)));
    let (weak, listed) = (format!("W/{etag}"), format!("\"x\", {etag}"));
    for value in [&etag, &weak, &listed, "*"] {
        let response = get_with(&server, &id, &[("If-None-Match", value)]).expect(304);
        assert_eq!(response.field("ETag"), Some(&*etag));
        assert!(response.body.is_empty());
    }
    get_with(&server, &id, &[("If-None-Match", "\"x\"")]).expect(200);
    get_with(&server, &id, &[("If-Match", &etag)]).expect(200);
    get_with(&server, &id, &[("If-Match", "\"x\"")]).expect_error(412, "precondition failed");

    let range = ("Range", "bytes=1-2");
    get_with(&server, &id, &[range, ("If-Range", &etag)]).expect(206);
    get_with(&server, &id, &[range, ("If-Range", "\"x\"")]).expect(200);
    get_with(&server, &id, &[range, ("If-Range", &weak)]).expect(200);
    get_with(&server, &id, &[range, ("If-Range", "Thu, 01 Jan 1970 00:00:00 GMT")]).expect(200);
    // A range that can't be satisfied does not matter when the condition sends everything.
    get_with(&server, &id, &[("Range", "bytes=5000-"), ("If-Range", "\"x\"")]).expect(200);
    get_with(&server, &id, &[range, ("If-None-Match", &etag)]).expect(304);
}
