//! Limits of the process: descriptors, memory, and a kernel that refuses `io_uring`.

use std::path::PathBuf;

use crate::load::{Ask, Load, Model};
use crate::support::content::{content, id_of};
use crate::support::http::{Connection, Request};
use crate::support::server::{Options, READ_TOKEN, WRITE_TOKEN, directory};
use crate::support::wait_for;
use crate::{run, seeded, skip};

const CLIENTS: usize = 4;
const CHANGES: u64 = 40;
/// Enough for the server and some connections, and fewer than connections are opened.
const DESCRIPTORS: u32 = 96;
const CONNECTIONS: usize = 200;

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn without_descriptors_new_connections_wait_and_are_served_when_others_close() {
    let (_, mut random) = seeded();
    let data = directory();
    let plain = Options::new(data.path());
    let wrapper = words(&["prlimit", &format!("--nofile={DESCRIPTORS}:{DESCRIPTORS}"), "--"]);
    if let Err(reason) = run("prlimit", &["--version"]) {
        return skip(&reason);
    }
    let server = Options { wrapper, ..plain.clone() }.start();
    let load = Load::start(server.address, CLIENTS, &mut random, Model::default());
    load.wait_for_more(CHANGES);
    let idle: Vec<Connection> = (0..CONNECTIONS).map(|_| server.connect()).collect();
    wait_for("the descriptors to run out", || {
        server.process.log.text().contains("is the limit of open files (ulimit -n) too low?").then_some(())
    });
    // Who is connected already goes on.
    load.wait_for_more(CHANGES);
    // One more waits for its turn.
    let mut waiting = server.connect();
    waiting.send(&Request::get("/healthz").bytes()).expect("the kernel takes the request");
    drop(idle);
    waiting.response(false).expect("it is served now").expect(200);
    load.wait_for_more(CHANGES);
    let model = load.finish();
    model.expect_answers(&[(Ask::Put, Some(503)), (Ask::Get, Some(500))]);
    model.check(&server);
    server.kill();
    let server = plain.start();
    model.check(&server);
    server.stop();
}

/// Each segment holds one of these.
const LARGE: usize = 900 << 10;
/// Many more than may be open.
const SEGMENTS: u64 = 3 * DESCRIPTORS as u64;

#[test]
fn a_store_has_more_segments_than_the_process_may_have_descriptors() {
    if let Err(reason) = run("prlimit", &["--version"]) {
        return skip(&reason);
    }
    let data = directory();
    let wrapper = words(&["prlimit", &format!("--nofile={DESCRIPTORS}:{DESCRIPTORS}"), "--"]);
    // Little memory: what is read comes from the disk.
    let (memory, config) = ("64MiB".to_owned(), "segment_size: 1MiB\n".to_owned());
    let options = Options { wrapper, memory, config, ..Options::new(data.path()) };
    let server = options.start();
    let mut connection = server.connect();
    let blobs: Vec<(u64, String)> = (0..SEGMENTS).map(|seed| (seed, id_of(&content(seed, LARGE)))).collect();
    for (seed, _) in &blobs {
        connection.exchange(&Request::upload(&content(*seed, LARGE)).token(WRITE_TOKEN)).expect(201);
    }
    let read_all = |connection: &mut Connection| {
        for (seed, id) in blobs.iter().chain(blobs.iter().rev()) {
            let answer = connection.exchange(&Request::get(&format!("/v1/blobs/{id}")).token(READ_TOKEN)).expect(200);
            assert!(answer.body == content(*seed, LARGE), "blob {seed}");
        }
    };
    read_all(&mut connection);
    drop(connection);
    server.stop();
    // After a clean stop every segment is covered by the checkpoint, and none is open.
    let server = options.start();
    read_all(&mut server.connect());
    drop(server.kill());
    let files = std::fs::read_dir(data.path().join("segments")).expect("a directory").count();
    assert!(files as u64 >= SEGMENTS, "{files} files");
    let server = options.start();
    read_all(&mut server.connect());
    server.stop();
}

#[test]
fn a_start_without_descriptors_says_so() {
    if let Err(reason) = run("prlimit", &["--version"]) {
        return skip(&reason);
    }
    for descriptors in [6, 8, 12] {
        let data = directory();
        let wrapper = words(&["prlimit", &format!("--nofile={descriptors}:{descriptors}"), "--"]);
        let (status, log) = Options { wrapper, ..Options::new(data.path()) }.refused();
        assert!(!status.success(), "{descriptors}: {log}");
        assert!(!log.contains("panicked"), "{descriptors}: {log}");
        assert!(log.contains("ulimit -n") || log.contains("Too many open files"), "{descriptors}: {log}");
    }
}

#[test]
fn a_kernel_that_refuses_io_uring_is_named_at_the_start() {
    let wrapper = words(&["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=io_uring_setup:error=EPERM"]);
    let probe: Vec<&str> = wrapper[1..].iter().map(String::as_str).chain(["true"]).collect();
    if let Err(reason) = run("strace", &probe) {
        return skip(&reason);
    }
    let data = directory();
    let (status, log) = Options { wrapper, ..Options::new(data.path()) }.refused();
    assert!(!status.success(), "{log}");
    assert!(log.contains("io_uring"), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

/// A control group with a limit on memory (version 1), removed when dropped.
struct Group(PathBuf);

impl Group {
    fn new(bytes: u64) -> Result<Self, String> {
        let path = PathBuf::from(format!("/sys/fs/cgroup/memory/nabu-hostile-{}", std::process::id()));
        std::fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let group = Self(path);
        let limit = group.0.join("memory.limit_in_bytes");
        std::fs::write(&limit, bytes.to_string()).map_err(|error| format!("{}: {error}", limit.display()))?;
        Ok(group)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).expect("the group says how it is")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A group can go a little after the last process in it.
        wait_for("the control group to be empty", || std::fs::remove_dir(&self.0).ok());
    }
}

#[test]
fn within_its_memory_budget_and_what_is_documented_beside_it_the_server_is_not_killed_for_memory() {
    const BUDGET_MIB: u64 = 64;
    // Beside the budget: for each core 4 MiB of rings and at most 32 MiB of kept buffers, and the
    // process itself.
    const LIMIT_MIB: u64 = BUDGET_MIB + 2 * (4 + 32) + 64;
    let group = match Group::new(LIMIT_MIB << 20) {
        Ok(group) => group,
        Err(reason) => return skip(&reason),
    };
    let (_, mut random) = seeded();
    let data = directory();
    let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", group.0.display());
    let options = Options {
        wrapper: words(&["sh", "-c", &enter, "sh"]),
        memory: format!("{BUDGET_MIB}MiB"),
        ..Options::new(data.path())
    };
    let server = options.start();
    let load = Load::start(server.address, 24, &mut random, Model::default());
    // Large ones on top, more than the budget holds at once.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let body = content(random.next(), 20 << 20);
            let server = &server;
            scope.spawn(move || {
                let response = server.put(&body);
                if response.status() == 503 {
                    response.expect_error(503, "busy");
                    return;
                }
                let id = response.expect(201).string("id");
                assert!(server.get(&id).expect(200).body == body);
                server.delete(&id).expect(200);
            });
        }
    });
    load.wait_for_more(CHANGES * 10);
    let model = load.finish();
    model.expect_answers(&[(Ask::Put, Some(503)), (Ask::Get, Some(503))]);
    let control = group.read("memory.oom_control");
    assert!(control.lines().any(|line| line == "oom_kill 0"), "{control}");
    println!(
        "peak {} MiB of {LIMIT_MIB}",
        group.read("memory.max_usage_in_bytes").trim().parse::<u64>().expect("a number") >> 20
    );
    for id in server.list(1_000) {
        if model.blobs().all(|(known, _)| *known != id) {
            server.delete(&id).expect(200);
        }
    }
    model.check(&server);
    server.stop();
}

/// Compaction and scrub want a thread with memory of their own, which some containers do not give:
/// then they run beside the requests.
#[test]
fn where_the_background_can_have_no_thread_of_its_own_space_comes_back_all_the_same() {
    if let Err(reason) = run("prlimit", &["--version"]) {
        return skip(&reason);
    }
    let data = directory();
    let wrapper = words(&["prlimit", "--memlock=262144:262144", "--"]);
    let config = "segment_size: 1MiB\nscrub_interval: 1s\n".to_owned();
    let server = Options { wrapper, config, ..Options::new(data.path()) }.start();
    wait_for("the server to say where the background work runs", || {
        server.process.log.text().contains("compaction and scrub have no thread of their own").then_some(())
    });
    let contents: Vec<Vec<u8>> = (0..60).map(|seed| content(seed, 100_000)).collect();
    for body in &contents {
        server.put(body).expect(201);
    }
    for (number, body) in contents.iter().enumerate() {
        if number % 3 > 0 {
            server.delete(&id_of(body)).expect(200);
        }
    }
    wait_for("a segment to be emptied, and everything to be scrubbed", || {
        let scrape = server.exchange(&Request::get("/metrics").token(READ_TOKEN)).expect(200).body;
        let scrape = String::from_utf8(scrape).expect("a text format");
        let counts = |name: &str| scrape.lines().any(|line| line.starts_with(name) && !line.ends_with(" 0"));
        (counts("nabu_compaction_segments_total") && counts("nabu_scrub_passes_total")).then_some(())
    });
    for body in contents.iter().step_by(3) {
        assert!(server.get(&id_of(body)).expect(200).body == *body, "moved, and still the same");
    }
    server.stop();
}
