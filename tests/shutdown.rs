//! Stops and starts: a clean stop finishes what is in flight, and a start takes only directories
//! that are its own, all of them and alone.

mod support;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use support::content::{content, id_of};
use support::http::{Connection, Request};
use support::server::{Options, READ_TOKEN, Server, WRITE_TOKEN, directory};
use support::wait_for;

/// Stores some blobs of many sizes; returns their seeds and sizes.
fn fill(server: &Server) -> Vec<(u64, usize)> {
    let blobs: Vec<(u64, usize)> = (0..30).map(|seed| (seed, (seed * seed * seed * 100) as usize)).collect();
    for (seed, size) in &blobs {
        server.put(&content(*seed, *size)).expect(201);
    }
    blobs
}

fn expect_all(server: &Server, blobs: &[(u64, usize)]) {
    for (seed, size) in blobs {
        let body = content(*seed, *size);
        assert!(server.get(&id_of(&body)).expect(200).body == body, "{size} bytes came back changed");
    }
    let mut ids: Vec<String> = blobs.iter().map(|(seed, size)| id_of(&content(*seed, *size))).collect();
    ids.sort();
    assert_eq!(server.list(7), ids);
}

#[test]
fn a_stop_finishes_what_is_in_flight_and_a_start_finds_everything() {
    let data = directory();
    let options = Options::new(data.path());
    let server = options.start();
    let mut blobs = fill(&server);
    let gone = blobs.remove(17);
    server.delete(&id_of(&content(gone.0, gone.1))).expect(200);

    // An upload and an answer are half way when the signal comes, and one connection waits for its
    // next request.
    let body = content(100, 3_000_000);
    let upload = Request::upload(&body).token(WRITE_TOKEN).field("Expect", "100-continue");
    let mut uploading = server.connect();
    uploading.send(&upload.head_bytes()).unwrap();
    assert_eq!(uploading.head().unwrap().status, 100);
    uploading.send(&body[..1_000_000]).unwrap();
    let large = content(101, 30 << 20);
    server.put(&large).expect(201);
    let mut reading = server.connect();
    reading.send(&Request::get(&format!("/v1/blobs/{}", id_of(&large))).token(READ_TOKEN).bytes()).unwrap();
    let head = reading.head().unwrap();
    let mut idle = server.connect();
    idle.exchange(&Request::get("/healthz")).expect(200);

    server.process.signal("TERM");
    idle.expect_closed();
    wait_for("new connections to be refused", || match Connection::open(server.address) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Some(()),
        _ => None,
    });
    uploading.send(&body[1_000_000..]).unwrap();
    let response = uploading.response(false).unwrap().expect(201);
    assert_eq!(response.string("id"), id_of(&body));
    assert_eq!(response.field("Connection"), Some("close"));
    uploading.expect_closed();
    assert!(reading.body(&head, false).unwrap() == large);
    drop(reading);

    let mut server = server;
    let status = server.process.wait();
    let log = server.process.log.text();
    assert!(status.success(), "{status}: {log}");
    assert!(log.contains("checkpoint written"), "{log}");

    blobs.extend([(100, body.len()), (101, large.len())]);
    let server = options.start();
    expect_all(&server, &blobs);
    let log = server.stop();
    assert!(!log.contains("was scanned"), "a start after a clean stop read segments: {log}");
}

#[test]
fn sigint_stops_as_cleanly_and_an_upload_that_hangs_is_broken_off() {
    let data = directory();
    let mut options = Options::new(data.path());
    options.config.push_str("limits:\n  shutdown_timeout_ms: 200\n");
    let mut server = options.start();
    let blobs = fill(&server);
    let body = content(100, 100_000);
    let mut hanging = server.connect();
    hanging.send(&Request::upload(&body).token(WRITE_TOKEN).bytes()[..50_000]).unwrap();
    // It is being received for sure once another request on the same core or any other was answered
    // and the space is taken; either way it must not survive.
    server.process.signal("INT");
    assert!(server.process.wait().success(), "{}", server.process.log.text());
    let server = options.start();
    expect_all(&server, &blobs);
}

#[test]
fn the_number_of_cores_may_change_between_starts() {
    let data = directory();
    let mut options = Options::new(data.path());
    let mut blobs = Vec::new();
    for (round, cores) in [2, 1, 4, 3, 1, 2].into_iter().enumerate() {
        options.cores = cores;
        let server = options.start();
        expect_all(&server, &blobs);
        let deleted = if blobs.is_empty() { None } else { Some(blobs.remove(0)) };
        if let Some((seed, size)) = deleted {
            server.delete(&id_of(&content(seed, size))).expect(200);
        }
        for number in 0..6 {
            let (seed, size) = (1_000 + round as u64 * 10 + number, number as usize * 300_000);
            if number > 0 || round == 0 {
                server.put(&content(seed, size)).expect(201);
                blobs.push((seed, size));
            }
        }
        // Every other time without a word.
        if round % 2 == 0 { drop(server.stop()) } else { drop(server.kill()) }
    }
    let server = options.start();
    expect_all(&server, &blobs);
}

#[test]
fn one_directory_has_one_server() {
    let data = directory();
    let options = Options::new(data.path());
    let server = options.start();
    let body = content(1, 1_000);
    server.put(&body).expect(201);
    let (status, log) = options.refused();
    assert!(!status.success());
    assert!(log.contains("another server") && log.contains(&*data.path().to_string_lossy()), "{log}");
    // The first one is none the worse.
    assert!(server.get(&id_of(&body)).expect(200).body == body);
    server.kill();
    let server = options.start();
    assert!(server.get(&id_of(&body)).expect(200).body == body);
}

#[test]
fn one_port_has_one_server() {
    let (one, other) = (directory(), directory());
    let server = Options::new(one.path()).start();
    let mut options = Options::new(other.path());
    options.listen = server.address.to_string();
    let (status, log) = options.refused();
    assert!(!status.success());
    assert!(log.contains(&options.listen) && log.contains("--listen"), "{log}");
}

#[test]
fn a_foreign_directory_is_refused_and_left_as_it_is() {
    let data = directory();
    fs::write(data.path().join("thesis.tex"), "years of work").unwrap();
    let (status, log) = Options::new(data.path()).refused();
    assert!(!status.success());
    assert!(log.contains("thesis.tex") && log.contains("not empty"), "{log}");
    assert_eq!(fs::read_to_string(data.path().join("thesis.tex")).unwrap(), "years of work");
    assert!(!data.path().join("segments").exists() && !data.path().join("store").exists());
}

#[test]
fn what_others_may_write_is_refused_by_name() {
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
    let data = directory();
    mode(data.path(), 0o777);
    let (status, log) = Options::new(data.path()).refused();
    assert!(!status.success());
    assert!(log.contains("others may write it (mode 0777): chmod go-w"), "{log}");
    assert!(!data.path().join("store").exists(), "nothing was written");
    mode(data.path(), 0o755);
    let options = Options { tokens: false, ..Options::new(data.path()) };
    options.start().stop();
    for name in ["lock", "admin.token"] {
        let path = data.path().join(name);
        mode(&path, 0o622);
        let (status, log) = options.refused();
        assert!(!status.success());
        assert!(log.contains(name) && log.contains("others may write it (mode 0622)"), "{log}");
        mode(&path, 0o600);
    }
    options.start().stop();
}

#[test]
fn plain_http_beyond_the_loopback_is_warned_about() {
    let data = directory();
    let log_of = |listen: &str| {
        let options = Options { listen: listen.to_owned(), ..Options::new(data.path()) };
        let server = options.start();
        let log = server.process.log.text();
        server.stop();
        log
    };
    let log = log_of("0.0.0.0:0");
    assert!(log.contains("plain HTTP on 0.0.0.0:") && log.contains("tls.cert"), "{log}");
    assert!(!log_of("127.0.0.1:0").contains("plain HTTP on"));
}

/// A store with one blob, stopped.
fn store_with_one_blob(data: &Path) -> Vec<u8> {
    let server = Options::new(data).start();
    let body = content(5, 10_000);
    server.put(&body).expect(201);
    server.stop();
    body
}

#[test]
fn a_directory_of_another_format_is_refused_by_name() {
    let data = directory();
    store_with_one_blob(data.path());
    let path = data.path().join("store");
    let superblock = fs::read(&path).unwrap();
    // The file holds the same block twice. The version comes after the magic number; the checksum
    // does not matter, for another format may place it elsewhere.
    let blocks = [0, superblock.len() / 2];
    for (version, which) in [(9_u32, "newer"), (1, "older")] {
        let mut other = superblock.clone();
        blocks.iter().for_each(|at| other[at + 8..at + 12].copy_from_slice(&version.to_le_bytes()));
        fs::write(&path, &other).unwrap();
        let (status, log) = Options::new(data.path()).refused();
        assert!(!status.success());
        assert!(log.contains(&format!("format {version}")) && log.contains(which), "{log}");
    }

    let mut damaged = superblock.clone();
    blocks.iter().for_each(|at| damaged[at + 40] ^= 1);
    fs::write(&path, &damaged).unwrap();
    let (status, log) = Options::new(data.path()).refused();
    assert!(!status.success());
    assert!(log.contains("checksum"), "{log}");

    let mut other = superblock.clone();
    blocks.iter().for_each(|at| other[*at..at + 8].copy_from_slice(b"OTHERSTO"));
    fs::write(&path, &other).unwrap();
    let (status, log) = Options::new(data.path()).refused();
    assert!(!status.success(), "{log}");
    assert_eq!(fs::read(&path).unwrap(), other, "a refused directory is left as it is");
}

#[test]
fn a_store_on_two_directories_needs_both_and_takes_no_stranger() {
    let (one, other) = (directory(), directory());
    let mut both = Options::new(one.path());
    both.data.push(other.path().to_owned());
    let server = both.start();
    let blobs = fill(&server);
    server.stop();
    for data in [&one, &other] {
        let segments = fs::read_dir(data.path().join("segments")).unwrap().count();
        assert!(segments > 0, "{} is not used", data.path().display());
        let (status, log) = Options::new(data.path()).refused();
        assert!(!status.success());
        assert!(log.contains("2 data directories") && log.contains("--data"), "{log}");
    }
    let stranger = directory();
    store_with_one_blob(stranger.path());
    let mut mixed = both.clone();
    mixed.data.push(stranger.path().to_owned());
    let (status, log) = mixed.refused();
    assert!(!status.success());
    assert!(log.contains("different stores"), "{log}");
    // In the other order, and with one more that is new.
    let new = directory();
    let mut more = both.clone();
    more.data.reverse();
    more.data.push(new.path().to_owned());
    let server = more.start();
    expect_all(&server, &blobs);
    server.kill();
    let (status, log) = both.refused();
    assert!(!status.success() && log.contains("3 data directories"), "{log}");
    expect_all(&more.start(), &blobs);
}

#[test]
fn a_store_without_one_of_its_directories_is_served_when_told_so_and_a_lost_one_is_given_up_when_told_so() {
    let (one, other, empty) = (directory(), directory(), directory());
    let mut both = Options::new(one.path());
    both.data.push(other.path().to_owned());
    let server = both.start();
    let blobs = fill(&server);
    server.stop();
    // Not there at all: it must not be made.
    let missing = other.path().join("not-mounted");
    let mut degraded = Options::new(one.path());
    degraded.data.push(missing.clone());
    degraded.config.push_str("degraded: true\n");
    let server = degraded.start();
    let (mut served, mut refused) = (Vec::new(), Vec::new());
    for (seed, size) in &blobs {
        let body = content(*seed, *size);
        let answer = server.get(&id_of(&body));
        match answer.status() {
            200 => {
                assert!(answer.body == body, "{size} bytes came back changed");
                served.push((*seed, *size));
            }
            _ => {
                let message = answer.expect_error(503, "store is degraded");
                assert!(!message.contains('/'), "{message}");
                refused.push((*seed, *size));
            }
        }
    }
    assert!(!served.is_empty() && !refused.is_empty(), "{served:?} {refused:?}");
    let new = content(1_000, 100_000);
    server.put(&new).expect(201);
    assert!(server.get(&id_of(&new)).expect(200).body == new);
    assert!(!missing.exists(), "a directory that is missing was made");
    let log = server.stop();
    assert!(log.contains("the store is degraded"), "{log}");

    let server = both.start();
    let mut all = blobs.clone();
    all.push((1_000, 100_000));
    expect_all(&server, &all);
    server.stop();

    let mut replaced = Options::new(one.path());
    replaced.data.push(empty.path().to_owned());
    let (status, log) = replaced.refused();
    assert!(!status.success() && log.contains("--forget-missing") && log.contains("--degraded"), "{log}");
    let mut forgetting = replaced.clone();
    forgetting.flags.push("--forget-missing".to_owned());
    let server = forgetting.start();
    wait_for("the lost directory to be given up", || {
        server.process.log.text().contains("the missing data directories are given up: ").then_some(())
    });
    server.stop();
    let server = replaced.start();
    for (seed, size) in &blobs {
        let body = content(*seed, *size);
        let answer = server.get(&id_of(&body));
        assert!(
            (answer.status() == 200 && answer.body == body) || answer.status() == 404,
            "{size} bytes: {}",
            answer.status()
        );
        assert!(answer.status() == 404 || served.contains(&(*seed, *size)), "{size} bytes are there again");
        let expected = if answer.status() == 404 { 201 } else { 200 };
        server.put(&body).expect(expected);
        assert!(server.get(&id_of(&body)).expect(200).body == body);
    }
    server.stop();
    let mut again = replaced.clone();
    again.data.push(other.path().to_owned());
    let (status, log) = again.refused();
    assert!(!status.success() && log.contains("given up as lost"), "{log}");
    replaced.start().stop();
}
