//! `start`, `fsck` and `inspect` as an operator meets them: the built binary on real directories.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

/// The binary, without what the environment of the tests says. Ended by force when it hangs. In the
/// foreground, because `timeout` would otherwise hand a signal on twice, and a second one ends a
/// server at once.
fn nabu_store() -> Command {
    let mut command = Command::new("timeout");
    command.args(["--foreground", "120", env!("CARGO_BIN_EXE_nabu-store")]);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NABU_")) {
        command.env_remove(name);
    }
    command
}

/// A server on one directory and a free port.
struct Server {
    child: Child,
    stderr: BufReader<ChildStderr>,
    /// What it logged so far.
    log: String,
    api: String,
    token: String,
}

impl Server {
    fn start(data: &Path) -> Self {
        let mut child = nabu_store()
            .args(["start", "--listen", "127.0.0.1:0", "--cores", "2", "--memory", "64MiB", "--data"])
            .arg(data)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut log = String::new();
        while !log.contains("ready to serve blobs") {
            assert_ne!(stderr.read_line(&mut log).expect("text"), 0, "the server ended: {log}");
        }
        let start = log.find("http://").expect("the address is logged");
        let api = log[start..].split_whitespace().next().expect("not empty").to_owned();
        let token = fs::read_to_string(data.join("admin.token")).expect("made at the first start").trim().to_owned();
        Self { child, stderr, log, api, token }
    }

    fn client(&self, args: &[&str]) -> Output {
        let mut command = nabu_store();
        command.env("NABU_API", &self.api).env("NABU_TOKEN", &self.token);
        command.args(args).output().expect("the binary runs")
    }

    /// Ends it by SIGTERM, as a service manager does, and returns its log.
    fn stop(mut self) -> String {
        let killed = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(killed.success());
        self.stderr.read_to_string(&mut self.log).expect("text");
        let status = self.child.wait().expect("ends");
        assert!(status.success(), "{status}: {}", self.log);
        std::mem::take(&mut self.log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `stop` it is gone already; in a test that fails it must not outlive the test.
        // `timeout` hands SIGTERM on.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = Command::new("kill").arg(self.child.id().to_string()).status();
            let _ = self.child.wait();
        }
    }
}

fn offline(command: &str, data: &Path, more: &[&str]) -> Output {
    nabu_store().arg(command).arg(data).args(more).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn assert_exit(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "stdout: {}\nstderr: {}", text(&output.stdout), text(&output.stderr));
}

/// A scratch directory with a file of `size` bytes in it, and where data may go.
fn scratch(size: u32) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, data) = (dir.path().join("file"), dir.path().join("a/data"));
    let bytes: Vec<u8> = (0..size).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(&file, bytes).expect("written");
    (dir, file, data)
}

#[test]
fn a_first_start_makes_everything_private_and_the_next_one_uses_it_again() {
    let (_dir, file, data) = scratch(1_500_000);
    let server = Server::start(&data);
    assert_eq!(fs::metadata(&data).expect("made").mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(data.join("admin.token")).expect("made").mode() & 0o777, 0o600);
    let paste = format!("export NABU_TOKEN=$(cat {}/admin.token)", data.display());
    assert!(server.log.contains(&paste), "{}", server.log);
    let put = server.client(&["put", file.to_str().unwrap(), "--label", "model=test"]);
    assert_exit(&put, 0);
    let (id, token) = (text(&put.stdout).trim().to_owned(), server.token.clone());
    let log = server.stop();
    assert!(!log.contains(&token), "a token is never logged");

    let server = Server::start(&data);
    assert_eq!(server.token, token);
    let get = server.client(&["get", &id]);
    assert_exit(&get, 0);
    assert!(get.stdout == fs::read(&file).expect("there"));
    assert!(text(&server.client(&["stat", &id]).stdout).contains("label    model=test"));
    assert_exit(&server.client(&["rm", &id]), 0);
    assert_exit(&server.client(&["get", &id]), 3);
    server.stop();
}

#[test]
fn a_directory_in_use_is_left_alone_by_everybody_else() {
    let (_dir, _file, data) = scratch(0);
    let server = Server::start(&data);
    for command in ["fsck", "inspect"] {
        let output = offline(command, &data, &[]);
        assert_exit(&output, 1);
        assert!(text(&output.stderr).contains("another server uses the data directory"), "{}", text(&output.stderr));
    }
    let second = nabu_store().args(["start", "--listen", "127.0.0.1:0", "--data"]).arg(&data).output().expect("runs");
    assert_exit(&second, 1);
    assert!(text(&second.stderr).contains("another server uses the data directory"), "{}", text(&second.stderr));
    assert_exit(&server.client(&["ls"]), 0);
    server.stop();
}

#[test]
fn fsck_finds_one_flipped_bit_and_inspect_counts_what_is_there() {
    let (_dir, file, data) = scratch(3_000_000);
    let server = Server::start(&data);
    assert_exit(&server.client(&["put", file.to_str().unwrap()]), 0);
    assert_exit(&server.client(&["put", "/proc/version"]), 0);
    server.stop();

    let sound = offline("fsck", &data, &["--json"]);
    assert_exit(&sound, 0);
    let sound = text(&sound.stdout);
    assert!(sound.contains("\"blobs\":2,") && sound.contains("\"findings\":0,"), "{sound}");
    let inspected = offline("inspect", &data, &[]);
    assert_exit(&inspected, 0);
    assert!(text(&inspected.stdout).contains(" 2 blobs: "), "{}", text(&inspected.stdout));
    let segments: Vec<PathBuf> = fs::read_dir(data.join("segments"))
        .expect("made")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    let listed = text(&offline("inspect", &data, &["--json"]).stdout);
    assert_eq!(listed.lines().count(), segments.len());

    let largest = segments.iter().max_by_key(|path| fs::metadata(path).expect("there").len()).expect("one");
    let segment = fs::OpenOptions::new().read(true).write(true).open(largest).expect("ours");
    let mut byte = [0];
    segment.read_exact_at(&mut byte, 1_000_000).expect("in the content");
    segment.write_all_at(&[byte[0] ^ 0x10], 1_000_000).expect("flipped");
    let damaged = offline("fsck", &data, &["--json"]);
    assert_exit(&damaged, 5);
    let findings = text(&damaged.stdout);
    assert!(findings.contains(largest.to_str().unwrap()), "{findings}");
    assert!(findings.contains("\"finding\":\"blob\"") && findings.contains("\"damaged_blobs\":1}"), "{findings}");
    let id = findings.split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a blob is named");
    assert!(text(&damaged.stderr).contains(&format!("1 blob damaged: {id}")), "{}", text(&damaged.stderr));
    assert!(text(&damaged.stderr).contains("\"exit_code\":5"), "{}", text(&damaged.stderr));
    assert_exit(&offline("fsck", &data, &[]), 5);

    segment.write_all_at(&byte, 1_000_000).expect("flipped back");
    assert_exit(&offline("fsck", &data, &[]), 0);
}

#[test]
fn what_is_no_store_is_named_and_not_touched() {
    let (dir, file, data) = scratch(10);
    for command in ["fsck", "inspect"] {
        let empty = offline(command, dir.path(), &[]);
        assert_exit(&empty, 3);
        assert!(text(&empty.stderr).contains("holds no store"), "{}", text(&empty.stderr));
        assert_exit(&offline(command, &data, &[]), 1);
        assert_exit(&offline(command, &file, &[]), 2);
    }
    assert_eq!(fs::read_dir(dir.path()).expect("there").count(), 1, "nothing was made");
}

#[test]
fn a_token_file_that_others_can_read_is_warned_about() {
    let (dir, _file, data) = scratch(0);
    let tokens = dir.path().join("tokens");
    fs::write(&tokens, "admin plain:an-admin-token-for-tests ops\n").expect("written");
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o644)).expect("ours");
    // A port that is taken ends the server right after the tokens were read.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listen = taken.local_addr().expect("bound").to_string();
    let output = nabu_store()
        .args(["start", "--cores", "1", "--memory", "16MiB", "--log-format", "json", "--listen", &listen])
        .arg("--token-file")
        .arg(&tokens)
        .arg("--data")
        .arg(&data)
        .output()
        .expect("the binary runs");
    assert_exit(&output, 1);
    let log = text(&output.stderr);
    assert!(log.contains("chmod 600") && log.contains("mode 0644"), "{log}");
    assert!(log.contains("another process listens there"), "{log}");
    assert!(!log.contains("an-admin-token-for-tests"), "{log}");
    assert!(!data.exists(), "a start that fails leaves nothing");
}

#[test]
fn a_start_that_fails_leaves_nothing_behind() {
    let (dir, _file, data) = scratch(0);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = listener.local_addr().expect("bound").to_string();
    let there = dir.path().join("there");
    fs::create_dir(&there).expect("made");
    for flags in [
        &["--listen", &taken][..],
        &["--listen", "127.0.0.1:0", "--tls-cert", "/no/such/file", "--tls-key", "/no/such/file"],
        &["--listen", "127.0.0.1:0", "--token-file", "/no/such/file"],
    ] {
        for data in [&data, &there] {
            let output = nabu_store()
                .args(["start", "--cores", "1", "--memory", "16MiB"])
                .args(flags)
                .arg("--data")
                .arg(data)
                .output()
                .expect("the binary runs");
            assert_ne!(output.status.code(), Some(0));
            assert!(text(&output.stderr).contains("error: "), "{}", text(&output.stderr));
        }
        assert!(!dir.path().join("a").exists(), "{flags:?}");
        assert_eq!(fs::read_dir(&there).expect("there").count(), 0, "{flags:?}");
    }
    // What was there before stays.
    let server = Server::start(&there);
    server.stop();
    let token = fs::read_to_string(there.join("admin.token")).expect("made");
    let failed = nabu_store().args(["start", "--listen", &taken, "--data"]).arg(&there).output().expect("runs");
    assert_exit(&failed, 1);
    assert_eq!(fs::read_to_string(there.join("admin.token")).expect("kept"), token);
}
