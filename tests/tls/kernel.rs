//! TLS in the kernel, as far as this one does it: who encrypts is counted, and what is particular
//! to the kernel holds.
//!
//! Where the kernel has no TLS these tests say so, and see to it that connections stay in the
//! process. `scripts/kernel-tls` runs them where it has.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, version};

use super::Setting;
use super::support::PATIENCE;
use super::support::content::{content, id_of};
use super::support::exposition::Exposition;
use super::support::http::Request;
use super::support::server::{READ_TOKEN, Server, WRITE_TOKEN};

/// Whether the kernel has TLS.
fn kernel_has_tls() -> bool {
    let listed = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_ulp").unwrap_or_default();
    let has_tls = listed.split_whitespace().any(|name| name == "tls");
    if !has_tls {
        eprintln!("SKIPPED in part: this kernel has no TLS, so the server's process does it");
    }
    has_tls
}

/// Whether the kernel takes new keys for a connection that has some: from Linux 6.14 on.
fn kernel_takes_new_keys() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("Linux says what it is");
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map_while(|part| part.parse().ok());
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 14)
}

/// Connections so far, by who encrypts; the one that asks is among them.
#[track_caller]
fn connections(server: &Server, by: &str) -> f64 {
    let response = server.connect().exchange(&Request::get("/metrics").token(READ_TOKEN)).expect(200);
    let scrape = Exposition::parse(std::str::from_utf8(&response.body).expect("a scrape is text"));
    scrape.value("nabu_tls_connections_total", &[("by", by)])
}

#[test]
fn connections_are_counted_by_who_encrypts() {
    for kernel in ["auto", "off"] {
        let setting = Setting::new(&format!("  kernel: {kernel}"), "");
        let mut server = setting.start();
        let (by, not_by) =
            if kernel == "auto" && kernel_has_tls() { ("kernel", "process") } else { ("process", "kernel") };
        let before = connections(&server, by);
        assert_eq!((connections(&server, by) - before, connections(&server, not_by)), (1.0, 0.0));
        // The kernel would count nonces of TLS 1.2 in its own way.
        server = setting.as_client(server, setting.authority.client(&[&version::TLS12], None));
        let before = connections(&server, "process");
        assert_eq!(connections(&server, "process") - before, 1.0);
    }
}

#[test]
fn a_client_that_ends_its_sending_at_once_is_served_and_turns_nothing_off_for_others() {
    const ROUNDS: usize = 50;
    let setting = Setting::new("", "");
    let server = setting.start();
    let bytes = content(1, 200_000);
    let id = server.put(&bytes).expect(201).string("id");
    let request = Request::get(&format!("/v1/blobs/{id}")).token(READ_TOKEN).field("Connection", "close").bytes();
    for _ in 0..ROUNDS {
        let name = ServerName::try_from("localhost").expect("a name");
        let config = server.tls.clone().expect("it speaks HTTPS");
        let mut connection = ClientConnection::new(config, name).expect("a client");
        let mut socket = TcpStream::connect(server.address).expect("connected");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
        // The last flight of the handshake, the request and the end of sending leave together.
        while connection.is_handshaking() {
            while connection.wants_write() {
                connection.write_tls(&mut socket).expect("sent");
            }
            connection.read_tls(&mut socket).expect("received");
            connection.process_new_packets().expect("TLS");
        }
        connection.writer().write_all(&request).expect("there is room");
        let mut flight = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut flight).expect("a vector takes all");
        }
        socket.write_all(&flight).expect("sent");
        socket.shutdown(Shutdown::Write).expect("open until now");
        let mut answer = Vec::new();
        // It ends with a goodbye, or this fails.
        rustls::Stream::new(&mut connection, &mut socket).read_to_end(&mut answer).expect("an answer");
        assert!(answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(&bytes), "{} bytes", answer.len());
    }
    if kernel_has_tls() {
        let before = connections(&server, "kernel");
        assert_eq!(connections(&server, "kernel") - before, 1.0, "the kernel is still given connections");
    }
}

/// Long enough for the server to fill the buffers of the connection and wait.
const PAUSE: Duration = Duration::from_millis(400);

#[test]
fn a_slow_reader_gets_the_end_of_the_last_answer_and_a_goodbye() {
    let setting = Setting::new("", "");
    let server = setting.start();
    let bytes = content(2, 12 << 20);
    let id = server.put(&bytes).expect(201).string("id");
    for size in [3_000_001, 5_000_017, 7_654_321, bytes.len()] {
        let request = Request::get(&format!("/v1/blobs/{id}"))
            .token(READ_TOKEN)
            .field("Range", &format!("bytes=0-{}", size - 1))
            .field("Connection", "close");
        let mut connection = server.connect();
        connection.send(&request.bytes()).expect("sent");
        connection.head().expect("a head");
        for part in bytes[..size].chunks(size / 2 + 1) {
            std::thread::sleep(PAUSE);
            assert!(connection.take(part.len()).expect("a part") == part);
        }
        connection.expect_goodbye();
    }
}

#[test]
fn a_client_that_changes_its_keys_is_served_where_the_kernel_can_and_let_go_where_not() {
    let setting = Setting::new("", "");
    let server = setting.start();
    let is_served = !kernel_has_tls() || kernel_takes_new_keys();
    let bytes = content(3, 1 << 20);
    let id = id_of(&bytes);
    let get = Request::get(&format!("/v1/blobs/{id}")).token(READ_TOKEN);
    server.put(&bytes).expect(201);
    let mut connection = server.connect();
    for _ in 0..3 {
        assert!(connection.exchange(&get).body == bytes);
        // Asks the server to change its keys, too.
        connection.tls().refresh_traffic_keys().expect("TLS 1.3");
        match connection.try_exchange(&Request::upload(&bytes).token(WRITE_TOKEN)) {
            Ok(response) => assert!(is_served && response.status() == 200, "{}", response.text()),
            Err(error) => {
                assert!(!is_served, "{error}");
                connection = server.connect();
            }
        }
    }
    // Nobody else is the worse for it.
    assert!(server.get(&id).expect(200).body == bytes);
}
