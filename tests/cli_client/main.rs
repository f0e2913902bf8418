//! The client commands as a user meets them: the built binary against a server that behaves,
//! misbehaves and goes away.

mod fake_server;
mod get;
mod names;
mod put;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nabu_engine::types::{BlobId, ContentHash};
use sha2::{Digest, Sha256};

use fake_server::{FakeServer, Request};

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
            "HTTP/1.1 {status}\r\nConnection: close\r\nETag: {}\r\nContent-Length: {}\r\nX-Nabu-Blob-Size: {size}\r\n\r\n",
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
    format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
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
    command.args(["--foreground", "60", env!("CARGO_BIN_EXE_nabu-store")]);
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
fn an_unreachable_server_is_exit_code_7_at_once() {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let id = Blob::sized(1).id;
    let (dir, file) = scratch();
    for args in [
        vec!["ls"],
        vec!["get", &id, "-o", file.to_str().unwrap(), "--retry-for", "0"],
        vec!["put", "/proc/version", "--retry-for", "0"],
        vec!["rm", &id],
    ] {
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
        &["get", &id[..5]],
        &["get", &id, "--api", "http://192.0.2.1:7070"],
        &["get", &id, "--json"],
        &["get", &id, "-o", dir_name],
        &["get", &id, "--api", "https://localhost:7070", "--cacert", "/no/such/file"],
        &["get", &id, "--api", "localhost:7070"],
        &["stat", &id.to_uppercase()],
        &["rm"],
        &["rm", &id, "short"],
        &["ls", "--limit", "10001"],
        &["put", name, "--policy", "ec43"],
        &["put", name, "--label", "novalue"],
        &["put", name, "--label", "A=1", "--label", "a=2"],
        &["put", "-", "--digest"],
        &["put", "-", name],
        &["put", name, "--jobs", "0"],
        &["token", "new"],
        &["token", "new", "--role", "read", "--name", "two words"],
        &["token", "new", "--role", "read", "--no-delete"],
        &["token", "new", "--role", "read", "--expires-in", "90"],
        &["token", "new", "--role", "read", "--expires-in", "9999999d"],
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
fn an_empty_variable_counts_as_one_that_is_not_set() {
    let server = FakeServer::new(|_, _| json("200 OK", "{\"ids\":[],\"next_cursor\":null,\"has_more\":false}"));
    let empty = |args: &[&str]| {
        let mut command = nabu_store();
        command.env("NABU_API", "").env("NABU_TOKEN", "").env("NABU_CACERT", "").env("NABU_CONFIG", "");
        command.args(args).output().expect("the binary runs")
    };
    assert_exit(&empty(&["ls", "--api", &server.url()]), 0);
    // Whether or not a server is at the default address, the command line is not to blame.
    assert_ne!(empty(&["ls"]).status.code(), Some(2));
    let help = text(&empty(&["ls", "--help"]).stdout);
    for name in ["NABU_API", "NABU_TOKEN", "NABU_CACERT"] {
        assert!(help.contains(&format!("[env: {name}=]")), "{name} in {help}");
    }
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
