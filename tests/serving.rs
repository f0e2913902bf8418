//! What serving from shared memory must never do: send wrong bytes, read the disk more than it
//! must, or take more memory than it was given.

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::sync::Barrier;
use std::thread;

use support::content::{Random, content, id_of, seed_of_run};
use support::http::{Connection, Request};
use support::server::{Options, READ_TOKEN, Server, directory};
use support::wait_for;

/// The smallest memory that two cores take: the cache gets half of it.
const SMALL_MEMORY: &str = "32MiB";
const SMALL_MEMORY_BYTES: u64 = 32 << 20;
/// What the process takes beside `--memory`, as docs/cache.md states it: frames kept warm
/// for each of two cores, rings, buffers of the kernel's choice, the program itself, and what
/// sockets still hold.
const OVERHEAD_BYTES: u64 = 2 * (32 << 20) + (64 << 20);
const SEED: &str = "NABU_TEST_SERVING_SEED";

fn request(id: &str) -> Request {
    Request::get(&format!("/v1/blobs/{id}")).token(READ_TOKEN)
}

/// Asks for a blob and reads only the head and the first bytes.
fn begin(server: &Server, id: &str) -> (Connection, Vec<u8>) {
    let mut connection = server.connect();
    connection.send(&request(id).bytes()).unwrap();
    let head = connection.head().unwrap();
    assert_eq!(head.status, 200);
    let first = connection.take(1000).unwrap();
    (connection, first)
}

/// Starts a server that reads nothing from the disk but what is asked for.
fn start_quietly(options: &Options) -> Server {
    let mut options = options.clone();
    options.config.push_str("scrub_interval: off\n");
    let server = options.start();
    // Either way it has looked at the disk by then.
    wait_for("the work in the background to have begun", || {
        server.process.log.text().contains("compaction and scrub").then_some(())
    });
    server
}

/// Bytes that the process had the disk read, but for what the work in the background looks at; the
/// store reads directly, so nothing hides in the page cache.
fn disk_bytes_read(server: &Server) -> u64 {
    let process = format!("/proc/{}", server.process.child.id());
    let tasks = fs::read_dir(format!("{process}/task")).expect("the kernel tells of its threads");
    let paths = tasks.map(|task| task.expect("an entry").path());
    let background =
        paths.filter(|path| fs::read_to_string(path.join("comm")).is_ok_and(|name| name == "nabu-maint\n"));
    let in_background: u64 = background.map(|path| number(&format!("{}/io", path.display()), "read_bytes:")).sum();
    number(&format!("{process}/io"), "read_bytes:") - in_background
}

fn resident_bytes(server: &Server) -> u64 {
    number(&format!("/proc/{}/status", server.process.child.id()), "VmRSS:") << 10
}

fn number(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).expect("the kernel tells of its processes");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {path}"));
    line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
}

#[test]
fn a_slow_reader_gets_its_own_bytes_while_the_cache_is_churned_far_beyond_its_budget() {
    let seed = seed_of_run(SEED);
    println!("seed {seed} ({SEED}={seed} replays it)");
    let mut random = Random::new(seed);
    let data = directory();
    let mut options = Options::new(data.path());
    options.memory = SMALL_MEMORY.to_owned();
    let server = options.start();
    let bodies: Vec<Vec<u8>> = [64 << 10, 300_000, 3 << 20, 12 << 20].map(|size| content(random.next(), size)).to_vec();
    let ids: Vec<String> = bodies.iter().map(|body| id_of(body)).collect();
    for body in &bodies {
        server.put(body).expect(201);
    }
    // Some start with what is in memory since the upload, some with what must be read again.
    let mut slow: Vec<(usize, Connection, Vec<u8>)> = Vec::new();
    let start = |slow: &mut Vec<(usize, Connection, Vec<u8>)>| {
        for (number, id) in ids.iter().enumerate() {
            let (connection, first) = begin(&server, id);
            slow.push((number, connection, first));
        }
    };
    start(&mut slow);
    for round in 0..6 {
        for _ in 0..6 {
            let other = content(random.next(), 4 << 20);
            let id = id_of(&other);
            server.put(&other).expect(201);
            assert!(server.get(&id).expect(200).body == other, "round {round}");
            server.delete(&id).expect(200);
        }
        start(&mut slow);
        // Each goes on a little now and then.
        for (number, connection, received) in &mut slow {
            let size = random.below(200_000) as usize;
            let left = bodies[*number].len() - received.len();
            received.extend(connection.take(size.min(left)).unwrap());
        }
        let resident = resident_bytes(&server);
        assert!(resident <= SMALL_MEMORY_BYTES + OVERHEAD_BYTES, "{} MiB are resident", resident >> 20);
    }
    for (number, mut connection, mut received) in slow {
        let body = &bodies[number];
        let left = body.len() - received.len();
        received.extend(connection.take(left).unwrap());
        assert!(received == *body, "a slow reader of {} bytes got others", body.len());
    }
    server.stop();
}

#[test]
fn a_fleet_that_pulls_one_cold_blob_has_each_byte_read_from_the_disk_once() {
    let data = directory();
    let mut options = Options::new(data.path());
    options.memory = "256MiB".to_owned();
    let body = content(11, 48 << 20);
    let id = id_of(&body);
    let server = options.start();
    server.put(&body).expect(201);
    server.stop();
    let server = start_quietly(&options);
    let before = disk_bytes_read(&server);
    let clients = 16;
    let together = Barrier::new(clients);
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut connection = server.connect();
                together.wait();
                assert!(connection.exchange(&request(&id)).expect(200).body == body);
            });
        }
    });
    let read = disk_bytes_read(&server) - before;
    let size = body.len() as u64;
    assert!(read >= size, "{read} bytes were read of {size}: was it cold?");
    assert!(read <= size + size / 10, "{read} bytes were read of {size}, by {clients} clients");
    // And now it is in memory.
    assert!(server.get(&id).expect(200).body == body);
    assert_eq!(disk_bytes_read(&server) - before, read);
}

#[test]
fn a_second_pass_after_a_restart_reads_nothing_from_the_disk() {
    let data = directory();
    let mut options = Options::new(data.path());
    // The cache gets three quarters of it; less than what is stored is made ready at a start.
    options.memory = "384MiB".to_owned();
    let bodies: Vec<Vec<u8>> = (0..20).map(|number| content(700 + number, (10 << 20) + number as usize)).collect();
    let size: u64 = bodies.iter().map(|body| body.len() as u64).sum();
    let server = options.start();
    for body in &bodies {
        server.put(body).expect(201);
    }
    server.stop();
    let server = start_quietly(&options);
    let pass = || {
        let before = disk_bytes_read(&server);
        for body in &bodies {
            assert!(server.get(&id_of(body)).expect(200).body == *body);
        }
        disk_bytes_read(&server) - before
    };
    let first = pass();
    assert!((size..=size + size / 10).contains(&first), "the first pass read {first} bytes of {size}");
    assert_eq!(pass(), 0);
    server.stop();
}

#[test]
fn a_range_reads_only_what_it_must() {
    let data = directory();
    let options = Options::new(data.path());
    let body = content(12, 16 << 20);
    let id = id_of(&body);
    let server = options.start();
    server.put(&body).expect(201);
    server.stop();
    let server = start_quietly(&options);
    // Somewhere in the middle, the start, the end, and across the border of two frames.
    let frame = (2 << 20) - 4096;
    for start in [5_000_000, 0, body.len() - 100, frame - 50] {
        let before = disk_bytes_read(&server);
        let range = format!("bytes={start}-{}", start + 99);
        let response = server.exchange(&request(&id).field("Range", &range)).expect(206);
        assert!(response.body == body[start..start + 100], "{range}");
        let read = disk_bytes_read(&server) - before;
        // For each of at most two pieces a head and a check block, and the record of the blob.
        assert!((1..=2 * (64 << 10) + 5 * 4096).contains(&read), "{range} read {read} bytes");
        let again = disk_bytes_read(&server);
        server.exchange(&request(&id).field("Range", &range)).expect(206);
        assert_eq!(disk_bytes_read(&server), again, "{range} is in memory now");
    }
}

#[test]
fn an_upload_is_served_from_memory() {
    let data = directory();
    let server = start_quietly(&Options::new(data.path()));
    for size in [10, 5000, 40_000, 64 << 10, 100_000, 1 << 20, 5 << 20] {
        let body = content(size as u64, size);
        server.put(&body).expect(201);
        let before = disk_bytes_read(&server);
        assert!(server.get(&id_of(&body)).expect(200).body == body);
        assert_eq!(disk_bytes_read(&server), before, "a fresh blob of {size} bytes was read from the disk");
    }
}

#[test]
fn a_blob_larger_than_all_memory_is_served_whole() {
    let data = directory();
    let mut options = Options::new(data.path());
    options.memory = SMALL_MEMORY.to_owned();
    let server = options.start();
    let body = content(13, 96 << 20);
    let id = id_of(&body);
    server.put(&body).expect(201);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(server.get(&id).expect(200).body == body));
        }
    });
    let resident = resident_bytes(&server);
    assert!(resident <= SMALL_MEMORY_BYTES + OVERHEAD_BYTES, "{} MiB are resident", resident >> 20);
}
