//! Connections that never become one, and what others notice of them.

use std::io::ErrorKind;

use rustls::{AlertDescription, version};

use super::Setting;
use super::authority::Authority;
use super::support::exposition::Exposition;
use super::support::http::{Connection, Request};
use super::support::server::{READ_TOKEN, Server};
use super::support::wait_for;

/// Waits until the log holds a line.
#[track_caller]
fn expect_logged(server: &Server, text: &str) {
    wait_for(text, || server.process.log.text().contains(text).then_some(()));
}

/// The only connection that there may be, once those that were there before are gone.
fn only_connection(server: &Server) -> Connection {
    wait_for("the only place", || {
        let mut connection = server.try_connect().ok()?;
        // Health would be answered however many connections there are.
        let response = connection.try_exchange(&Request::get("/v1/blobs").token(READ_TOKEN)).ok()?;
        (response.status() == 200).then_some(connection)
    })
}

#[test]
fn a_plain_request_is_told_to_use_https() {
    let setting = Setting::new("", "log: {level: debug}\n");
    let server = setting.start();
    for request in [Request::get("/healthz"), Request::upload(&[7; 100_000])] {
        let mut connection = Connection::open(server.address).expect("connected");
        connection.send(&request.bytes()).expect("sent");
        let message = connection.response(false).expect("an answer").expect_error(400, "plain HTTP on an HTTPS port");
        assert!(message.contains("https://"), "{message}");
        connection.expect_closed();
    }
    expect_logged(&server, "the client speaks plain HTTP");
    server.connect().exchange(&Request::get("/healthz")).expect(200);
}

#[test]
fn what_is_no_tls_is_closed_and_logged() {
    let setting = Setting::new("", "log: {level: debug}\n");
    let server = setting.start();
    let hello = |length: u16, rest: &[u8]| [&[22, 3, 1], &length.to_be_bytes()[..], rest].concat();
    for garbage in [
        vec![0; 100],
        vec![0xff; 70_000],
        // A record that is too long, an empty one, and one that holds no hello.
        hello(u16::MAX, &[1; 100]),
        hello(0, &[]),
        hello(5, b"hello"),
        // A hello whose length is beyond every limit.
        hello(4, &[1, 0xff, 0xff, 0xff]),
    ] {
        let mut connection = Connection::open(server.address).expect("connected");
        // The server may close before it has read everything.
        let _ = connection.send(&garbage);
        let _ = connection.end_sending();
        connection.read_to_end();
    }
    // Sends nothing, or half of a record, and leaves.
    for beginning in [&b""[..], &[22], &[22, 3, 1, 2, 0, 1, 0]] {
        Connection::open(server.address).expect("connected").send(beginning).expect("sent");
    }
    expect_logged(&server, "what the client sent is not TLS");
    expect_logged(&server, "the TLS handshake failed");
    server.connect().exchange(&Request::get("/healthz")).expect(200);
    server.stop();
}

#[test]
fn a_handshake_that_takes_too_long_is_ended_and_gives_its_place_back() {
    let setting = Setting::new("", "limits: {connections_max: 2, head_timeout_ms: 100}\nlog: {level: debug}\n");
    let server = setting.start();
    let mut stalled: Vec<_> = (0..2).map(|_| Connection::open(server.address).expect("connected")).collect();
    stalled[0].send(&[22, 3, 1]).expect("sent");
    // The handshakes count as connections.
    stalled.iter_mut().for_each(Connection::expect_closed);
    expect_logged(&server, "the TLS handshake took too long");
    wait_for("a place", || server.try_connect().ok()?.try_exchange(&Request::get("/healthz")).ok()?.expect(200).into());
    server.stop();
}

#[test]
fn who_is_one_too_many_is_told_so_behind_tls() {
    let setting = Setting::new("", "limits: {connections_max: 1}\n");
    let server = setting.start();
    let mut first = only_connection(&server);
    let mut second = server.connect();
    second.response(false).expect("an answer").expect_error(503, "too many connections");
    first.exchange(&Request::get("/healthz")).expect(200);
}

#[test]
fn handshakes_that_there_is_no_room_for_are_charged_like_all_others() {
    // A megabyte is for all that is not finished, and a handshake counts as 34 KiB of it.
    let mut setting = Setting::new("", "limits: {connections_max: 1, head_timeout_ms: 600000}\n");
    (setting.options.cores, setting.options.memory) = (1, "16MiB".to_owned());
    let server = setting.start();
    let mut only = only_connection(&server);
    let mut silent: Vec<_> = (0..100).map(|_| Connection::open(server.address).expect("connected")).collect();
    wait_for("most of them are gone", || {
        let scrape = only.exchange(&Request::get("/metrics").token(READ_TOKEN)).expect(200);
        let scrape = Exposition::parse(std::str::from_utf8(&scrape.body).expect("text"));
        (scrape.value("nabu_connections_evicted_total", &[("reason", "unfinished")]) >= 60.0).then_some(())
    });
    silent[0].expect_closed();
    server.stop();
}

#[test]
fn the_protocol_is_http_1_1_and_nothing_else() {
    let setting = Setting::new("", "");
    let server = setting.start();
    let mut both = setting.authority.client(&[&version::TLS13], None);
    both.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let server = setting.as_client(server, both);
    let mut connection = server.connect();
    assert_eq!(connection.tls().alpn_protocol(), Some(&b"http/1.1"[..]));
    connection.exchange(&Request::get("/healthz")).expect(200);

    let mut other = setting.authority.client(&[&version::TLS13], None);
    other.alpn_protocols = vec![b"h2".to_vec()];
    let server = setting.as_client(server, other);
    assert_eq!(alert(&server), AlertDescription::NoApplicationProtocol);
}

/// The alert that a connection attempt, or the first request, ends with.
#[track_caller]
fn alert(server: &Server) -> AlertDescription {
    let attempt = server.try_connect().and_then(|mut connection| connection.try_exchange(&Request::get("/healthz")));
    let error = attempt.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_required_certificate_must_be_there_and_signed_by_the_right_authority() {
    let setting = Setting::new("  client_ca: CA", "");
    let ca = setting.path().join("ca.crt").display().to_string();
    let mut options = setting.options.clone();
    options.config = options.config.replace("CA\n", &format!("{ca}\n"));
    let (own, stranger) = (setting.authority.sign(|_| {}), Authority::new("A stranger").sign(|_| {}));
    for versions in [[&version::TLS13], [&version::TLS12]] {
        let client = |identity| std::sync::Arc::new(setting.authority.client(&versions, identity));
        options.tls = Some(client(Some(&own)));
        let server = options.start();
        let server = Server { tls: Some(client(None)), ..server };
        let missing = alert(&server);
        assert!(
            matches!(missing, AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure),
            "{missing:?}"
        );
        let server = Server { tls: Some(client(Some(&stranger))), ..server };
        assert_eq!(alert(&server), AlertDescription::UnknownCA);
        let server = Server { tls: Some(client(Some(&own))), ..server };
        server.connect().exchange(&Request::get("/healthz")).expect(200);
        // A certificate is no token.
        server.connect().exchange(&Request::get("/v1/blobs")).expect_error(401, "unauthorized");
        server.stop();
    }
}

#[test]
fn an_optional_certificate_may_be_missing_but_not_wrong() {
    let setting = Setting::new("  client_ca: CA\n  client_auth: optional", "");
    let ca = setting.path().join("ca.crt").display().to_string();
    let mut options = setting.options.clone();
    options.config = options.config.replace("CA\n", &format!("{ca}\n"));
    let server = options.start();
    server.connect().exchange(&Request::get("/healthz")).expect(200);
    let own = setting.authority.sign(|_| {});
    let server = setting.as_client(server, setting.authority.client(&[&version::TLS13], Some(&own)));
    server.connect().exchange(&Request::get("/healthz")).expect(200);
    let stranger = Authority::new("A stranger").sign(|_| {});
    let server = setting.as_client(server, setting.authority.client(&[&version::TLS13], Some(&stranger)));
    assert_eq!(alert(&server), AlertDescription::UnknownCA);
}
