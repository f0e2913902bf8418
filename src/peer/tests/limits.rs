use nabu_net::peer::upgrade::{UPGRADE_ANSWER, request_head};

use super::*;
use crate::peer::WAITING_MAX;

/// A connection that has been answered, of somebody who says no more.
async fn half_open(node: &Node) -> TcpStream {
    node.client(|mut stream| {
        stream.write_all(request_head("node-1:7070").as_bytes()).expect("sent");
        let mut answer = [0; UPGRADE_ANSWER.len()];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(answer, UPGRADE_ANSWER.as_bytes());
        stream
    })
    .await
}

#[test]
fn only_so_many_wait_to_be_taken_and_the_others_are_told_to_come_again() {
    on_node(Setup { allow_plaintext: true, ..Setup::default() }, |node| async move {
        let mut clients = Vec::new();
        for _ in 0..WAITING_MAX {
            clients.push(half_open(&node).await);
        }
        let answer = node.answer(&request_head("node-1:7070")).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
        let taken = node.link.accept().await.expect("one waits");
        clients.push(half_open(&node).await);
        let answer = node.answer(&request_head("node-1:7070")).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert_eq!(node.core.connections.strangers(), WAITING_MAX + 1);
        drop(taken);
        // With the link goes what nobody will take.
        let Node { io, core, link, .. } = node;
        drop(link);
        assert_eq!((core.connections.strangers(), io.open_connections() - core.connections.count()), (0, 0));
    });
}

#[test]
fn a_thousand_that_never_prove_themselves_hold_only_so_much_and_push_out_each_other() {
    const MEMORY: u64 = 1 << 20;
    let setup = Setup { allow_plaintext: true, unfinished_bytes_max: Some(MEMORY), ..Setup::default() };
    on_node(setup, |node| async move {
        let (link, io) = (node.link.clone(), node.io.clone());
        // Each has a task that waits for what it says.
        node.io.spawn(async move {
            loop {
                let mut connection = link.accept().await.expect("it was answered");
                io.spawn(async move { while matches!(connection.reader.read(vec![0; 512]).await.0, Ok(1..)) {} });
            }
        });
        let mut clients = Vec::new();
        for _ in 0..1000 {
            clients.push(half_open(&node).await);
            // Each holds a handshake's memory.
            assert!(node.core.connections.strangers() as u64 <= MEMORY / (32 << 10), "too many are open");
        }
        assert!(node.core.connections.strangers() > 10, "there is room for some");
        // The first ones are gone, and the last one is not.
        assert_eq!(rest(&mut clients[0]), "");
        drop(clients);
        node.until(|| node.core.connections.strangers() == 0).await;
    });
}

#[test]
fn strangers_make_room_for_others_and_nodes_that_have_proven_themselves_do_not() {
    let limits = &[("connections_max", 4), ("connections_per_address_max", 4)];
    on_node(Setup { allow_plaintext: true, limits, ..Setup::default() }, |node| async move {
        let mut proven = half_open(&node).await;
        let mut taken = node.link.accept().await.expect("it was answered");
        let challenge = vec![7; nabu_net::peer::handshake::CHALLENGE_BYTES];
        write(&mut taken.writer, &challenge).await;
        assert_eq!(node.core.connections.strangers(), 1, "a challenge is for anybody");
        write(&mut taken.writer, b"i").await;
        assert_eq!(node.core.connections.strangers(), 0);
        // Many more than there may be, one at a time.
        for _ in 0..20 {
            let mut stranger = half_open(&node).await;
            drop(node.link.accept().await);
            assert_eq!(rest(&mut stranger), "");
        }
        let mut strangers = Vec::new();
        for _ in 0..12 {
            strangers.push(half_open(&node).await);
        }
        // Those that came first have made room for the others.
        assert!(strangers[..8].iter_mut().all(|stranger| rest(stranger).is_empty()));
        proven.write_all(b"still here").expect("sent");
        assert_eq!(read_exactly(&mut taken.reader, 10).await, b"still here");
    });
}

#[test]
fn a_stop_waits_for_no_node_and_ends_those_that_have_not_proven_themselves() {
    on_node(Setup { allow_plaintext: true, ..Setup::default() }, |node| async move {
        let mut proven = half_open(&node).await;
        let mut taken = node.link.accept().await.expect("it was answered");
        write(&mut taken.writer, &[7; 300]).await;
        let mut stranger = half_open(&node).await;
        let mut waiting = node.link.accept().await.expect("it was answered");
        assert_eq!(node.core.connections.count(), 0);
        node.core.stop();
        node.core.connections.wake_waiting();
        node.core.connections.emptied().await;
        assert!(read_to_end(&mut waiting.reader).await.1.is_ok(), "it is told of an end");
        drop(waiting);
        assert_eq!(rest(&mut stranger), "");
        // A stop may take its time, and needs the others for it.
        proven.write_all(b"still here").expect("sent");
        assert_eq!(read_exactly(&mut taken.reader, 10).await, b"still here");
        let answer = node.answer(&request_head("node-1:7070")).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") || answer.is_empty(), "{answer}");
    });
}

#[test]
fn a_hello_or_a_head_that_does_not_come_ends_the_connection() {
    for https in [None, Some(Https::Open)] {
        let limits = &[("head_timeout_ms", 100), ("idle_timeout_ms", 100)];
        on_node(Setup { https, limits, ..Setup::default() }, |node| async move {
            // The end of these is what the test waits for.
            let hello = node.client(|mut stream| {
                stream.write_all(&[22, 3, 1, 1, 0, 1]).expect("sent");
                rest(&mut stream)
            });
            let text = hello.await;
            assert!(text.is_empty() || text.starts_with("HTTP/1.1 408 "), "{text}");
            node.until(|| node.core.connections.count() == 0).await;
        });
    }
}

#[test]
fn no_deadline_of_http_holds_for_nodes() {
    let limits = &[("idle_timeout_ms", 100), ("head_timeout_ms", 100), ("progress_timeout_ms", 100)];
    on_node(Setup { limits, ..Setup::default() }, |node| async move {
        let (mut made, mut taken) = node.pair().await;
        // Sweeps of deadlines are a second apart: another connection shows that one has gone by.
        let idle = node.client(|mut stream| rest(&mut stream));
        assert_eq!(idle.await, "");
        write(&mut made.writer, b"still here").await;
        assert_eq!(read_exactly(&mut taken.reader, 10).await, b"still here");
    });
}
