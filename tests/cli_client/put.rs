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
        let output = run(&server, &["put", file.to_str().unwrap(), "--retry-for", "0"]);
        assert_exit(&output, code);
        assert!(text(&output.stderr).starts_with("error: the server says no"), "{}", text(&output.stderr));
        assert!(server.requests()[0].body.is_empty());
    }
}

#[test]
fn put_sends_a_file_again_when_the_server_is_busy_or_goes_away() {
    const SIZE: usize = 3 << 20;
    let blob = Blob::sized(SIZE);
    let (_dir, file) = scratch();
    fs::write(&file, &blob.bytes).expect("written");
    let id = blob.id.clone();
    // Refused ahead, broken off after the body, refused after the body, stored.
    let server = FakeServer::with_stages(move |index, _, stage| match (index, stage) {
        (0, Stage::Head) => Some(refusal("503 Service Unavailable", "busy")),
        (_, Stage::Head) => None,
        (1, Stage::Whole) => Some(Vec::new()),
        (2, Stage::Whole) => Some(refusal("500 Internal Server Error", "read failed")),
        (_, Stage::Whole) => Some(stored("201 Created", &id, SIZE)),
    });
    let output = run(&server, &["put", file.to_str().unwrap()]);
    assert_exit(&output, 0);
    assert_eq!(text(&output.stdout), format!("{}\n", blob.id));
    let told = text(&output.stderr);
    assert!(told.contains("the server says busy; trying again for"), "{told}");
    assert_eq!(told.matches("trying again").count(), 1, "once in a while: {told}");
    let requests = server.requests();
    assert_eq!(requests.len(), 4);
    assert!(requests[1..].iter().all(|request| request.body == blob.bytes), "each time all of it");
}

#[test]
fn put_of_standard_input_is_repeated_only_before_its_first_byte_was_read() {
    let blob = Blob::sized(100_000);
    for refused_at in [Stage::Head, Stage::Whole] {
        let id = blob.id.clone();
        let server = FakeServer::with_stages(move |index, _, stage| {
            if index == 0 && stage == refused_at {
                return Some(refusal("503 Service Unavailable", "busy"));
            }
            (stage == Stage::Whole).then(|| stored("201 Created", &id, 100_000))
        });
        let mut child = nabu_store()
            .args(["put", "-", "--api", &server.url()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        child.stdin.take().expect("piped").write_all(&blob.bytes).expect("read to the end");
        let output = child.wait_with_output().expect("ends");
        if refused_at == Stage::Head {
            assert_exit(&output, 0);
            assert_eq!(text(&output.stdout), format!("{}\n", blob.id));
        } else {
            assert_exit(&output, 7);
            assert!(text(&output.stderr).contains("start the command again"), "{}", text(&output.stderr));
            assert_eq!(server.requests().len(), 1);
        }
    }
}

#[test]
fn put_stores_many_files_and_directories_and_goes_on_after_a_failure() {
    let (dir, first) = scratch();
    let deep = dir.path().join("weights/deep");
    fs::create_dir_all(&deep).expect("made");
    std::os::unix::fs::symlink(dir.path(), deep.join("circle")).expect("made");
    let mut blobs = Vec::new();
    for (path, size) in [(first.clone(), 11), (dir.path().join("weights/a"), 12), (deep.join("b"), 13)] {
        let blob = Blob::sized(size);
        fs::write(&path, &blob.bytes).expect("written");
        blobs.push((path.to_str().unwrap().to_owned(), blob));
    }
    let server = FakeServer::new(|_, request| {
        let received = Blob::of(request.body.clone());
        match received.bytes.len() {
            12 => refusal("409 Conflict", "blob ID collision"),
            11 => stored("200 OK", &received.id, 11),
            size => stored("201 Created", &received.id, size),
        }
    });
    let (weights, first) = (dir.path().join("weights"), first.to_str().unwrap().to_owned());
    let weights = weights.to_str().unwrap();
    let output = run(&server, &["put", &first, weights, "--label", "set=x"]);
    assert_exit(&output, 1);
    let (table, told) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(table.lines().count(), 3, "{table}");
    for (index, state) in [(0, "there"), (2, "new")] {
        let (path, blob) = &blobs[index];
        let line = table.lines().find(|line| line.starts_with(&blob.id)).unwrap_or_else(|| panic!("{table}"));
        assert!(line.ends_with(path.as_str()) && line.contains(state), "{line}");
    }
    assert!(told.contains(&format!("{}: the server says blob ID collision", blobs[1].0)), "{told}");
    assert!(told.contains("circle is skipped"), "{told}");
    assert!(server.requests().iter().all(|request| request.header("x-nabu-label-set") == Some("x")));

    let output = run(&server, &["put", &first, &blobs[2].0, "--json", "-j", "1"]);
    assert_exit(&output, 0);
    let lines: Vec<String> = [(0, false), (2, true)]
        .map(|(index, created)| {
            let (path, blob) = &blobs[index];
            let Blob { bytes, hash, id } = blob;
            format!(
                "{{\"id\":\"{id}\",\"size\":{},\"sha256\":\"{}\",\"created\":{created},\"file\":\"{path}\"}}\n",
                bytes.len(),
                hash.to_hex()
            )
        })
        .to_vec();
    assert_eq!(text(&output.stdout), lines.concat());
}
