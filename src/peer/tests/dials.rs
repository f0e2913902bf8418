use std::io::ErrorKind;
use std::net::TcpListener;

use super::*;

/// What comes of a dial.
async fn failed(node: &Node, address: &str) -> std::io::Error {
    node.link.connect(address).await.err().expect(address)
}

/// Somebody who listens on a port of this machine, does `act` with the first connection, and is
/// joined by a test.
fn somebody(act: impl FnOnce(TcpStream) + Send + 'static) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    (address, std::thread::spawn(move || act(listener.accept().expect("a node calls").0)))
}

const SHORT: Duration = Duration::from_millis(50);

#[test]
fn where_nobody_listens_and_what_nobody_is_called_is_told_with_the_address() {
    on_node(Setup::default(), |node| async move {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").to_string();
        let error = failed(&node, &free).await;
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(error.to_string().starts_with(&free), "{error}");
        let error = failed(&node, "nobody.invalid:7070").await;
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("nobody.invalid"), "{error}");
        assert_eq!(failed(&node, "127.0.0.1").await.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn a_name_is_resolved_and_all_its_addresses_are_tried() {
    for setup in all_ways() {
        on_node(setup, |node| async move {
            // The node listens on one of the addresses that this name may have.
            let address = format!("localhost:{}", node.address.port());
            let made = node.link.connect(&address).await.expect("the node listens");
            assert_eq!(made.peer_address, address);
            node.link.accept().await.expect("it was answered");
        });
    }
}

#[test]
fn whoever_does_not_answer_is_given_up_at_each_step() {
    for allow_plaintext in [true, false] {
        let setup = Setup { allow_plaintext, patience: Some(SHORT), ..Setup::default() };
        on_node(setup, |node| async move {
            // The kernel completes connections that nobody accepts.
            let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
            let error = failed(&node, &silent.local_addr().expect("bound").to_string()).await;
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!(error.to_string().contains("50 ms"), "{error}");
            assert_eq!(node.io.open_connections(), 0, "nothing is left of the dial");
        });
    }
}

#[test]
fn an_answer_that_is_none_ends_the_dial() {
    on_node(Setup { allow_plaintext: true, ..Setup::default() }, |node| async move {
        for (answer, kind, part) in [
            (&b"SSH-2.0-OpenSSH\r\n"[..], ErrorKind::InvalidData, "doesn't speak HTTP/1.1"),
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", ErrorKind::InvalidData, "404"),
            (
                b"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
                ErrorKind::InvalidData,
                "a protocol other than",
            ),
            (b"HTTP/1.1 403 Forbidden\r\n\r\n", ErrorKind::PermissionDenied, "cluster.allow_plaintext"),
            (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", ErrorKind::ConnectionRefused, "no room"),
            (b"HTTP/1.1 101", ErrorKind::UnexpectedEof, "without an answer"),
            (b"", ErrorKind::UnexpectedEof, "without an answer"),
            (
                &[b"HTTP/1.1 101 x\r\nX: ", &[b'x'; 8 << 10][..]].concat(),
                ErrorKind::InvalidData,
                "doesn't speak HTTP/1.1",
            ),
        ] {
            let answer = answer.to_vec();
            let (address, thread) = somebody(move |mut stream| {
                let mut buf = [0; 4096];
                assert!(stream.read(&mut buf).expect("a request") > 0);
                stream.write_all(&answer).expect("sent");
                stream.shutdown(std::net::Shutdown::Write).expect("shut");
                rest(&mut stream);
            });
            let error = failed(&node, &address).await;
            thread.join().expect("it has answered");
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
    });
}

#[test]
fn whoever_speaks_no_tls_of_nodes_is_told_from_a_node() {
    on_node(Setup::default(), |node| async move {
        for (answer, part) in [
            (&b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"[..], "without TLS"),
            // An alert: no application protocol.
            (&[21, 3, 3, 0, 2, 2, 120][..], "does the node serve a cluster?"),
            // Another one: handshake failure.
            (&[21, 3, 3, 0, 2, 2, 40][..], "HandshakeFailure"),
        ] {
            let (address, thread) = somebody(move |mut stream| {
                let mut buf = [0; 4096];
                assert!(stream.read(&mut buf).expect("a hello") > 0);
                stream.write_all(answer).expect("sent");
                rest(&mut stream);
            });
            let error = failed(&node, &address).await;
            thread.join().expect("it has answered");
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
    });
}

#[test]
fn a_node_that_serves_no_cluster_is_told_on_either_port() {
    for https in [None, Some(Https::Open)] {
        on_node(Setup { is_alone: true, https, ..Setup::default() }, |node| async move {
            let error = failed(&node, &node.address.to_string()).await;
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            assert!(error.to_string().contains("does the node serve a cluster?"), "{error}");
        });
    }
}
