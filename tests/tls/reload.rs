//! SIGHUP: new files for new connections, whole or not at all.

use std::fs;

use rustls::pki_types::CertificateDer;

use super::Setting;
use super::support::http::Request;
use super::support::server::{READ_TOKEN, Server};
use super::support::wait_for;

fn certificate(server: &Server) -> CertificateDer<'static> {
    let mut connection = server.connect();
    connection.tls().peer_certificates().expect("the server shows one")[0].clone()
}

/// Sends SIGHUP and waits until the log holds `text` once more than before.
#[track_caller]
fn hang_up(server: &Server, text: &str) {
    let count = || server.process.log.text().matches(text).count();
    let before = count();
    server.process.signal("HUP");
    wait_for(text, || (count() > before).then_some(()));
}

#[test]
fn new_connections_get_the_new_certificate_and_old_ones_go_on() {
    let setting = Setting::new("", "");
    let server = setting.start();
    let first = certificate(&server);
    let mut open = server.connect();
    open.exchange(&Request::get("/healthz")).expect(200);

    let renewed = setting.authority.sign(|_| {});
    renewed.write(setting.path(), "server");
    assert_eq!(certificate(&server), first, "nothing changes without a signal");
    hang_up(&server, "INFO nabu_store::node::security: reloaded");
    assert_eq!(certificate(&server), renewed.certificate);
    // A session that began before the reload is not resumed past the new certificate.
    open.exchange(&Request::get("/healthz")).expect(200);
    server.stop();
}

#[test]
fn a_reload_that_fails_keeps_everything_and_names_the_file() {
    let setting = Setting::new("", "");
    let server = setting.start();
    let first = certificate(&server);
    let tokens = server.process.files().join("tokens");
    let cert = setting.path().join("server.crt");

    // The certificate is new and its key is not; the tokens are new and right.
    let (before, renewed) = (fs::read(&cert).expect("readable"), setting.authority.sign(|_| {}));
    fs::write(&cert, &renewed.cert_pem).expect("written");
    fs::write(&tokens, "read plain:another-token-that-may-read\n").expect("written");
    hang_up(&server, "is not the key of the first certificate in");
    assert_eq!(certificate(&server), first);
    let list = |token: &str| server.exchange(&Request::get("/v1/blobs").token(token)).status();
    assert_eq!((list(READ_TOKEN), list("another-token-that-may-read")), (200, 401));

    // Now the tokens are wrong.
    fs::write(&cert, before).expect("written");
    fs::write(&tokens, "read plain:short\n").expect("written");
    hang_up(&server, "tokens:1: the token has 5 characters; at least 16 are needed");
    assert_eq!(list(READ_TOKEN), 200);

    fs::write(&tokens, "read plain:another-token-that-may-read\n").expect("written");
    hang_up(&server, "INFO nabu_store::node::security: reloaded");
    assert_eq!((list(READ_TOKEN), list("another-token-that-may-read")), (401, 200));
    server.stop();
}

#[test]
fn a_server_without_anything_to_reload_goes_on() {
    let mut setting = Setting::new("", "");
    setting.options.config = "segment_size: 16MiB\n".to_owned();
    setting.options.tls = None;
    let server = setting.start();
    hang_up(&server, "reloaded");
    server.exchange(&Request::get("/v1/blobs").token(READ_TOKEN)).expect(200);
    server.stop();
}
