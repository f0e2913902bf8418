//! `nabu-store bench` as a user meets it: against the real server, and against servers that lie,
//! hang up and go away.

mod fake_server;
#[path = "../support/mod.rs"]
mod support;

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};

use simd_json::OwnedValue;
use simd_json::prelude::*;

use fake_server::{Answer, FakeServer, Request};
use support::server::{ADMIN_TOKEN, Options, READ_TOKEN, WRITE_TOKEN, directory};
use support::wait_for;

/// The binary, ended by force (exit code 124) when it hangs.
fn bench(args: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["--foreground", "120", env!("CARGO_BIN_EXE_nabu-store"), "bench", "--json", "--cores", "1"]);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NABU_")) {
        command.env_remove(name);
    }
    command.args(args).output().expect("the binary runs")
}

fn bench_store(address: SocketAddr, token: &str, args: &[&str]) -> Output {
    let api = format!("http://{address}");
    bench(&[&["--api", &api, "--token", token], args].concat())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn assert_exit(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "stdout: {}\nstderr: {}", text(&output.stdout), text(&output.stderr));
}

/// The report of a run that ended with this code.
#[track_caller]
fn report(output: &Output, code: i32) -> OwnedValue {
    assert_exit(output, code);
    simd_json::to_owned_value(&mut output.stdout.clone())
        .unwrap_or_else(|error| panic!("{error}: {}", text(&output.stdout)))
}

#[track_caller]
fn number(report: &OwnedValue, path: &[&str]) -> f64 {
    let value = path.iter().try_fold(report, |value, key| value.get(*key));
    value.and_then(|value| value.cast_f64()).unwrap_or_else(|| panic!("no number {path:?} in {report}"))
}

fn count(report: &OwnedValue, path: &[&str]) -> u64 {
    number(report, path) as u64
}

#[test]
fn a_mixed_load_on_a_store_counts_what_happened_and_every_byte_checks_out() {
    let data = directory();
    let server = Options::new(data.path()).start();
    let args = [
        "--mix",
        "get=40,range=20,head=10,put=20,delete=10",
        "--sizes",
        "0,1,4KiB,300KiB,1500KiB",
        "--range-size",
        "100KiB",
        "--objects",
        "20",
        "--zipf",
        "0.9",
        "--connections",
        "8",
        "--requests",
        "600",
        "--verify",
        "--fail-on-error",
    ];
    let report = report(&bench_store(server.address, WRITE_TOKEN, &args), 0);
    assert_eq!(count(&report, &["requests"]), 600);
    for zero in ["failed", "wrong", "unsent", "connect_errors", "reconnects"] {
        assert_eq!(count(&report, &[zero]), 0, "{zero} in {report}");
    }
    let operations = report.get_object("operations").expect("operations");
    let requests: u64 = operations.values().map(|operation| count(operation, &["requests"])).sum();
    assert_eq!((operations.len(), requests), (5, 600));
    for (name, operation) in operations.iter() {
        let at = |quantile| number(operation, &["latency_us", quantile]);
        let ordered = [at("p50"), at("p90"), at("p99"), at("p99.9"), at("p99.99"), at("max")];
        assert!(ordered.is_sorted() && ordered[0] > 0.0, "{name}: {ordered:?}");
    }
    assert!(number(&report, &["gb_per_second"]) > 0.0 && number(&report, &["requests_per_second"]) > 0.0, "{report}");
    assert!(report.get("server_cpu").is_some(), "a server beside is found by its port: {report}");
    assert_eq!(report.get_str("bodies"), Some("verified"));

    assert_eq!(server.list(1000), [""; 0], "the run takes away what it brought");
    server.stop();
}

#[test]
fn objects_that_a_store_has_are_not_uploaded_again() {
    let data = directory();
    let server = Options::new(data.path()).start();
    let args = ["--sizes", "64KiB", "--objects", "10", "--requests", "20", "--connections", "2", "--verify", "--keep"];
    for _ in 0..2 {
        report(&bench_store(server.address, WRITE_TOKEN, &args), 0);
        assert_eq!(server.list(1000).len(), 10);
    }
    // What an earlier run left is not this run's to remove.
    report(&bench_store(server.address, WRITE_TOKEN, &args[..args.len() - 1]), 0);
    assert_eq!(server.list(1000).len(), 10);
    // The ids follow from the seed, so a token that may only read is enough from then on.
    report(&bench_store(server.address, READ_TOKEN, &[&args[..], &["--no-prepare"]].concat()), 0);
    // Another seed has other objects, and those are not there.
    let args = [&args[..], &["--no-prepare", "--seed", "2", "--fail-on-error"]].concat();
    let report = report(&bench_store(server.address, READ_TOKEN, &args), 1);
    assert_eq!(count(&report, &["errors", "get: status 404"]), 20);
    server.stop();
}

#[test]
fn an_open_loop_sends_what_is_due_and_keeps_both_latencies() {
    let data = directory();
    let server = Options::new(data.path()).start();
    let args = [
        "--mix",
        "get=3,put=1",
        "--rate",
        "400",
        "--sizes",
        "4KiB",
        "--objects",
        "4",
        "--connections",
        "4",
        "--requests",
        "200",
    ];
    let report = report(&bench_store(server.address, ADMIN_TOKEN, &args), 0);
    assert_eq!((report.get_str("mode"), count(&report, &["requests"])), (Some("open"), 200));
    // 200 requests at 400 a second are due over half a second; a slow machine takes longer and
    // never shorter.
    assert!(number(&report, &["window_s"]) > 0.49, "{report}");
    for quantile in ["p50", "p99", "max"] {
        let latency = number(&report, &["operations", "get", "latency_us", quantile]);
        assert!(latency >= number(&report, &["operations", "get", "service_us", quantile]), "{report}");
    }
    server.stop();
}

#[test]
fn distributions_are_written_one_file_an_operation() {
    let data = directory();
    let server = Options::new(data.path()).start();
    let path = data.path().join("latency.hgrm");
    let args = [
        "--mix",
        "get,head",
        "--sizes",
        "4KiB",
        "--objects",
        "2",
        "--connections",
        "1",
        "--requests",
        "50",
        "--hdr",
        path.to_str().expect("text"),
    ];
    let report = report(&bench_store(server.address, ADMIN_TOKEN, &args), 0);
    for operation in ["get", "head"] {
        let path = data.path().join(format!("latency.{operation}.hgrm"));
        let text = std::fs::read_to_string(&path).expect("the file is written");
        let total = count(&report, &["operations", operation, "requests"]);
        assert!(text.contains(&format!("Total count    = {total:>12}]")), "{text}");
    }
    assert!(!path.exists());
    server.stop();
}

/// Answers like a file server that holds what it was given.
fn keep_files() -> impl Fn(&Request) -> Answer + Send + Sync + 'static {
    let files = std::sync::Mutex::new(std::collections::BTreeMap::<String, Vec<u8>>::new());
    move |request| {
        let mut files = files.lock().expect("not poisoned");
        match (request.method.as_str(), files.get(&request.target)) {
            ("PUT", _) => {
                files.insert(request.target.clone(), request.body.clone());
                Answer::new(201, "")
            }
            ("DELETE", Some(_)) => {
                files.remove(&request.target);
                Answer::new(204, "")
            }
            ("GET" | "HEAD", Some(file)) => match request.range() {
                Some((first, last)) => Answer::new(206, &file[first..=last]),
                None => Answer::new(200, file),
            },
            _ => Answer::new(404, "no such file"),
        }
    }
}

#[test]
fn any_server_is_loaded_through_a_template_and_verified() {
    for is_chunked in [false, true] {
        let keep = keep_files();
        let server = FakeServer::new(move |request| Answer { is_chunked, ..keep(request) });
        let url = server.url("/files/{n}?of={size}&key={key}");
        let args = [
            "--url",
            &url,
            "--mix",
            "get=5,range=3,head=1,put=2,delete=1",
            "--sizes",
            "1,100KiB",
            "--range-size",
            "70000",
            "--objects",
            "6",
            "--connections",
            "3",
            "--requests",
            "200",
            "--verify",
            "--prepare",
            "--fail-on-error",
            "--header",
            "X-Who: bench",
        ];
        let report = report(&bench(&args), 0);
        assert_eq!((count(&report, &["requests"]), count(&report, &["wrong"])), (200, 0));
        let requests = server.requests();
        assert_eq!(
            requests.iter().filter(|request| request.method == "PUT").count() as u64,
            6 + count(&report, &["operations", "put", "requests"])
        );
        assert!(requests.iter().all(|request| request.header("x-who") == Some("bench")));
        assert!(requests.iter().all(|request| request.header("authorization").is_none()), "a store's token stays here");
        assert!(requests.iter().any(|request| request.target.starts_with("/files/5?of=")), "{:?}", requests[0]);
    }
}

#[test]
fn keys_come_from_a_file() {
    let data = directory();
    let list = data.path().join("keys");
    std::fs::write(&list, "a/first.bin\n\nsecond one\n").expect("written");
    let server = FakeServer::new(|_| Answer::new(200, "x"));
    let url = server.url("/{key}");
    report(&bench(&["--url", &url, "--path-list", list.to_str().expect("text"), "-n", "1", "--requests", "50"]), 0);
    let targets: std::collections::BTreeSet<String> =
        server.requests().iter().map(|request| request.target.clone()).collect();
    assert_eq!(targets.into_iter().collect::<Vec<_>>(), ["/a/first.bin", "/second%20one"]);
}

#[test]
fn objects_can_be_asked_for_in_order() {
    let server = FakeServer::new(|_| Answer::new(200, "x"));
    let url = server.url("/{n}");
    report(&bench(&["--url", &url, "--objects", "7", "--in-order", "-n", "1", "--requests", "20"]), 0);
    let targets: Vec<String> = server.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, (0..20).map(|index| format!("/{}", index % 7)).collect::<Vec<_>>());
}

#[test]
fn an_interrupted_run_reports_what_it_measured() {
    let server = FakeServer::new(|_| Answer::new(200, "x"));
    let url = server.url("/");
    for pace in [&["-n", "1"][..], &["-n", "1", "--rate", "0.01"]] {
        let before = server.requests().len();
        let mut command = Command::new(env!("CARGO_BIN_EXE_nabu-store"));
        command.args(["bench", "--json", "--cores", "1", "--url", &url, "--duration", "1h"]).args(pace);
        let child = command.stdout(Stdio::piped()).spawn().expect("the binary runs");
        // The first request is due at once, at any rate.
        wait_for("a request", || (server.requests().len() > before).then_some(()));
        let status = Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status();
        assert!(status.expect("kill can be run").success());
        let report = report(&child.wait_with_output().expect("it ends"), 0);
        assert!(count(&report, &["requests"]) >= 1 && number(&report, &["window_s"]) < 3000.0, "{report}");
    }
}

#[test]
fn one_wrong_byte_ends_with_the_status_of_failed_verification() {
    for wrong_at in [0usize, 20, 65_536, 99_999] {
        let keep = keep_files();
        let server = FakeServer::new(move |request| {
            let mut answer = keep(request);
            if request.method == "GET" && request.index > 20 {
                answer.body[wrong_at] ^= 4;
            }
            answer
        });
        let url = server.url("/{n}");
        let args = ["--url", &url, "--sizes", "100000", "--objects", "2", "--prepare", "-n", "1", "--requests", "30"];
        let report_of = report(&bench(&[&args[..], &["--verify"]].concat()), 5);
        let wrong = count(&report_of, &["wrong"]);
        assert!(wrong > 0, "{report_of}");
        assert_eq!(count(&report_of, &["errors", "get: wrong bytes"]), wrong);
        // Who does not verify does not notice.
        assert_eq!(count(&report(&bench(&args), 0), &["wrong"]), 0);
    }
}

#[test]
fn a_body_of_another_length_is_wrong() {
    let keep = keep_files();
    let server = FakeServer::new(move |request| {
        let mut answer = keep(request);
        if request.method == "GET" {
            answer.body.pop();
        }
        answer
    });
    let url = server.url("/{n}");
    let args = ["--url", &url, "--sizes", "1000", "--objects", "1", "--prepare", "-n", "1", "--requests", "5"];
    let report = report(&bench(&args), 5);
    assert_eq!(count(&report, &["errors", "get: wrong length"]), 5);
}

#[test]
fn a_store_that_gives_wrong_ids_is_found_out() {
    let server = FakeServer::new(|_| Answer::new(201, format!(r#"{{"id":"{}","size":1}}"#, "0".repeat(32))));
    let args = ["--mix", "put", "--sizes", "100", "-n", "1", "--requests", "3"];
    let report_of = report(&bench_store(server.address(), "x", &[&args[..], &["--verify"]].concat()), 5);
    assert_eq!(count(&report_of, &["errors", "put: wrong bytes"]), 3);
    assert_eq!(count(&report(&bench_store(server.address(), "x", &args), 0), &["requests"]), 3);
}

#[test]
fn errors_are_counted_by_kind_and_decide_the_exit_code_when_asked() {
    let server = FakeServer::new(|request| match request.index % 4 {
        0 => Answer::new(503, "try again"),
        1 => Answer::hang_up(),
        2 => Answer { raw: Some(b"SMTP ready\r\n".to_vec()), ..Answer::hang_up() },
        _ => Answer::new(200, "x"),
    });
    let url = server.url("/");
    let args = ["--url", &url, "-n", "1", "--requests", "40"];
    for (extra, code) in [(&[][..], 0), (&["--fail-on-error"][..], 1)] {
        let report = report(&bench(&[&args[..], extra].concat()), code);
        assert_eq!((count(&report, &["requests"]), count(&report, &["failed"])), (10, 30), "{report}");
        assert_eq!(count(&report, &["errors", "get: status 503"]), 10);
        assert_eq!(count(&report, &["errors", "get: closed early"]), 10);
        assert_eq!(count(&report, &["reconnects"]), 20);
        let errors = report.get_object("errors").expect("errors");
        assert!(errors.keys().any(|kind| kind.starts_with("get: protocol error")), "{report}");
    }
}

#[test]
fn an_answer_that_ends_the_connection_is_no_error() {
    let server = FakeServer::new(|_| Answer { is_last: true, ..Answer::new(200, "x") });
    let url = server.url("/");
    let report = report(&bench(&["--url", &url, "-n", "2", "--requests", "20", "--fail-on-error"]), 0);
    assert_eq!(count(&report, &["requests"]), 20);
    assert!(count(&report, &["reconnects"]) >= 18, "{report}");
}

#[test]
fn a_silent_server_times_out() {
    let server = FakeServer::new(|_| Answer { raw: Some(Vec::new()), is_silent: true, ..Answer::hang_up() });
    let url = server.url("/");
    let output = bench(&["--url", &url, "-n", "1", "--requests", "1", "--timeout", "200ms"]);
    let report = report(&output, 1);
    assert_eq!(count(&report, &["errors", "get: timed out"]), 1);
    assert!(text(&output.stderr).contains("no request succeeded"), "{}", text(&output.stderr));
}

#[test]
fn nobody_there_is_told_at_once() {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let output = bench_store(address, "x", &["--requests", "1"]);
    assert_exit(&output, 7);
    assert!(text(&output.stderr).contains(&address.to_string()), "{}", text(&output.stderr));
}

#[test]
fn a_wrong_token_is_told_before_the_load() {
    let data = directory();
    let server = Options::new(data.path()).start();
    let output = bench_store(server.address, "not-a-token", &["--requests", "1"]);
    assert_exit(&output, 4);
    assert!(
        text(&output.stderr).contains("401") && !text(&output.stderr).contains("not-a-token"),
        "{}",
        text(&output.stderr)
    );
    server.stop();
}
