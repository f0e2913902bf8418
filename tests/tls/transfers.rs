//! What holds on a plain connection holds on an encrypted one.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::{HandshakeKind, ProtocolVersion, version};

use super::Setting;
use super::support::content::{content, hex, id_of, sha256};
use super::support::http::Request;
use super::support::server::{READ_TOKEN, Server, WRITE_TOKEN};

/// Around the borders of records (16 KiB), of pieces that are encrypted at once (256 KiB), and of
/// frames (2 MiB).
const SIZES: [usize; 12] = [
    0,
    1,
    100,
    16_383,
    16_384,
    16_385,
    49_152,
    65_537,
    (256 << 10) - 1,
    (256 << 10) + 17,
    (2 << 20) + 3,
    (9 << 20) + 12_345,
];

#[track_caller]
fn store_and_fetch(server: &Server) {
    let mut connection = server.connect();
    for (seed, size) in (0..).zip(SIZES) {
        let bytes = content(seed, size);
        let id = id_of(&bytes);
        let upload = if seed % 2 == 0 {
            Request::upload(&bytes)
        } else {
            Request::new("POST", "/v1/blobs")
                .field("Content-Type", "application/octet-stream")
                .chunked(&bytes, &[1, 16_000, 70_000])
        };
        assert_eq!(connection.exchange(&upload.token(WRITE_TOKEN)).expect(201).string("id"), id);
        let target = format!("/v1/blobs/{id}");
        let get = Request::get(&target).token(READ_TOKEN);
        let whole = connection.exchange(&get).expect(200);
        assert!(whole.body == bytes, "{size} bytes come back as they were");
        assert_eq!(whole.field("ETag"), Some(format!("\"{}\"", hex(&sha256(&bytes))).as_str()));
        let head = connection.exchange(&Request::new("HEAD", &target).token(READ_TOKEN)).expect(200);
        assert_eq!(head.number("Content-Length"), size as u64);
        if size > 1000 {
            for range in [0..1, size / 2..size, size / 3..size / 3 + 700, 0..size] {
                let field = format!("bytes={}-{}", range.start, range.end - 1);
                let part = connection.exchange(&get.clone().field("Range", &field)).expect(206);
                assert!(part.body == bytes[range], "{field} of {size}");
            }
        }
    }
}

#[test]
fn content_comes_back_by_both_versions_of_tls() {
    let setting = Setting::new("", "");
    let mut server = setting.start();
    assert_eq!(server.connect().tls().protocol_version(), Some(ProtocolVersion::TLSv1_3));
    store_and_fetch(&server);
    for id in server.list(1000) {
        server.delete(&id).expect(200);
    }
    server = setting.as_client(server, setting.authority.client(&[&version::TLS12], None));
    assert_eq!(server.connect().tls().protocol_version(), Some(ProtocolVersion::TLSv1_2));
    store_and_fetch(&server);
    server.stop();
}

#[test]
fn json_uploads_and_long_listings_are_answered_whole() {
    let setting = Setting::new("", "");
    let server = setting.start();
    let mut connection = server.connect();
    let mut ids: Vec<String> = (0..3000)
        .map(|number: u32| {
            let bytes = number.to_string().into_bytes();
            let data = super::support::content::base64(&bytes);
            let request = Request::json("/v1/blobs", &format!("{{\"data\": \"{data}\"}}")).token(WRITE_TOKEN);
            connection.exchange(&request).expect(201).string("id")
        })
        .collect();
    ids.sort();
    assert_eq!(server.list(10_000), ids);
}

#[test]
fn pipelined_requests_in_one_record_and_one_in_many_are_answered_in_order() {
    let setting = Setting::new("", "");
    let server = setting.start();
    let bytes = content(7, 100_000);
    let id = server.put(&bytes).expect(201).string("id");
    let get = Request::get(&format!("/v1/blobs/{id}")).token(READ_TOKEN);
    let mut connection = server.connect();
    let batch = [
        get.bytes(),
        Request::get("/healthz").bytes(),
        get.bytes(),
        Request::upload(b"abc").token(WRITE_TOKEN).bytes(),
    ];
    connection.send(&batch.concat()).expect("sent");
    assert!(connection.response(false).expect("the first").body == bytes);
    assert_eq!(connection.response(false).expect("the second").expect(200).string("status"), "ok");
    assert!(connection.response(false).expect("the third").body == bytes);
    assert_eq!(connection.response(false).expect("the fourth").expect(201).string("id"), id_of(b"abc"));
    // Each send is a record of its own.
    for byte in Request::get("/healthz").bytes() {
        connection.send(&[byte]).expect("sent");
    }
    connection.response(false).expect("an answer").expect(200);
}

#[test]
fn an_upload_waits_for_continue_and_a_refused_one_costs_no_transfer() {
    let setting = Setting::new("", "");
    let server = setting.start();
    let bytes = content(8, 300_000);
    let request = Request::upload(&bytes).token(WRITE_TOKEN).field("Expect", "100-continue");
    let mut connection = server.connect();
    connection.send(&request.head_bytes()).expect("sent");
    assert_eq!(connection.head().expect("an interim answer").status, 100);
    connection.send(&bytes).expect("sent");
    connection.response(false).expect("an answer").expect(201);

    let refused = Request::upload(&bytes).token(READ_TOKEN).field("Expect", "100-continue");
    connection.send(&refused.head_bytes()).expect("sent");
    assert_eq!(connection.head().expect("a final answer").status, 403);
}

#[test]
fn a_connection_ends_with_a_goodbye() {
    let setting = Setting::new("", "");
    let server = setting.start();
    let mut connection = server.connect();
    connection.exchange(&Request::get("/healthz").field("Connection", "close")).expect(200);
    connection.expect_goodbye();
    // A refused upload, of which more comes than was read.
    let mut connection = server.connect();
    connection.send(&Request::upload(&content(9, 3 << 20)).head_bytes()).expect("sent");
    connection.send(&content(9, 1 << 20)).expect("sent");
    connection.response(false).expect("an answer").expect_error(401, "unauthorized");
    connection.expect_goodbye();
    // What can't be read is answered, too.
    let mut connection = server.connect();
    connection.send(b"GET / HTTP/9.9\r\n\r\n").expect("sent");
    connection.response(false).expect("an answer").expect_error(505, "HTTP version not supported");
    connection.expect_goodbye();
    // Who waits for a request is told when the server stops.
    let mut idle = server.connect();
    idle.exchange(&Request::get("/healthz")).expect(200);
    server.stop();
    idle.expect_goodbye();
}

#[test]
fn a_client_that_leaves_in_the_middle_harms_nobody() {
    let setting = Setting::new("", "");
    let server = setting.start();
    let bytes = content(10, 24 << 20);
    let id = server.put(&bytes).expect(201).string("id");
    let get = Request::get(&format!("/v1/blobs/{id}")).token(READ_TOKEN);
    for _ in 0..8 {
        let mut connection = server.connect();
        connection.send(&get.bytes()).expect("sent");
        let head = connection.head().expect("a head");
        assert_eq!(head.status, 200);
        connection.take(1 << 20).expect("a part");
        // Dropped with most of the answer on its way.
    }
    let mut connection = server.connect();
    connection.send(&Request::upload(&bytes).token(WRITE_TOKEN).bytes()[..1 << 20]).expect("sent");
    drop(connection);
    assert!(server.get(&id).expect(200).body == bytes);
    assert_eq!(server.list(10), [id]);
}

/// Longer than the server is patient with a fast transfer, so that it goes on with copies.
const PAUSE: Duration = Duration::from_millis(600);

#[test]
fn a_client_that_pauses_gets_the_right_bytes() {
    let setting = Setting::new("", "");
    let server = setting.start();
    let bytes = content(11, 40 << 20);
    let id = server.put(&bytes).expect(201).string("id");
    let mut connection = server.connect();
    connection.send(&Request::get(&format!("/v1/blobs/{id}")).token(READ_TOKEN).bytes()).expect("sent");
    connection.head().expect("a head");
    for part in bytes.chunks(13 << 20) {
        std::thread::sleep(PAUSE);
        assert!(connection.take(part.len()).expect("a part") == part);
    }
    connection.exchange(&Request::get("/healthz")).expect(200);
}

#[test]
fn a_second_connection_resumes_the_session() {
    let setting = Setting::new("", "");
    for versions in [[&version::TLS13], [&version::TLS12]] {
        let mut server = setting.start();
        server = setting.as_client(server, setting.authority.client(&versions, None));
        let mut first = server.connect();
        assert_ne!(first.tls().handshake_kind(), Some(HandshakeKind::Resumed));
        // Tickets come with the first answer.
        first.exchange(&Request::get("/healthz")).expect(200);
        let mut second = server.connect();
        assert_eq!(second.tls().handshake_kind(), Some(HandshakeKind::Resumed));
        second.exchange(&Request::get("/healthz")).expect(200);
        server.stop();
    }
}

#[test]
fn either_side_may_change_its_keys() {
    // In the kernel it depends on which one: see `kernel`.
    let setting = Setting::new("  kernel: off", "");
    let server = setting.start();
    let bytes = content(12, 1 << 20);
    let mut connection = server.connect();
    for round in 0..3 {
        let expected = if round == 0 { 201 } else { 200 };
        connection.exchange(&Request::upload(&bytes).token(WRITE_TOKEN)).expect(expected);
        // Asks the server to change its keys, too.
        connection.tls().refresh_traffic_keys().expect("TLS 1.3");
        let id = id_of(&bytes);
        assert!(connection.exchange(&Request::get(&format!("/v1/blobs/{id}")).token(READ_TOKEN)).body == bytes);
    }
}

#[test]
fn curl_stores_and_fetches_by_https() {
    let setting = Setting::new("", "");
    let server = setting.start();
    let bytes = content(13, 5_000_000);
    std::fs::write(setting.path().join("in"), &bytes).expect("a file can be written");
    let url = format!("https://localhost:{}/v1/blobs", server.address.port());
    let curl = |arguments: &[&str]| {
        let output = Command::new("curl")
            .args(["-sS", "--fail", "--noproxy", "*", "--cacert", "ca.crt", "-H"])
            .arg(format!("Authorization: Bearer {WRITE_TOKEN}"))
            .args(arguments)
            .current_dir(setting.path())
            .output()
            .expect("curl can be run");
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let stored = curl(&["-X", "POST", "-H", "Content-Type: application/octet-stream", "-T", "in", &url]);
    let id = id_of(&bytes);
    assert!(String::from_utf8_lossy(&stored).contains(&id));
    let blob = format!("{url}/{id}");
    assert!(curl(&[&blob]) == bytes);
    assert!(curl(&["-r", "1000-2999999", &blob]) == bytes[1000..3_000_000]);
    assert!(curl(&["--tlsv1.2", "--tls-max", "1.2", &blob]) == bytes);
    // Two ranges over one connection.
    assert_eq!(
        curl(&[
            "-r",
            "0-9",
            &blob,
            "--next",
            "-sS",
            "--cacert",
            "ca.crt",
            "-o",
            "-",
            &format!("https://localhost:{}/healthz", server.address.port())
        ])
        .len(),
        10 + br#"{"status":"ok"}"#.len()
    );
}

#[test]
fn many_clients_at_once_get_what_they_ask_for() {
    let setting = Setting::new("", "");
    let server = Arc::new(setting.start());
    let blobs: Vec<_> = (0..6u64).map(|seed| content(100 + seed, 70_000 << (seed % 4))).collect();
    std::thread::scope(|scope| {
        for (number, bytes) in blobs.iter().enumerate() {
            let (server, blobs) = (server.clone(), &blobs);
            scope.spawn(move || {
                server.put(bytes).expect(201);
                for round in 0..20 {
                    let wanted = &blobs[(number + round) % blobs.len()];
                    let response = server.get(&id_of(wanted));
                    assert!(response.status() == 404 || response.body == *wanted);
                }
            });
        }
    });
}

#[test]
fn the_client_commands_speak_https() {
    let setting = Setting::new("", "");
    let server = setting.start();
    let bytes = content(14, 3_000_000);
    std::fs::write(setting.path().join("in"), &bytes).expect("a file can be written");
    let run = |cacert: Option<&str>, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nabu-store"));
        command.args(arguments).current_dir(setting.path()).env_remove("NABU_CACERT");
        command.env("NABU_API", format!("https://localhost:{}", server.address.port())).env("NABU_TOKEN", WRITE_TOKEN);
        command.envs(cacert.map(|file| ("NABU_CACERT", file)));
        command.output().expect("it can be run")
    };
    let put = run(Some("ca.crt"), &["put", "in"]);
    assert!(put.status.success(), "{put:?}");
    let id = id_of(&bytes);
    assert!(String::from_utf8_lossy(&put.stdout).contains(&id));
    let get = run(Some("ca.crt"), &["get", &id, "-o", "out"]);
    assert!(get.status.success(), "{get:?}");
    assert!(std::fs::read(setting.path().join("out")).expect("there") == bytes);
    // The system does not trust the authority of the tests.
    let refused = run(None, &["stat", &id]);
    assert_eq!(refused.status.code(), Some(7), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("no secure connection to") && said.contains("--cacert or NABU_CACERT"), "{said}");
    let missing = run(Some("missing.crt"), &["stat", &id]);
    assert_eq!(missing.status.code(), Some(2), "{missing:?}");
}
