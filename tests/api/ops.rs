//! The second port: health and metrics, and nothing else.

use std::fs;
use std::net::{SocketAddr, TcpListener};

use crate::support::exposition::Exposition;
use crate::support::http::{Connection, Request, Response};
use crate::support::server::{Options, READ_TOKEN, directory};
use crate::support::wait_for;

const METRICS_TOKEN: &str = "a-token-for-the-scraper";

fn connect(address: SocketAddr) -> Connection {
    Connection::open(address).expect("the server takes connections")
}

fn ask(address: SocketAddr, request: &Request) -> Response {
    connect(address).exchange(request)
}

#[test]
fn the_second_port_serves_health_and_metrics_and_nothing_else() {
    let data = directory();
    let mut options = Options::new(data.path());
    options.config.push_str("ops_listen: 127.0.0.1:0\n");
    let server = options.start();
    let ops = server.ops_address();
    for path in ["/healthz", "/livez", "/readyz"] {
        ask(ops, &Request::get(path)).expect(200);
    }
    // Roles are those of the main port.
    ask(ops, &Request::get("/metrics")).expect_error(401, "unauthorized");
    ask(ops, &Request::get("/metrics").token(READ_TOKEN)).expect(200);
    ask(ops, &Request::new("POST", "/metrics").token(READ_TOKEN)).expect_error(405, "method not allowed");
    for path in ["/", "/v1/blobs", "/v1/cluster/state", "/healthz/"] {
        let message = ask(ops, &Request::get(path).token(READ_TOKEN)).expect_error(404, "not found");
        assert!(message.contains("/healthz, /livez, /readyz, /metrics") && message.contains(path), "{message}");
    }
    // What a reload brings holds here too.
    let scraper = Request::get("/metrics").token(METRICS_TOKEN);
    ask(ops, &scraper).expect(401);
    let tokens = server.process.files().join("tokens");
    let text = fs::read_to_string(&tokens).expect("readable");
    fs::write(&tokens, format!("{text}metrics plain:{METRICS_TOKEN} scraper\n")).expect("written");
    server.process.signal("HUP");
    wait_for("the new token", || (ask(ops, &scraper).status() == 200).then_some(()));
    // A stop doesn't wait for connections that ask for nothing.
    let mut idle = connect(ops);
    idle.exchange(&Request::get("/livez")).expect(200);
    let log = server.stop();
    idle.expect_closed();
    assert!(log.contains("shut down") && !log.contains("requests did not finish in time"), "{log}");
}

#[test]
fn the_second_port_answers_when_every_connection_of_the_first_is_taken() {
    let data = directory();
    let mut options = Options::new(data.path());
    options.cores = 1;
    options.config.push_str("ops_listen: 127.0.0.1:0\nlimits: {connections_max: 2}\n");
    let server = options.start();
    let ops = server.ops_address();
    let list = Request::get("/v1/blobs").token(READ_TOKEN);
    let mut taken: Vec<Connection> = Vec::new();
    while taken.len() < 2 {
        let mut connection = server.connect();
        if connection.exchange(&list).status() == 200 {
            taken.push(connection);
        }
    }
    let metrics = Request::get("/metrics").token(READ_TOKEN);
    ask(server.address, &metrics).expect_error(503, "too many connections");
    let scrape = ask(ops, &metrics).expect(200);
    let scrape = Exposition::parse(std::str::from_utf8(&scrape.body).expect("text"));
    assert_eq!(scrape.sum("nabu_connections"), 2.0, "those of the second port are none of the first's");
    // Its own are bounded as well: whoever waits and has shown no token goes for one who comes.
    let mut silent: Vec<Connection> = (0..200).map(|_| connect(ops)).collect();
    wait_for("a place", || (ask(ops, &metrics).status() == 200).then_some(()));
    silent[0].expect_closed();
    for connection in &mut taken {
        connection.exchange(&list).expect(200);
    }
}

#[test]
fn a_second_port_that_is_taken_is_named_with_its_flag() {
    let data = directory();
    let other = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = other.local_addr().expect("bound");
    let mut options = Options::new(data.path());
    options.config.push_str(&format!("ops_listen: {address}\n"));
    let (status, log) = options.refused();
    assert!(!status.success());
    assert!(log.contains(&format!("can't listen on {address}")) && log.contains("--ops-listen"), "{log}");
}
