//! `put`: what is sent, and what the answer must be.

use std::io::Write;

use super::fake_server::Stage;
use super::*;

#[test]
fn put_sends_a_file_with_its_length_and_prints_the_id() {
    for size in [1, 1000, 3 << 20] {
        let blob = Blob::sized(size);
        let (_dir, file) = scratch();
        fs::write(&file, &blob.bytes).expect("written");
        let id = blob.id.clone();
        let server = FakeServer::new(move |_, _| stored("201 Created", &id, size));
        let labels = ["--label", "model=llama3", "--label", "Shard=1 of 2"];
        let output = run(&server, &[&["put", file.to_str().unwrap(), "--policy", "ec42"][..], &labels].concat());
        assert_exit(&output, 0);
        assert_eq!(text(&output.stdout), format!("{}\n", blob.id));
        let [request] = &server.requests()[..] else { panic!("one request") };
        assert_eq!(request.line, "POST /v1/blobs");
        assert_eq!(request.body, blob.bytes);
        for (name, value) in [
            ("content-length", size.to_string().as_str()),
            ("content-type", "application/octet-stream"),
            ("authorization", format!("Bearer {TOKEN}").as_str()),
            ("x-nabu-policy", "4"),
            ("x-nabu-label-model", "llama3"),
            ("x-nabu-label-shard", "1 of 2"),
        ] {
            assert_eq!(request.header(name), Some(value), "{name}");
        }
    }
}

#[test]
fn put_streams_standard_input_and_special_files_in_chunks() {
    let blob = Blob::sized(700_000);
    let id = blob.id.clone();
    let server = FakeServer::new(move |_, request| {
        let received = Blob::of(request.body.clone());
        assert_eq!(request.header("transfer-encoding"), Some("chunked"));
        assert!(received.id == id || received.bytes.starts_with(b"Linux"), "what was sent arrives");
        stored("200 OK", &received.id, received.bytes.len())
    });
    let mut child = nabu_store()
        .args(["put", "-", "--json", "--api", &server.url()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    child.stdin.take().expect("piped").write_all(&blob.bytes).expect("read to the end");
    let output = child.wait_with_output().expect("ends");
    assert_exit(&output, 0);
    let expected =
        format!("{{\"id\":\"{}\",\"size\":700000,\"sha256\":\"{}\",\"created\":false}}\n", blob.id, blob.hash.to_hex());
    assert_eq!(text(&output.stdout), expected);
    // Its length is 0 in its metadata.
    assert_exit(&run(&server, &["put", "/proc/version"]), 0);
}

#[test]
fn put_of_an_empty_file_stores_the_empty_blob() {
    let (_dir, file) = scratch();
    fs::write(&file, "").expect("written");
    let server = FakeServer::new(|_, request| {
        assert!(request.body.is_empty());
        stored("201 Created", "e3b0c44298fc1c149afbf4c8996fb924", 0)
    });
    let output = run(&server, &["put", file.to_str().unwrap()]);
    assert_exit(&output, 0);
    assert_eq!(text(&output.stdout), "e3b0c44298fc1c149afbf4c8996fb924\n");
}

#[test]
fn put_fails_loudly_when_the_server_stored_something_else() {
    let blob = Blob::sized(5000);
    let (_dir, file) = scratch();
    fs::write(&file, &blob.bytes).expect("written");
    for (id, size) in [(Blob::sized(4999).id, 5000), (blob.id.clone(), 4999)] {
        let server = FakeServer::new(move |_, _| stored("201 Created", &id, size));
        let output = run(&server, &["put", file.to_str().unwrap()]);
        assert_exit(&output, 5);
        assert_eq!(text(&output.stdout), "");
        assert!(text(&output.stderr).contains("damaged on its way"), "{}", text(&output.stderr));
    }
}

#[test]
fn put_with_digest_sends_the_hash_ahead_and_takes_422_as_failed_verification() {
    let blob = Blob::sized(5000);
    let (_dir, file) = scratch();
    fs::write(&file, &blob.bytes).expect("written");
    let server = FakeServer::new(|_, _| refusal("422 Unprocessable Content", "content hash mismatch"));
    assert_exit(&run(&server, &["put", file.to_str().unwrap(), "--digest"]), 5);
    assert_eq!(server.requests()[0].header("x-nabu-content-sha256"), Some(blob.hash.to_hex().as_str()));
}

#[test]
fn a_refused_put_costs_no_transfer() {
    let (_dir, file) = scratch();
    fs::write(&file, Blob::sized(8 << 20).bytes).expect("written");
    for (status, code) in [
        ("401 Unauthorized", 4),
        ("403 Forbidden", 4),
        ("412 Precondition Failed", 6),
        ("507 Insufficient Storage", 6),
        ("503 Service Unavailable", 7),
        ("413 Content Too Large", 1),
    ] {
        let server = FakeServer::with_stages(move |_, _, stage| {
            assert_eq!(stage, Stage::Head, "the client asks first");
            Some(refusal(status, "no"))
        });
        let output = run(&server, &["put", file.to_str().unwrap()]);
        assert_exit(&output, code);
        assert!(text(&output.stderr).starts_with("error: the server says no"), "{}", text(&output.stderr));
        assert!(server.requests()[0].body.is_empty());
    }
}
