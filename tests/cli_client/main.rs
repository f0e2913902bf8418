//! The client commands as a user meets them: the built binary against a server that behaves, misbehaves and goes away.

mod fake_server;

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nabu_engine::types::{BlobId, ContentHash};
use sha2::{Digest, Sha256};

use fake_server::{FakeServer, Request, Stage};

const TOKEN: &str = "the-token-of-these-tests";

/// A blob that is more than one buffer of the client.
struct Blob {
    bytes: Vec<u8>,
    hash: ContentHash,
    id: String,
}

impl Blob {
    fn of(bytes: Vec<u8>) -> Self {
        let hash = ContentHash(Sha256::digest(&bytes).into());
        Self { bytes, hash, id: BlobId::of(&hash).to_string() }
    }

    /// `size` bytes without a period that a buffer could hide.
    fn sized(size: usize) -> Self {
        let bytes = (0..size as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        Self::of(bytes)
    }

    fn etag(&self) -> String {
        format!("\"{}\"", self.hash.to_hex())
    }

    /// An honest answer to a `GET` or `HEAD`, cut after `sent` bytes of its body.
    fn answer(&self, request: &Request, sent: usize) -> Vec<u8> {
        let range = request.header("range").map(|range| {
            assert_eq!(request.header("if-range"), Some(self.etag().as_str()), "a resumption is conditional");
            range
                .strip_prefix("bytes=")
                .and_then(|range| range.strip_suffix('-'))
                .expect("open")
                .parse()
                .expect("digits")
        });
        let start: usize = range.unwrap_or(0);
        let size = self.bytes.len();
        let status = match range {
            Some(_) => format!("206 Partial Content\r\nContent-Range: bytes {start}-{}/{size}", size - 1),
            None => "200 OK".to_owned(),
        };
        let mut answer = format!(
            "HTTP/1.1 {status}\r\nETag: {}\r\nContent-Length: {}\r\nX-Nabu-Blob-Size: {size}\r\n\r\n",
            self.etag(),
            size - start
        )
        .into_bytes();
        if request.line.starts_with("GET") {
            answer.extend_from_slice(&self.bytes[start..(start + sent).min(size)]);
        }
        answer
    }
}

fn json(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn stored(status: &str, id: &str, size: usize) -> Vec<u8> {
    json(status, &format!("{{\"id\":\"{id}\",\"size\":{size}}}"))
}

fn refusal(status: &str, error: &str) -> Vec<u8> {
    json(status, &format!("{{\"code\":0,\"error\":\"{error}\",\"message\":\"the server says {error}\"}}"))
}

/// The binary, ended by force (exit code 124) when it hangs.
fn nabu_store() -> Command {
    let mut command = Command::new("timeout");
    command.args(["60", env!("CARGO_BIN_EXE_nabu-store")]);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NABU_")) {
        command.env_remove(name);
    }
    command.env("NABU_TOKEN", TOKEN);
    // A proxy in the environment must not come between.
    command.env("http_proxy", "http://127.0.0.1:9").env("ALL_PROXY", "http://127.0.0.1:9");
    command
}

fn run(server: &FakeServer, args: &[&str]) -> Output {
    let output = nabu_store().env("NABU_API", server.url()).args(args).output().expect("the binary runs");
    assert!(!text(&output.stderr).contains(TOKEN), "a token is never printed");
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn assert_exit(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "stdout: {}\nstderr: {}", text(&output.stdout), text(&output.stderr));
}

/// A directory for one test, and a file name in it.
fn scratch() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("blob");
    (dir, file)
}

fn part_of(file: &Path) -> PathBuf {
    file.with_file_name("blob.part")
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("readable");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

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

#[test]
fn get_writes_the_blob_to_standard_output() {
    for size in [0, 1, 2 << 20] {
        let blob = Blob::sized(size);
        let (id, bytes) = (blob.id.clone(), blob.bytes.clone());
        let server = FakeServer::new(move |_, request| blob.answer(request, usize::MAX >> 1));
        let output = run(&server, &["get", &id]);
        assert_exit(&output, 0);
        assert!(output.stdout == bytes, "{size} bytes");
    }
}

#[test]
fn get_to_a_file_leaves_the_file_only() {
    for size in [0, 2 << 20] {
        let blob = Blob::sized(size);
        let (id, bytes, hash) = (blob.id.clone(), blob.bytes.clone(), blob.hash.to_hex());
        let (dir, file) = scratch();
        let server = FakeServer::new(move |_, request| blob.answer(request, usize::MAX >> 1));
        let output = run(&server, &["get", &id, "-o", file.to_str().unwrap(), "--json"]);
        assert_exit(&output, 0);
        assert!(fs::read(&file).expect("there") == bytes, "{size} bytes");
        assert_eq!(names_in(dir.path()), ["blob"]);
        let expected = format!(
            "{{\"id\":\"{id}\",\"size\":{size},\"sha256\":\"{hash}\",\"file\":\"{}\",\"resumed_at\":0}}\n",
            file.display()
        );
        assert_eq!(text(&output.stdout), expected);
    }
}

#[test]
fn get_goes_on_where_a_lost_connection_ended() {
    const SIZE: usize = 3_000_000;
    const SENT: usize = 1_100_000;
    for to_file in [false, true] {
        let blob = Blob::sized(SIZE);
        let (id, bytes) = (blob.id.clone(), blob.bytes.clone());
        let (_dir, file) = scratch();
        let server = FakeServer::new(move |_, request| blob.answer(request, SENT));
        let mut args = vec!["get", &id];
        if to_file {
            args.extend(["-o", file.to_str().unwrap()]);
        }
        let output = run(&server, &args);
        assert_exit(&output, 0);
        let received = if to_file { fs::read(&file).expect("there") } else { output.stdout };
        assert!(received == bytes, "every byte once and in order");
        let ranges: Vec<Option<String>> =
            server.requests().iter().map(|request| request.header("range").map(str::to_owned)).collect();
        assert_eq!(ranges, [None, Some(format!("bytes={SENT}-")), Some(format!("bytes={}-", 2 * SENT))]);
    }
}

#[test]
fn get_copes_with_a_server_that_ignores_ranges() {
    let blob = Blob::sized(1_000_000);
    let (id, bytes) = (blob.id.clone(), blob.bytes.clone());
    let server = FakeServer::new(move |index, request| {
        let whole = Request { headers: Vec::new(), ..request.clone() };
        blob.answer(&whole, if index == 0 { 400_000 } else { 1_000_000 })
    });
    let output = run(&server, &["get", &id]);
    assert_exit(&output, 0);
    assert!(output.stdout == bytes, "every byte once");
}

#[test]
fn get_goes_on_from_what_an_earlier_run_left() {
    const LEFT: usize = 1_234_567;
    let blob = Blob::sized(2_000_000);
    let (id, bytes) = (blob.id.clone(), blob.bytes.clone());
    let (dir, file) = scratch();
    fs::write(part_of(&file), &bytes[..LEFT]).expect("written");
    let server = FakeServer::new(move |_, request| blob.answer(request, usize::MAX >> 1));
    let output = run(&server, &["get", &id, "-o", file.to_str().unwrap(), "--json"]);
    assert_exit(&output, 0);
    assert!(fs::read(&file).expect("there") == bytes);
    assert_eq!(names_in(dir.path()), ["blob"]);
    assert!(text(&output.stdout).contains(&format!("\"resumed_at\":{LEFT}")), "{}", text(&output.stdout));
    let lines: Vec<String> = server.requests().iter().map(|request| request.line.clone()).collect();
    assert_eq!(lines, [format!("HEAD /v1/blobs/{id}"), format!("GET /v1/blobs/{id}")]);
    assert_eq!(server.requests()[1].header("range"), Some(format!("bytes={LEFT}-").as_str()));
}

#[test]
fn get_fetches_nothing_again_when_an_earlier_run_left_all_bytes() {
    let blob = Blob::sized(100_000);
    let (id, bytes) = (blob.id.clone(), blob.bytes.clone());
    let (_dir, file) = scratch();
    fs::write(part_of(&file), &bytes).expect("written");
    let server = FakeServer::new(move |_, request| blob.answer(request, usize::MAX >> 1));
    assert_exit(&run(&server, &["get", &id, "-o", file.to_str().unwrap()]), 0);
    assert!(fs::read(&file).expect("there") == bytes);
    assert_eq!(server.requests().len(), 1, "the HEAD alone");
}

#[test]
fn get_replaces_wrong_bytes_of_an_earlier_run() {
    let blob = Blob::sized(100_000);
    let mut flipped = blob.bytes[..50_000].to_vec();
    flipped[17] ^= 1;
    let longer = [&blob.bytes[..], b"more"].concat();
    let mut complete_but_flipped = blob.bytes.clone();
    complete_but_flipped[99_999] ^= 0x80;
    for left in [flipped, longer, complete_but_flipped] {
        let blob = Blob::sized(100_000);
        let (id, bytes) = (blob.id.clone(), blob.bytes.clone());
        let (dir, file) = scratch();
        fs::write(part_of(&file), left).expect("written");
        let server = FakeServer::new(move |_, request| blob.answer(request, usize::MAX >> 1));
        assert_exit(&run(&server, &["get", &id, "-o", file.to_str().unwrap()]), 0);
        assert!(fs::read(&file).expect("there") == bytes);
        assert_eq!(names_in(dir.path()), ["blob"]);
    }
}

#[test]
fn get_of_wrong_bytes_fails_and_leaves_no_file() {
    let asked = Blob::sized(100_000);
    // Other content under the id; and the right tag on other content.
    for honest_tag in [true, false] {
        let (dir, file) = scratch();
        fs::write(&file, "an older version").expect("written");
        let mut other = Blob::of(asked.bytes.iter().map(|byte| byte ^ 1).collect());
        if !honest_tag {
            other.hash = asked.hash;
        }
        let server = FakeServer::new(move |_, request| other.answer(request, usize::MAX >> 1));
        let output = run(&server, &["get", &asked.id, "-o", file.to_str().unwrap(), "--json"]);
        assert_exit(&output, 5);
        assert!(text(&output.stderr).contains("\"error\":\"verification failed\""), "{}", text(&output.stderr));
        assert_eq!(names_in(dir.path()), ["blob"]);
        assert_eq!(fs::read(&file).expect("there"), b"an older version");
        assert_exit(&run(&server, &["get", &asked.id]), 5);
    }
}

#[test]
fn get_notices_a_server_that_changes_its_mind_between_connections() {
    let (first, second) = (Blob::sized(100_000), Blob::sized(100_001));
    let id = first.id.clone();
    let server = FakeServer::new(move |index, request| {
        let whole = Request { headers: Vec::new(), ..request.clone() };
        if index == 0 { first.answer(&whole, 50_000) } else { second.answer(&whole, 100_001) }
    });
    assert_exit(&run(&server, &["get", &id]), 5);
}

#[test]
fn get_gives_up_after_a_bounded_number_of_attempts_and_keeps_what_came() {
    let blob = Blob::sized(1_000_000);
    let (id, bytes) = (blob.id.clone(), blob.bytes.clone());
    let (dir, file) = scratch();
    let server = FakeServer::new(move |_, request| blob.answer(request, 10));
    let output = run(&server, &["get", &id, "-o", file.to_str().unwrap()]);
    assert_exit(&output, 7);
    assert!(
        text(&output.stderr).contains("gave up after 5 attempts in a row, with 50 of 1000000 bytes"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(server.requests().len(), 5);
    assert_eq!(names_in(dir.path()), ["blob.part"]);
    assert_eq!(fs::read(part_of(&file)).expect("there"), &bytes[..50]);
}

#[test]
fn get_waits_for_a_server_that_restarts() {
    let blob = Blob::sized(1_000_000);
    let (id, bytes) = (blob.id.clone(), blob.bytes.clone());
    let server = FakeServer::new(move |index, request| match index {
        0 => blob.answer(request, 300_000),
        1 => refusal("503 Service Unavailable", "recovering"),
        2 => Vec::new(),
        _ => blob.answer(request, 1_000_000),
    });
    let output = run(&server, &["get", &id]);
    assert_exit(&output, 0);
    assert!(output.stdout == bytes);
}

#[test]
fn a_missing_blob_is_exit_code_3_everywhere_and_leaves_nothing() {
    let id = Blob::sized(1).id;
    let (dir, file) = scratch();
    let server = FakeServer::new(|_, request| {
        let body = if request.line.starts_with("HEAD") {
            ""
        } else {
            "{\"error\":\"blob not found\",\"message\":\"it is not here\"}"
        };
        json("404 Not Found", body)
    });
    let target = file.to_str().unwrap();
    for args in [&["get", id.as_str()][..], &["get", &id, "-o", target], &["stat", &id], &["rm", &id]] {
        let output = run(&server, args);
        assert_exit(&output, 3);
        assert!(text(&output.stderr).starts_with("error: "), "{}", text(&output.stderr));
    }
    for args in [&["get", id.as_str(), "-o", target, "--json"][..], &["stat", &id, "--json"], &["rm", &id, "--json"]] {
        let output = run(&server, args);
        assert_exit(&output, 3);
        let error = text(&output.stderr);
        assert!(error.starts_with("{\"error\":\"blob not found\",") && error.contains("\"exit_code\":3"), "{error}");
    }
    assert_eq!(names_in(dir.path()), [""; 0]);
    // What an earlier run left stays for the day the blob is there again.
    fs::write(part_of(&file), "left").expect("written");
    assert_exit(&run(&server, &["get", &id, "-o", target]), 3);
    assert_eq!(names_in(dir.path()), ["blob.part"]);
}

#[test]
fn two_gets_to_one_file_do_not_mix_their_bytes() {
    let blob = Blob::sized(1000);
    let id = blob.id.clone();
    let (_dir, file) = scratch();
    let held = File::create(part_of(&file)).expect("made");
    held.lock().expect("free");
    let server = FakeServer::new(move |_, request| blob.answer(request, 1000));
    let output = run(&server, &["get", &id, "-o", file.to_str().unwrap()]);
    assert_exit(&output, 1);
    assert!(text(&output.stderr).contains("is being written by another get"), "{}", text(&output.stderr));
    assert_eq!(server.requests().len(), 0);
    drop(held);
    assert_exit(&run(&server, &["get", &id, "-o", file.to_str().unwrap()]), 0);
}

#[test]
fn get_to_a_device_writes_through_it() {
    let blob = Blob::sized(100_000);
    let id = blob.id.clone();
    let server = FakeServer::new(move |_, request| blob.answer(request, 100_000));
    assert_exit(&run(&server, &["get", &id, "-o", "/dev/null"]), 0);
    assert!(!Path::new("/dev/null.part").exists());
    let output = run(&server, &["get", &id, "-o", "/dev/full"]);
    assert_exit(&output, 1);
}

#[test]
fn an_unreachable_server_is_exit_code_7_at_once() {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let id = Blob::sized(1).id;
    let (dir, file) = scratch();
    for args in
        [vec!["ls"], vec!["get", &id, "-o", file.to_str().unwrap()], vec!["put", "/proc/version"], vec!["rm", &id]]
    {
        let output =
            nabu_store().args(&args).args(["--api", &format!("http://{address}")]).output().expect("the binary runs");
        assert_exit(&output, 7);
        assert!(text(&output.stderr).contains("no server listens on"), "{}", text(&output.stderr));
    }
    assert_eq!(names_in(dir.path()), [""; 0]);
}

#[test]
fn rm_deletes_all_that_are_there_and_reports_the_missing_one() {
    let ids: Vec<String> = (1..=3).map(|size| Blob::sized(size).id).collect();
    let missing = ids[1].clone();
    let server = FakeServer::new(move |_, request| {
        if request.line.ends_with(&missing) {
            refusal("404 Not Found", "blob not found")
        } else {
            json("200 OK", "{\"deleted\":true}")
        }
    });
    let output = run(&server, &["rm", "--json", &ids[0], &ids[1], &ids[2]]);
    assert_exit(&output, 3);
    let lines: Vec<String> = [&ids[0], &ids[2]].map(|id| format!("{{\"id\":\"{id}\",\"deleted\":true}}\n")).to_vec();
    assert_eq!(text(&output.stdout), lines.concat());
    let expected = "{\"error\":\"blob not found\",\"message\":\"the server says blob not found\",\"exit_code\":3,\"status\":404}\n";
    assert_eq!(text(&output.stderr), expected);
}

#[test]
fn ls_follows_the_cursor_to_the_end_and_no_further() {
    let mut ids: Vec<String> = (1..=5).map(|size| Blob::sized(size).id).collect();
    ids.sort();
    let listed = ids.clone();
    let server = FakeServer::new(move |_, request| {
        let after = request.line.split_once("cursor=").map_or(String::new(), |(_, id)| id.to_owned());
        let rest: Vec<&String> = listed.iter().filter(|id| **id > after).collect();
        let page: Vec<String> = rest.iter().take(2).map(|id| format!("\"{id}\"")).collect();
        let has_more = rest.len() > 2;
        let next = if has_more { page[1].clone() } else { "null".into() };
        json("200 OK", &format!("{{\"ids\":[{}],\"next_cursor\":{next},\"has_more\":{has_more}}}", page.join(",")))
    });
    let all = run(&server, &["ls", "--all", "--limit", "2"]);
    assert_exit(&all, 0);
    assert_eq!(text(&all.stdout), ids.iter().map(|id| format!("{id}\n")).collect::<String>());
    assert_eq!(server.requests().len(), 3);

    let page = run(&server, &["ls", "--limit", "2", "--cursor", &ids[1], "--json"]);
    assert_exit(&page, 0);
    let expected =
        format!("{{\"ids\":[\"{}\",\"{}\"],\"next_cursor\":\"{}\",\"has_more\":true}}\n", ids[2], ids[3], ids[3]);
    assert_eq!(text(&page.stdout), expected);
    assert_eq!(server.requests()[3].line, format!("GET /v1/blobs?limit=2&cursor={}", ids[1]));
}

#[test]
fn a_listing_that_goes_in_circles_is_refused() {
    let id = Blob::sized(1).id;
    let server = FakeServer::new(move |_, _| {
        json("200 OK", &format!("{{\"ids\":[],\"next_cursor\":\"{id}\",\"has_more\":true}}"))
    });
    assert_exit(&run(&server, &["ls", "--all"]), 1);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn an_answer_that_is_no_http_or_no_json_is_exit_code_1() {
    for answer in ["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "SSH-2.0-OpenSSH_9.9\r\n"] {
        let server = FakeServer::new(move |_, _| answer.as_bytes().to_vec());
        assert_exit(&run(&server, &["ls"]), 1);
    }
}

#[test]
fn a_reader_that_leaves_ends_the_command_quietly() {
    let blob = Blob::sized(4 << 20);
    let id = blob.id.clone();
    let server = FakeServer::new(move |_, request| blob.answer(request, usize::MAX >> 1));
    let mut child = nabu_store()
        .args(["get", &id, "--api", &server.url()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert_exit(&output, 1);
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn wrong_usage_is_exit_code_2_before_any_request() {
    let (dir, file) = scratch();
    let id = Blob::sized(1).id;
    fs::write(&file, "content").expect("written");
    let (name, dir_name) = (file.to_str().unwrap(), dir.path().to_str().unwrap());
    let server = FakeServer::new(|_, _| panic!("no request is sent"));
    for args in [
        &["get", "not-an-id"][..],
        &["get", &id, "--json"],
        &["get", &id, "-o", dir_name],
        &["get", &id, "--api", "https://localhost:7070"],
        &["get", &id, "--api", "localhost:7070"],
        &["stat", &id.to_uppercase()],
        &["rm"],
        &["rm", &id, "short"],
        &["ls", "--limit", "10001"],
        &["put", name, "--policy", "ec43"],
        &["put", name, "--label", "novalue"],
        &["put", name, "--label", "A=1", "--label", "a=2"],
        &["put", dir_name],
        &["put", "-", "--digest"],
        &["token", "new"],
        &["token", "new", "--role", "read", "--name", "two words"],
        &["no-such-command"],
        &[],
    ] {
        let output = run(&server, args);
        assert_exit(&output, 2);
        assert!(!output.stderr.is_empty(), "{args:?} says why");
    }
    assert_exit(&run(&server, &["put", "/no/such/file"]), 1);
}

#[test]
fn start_refuses_a_wrong_configuration_and_names_the_place() {
    let (_dir, file) = scratch();
    fs::write(&file, "listen: 127.0.0.1:0\nlimits:\n  head_timeout_ms: 5\n").expect("written");
    let output = nabu_store().args(["start", "--config", file.to_str().unwrap()]).output().expect("the binary runs");
    assert_exit(&output, 2);
    let expected = format!("error: {}:3: limits.head_timeout_ms: must be 100..600000 (got 5)\n", file.display());
    assert_eq!(text(&output.stderr), expected);
}

#[test]
fn completions_and_manual_pages_cover_every_command() {
    let (dir, _) = scratch();
    for shell in ["bash", "zsh", "fish"] {
        let output = nabu_store().args(["completions", shell]).output().expect("the binary runs");
        assert_exit(&output, 0);
        for word in ["start", "put", "get", "--token-file"] {
            assert!(text(&output.stdout).contains(word.trim_start_matches('-')), "{shell}: {word}");
        }
    }
    let pages = dir.path().join("man1");
    assert_exit(&nabu_store().arg("man").arg(&pages).output().expect("the binary runs"), 0);
    let names = names_in(&pages);
    for command in ["", "-start", "-put", "-get", "-stat", "-ls", "-rm", "-token-new", "-completions", "-man"] {
        assert!(names.contains(&format!("nabu-store{command}.1")), "{command}: {names:?}");
    }
}
