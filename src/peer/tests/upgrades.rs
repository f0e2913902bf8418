use nabu_net::peer::upgrade::{UPGRADE_ANSWER, request_head};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::*;
use crate::tls::PEER_PROTOCOL;

type Secured = StreamOwned<ClientConnection, TcpStream>;

/// A client that trusts everybody and names these protocols, as an attacker may.
fn secured(stream: TcpStream, protocols: Vec<Vec<u8>>) -> Secured {
    let mut config = peer_tls().trusting();
    config.alpn_protocols = protocols;
    let name = ServerName::try_from("localhost").expect("a name");
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).expect("a client"), stream)
}

/// What a client gets that names these protocols and sends this; the error if TLS fails.
async fn asked(node: &Node, protocols: &[&[u8]], request: &str) -> Result<String, String> {
    let request = request.to_owned();
    let protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let asking = move |stream| {
        let mut stream = secured(stream, protocols);
        stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        let (mut bytes, mut buf) = (Vec::new(), [0; 4096]);
        loop {
            match stream.read(&mut buf) {
                Ok(0) => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
                Ok(count) => bytes.extend_from_slice(&buf[..count]),
                Err(error) if bytes.is_empty() => return Err(error.to_string()),
                Err(_) => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            }
        }
    };
    node.client(asking).await
}

const GET: &str = "GET /v1/blobs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

fn head() -> String {
    request_head("node-1:7070")
}

#[test]
fn other_clients_of_a_node_notice_nothing() {
    on_node(Setup::default(), |node| async move {
        let (_made, _taken) = node.pair().await;
        let answer = node.answer(GET).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(SERVED), "{answer}");
    });
    for https in [Https::Open, Https::ClientCertificates] {
        on_node(Setup { https: Some(https), ..Setup::default() }, |node| async move {
            let (_made, _taken) = node.pair().await;
            for protocols in [&[][..], &[&b"http/1.1"[..]][..]] {
                let answer = asked(&node, protocols, GET).await;
                if node.setup.https == Some(Https::ClientCertificates) {
                    let error = answer.expect_err("a certificate is asked for");
                    assert!(error.contains("CertificateRequired"), "{error}");
                } else {
                    let answer = answer.expect("an answer");
                    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(SERVED), "{answer}");
                }
            }
        });
    }
}

#[test]
fn nodes_show_no_certificate_and_get_nothing_but_the_upgrade() {
    for https in [None, Some(Https::Open), Some(Https::ClientCertificates)] {
        on_node(Setup { https, ..Setup::default() }, |node| async move {
            let (_made, _taken) = node.pair().await;
            for request in
                [GET.to_owned(), GET.replace("/v1/blobs", "/healthz"), GET.replace("/v1/blobs", "/v1/peer?x")]
            {
                let answer = asked(&node, &[PEER_PROTOCOL], &request).await.expect("an answer");
                assert!(answer.starts_with("HTTP/1.1 421 ") && answer.contains("name http/1.1, or none"), "{answer}");
            }
            let both: &[&[u8]] = &[b"http/1.1", PEER_PROTOCOL];
            assert!(asked(&node, both, GET).await.expect("an answer").starts_with("HTTP/1.1 421 "));
        });
    }
}

#[test]
fn without_tls_a_connection_is_refused_with_the_setting_that_allows_it() {
    on_node(Setup::default(), |node| async move {
        let answer = node.answer(&head()).await;
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("cluster.allow_plaintext"), "{answer}");
    });
    // TLS of other clients has nothing that a handshake could be bound to.
    on_node(Setup { https: Some(Https::Open), allow_plaintext: true, ..Setup::default() }, |node| async move {
        for protocols in [&[][..], &[&b"http/1.1"[..]][..]] {
            let answer = asked(&node, protocols, &head()).await.expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("ALPN"), "{answer}");
        }
    });
}

#[test]
fn a_request_that_is_none_for_a_connection_is_told_what_is_wrong() {
    on_node(Setup { allow_plaintext: true, ..Setup::default() }, |node| async move {
        for (request, status, part) in [
            (head().replace("GET", "POST"), 405, "\r\nAllow: GET\r\n"),
            (head().replace("GET", "HEAD"), 405, ""),
            (head().replace("Upgrade: nabu-peer/1\r\n", ""), 426, "\r\nUpgrade: nabu-peer/1\r\n"),
            (head().replace("nabu-peer/1", "nabu-peer/2"), 426, "Upgrade: nabu-peer/1"),
            (head().replace("Connection: Upgrade\r\n", ""), 426, ""),
            (head().replace("HTTP/1.1", "HTTP/1.0"), 426, ""),
            (head().replace("\r\n\r\n", "\r\nContent-Length: 4\r\n\r\nbody"), 400, "has no body"),
            (head().replace("Host", "Hos t"), 400, ""),
        ] {
            let answer = node.answer(&request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(part), "{request}: {answer}");
            assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        }
        // The path is exact, and what is near it is any other.
        for path in ["/v1/peer/", "/v1/peers", "/v1/Peer", "/v1/peer?a=b"] {
            let request = head()
                .replace("/v1/peer ", &format!("{path} "))
                .replace("Connection: Upgrade", "Connection: close, Upgrade");
            assert!(node.answer(&request).await.ends_with(SERVED), "{path}");
        }
        // As a field may come in parts and with others.
        let parts = head().replace("Upgrade: nabu-peer/1", "Upgrade: h2c\r\nUpgrade: NABU-peer/1");
        let answering = node.client(move |mut stream| {
            stream.write_all(parts.as_bytes()).expect("sent");
            let mut answer = vec![0; UPGRADE_ANSWER.len()];
            stream.read_exact(&mut answer).expect("an answer");
            answer
        });
        assert_eq!(answering.await, UPGRADE_ANSWER.as_bytes());
        node.link.accept().await.expect("it was answered");
    });
}

#[test]
fn a_request_may_follow_others_on_a_connection_that_was_kept() {
    on_node(Setup { allow_plaintext: true, ..Setup::default() }, |node| async move {
        let answering = node.client(move |mut stream| {
            let get = GET.replace("Connection: close\r\n", "");
            stream.write_all((get + &head()).as_bytes()).expect("sent");
            let mut answer = String::new();
            while !answer.ends_with(UPGRADE_ANSWER) {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("an answer");
                answer.push(char::from(byte[0]));
            }
            answer
        });
        assert!(answering.await.contains(SERVED));
        node.link.accept().await.expect("it was answered");
    });
}

#[test]
fn a_node_alone_knows_no_such_path_and_no_tls_on_its_plain_port() {
    on_node(Setup { is_alone: true, allow_plaintext: true, ..Setup::default() }, |node| async move {
        let answer = node.answer(&head().replace("Connection: Upgrade", "Connection: close, Upgrade")).await;
        assert!(answer.ends_with(SERVED), "it is dispatched like any other: {answer}");
        assert!(asked(&node, &[PEER_PROTOCOL], &head()).await.is_err());
        let answer = node.answer("\x16\x03\x01").await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("byte 0 of the request head"), "{answer}");
    });
    on_node(Setup { is_alone: true, https: Some(Https::Open), ..Setup::default() }, |node| async move {
        let error = asked(&node, &[PEER_PROTOCOL], &head()).await.expect_err("no common protocol");
        assert!(error.contains("NoApplicationProtocol"), "{error}");
    });
}

#[test]
fn tls_of_others_on_a_plain_port_and_garbage_are_the_errors_that_they_are_without_a_cluster() {
    on_node(Setup::default(), |node| async move {
        for protocols in [&[][..], &[&b"http/1.1"[..]][..], &[&b"h2"[..]][..]] {
            assert!(asked(&node, protocols, GET).await.is_err());
        }
        let hello_of = |length: u8| format!("\x16\x03\x01\x00{}nabu-peer/1{}", char::from(length), "x".repeat(40));
        for garbage in [
            "\x16\x03\x01\x7f\x7f".to_owned() + &"x".repeat(40),
            hello_of(51),
            "\x15\x03\x01\x00\x02\x01\x01".to_owned(),
        ] {
            let answer = node.answer(&garbage).await;
            assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("byte 0 of the request head"), "{answer}");
        }
    });
}
