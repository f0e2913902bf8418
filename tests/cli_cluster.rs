//! The commands about a cluster as an operator meets them: the built binary against a node that
//! answers what a test tells it.

#[allow(dead_code, reason = "tests of other commands use all of it")]
#[path = "cli_client/fake_server.rs"]
mod fake_server;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nabu_engine::log::superblock;
use nabu_net::peer::secrets::Secrets;

use fake_server::FakeServer;

const TOKEN: &str = "the-token-of-these-tests";

/// The binary, ended by force (exit code 124) when it hangs.
fn nabu_store() -> Command {
    let mut command = Command::new("timeout");
    command.args(["--foreground", "60", env!("CARGO_BIN_EXE_nabu-store")]);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NABU_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

fn cluster(server: &FakeServer, args: &[&str]) -> Output {
    let mut command = nabu_store();
    command.env("NABU_API", server.url()).env("NABU_TOKEN", TOKEN);
    command.arg("cluster").args(args).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn assert_exit(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "stdout: {}\nstderr: {}", text(&output.stdout), text(&output.stderr));
}

fn answering(status: &'static str, body: &str) -> FakeServer {
    let answer = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    FakeServer::new(move |_, _| answer.clone().into_bytes())
}

fn node(number: u32, state: &str, reachable: bool) -> String {
    format!(
        r#"{{"node_id":"node-{number}","address":"10.0.0.{number}:7070","client_address":"10.0.0.{number}:7070","state":"{state}","capacity_bytes":1099511627776,"used_bytes":1610612736,"blob_count":{number}000,"zone":"rack-{number}","version":"0.1.0","voter":true,"leader":{},"reachable":{reachable},"incarnation":1}}"#,
        number == 2
    )
}

fn state(leader: &str, nodes: &[String]) -> String {
    format!(
        r#"{{"cluster_id":"c0ffee","ring_version":17,"leader":{leader},"term":5,"node_id":"node-1","nodes":[{}]}}"#,
        nodes.join(",")
    )
}

#[test]
fn the_status_of_a_whole_cluster_is_a_table_and_exit_code_0() {
    let nodes: Vec<String> = (1..=3).map(|number| node(number, "active", true)).collect();
    let server = answering("200 OK", &state("\"node-2\"", &nodes));
    let output = cluster(&server, &["status"]);
    assert_exit(&output, 0);
    let expected = "\
cluster c0ffee, ring version 17, term 5, as node-1 sees it

NODE    ADDRESS        STATE   ROLE    ZONE       USED  CAPACITY  BLOBS  VERSION
node-1  10.0.0.1:7070  active  voter   rack-1  1.5 GiB   1.0 TiB   1000  0.1.0
node-2  10.0.0.2:7070  active  leader  rack-2  1.5 GiB   1.0 TiB   2000  0.1.0
node-3  10.0.0.3:7070  active  voter   rack-3  1.5 GiB   1.0 TiB   3000  0.1.0

the cluster is whole: 3 nodes active, node-2 leads; it can lose 1 more of its 3 voters
";
    assert_eq!(text(&output.stdout), expected);
    assert_eq!(text(&output.stderr), "");
    let request = &server.requests()[0];
    assert_eq!(request.line, "GET /v1/cluster/state");
    assert_eq!(request.header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
}

#[test]
fn the_status_of_a_cluster_that_is_not_whole_is_exit_code_8_and_says_what_is_wrong() {
    let nodes = [node(1, "active", true), node(2, "active", false), node(3, "offline", false)];
    let server = answering("200 OK", &state("null", &nodes));
    let output = cluster(&server, &["status"]);
    assert_exit(&output, 8);
    let stdout = text(&output.stdout);
    assert!(stdout.contains("node-2  10.0.0.2:7070  active, out of reach  leader"), "{stdout}");
    assert!(
        stdout.ends_with(
            "the cluster is not whole: node-3 is offline; node-2 is out of reach from node-1; only 1 of 3 voters is \
             there, which is no majority: nothing can be decided\n"
        ),
        "{stdout}"
    );
    let expected = "error: check node-2 (10.0.0.2:7070), node-3 (10.0.0.3:7070) and the network\n";
    assert_eq!(text(&output.stderr), expected);

    let output = cluster(&server, &["status", "--json"]);
    assert_exit(&output, 8);
    let stdout = text(&output.stdout);
    assert!(stdout.starts_with("{\"whole\":false,\"verdict\":\"the cluster is not whole: "), "{stdout}");
    for part in ["\"voters\":3", "\"spare_voters\":0", "\"cluster_id\":\"c0ffee\"", "\"leader\":null"] {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
    assert_eq!((stdout.lines().count(), stdout.matches("\"node_id\":\"node-3\"").count()), (1, 1));
    assert!(text(&output.stderr).contains("\"exit_code\":8"), "{}", text(&output.stderr));
}

#[test]
fn a_node_that_stands_alone_has_a_status_too() {
    let body = r#"{"nodes":[{"node_id":"standalone","address":"127.0.0.1:7070","state":"active","capacity_bytes":1024,"used_bytes":0,"blob_count":0}],"ring_version":1}"#;
    let output = cluster(&answering("200 OK", body), &["status"]);
    assert_exit(&output, 0);
    let expected = "\
NODE        ADDRESS         STATE   USED  CAPACITY  BLOBS
standalone  127.0.0.1:7070  active   0 B   1.0 KiB      0

this node runs standalone: it belongs to no cluster
";
    assert_eq!(text(&output.stdout), expected);
}

#[test]
fn an_answer_that_says_nothing_of_nodes_is_refused() {
    for body in ["{}", "[]", "{\"nodes\":[{\"address\":\"a:1\",\"state\":\"active\"}]}", "nodes"] {
        let output = cluster(&answering("200 OK", body), &["status"]);
        assert_exit(&output, 1);
        assert!(text(&output.stderr).contains("the answer is not the expected JSON"), "{body}");
    }
    assert_exit(&cluster(&answering("200 OK", "{\"nodes\":[]}"), &["ring"]), 1);
}

#[test]
fn the_ring_shows_the_seats_of_each_node() {
    let body = r#"{"ring_version":17,"vnodes":8192,"arcs":4096,"nodes":[{"node_id":"node-1","seats":[2048,2048],"share":0.5,"capacity_share":0.5},{"node_id":"node-2","seats":[2048,2048],"share":0.5,"capacity_share":0.5}],"moving":12}"#;
    let server = answering("200 OK", body);
    let output = cluster(&server, &["ring"]);
    assert_exit(&output, 0);
    let expected = "\
NODE     SHARE  CAPACITY  SEAT 0  SEAT 1
node-1  50.0 %    50.0 %    2048    2048
node-2  50.0 %    50.0 %    2048    2048

ring version 17, 4096 arcs, 8192 seats: 12 arcs still move
";
    assert_eq!(text(&output.stdout), expected);
    let output = cluster(&server, &["ring", "--json"]);
    assert_eq!(text(&output.stdout), format!("{body}\n"));
    assert_eq!(server.requests()[1].line, "GET /v1/cluster/ring");
}

#[test]
fn a_node_that_leaves_is_told_of_with_what_comes_next() {
    let server = answering("200 OK", "{\"accepted\":true,\"ring_version\":18}");
    let output = cluster(&server, &["leave", "node-3"]);
    assert_exit(&output, 0);
    assert_eq!(
        text(&output.stdout),
        "node-3 is leaving (ring version 18). Keep it running until `nabu-store cluster status` no longer shows it\n"
    );
    let output = cluster(&server, &["leave", "node-3", "--force", "--yes", "--json"]);
    assert_exit(&output, 0);
    let expected = "{\"node_id\":\"node-3\",\"accepted\":true,\"forced\":true,\"ring_version\":18}\n";
    assert_eq!(text(&output.stdout), expected);
    let requests = server.requests();
    assert_eq!(requests[0].line, "POST /v1/cluster/leave");
    assert_eq!(requests[0].header("content-type"), Some("application/json"));
    assert_eq!(text(&requests[0].body), "{\"node_id\":\"node-3\",\"force\":false}");
    assert_eq!(text(&requests[1].body), "{\"node_id\":\"node-3\",\"force\":true}");
}

#[test]
fn a_leave_that_is_refused_says_why() {
    let body = "{\"code\":412,\"error\":\"not enough nodes\",\"message\":\"2 nodes would stay, and REPLICA3 needs 3\"}";
    let output = cluster(&answering("412 Precondition Failed", body), &["leave", "node-3"]);
    assert_exit(&output, 6);
    assert_eq!(text(&output.stderr), "error: 2 nodes would stay, and REPLICA3 needs 3\n");
    let body = "{\"code\":404,\"error\":\"node not found\",\"message\":\"there is no node node-9\"}";
    assert_exit(&cluster(&answering("404 Not Found", body), &["leave", "node-9"]), 3);
    let output = cluster(&answering("200 OK", "{\"accepted\":false}"), &["leave", "node-3"]);
    assert_exit(&output, 1);
    assert!(text(&output.stderr).contains("did not accept"), "{}", text(&output.stderr));
}

#[test]
fn nothing_is_forced_or_sent_without_a_word_and_no_wrong_name_is() {
    let server = FakeServer::new(|_, _| panic!("no request is sent"));
    let output = cluster(&server, &["leave", "node-3", "--force"]);
    assert_exit(&output, 2);
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("node-3 will be given up for good") && stderr.ends_with("Confirm it with --yes\n"),
        "{stderr}"
    );
    for args in [&["leave"][..], &["leave", "a/b"], &["leave", ""], &["leave", "a", "b"], &["join"], &[]] {
        assert_exit(&cluster(&server, args), 2);
    }
}

#[test]
fn a_secret_goes_to_standard_output_and_what_to_do_with_it_to_the_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let make = |more: &[&str]| nabu_store().args(["cluster", "secret"]).args(more).output().expect("the binary runs");
    let output = make(&[]);
    assert_exit(&output, 0);
    Secrets::parse(&output.stdout).expect("a secret file");
    assert_eq!(output.stdout.len(), 65);
    assert_ne!(make(&["--quiet"]).stdout, output.stdout);
    assert!(text(&output.stderr).contains("chmod 600"), "{}", text(&output.stderr));
    assert_eq!(text(&make(&["--quiet"]).stderr), "");
    assert!(text(&make(&["--json"]).stdout).starts_with("{\"secret\":\""));

    let path = dir.path().join("secret");
    let file = fs::File::create(&path).expect("made");
    Command::new("chmod").arg("644").arg(&path).status().expect("chmod runs");
    let output = nabu_store().args(["cluster", "secret"]).stdout(file).output().expect("the binary runs");
    let expected = format!("others can read that file (mode 0644): chmod 600 {}\n", path.display());
    assert_eq!(text(&output.stderr), expected);
    Secrets::parse(&fs::read(&path).expect("written")).expect("a secret file");
}

#[test]
fn a_recovery_says_what_is_risked_and_that_it_did_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let recover = |more: &[&str]| {
        let mut command = nabu_store();
        command.args(["cluster", "recover"]).args(more).output().expect("the binary runs")
    };
    assert_exit(&recover(&[]), 2);
    let data = dir.path().to_str().expect("text");
    assert_exit(&recover(&["--data", data]), 3);
    fs::write(dir.path().join(superblock::FILE_NAME), "").expect("written");
    let output = recover(&["--data", data]);
    assert_exit(&output, 2);
    assert!(text(&output.stderr).contains("two clusters of the same name"), "{}", text(&output.stderr));
    assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 1, "nothing was made");
}

#[test]
fn other_programs_names_lead_to_the_commands_of_a_cluster() {
    for (name, command) in [("status", "cluster status"), ("drain", "cluster leave"), ("join", "--join HOST:PORT")] {
        let output = nabu_store().arg(name).output().expect("the binary runs");
        assert_exit(&output, 2);
        assert!(text(&output.stderr).contains(command), "{}", text(&output.stderr));
    }
}

#[test]
fn completions_and_manual_pages_have_the_commands_of_a_cluster() {
    let dir = tempfile::tempdir().expect("a directory");
    assert_exit(&nabu_store().arg("man").arg(dir.path()).output().expect("the binary runs"), 0);
    let bash = text(&nabu_store().args(["completions", "bash"]).output().expect("the binary runs").stdout);
    for command in ["secret", "demo", "status", "ring", "leave", "recover"] {
        assert!(dir.path().join(format!("nabu-store-cluster-{command}.1")).exists(), "{command}");
        assert!(bash.contains(&format!("nabu__store__subcmd__cluster,{command})")), "{command}");
    }
}

/// Starts a server that ends with its standard input, and waits until it listens.
fn start_until_eof(data: &Path) -> (std::process::Child, BufReader<std::process::ChildStderr>) {
    let mut child = nabu_store()
        .args(["start", "--stop-at-eof", "--listen", "127.0.0.1:0", "--cores", "1", "--memory", "64MiB", "--data"])
        .arg(data)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut log = String::new();
    while !log.contains("ready to serve blobs") {
        assert_ne!(stderr.read_line(&mut log).expect("text"), 0, "the server ended: {log}");
    }
    (child, stderr)
}

#[test]
fn a_server_that_watches_its_input_ends_in_order_when_that_closes_and_not_before() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut child, mut stderr) = start_until_eof(dir.path());
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"what is written means nothing\n").expect("read");
    assert!(child.try_wait().expect("it can be asked").is_none(), "it runs on");
    drop(stdin);
    let mut log = String::new();
    stderr.read_to_string(&mut log).expect("text");
    assert!(child.wait().expect("ends").success(), "{log}");
    assert!(log.contains("shutting down") && log.contains("shut down"), "{log}");
}

#[test]
fn a_demo_whose_node_cannot_start_says_what_it_logged_and_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    // Where the data of the node would be there is a file.
    fs::write(dir.path().join("node-1"), "").expect("written");
    let output = nabu_store()
        .args(["cluster", "demo", "--nodes", "1", "--data"])
        .arg(dir.path())
        .output()
        .expect("the binary runs");
    assert_exit(&output, 1);
    let stderr = text(&output.stderr);
    assert!(
        stderr.starts_with("error: node-1 has ended (exit status: ") && stderr.contains("It logged:\n"),
        "{stderr}"
    );
    assert!(stderr.lines().last().expect("lines").trim_start().starts_with("error: "), "{stderr}");
    let log = fs::read_to_string(dir.path().join("node-1.log")).expect("the log stays");
    assert!(stderr.contains(log.trim()), "{log} in {stderr}");
}

#[test]
fn a_demo_with_other_nodes_than_before_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("nodes"), "5\n").expect("written");
    let mut command = nabu_store();
    let output = command.args(["cluster", "demo", "--data"]).arg(dir.path()).output().expect("the binary runs");
    assert_exit(&output, 2);
    assert!(text(&output.stderr).contains("holds a demo of 5 nodes: give --nodes 5"), "{}", text(&output.stderr));
}
