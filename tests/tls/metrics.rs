//! What the metrics and the log of slow requests say of HTTPS.

use super::Setting;
use super::support::content::{content, id_of};
use super::support::exposition::Exposition;
use super::support::http::{Connection, Request};
use super::support::server::READ_TOKEN;
use super::support::wait_for;

/// A scrape when nothing but itself is being served, and its size: an answer may arrive before it
/// is counted.
#[track_caller]
fn settled(connection: &mut Connection) -> (Exposition, f64) {
    wait_for("all requests to be counted", || {
        let response = connection.exchange(&Request::get("/metrics").token(READ_TOKEN)).expect(200);
        let scrape = Exposition::parse(std::str::from_utf8(&response.body).expect("a scrape is text"));
        (scrape.value("nabu_http_requests_in_flight", &[]) == 1.0).then_some((scrape, response.body.len() as f64))
    })
}

fn handshakes(scrape: &Exposition, result: &str) -> f64 {
    scrape.value("nabu_tls_handshakes_total", &[("result", result)])
}

#[test]
fn handshakes_are_counted_by_how_they_end() {
    let setting = Setting::new("", "");
    let server = setting.start();
    let mut connection = server.connect();
    let (before, _) = settled(&mut connection);
    for _ in 0..2 {
        server.exchange(&Request::get("/healthz")).expect(200);
    }
    for _ in 0..3 {
        let mut plain = Connection::open(server.address).expect("connected");
        plain.send(&Request::get("/healthz").bytes()).expect("sent");
        plain.response(false).expect("an answer").expect(400);
    }
    let (after, _) = settled(&mut connection);
    let added = |result| handshakes(&after, result) - handshakes(&before, result);
    assert_eq!((added("ok"), added("failed")), (2.0, 3.0));
}

#[test]
fn a_large_answer_is_counted_to_the_byte_whoever_encrypts_and_its_encryption_is_the_servers_time() {
    let body = content(1, 5 << 20);
    for kernel in ["auto", "off"] {
        let setting = Setting::new(&format!("  kernel: {kernel}"), "log: {format: json, slow_request_ms: 0}\n");
        let server = setting.start();
        server.put(&body).expect(201);
        let mut connection = server.connect();
        let (before, size) = settled(&mut connection);
        let request = Request::get(&format!("/v1/blobs/{}", id_of(&body))).token(READ_TOKEN);
        assert!(connection.exchange(&request.field("X-Request-Id", "large")).expect(200).body == body);
        let (after, _) = settled(&mut connection);
        let sent = |scrape: &Exposition| scrape.value("nabu_http_sent_body_bytes_total", &[]);
        // On this connection one comes after the other, so nothing else is counted between the two.
        assert_eq!(sent(&after) - sent(&before), size + body.len() as f64, "{kernel}");
        let log = server.stop();
        let event = log.lines().find(|line| line.contains("nabu_store::slow") && line.contains("\"large\""));
        let event = event.unwrap_or_else(|| panic!("no event of the answer in {log}"));
        assert!(event.contains(&format!("\"sent\":{},", body.len())), "{event}");
        if kernel == "off" {
            assert!(event.contains("\"encrypt_us\":") && !event.contains("\"encrypt_us\":0,"), "{event}");
        }
    }
}
