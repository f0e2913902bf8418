//! A disk that is slow, that does not answer, or that goes away: what does not need it goes on.

use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::fault::{EVERYTHING, Fault, Operation, Rule};
use crate::load::{Ask, Load, Model};
use crate::mount::{CAPACITY, Mount};
use crate::support::content::content;
use crate::support::http::{Connection, Request, Response};
use crate::support::server::{Options, Server, WRITE_TOKEN};
use crate::support::wait_for;
use crate::{effort, fault_disk};

const CLIENTS: usize = 4;
const CHANGES: u64 = 20;
const OPERATION_DELAY: Duration = Duration::from_millis(50);
/// Requests that must be answered while one upload is under way.
const ANSWERS: u64 = 50;
/// Connections on which that is asked: enough that every core has some.
const CONNECTIONS: usize = 8;

/// A server that gives a disk all the time that a test may take.
fn patient(mount: &Mount) -> Options {
    let mut options = Options::new(&mount.data());
    options.config.push_str("limits:\n  disk_timeout_ms: 3600000\n");
    options
}

/// An upload on a thread of its own.
fn upload(address: SocketAddr, body: Vec<u8>) -> JoinHandle<std::io::Result<Response>> {
    thread::spawn(move || Connection::open(address)?.try_exchange(&Request::upload(&body).token(WRITE_TOKEN)))
}

/// Asks for a cached blob and the health, on several connections.
fn expect_served(server: &Server, id: &str, body: &[u8]) {
    let mut connections: Vec<Connection> = (0..CONNECTIONS).map(|_| server.connect()).collect();
    for _ in 0..ANSWERS / CONNECTIONS as u64 + 1 {
        for connection in &mut connections {
            assert!(connection.exchange(&crate::load::get(id)).expect(200).body == body, "{id} came back changed");
            connection.exchange(&Request::get("/healthz")).expect(200);
            connection.exchange(&Request::get("/readyz")).expect(200);
        }
    }
}

#[test]
fn a_slow_disk_slows_uploads_and_neither_cached_blobs_nor_health() {
    let Some((mount, mut random)) = fault_disk(CAPACITY) else { return };
    let options = patient(&mount);
    let server = options.start();
    let hot = content(random.next(), 40_000);
    let id = server.put(&hot).expect(201).string("id");
    let slow = mount.faults().set(&[Rule::new(EVERYTHING, Fault::Delay(OPERATION_DELAY))]);
    wait_for("many answers during one upload", || {
        let struck = slow.struck();
        let upload = upload(server.address, content(random.next(), 24 << 20));
        wait_for("the upload to reach the disk", || (slow.struck() > struck).then_some(()));
        expect_served(&server, &id, &hot);
        let was_under_way = !upload.is_finished();
        let response = upload.join().expect("the thread does not panic").expect("the upload is answered");
        response.expect(201);
        was_under_way.then_some(())
    });
    let load = Load::start(server.address, CLIENTS, &mut random, Model::default());
    load.wait_for_more(CHANGES * effort());
    let mut model = load.finish();
    model.expect_answers(&[]);
    drop(slow);
    server.delete(&id).expect(200);
    for id in server.list(1_000) {
        if model.blobs().all(|(known, _)| *known != id) {
            server.delete(&id).expect(200);
        }
    }
    model.verify(&server);
    server.stop();
}

#[test]
fn a_disk_that_does_not_answer_holds_up_uploads_alone_and_everything_goes_on_when_it_comes_back() {
    let Some((mount, mut random)) = fault_disk(CAPACITY) else { return };
    let options = patient(&mount);
    let server = options.start();
    let hot = content(random.next(), 40_000);
    let id = server.put(&hot).expect(201).string("id");
    let load = Load::start(server.address, CLIENTS, &mut random, Model::default());
    load.wait_for_more(CHANGES);
    // Transfers only: FUSE locks a file while it is synced and makes who writes to it wait there
    // and then, which real file systems do not.
    let hung = mount.faults().set(&[Rule::new(&[Operation::Read, Operation::Write, Operation::Allocate], Fault::Hang)]);
    hung.wait_until_struck(1);
    expect_served(&server, &id, &hot);
    let uploads: Vec<_> = (0..4).map(|_| upload(server.address, content(random.next(), 3 << 20))).collect();
    hung.wait_until_struck(2);
    expect_served(&server, &id, &hot);
    assert!(uploads.iter().all(|upload| !upload.is_finished()), "an upload was answered without the disk");
    drop(hung);
    for upload in uploads {
        let response = upload.join().expect("the thread does not panic").expect("the upload is answered");
        let stored = response.expect(201).string("id");
        server.delete(&stored).expect(200);
    }
    load.wait_for_more(CHANGES * effort());
    let mut model = load.finish();
    model.expect_answers(&[]);
    server.delete(&id).expect(200);
    model.check(&server);
    server.kill();
    let server = options.start();
    model.verify(&server);
    server.stop();
}

#[test]
fn a_client_that_gives_up_on_a_disk_that_does_not_answer_leaves_nothing_behind() {
    let Some((mount, mut random)) = fault_disk(CAPACITY) else { return };
    // Enough memory that what is sent here is received, disk or no disk.
    let options = Options { memory: "256MiB".to_owned(), ..patient(&mount) };
    let server = options.start();
    let hung = mount.faults().set(&[Rule::new(&[Operation::Write], Fault::Hang)]);
    for _ in 0..4 {
        let mut connection = server.connect();
        let request = Request::upload(&content(random.next(), 9 << 20)).token(WRITE_TOKEN);
        connection.send(&request.head_bytes()).expect("the server takes the head");
        connection.send(&request.body_bytes()[..4 << 20]).expect("the server takes some of the body");
    }
    hung.wait_until_struck(1);
    drop(hung);
    let body = content(random.next(), 9 << 20);
    let id = server.put(&body).expect(201).string("id");
    assert_eq!(server.list(10), [id]);
    server.stop();
}

#[test]
fn a_disk_that_vanishes_leaves_cached_blobs_and_health_and_what_was_acknowledged_is_there_when_it_is_back() {
    let Some((mount, mut random)) = fault_disk(CAPACITY) else { return };
    let mut options = Options::new(&mount.data());
    let server = options.start();
    let hot = content(random.next(), 40_000);
    let id = server.put(&hot).expect(201).string("id");
    let load = Load::start(server.address, CLIENTS, &mut random, Model::default());
    load.wait_for_more(CHANGES);
    mount.vanish();
    load.wait_for_answers((Ask::Put, Some(503)), 20);
    expect_served(&server, &id, &hot);
    let mut model = load.finish();
    let failures = [
        (Ask::Put, Some(503)),
        (Ask::Put, None),
        (Ask::Delete, Some(503)),
        (Ask::Get, Some(500)),
        (Ask::Get, Some(503)),
        (Ask::Get, None),
    ];
    model.expect_answers(&failures);
    // It still ends when it is asked to, and says that it could not write.
    let mut process = server.process;
    process.signal("TERM");
    let status = process.wait();
    println!("{status}: {}", process.log.text().lines().last().unwrap_or_default());

    let mount = mount.again();
    options.data = vec![mount.data()];
    let server = options.start();
    server.delete(&id).expect(200);
    model.verify(&server);
    server.stop();
}

#[test]
fn of_two_disks_one_that_does_not_answer_is_taken_out_within_the_bound_and_the_other_serves_on() {
    let Some((hung, mut random)) = fault_disk(CAPACITY) else { return };
    let Some((sound, _)) = fault_disk(CAPACITY) else { return };
    // The smallest memory, so that reads come from the disks.
    let mut options = Options { memory: "32MiB".to_owned(), ..Options::new(&hung.data()) };
    options.data.push(sound.data());
    options.config.push_str("limits:\n  disk_timeout_ms: 2000\n  shutdown_timeout_ms: 2000\n");
    let server = options.start();
    let stored: Vec<(String, Vec<u8>)> = (0..40)
        .map(|_| {
            let body = content(random.next(), 1 << 20);
            (server.put(&body).expect(201).string("id"), body)
        })
        .collect();
    server.stop();
    let mut server = options.start();
    let active =
        hung.faults().set(&[Rule::new(&[Operation::Read, Operation::Write, Operation::Allocate], Fault::Hang)]);
    let waiting: Vec<_> = (0..8).map(|_| upload(server.address, content(random.next(), 3 << 20))).collect();
    for upload in waiting {
        let status = upload.join().expect("the thread does not panic").expect("the upload is answered").status();
        assert!(status == 201 || status == 503, "{status}");
    }
    // A cold read finds it, if no upload went there.
    let (mut served, mut refused) = (0, 0);
    for (id, body) in &stored {
        let mut connection = server.connect();
        connection.send(&crate::load::get(id).bytes()).expect("the server takes the request");
        match connection.response(false) {
            Ok(response) if response.status() == 200 => {
                assert!(response.body == *body, "{id} came back changed");
                served += 1;
            }
            Ok(response) => {
                let message = response.expect_error(503, "data directory unavailable");
                assert!(message.contains("data directory 1") && !message.contains('/'), "{message}");
                refused += 1;
            }
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "the body ends short"),
        }
    }
    assert!(served > 0 && refused > 0, "{served} served, {refused} refused");
    for number in 0..50 {
        server.put(&content(random.next(), 10_000 + number)).expect(201);
    }
    let log = server.process.log.text();
    assert_eq!(log.matches("a data directory is taken out").count(), 1, "{log}");
    server.process.signal("TERM");
    wait_for("the server to say what it leaves behind", || {
        server.process.log.text().contains("closed without these data directories").then_some(())
    });
    // The kernel does not let go of a process before its last operation has ended.
    drop(active);
    let status = server.process.wait();
    println!("{status}: {}", server.process.log.text().lines().last().unwrap_or_default());
    let server = options.start();
    for (id, body) in &stored {
        assert!(server.get(id).expect(200).body == *body, "{id} came back changed");
    }
    server.stop();
}

#[test]
fn a_start_on_a_disk_that_does_not_answer_is_refused_within_the_bound() {
    let Some((mount, mut random)) = fault_disk(CAPACITY) else { return };
    let mut options = Options::new(&mount.data());
    let server = options.start();
    let body = content(random.next(), 100_000);
    let id = server.put(&body).expect(201).string("id");
    server.stop();
    options.config.push_str("limits:\n  disk_timeout_ms: 2000\n");
    let active = mount.faults().set(&[Rule::new(&[Operation::Read, Operation::Other], Fault::Hang)]);
    let mut process = options.launch();
    wait_for("the refusal", || process.log.text().contains("did not answer within 2s").then_some(()));
    drop(active);
    assert!(!process.wait().success());
    let server = options.start();
    assert!(server.get(&id).expect(200).body == body);
    server.stop();
}
