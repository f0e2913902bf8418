//! `cluster demo` as somebody meets it who tries a cluster: real nodes on loopback, and their end.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use serde::Deserialize;
use support::wait_for;
use tempfile::TempDir;

/// What `--json` prints when the cluster is whole.
#[derive(Deserialize)]
struct Told {
    api: String,
    token: String,
    data: PathBuf,
    nodes: Vec<ToldNode>,
}

#[derive(Deserialize)]
struct ToldNode {
    node_id: String,
    api: String,
    pid: u32,
}

fn nabu_store() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nabu-store"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NABU_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// A demo that runs, and what it said. Its temporary files lie in a directory of the test.
struct Demo {
    child: Child,
    stdout: BufReader<ChildStdout>,
    told: Told,
    temporary: TempDir,
}

impl Demo {
    fn start(more: &[&str]) -> Self {
        let temporary = tempfile::tempdir().expect("a directory");
        let mut child = nabu_store()
            .args(["cluster", "demo"])
            .args(more)
            .env("TMPDIR", temporary.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        if stdout.read_line(&mut line).expect("text") == 0 {
            let mut failure = String::new();
            stderr.read_to_string(&mut failure).expect("text");
            panic!("the demo ended: {failure}");
        }
        let told = simd_json::from_slice(&mut line.into_bytes()).expect("one object");
        Self { child, stdout, told, temporary }
    }

    fn client(&self, node: usize, args: &[&str]) -> Output {
        let mut command = nabu_store();
        command.env("NABU_API", &self.told.nodes[node].api).env("NABU_TOKEN", &self.told.token);
        command.args(args).output().expect("the binary runs")
    }

    fn signal(&self, signal: &str) {
        kill(signal, self.child.id());
    }

    /// Waits for its end, and returns whether it was a success.
    fn end(&mut self) -> bool {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("text");
        self.child.wait().expect("ends").success()
    }

    fn nodes_run(&self) -> bool {
        self.told.nodes.iter().any(|node| is_running(node.pid))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // The nodes end with it; in a test that fails they must not outlive the test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kill(signal: &str, pid: u32) {
    let killed = Command::new("kill").args([signal, &pid.to_string()]).status().expect("kill runs");
    assert!(killed.success());
}

/// Whether a process is there, and not one that only nobody has asked for its end yet.
fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// The first of some ports in a row, which a node must have again at its next start. They are below
/// those that the kernel gives out by itself, so only another test may take them: each process of
/// tests begins elsewhere, and each test in it goes on.
fn free_port(count: u16) -> String {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let start = 20_000 + (std::process::id() % 900) as u16 * 10;
    let is_free = |port: &u16| (*port..*port + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    let mut ports = std::iter::repeat_with(|| start + TAKEN.fetch_add(count, Ordering::Relaxed));
    ports.find(is_free).expect("it goes on until ports are free").to_string()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn entries(dir: &Path) -> usize {
    fs::read_dir(dir).expect("readable").count()
}

#[test]
fn a_demo_is_a_whole_cluster_that_outlives_a_node_and_ends_without_a_trace() {
    let mut demo = Demo::start(&["--json"]);
    let names: Vec<&str> = demo.told.nodes.iter().map(|node| node.node_id.as_str()).collect();
    assert_eq!(names, ["node-1", "node-2", "node-3"]);
    assert_eq!(demo.told.nodes[0].api, demo.told.api);
    assert_eq!(demo.told.data.parent(), demo.temporary.path().canonicalize().ok().as_deref());
    for node in 0..3 {
        let output = demo.client(node, &["cluster", "status"]);
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        assert!(text(&output.stdout).contains("the cluster is whole: 3 nodes active"), "{}", text(&output.stdout));
    }
    assert!(demo.client(1, &["cluster", "ring"]).status.success());

    kill("-KILL", demo.told.nodes[2].pid);
    wait_for("a status that is not whole", || {
        (demo.client(0, &["cluster", "status"]).status.code() == Some(8)).then_some(())
    });
    demo.signal("-INT");
    assert!(demo.end(), "Ctrl-C is how a demo ends");
    assert!(!demo.nodes_run());
    assert_eq!(entries(demo.temporary.path()), 0, "its data is gone");
}

#[test]
fn a_node_that_dies_is_told_of_with_what_it_logged_and_the_demo_goes_on() {
    let mut child = nabu_store()
        .args(["cluster", "demo", "--nodes", "2"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut told = String::new();
    while !told.contains("Ctrl-C ends all nodes.\n") {
        assert_ne!(stdout.read_line(&mut told).expect("text"), 0, "the demo ended: {told}");
    }
    let row = told.lines().find(|line| line.starts_with("node-2 ")).expect("a row for each node");
    kill("-KILL", row.split_whitespace().last().and_then(|pid| pid.parse().ok()).expect("its process"));
    let mut remark = || {
        let mut line = String::new();
        assert_ne!(stderr.read_line(&mut line).expect("text"), 0, "the demo ended");
        line
    };
    assert_eq!(remark(), "node-2 has ended (signal: 9 (SIGKILL)). It logged:\n");
    assert!(remark().starts_with("  20"), "a line of its log, with its time");
    assert!(child.try_wait().expect("it can be asked").is_none(), "it goes on");
    kill("-TERM", child.id());
    assert!(child.wait().expect("ends").success());
}

#[test]
fn no_node_outlives_a_demo_that_is_killed() {
    let mut demo = Demo::start(&["--nodes", "2", "--json"]);
    assert!(demo.nodes_run());
    demo.signal("-KILL");
    assert!(!demo.end());
    wait_for("the end of its nodes", || (!demo.nodes_run()).then_some(()));
}

#[test]
fn a_demo_with_data_of_its_own_goes_on_where_it_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("demo");
    let port = free_port(2);
    let args = ["--nodes", "2", "--json", "--data", data.to_str().expect("text"), "--port-base", &port];
    let cluster_id = |demo: &Demo| {
        let output = demo.client(0, &["cluster", "status", "--json"]);
        let text = text(&output.stdout);
        text.split("\"cluster_id\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an id").to_owned()
    };
    let mut first = Demo::start(&args);
    let (id, token) = (cluster_id(&first), first.told.token.clone());
    first.signal("-TERM");
    assert!(first.end());
    let mut again = Demo::start(&args);
    assert_eq!((cluster_id(&again), again.told.token.clone()), (id, token));
    assert_eq!(again.told.nodes[0].api, format!("http://127.0.0.1:{port}"));
    again.signal("-TERM");
    assert!(again.end());
    assert!(entries(&data) > 2, "the data stays");
}

#[test]
fn a_node_that_is_left_alone_is_recovered_and_decides_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("demo");
    let mut demo = Demo::start(&["--json", "--data", data.to_str().expect("text"), "--port-base", &free_port(3)]);
    demo.signal("-TERM");
    assert!(demo.end());
    let mut command = nabu_store();
    command.args(["cluster", "recover", "--force", "--data"]).arg(data.join("node-1"));
    let output = command.output().expect("the binary runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(said.starts_with("node-1 is the only voter of cluster ") && said.ends_with("as before: none\n"), "{said}");
    assert!(said.contains("node-2") && said.contains("node-3"), "{said}");

    let mut left = nabu_store();
    left.args(["start", "--stop-at-eof", "--node-id", "node-1", "--cores", "1", "--memory", "32MiB", "--bootstrap"]);
    left.args(["--listen", demo.told.api.strip_prefix("http://").expect("an address")]);
    left.arg("--data").arg(data.join("node-1")).arg("--cluster-secret-file").arg(data.join("secret"));
    left.arg("--token-file").arg(data.join("tokens"));
    let mut left = left.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary runs");
    let said = wait_for("a cluster of the node that is left", || {
        let output = demo.client(0, &["cluster", "status"]);
        output.status.success().then(|| text(&output.stdout))
    });
    assert!(said.contains("the cluster is whole: 1 node active, node-1 leads"), "{said}");
    drop(left.stdin.take());
    assert!(left.wait().expect("ends").success());
}
