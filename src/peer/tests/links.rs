use nabu_engine::sync::promise;
use nabu_net::peer::handshake::{Acceptor, Established, Initiator, Local, Purpose};
use nabu_net::peer::identity::{Identity, StoreId};
use nabu_net::peer::secrets::{Secret, Secrets};
use nabu_net::peer::version_range::VersionRange;

use super::*;

type Side = Connection<RingReader, RingWriter>;

const SIZES: [usize; 9] = [1, 2, 100, 4096, (16 << 10) - 1, 16 << 10, (16 << 10) + 1, 300_000, 5 << 20];

#[test]
fn bytes_of_all_sizes_arrive_both_ways_at_once() {
    for setup in all_ways() {
        on_node(setup, |node| async move {
            let (made, taken) = node.pair().await;
            assert_eq!(made.peer_address, node.address.to_string());
            assert!(taken.peer_address.starts_with("127.0.0.1:"), "{}", taken.peer_address);
            let (ended, end) = promise();
            let Connection { mut reader, writer, .. } = made;
            send_all(&node, writer, 1);
            node.io.spawn(async move {
                receive_all(&mut reader, 2).await;
                ended.keep(());
            });
            let Connection { mut reader, writer, .. } = taken;
            send_all(&node, writer, 2);
            receive_all(&mut reader, 1).await;
            end.await.expect("the other side has read all");
        });
    }
}

fn send_all(node: &Node, mut writer: RingWriter, seed: u64) {
    node.io.spawn(async move {
        for size in SIZES {
            write(&mut writer, &content(size, seed)).await;
        }
        writer.close().await.expect("the other side is there");
    });
}

async fn receive_all(reader: &mut RingReader, seed: u64) {
    for size in SIZES {
        assert!(read_exactly(reader, size).await == content(size, seed), "{size} bytes");
    }
    assert_eq!(reader.read(vec![0; 1]).await.0.expect("the end"), 0);
}

#[test]
fn the_binding_is_the_same_on_both_sides_and_another_on_each_connection() {
    for setup in all_ways() {
        on_node(setup, |node| async move {
            let (first, second) = (node.pair().await, node.pair().await);
            assert_eq!(first.0.binding, first.1.binding);
            assert_eq!(second.0.binding, second.1.binding);
            assert_eq!(first.0.binding.is_none(), node.setup.allow_plaintext);
            assert_eq!(first.0.binding == second.0.binding, node.setup.allow_plaintext);
        });
    }
}

#[test]
fn what_comes_right_behind_the_request_belongs_to_the_reader() {
    on_node(Setup { allow_plaintext: true, ..Setup::default() }, |node| async move {
        let request = nabu_net::peer::upgrade::request_head("node-1:7070") + "early, and unasked";
        let asking = node.client(move |mut stream| {
            stream.write_all(request.as_bytes()).expect("sent");
            stream.write_all(b" more").expect("sent");
            rest(&mut stream)
        });
        let link = node.link.clone();
        let (told, heard) = promise();
        node.io.spawn(async move {
            let Connection { mut reader, .. } = link.accept().await.expect("it was answered");
            told.keep((read_exactly(&mut reader, 3).await, read_exactly(&mut reader, 20).await));
        });
        assert_eq!(asking.await, nabu_net::peer::upgrade::UPGRADE_ANSWER);
        let (first, rest) = heard.await.expect("a reader");
        assert_eq!((&first[..], &rest[..]), (&b"ear"[..], &b"ly, and unasked more"[..]));
    });
}

fn local(name: &str, secret: u8, binding: Option<[u8; 32]>) -> Local {
    let identity = Identity {
        cluster: None,
        node_number: None,
        node: name.parse().expect("an id"),
        store: StoreId([name.len() as u8; 16]),
        incarnation: 1,
        levels: VersionRange::new(1, 1).expect("a range"),
    };
    Local { identity, secrets: Secrets::new(Secret::new([secret; 32]), None).expect("one"), binding }
}

/// Shakes hands as the one that connected.
async fn initiate(side: &mut Side, secret: u8) -> Option<Established> {
    let mut said = Vec::new();
    let local = local("initiator", secret, side.binding);
    let mut initiator = Initiator::start(local, Purpose::Control, [0x1a; 32], &mut said);
    shake(side, said, move |input, output| Some(initiator.feed(input, output).ok()?.established)).await
}

/// Shakes hands as the one that was called.
async fn respond(side: &mut Side, secret: u8) -> Option<Established> {
    let mut acceptor = Acceptor::new(local("node", secret, side.binding), [0xac; 32]);
    shake(side, Vec::new(), move |input, output| Some(acceptor.feed(input, output).ok()?.established)).await
}

async fn shake(
    side: &mut Side,
    mut said: Vec<u8>,
    mut feed: impl FnMut(&[u8], &mut Vec<u8>) -> Option<Option<Established>>,
) -> Option<Established> {
    let mut established = None;
    loop {
        if !said.is_empty() {
            write(&mut side.writer, &said).await;
        }
        if established.is_some() {
            return established;
        }
        let (count, bytes) = side.reader.read(vec![0; 512]).await;
        let count = count.ok().filter(|count| *count > 0)?;
        said = Vec::new();
        established = feed(&bytes[..count], &mut said)?;
    }
}

/// Shakes hands on a connection of the node to itself; gives what came of it on both sides.
async fn shake_hands(node: &Node, secrets: [u8; 2]) -> (Option<Established>, Option<Established>, Side, Side) {
    let (mut made, mut taken) = node.pair().await;
    let (told, heard) = promise();
    node.io.spawn(async move {
        let established = initiate(&mut made, secrets[0]).await;
        if established.is_none() {
            // The other side waits for more.
            made.writer.close().await.expect("it is open");
        }
        told.keep((established, made));
    });
    let responded = respond(&mut taken, secrets[1]).await;
    let (initiated, made) = heard.await.expect("the other side");
    (initiated, responded, made, taken)
}

#[test]
fn nodes_shake_hands_and_count_no_more_when_they_have() {
    for setup in all_ways() {
        on_node(setup, |node| async move {
            let is_stranger = |count| node.core.connections.strangers() == count;
            let (made, taken) = node.pair().await;
            assert!(is_stranger(1), "nobody knows who speaks");
            drop((made, taken));
            assert!(is_stranger(0));
            let (initiated, responded, made, taken) = shake_hands(&node, [7, 7]).await;
            assert_eq!(initiated.expect("established").peer.node.as_str(), "node");
            assert_eq!(responded.expect("established").peer.node.as_str(), "initiator");
            assert!(is_stranger(0), "it has shown who it is");
            drop((made, taken));
            let (initiated, responded, made, taken) = shake_hands(&node, [7, 8]).await;
            assert_eq!((initiated, responded), (None, None));
            assert!(is_stranger(1), "it has not");
            drop((made, taken));
            assert!(is_stranger(0));
        });
    }
}
