//! The port of a node that belongs to no cluster, as other nodes find it: where they would connect
//! is a path like any other, and their TLS is what it is of other clients.
//!
//! What a node of a cluster answers is tested beside the code (`src/peer/tests`).

#[allow(dead_code, reason = "the tests of TLS use all of it")]
#[path = "tls/authority.rs"]
mod authority;
mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, version};

use authority::Authority;
use support::http::Request;
use support::server::{Options, Server, directory};

const PEER_PROTOCOL: &[u8] = b"nabu-peer/1";

/// The error of a client that names the protocol of nodes, and what came on the socket if that was
/// no TLS.
fn hello(server: &Server, authority: &Authority) -> (String, String) {
    let mut config = authority.client(&[&version::TLS13], None);
    config.alpn_protocols = vec![PEER_PROTOCOL.to_vec()];
    let name = ServerName::try_from("localhost").expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut stream = TcpStream::connect(server.address).expect("it listens");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("written");
    stream.write_all(&bytes).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer, and the end");
    client.read_tls(&mut &answer[..]).expect("read");
    let error = client.process_new_packets().expect_err("no common protocol");
    (error.to_string(), String::from_utf8_lossy(&answer).into_owned())
}

fn upgrade() -> Request {
    Request::get("/v1/peer").field("Connection", "Upgrade").field("Upgrade", "nabu-peer/1")
}

#[test]
fn on_a_plain_port_the_path_is_unknown_and_tls_is_no_request() {
    let data = directory();
    let server = Options::new(data.path()).start();
    server.connect().exchange(&upgrade()).expect_error(404, "not found");
    let (_, answer) = hello(&server, &Authority::new("The authority of the tests"));
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("byte 0 of the request head"), "{answer}");
    server.connect().exchange(&Request::get("/healthz")).expect(200);
}

#[test]
fn on_a_port_of_https_the_path_is_unknown_and_the_protocol_is_refused() {
    let directory = directory();
    let authority = Authority::new("The authority of the tests");
    authority.sign(|_| {}).write(directory.path(), "server");
    fs::create_dir(directory.path().join("data")).expect("made");
    let mut options = Options::new(&directory.path().join("data"));
    let path = directory.path().display();
    options.config.push_str(&format!("tls:\n  cert: {path}/server.crt\n  key: {path}/server.key\n"));
    options.tls = Some(authority.trusting());
    let server = options.start();
    server.connect().exchange(&upgrade()).expect_error(404, "not found");
    let (error, _) = hello(&server, &authority);
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    server.connect().exchange(&Request::get("/healthz")).expect(200);
}
