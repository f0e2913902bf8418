//! The bytes of control messages: golden ones, and what holds for any input.

mod checks;

use std::panic::catch_unwind;
use std::path::Path;

use nabu_cluster::control::command::{Change, Command, Origin, Refusal};
use nabu_cluster::control::member::{ClusterId, Incarnation, MemberState, Membership, Profile, StoreId};
use nabu_cluster::control::message::{Heard, Heartbeat, HeartbeatAnswer, Load, MESSAGE_BYTES_MAX, Message, NotJoined};
use nabu_cluster::control::wire;
use nabu_cluster::node::NodeNumber;
use nabu_cluster::placement::ArcId;
use nabu_engine::sim::Random;
use raft::prelude::{ConfState, Entry, Message as RaftMessage, MessageType, Snapshot};

const SEED: u64 = 0x6e61_6275;
const MUTANTS_COUNT: u64 = 60_000;

fn profile() -> Profile {
    Profile {
        address: "a:1".into(),
        client_address: "b:2".into(),
        zone: "z".into(),
        capacity_bytes: 0x1122_3344,
        version: "1.0".into(),
        levels: (1, 2),
    }
}

/// A change of the voters, as raft makes one: two of them, so that it takes two steps.
fn voters_entry() -> Entry {
    let mut reader = nabu_cluster::bytes::Reader::new(&[
        2, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 2, 1, 2, 0, 0, 0, 1, 4, 0, 0, 0, 0, 0, 0, 0, 2, 3, 0, 0, 0, 0,
        0, 0, 0,
    ]);
    wire::read_entry(&mut reader).expect("these are the bytes of one")
}

fn raft_message(kind: MessageType) -> RaftMessage {
    let mut message = RaftMessage { to: 1, from: 2, term: 3, log_term: 4, index: 5, ..RaftMessage::default() };
    message.set_msg_type(kind);
    message.commit = 6;
    message
}

fn samples() -> Vec<Message> {
    let origin = Origin { node: NodeNumber(1), incarnation: Incarnation(2), sequence: 3, floor: 4 };
    let arc = |index| ArcId::new(index).expect("an arc");
    let (node, incarnation, store) = (NodeNumber(7), Incarnation(8), StoreId([9; 16]));
    let changes = vec![
        Change::Bootstrap { cluster: ClusterId([1; 16]), node_id: "n".into(), store, profile: profile() },
        Change::Join { node_id: "n".into(), store: Some(store), profile: profile() },
        Change::Join { node_id: "n".into(), store: None, profile: profile() },
        Change::Start { node, store, nonce: 5, profile: profile() },
        Change::Activate { node, incarnation },
        Change::Offline { node, incarnation },
        Change::Back { node, incarnation },
        Change::CaughtUp { node, incarnation, since: 5 },
        Change::Report { node, incarnation, since: 6, arcs: vec![(arc(0), arc(9)), (arc(4095), arc(4095))] },
        Change::Stop { node, incarnation },
        Change::Leave { node, is_empty: true },
        Change::Remove { node, is_forced: true },
        Change::Set { name: "k".into(), value: b"v".into(), expected: Some(3) },
    ];
    let mut samples: Vec<Message> =
        changes.into_iter().map(|change| Message::Forward(Command { origin: Some(origin), change })).collect();
    let mut append = raft_message(MessageType::MsgAppend);
    let entry = Entry { term: 3, index: 6, data: b"command".to_vec().into(), ..Entry::default() };
    append.entries = vec![entry, voters_entry()].into();
    let mut snapshot = Snapshot { data: b"pairs".to_vec().into(), ..Snapshot::default() };
    let metadata = snapshot.mut_metadata();
    (metadata.index, metadata.term) = (10, 3);
    metadata.set_conf_state(ConfState { voters: vec![1, 2, 3], learners: vec![4], ..ConfState::default() });
    let mut with_snapshot = raft_message(MessageType::MsgSnapshot);
    with_snapshot.set_snapshot(snapshot);
    let mut read = raft_message(MessageType::MsgReadIndex);
    read.entries = vec![Entry { data: b"context".to_vec().into(), ..Entry::default() }].into();
    let raft = [append, with_snapshot, read, raft_message(MessageType::MsgRequestPreVote)];
    samples.extend(raft.into_iter().map(|message| Message::Raft(Box::new(message))));
    let load = Load { used_bytes: 11, blob_count: 12 };
    let answer = |standing| HeartbeatAnswer { sequence: 1, standing, ring_version: 2, loads: vec![(node, load)] };
    samples.extend([
        Message::Probe { asked: "a:1".into() },
        Message::Probed { asked: "a:1".into(), cluster: Some(ClusterId([2; 16])), may_found: false },
        Message::Join { node_id: "n".into(), profile: profile() },
        Message::Joined { store, told: Ok(Membership { cluster: ClusterId([3; 16]), node }) },
        Message::Joined { store, told: Err(NotJoined::NoCluster) },
        Message::Joined { store, told: Err(NotJoined::NotNow) },
        Message::Joined { store, told: Err(NotJoined::Refused(Refusal::Retired { store })) },
        Message::NotProposed { leader: Some("a:1".into()) },
        Message::Heartbeat(Heartbeat { sequence: 1, incarnation, ring_version: 2, load }),
        Message::HeartbeatAnswer(answer(Heard::Member(MemberState::Active))),
        Message::HeartbeatAnswer(answer(Heard::Old { current: incarnation })),
        Message::HeartbeatAnswer(answer(Heard::Unknown)),
    ]);
    samples
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn messages_come_back_as_they_were() {
    for sample in samples() {
        assert_eq!(Message::decode(&sample.encode()).as_ref(), Ok(&sample));
    }
}

#[test]
fn golden_bytes() {
    let heartbeat = Message::Heartbeat(Heartbeat {
        sequence: 1,
        incarnation: Incarnation(2),
        ring_version: 3,
        load: Load { used_bytes: 4, blob_count: 5 },
    });
    assert_eq!(
        hex(&heartbeat.encode()),
        "0801000000000000000200000000000000030000000000000004000000000000000500000000000000"
    );
    let change = Change::Start { node: NodeNumber(7), store: StoreId([9; 16]), nonce: 5, profile: profile() };
    let start = Command { origin: None, change };
    assert_eq!(
        hex(&start.encode()),
        "000307000000000000000909090909090909090909090909090905000000000000000300613a310300623a3201007a44332211000000\
         000300312e3001000200"
    );
    let mut append = raft_message(MessageType::MsgAppend);
    append.entries = vec![voters_entry()].into();
    assert_eq!(
        hex(&Message::Raft(Box::new(append)).encode()),
        "0101010000000000000002000000000000000300000000000000040000000000000005000000000000000600000000000000000000000\
         0000000000000000000000000000000000000000000000000010000000200000000000000090000000000000002010200000001040000\
         000000000002030000000000000000"
    );
}

#[test]
fn the_library_is_never_given_a_read_without_its_context() {
    let bytes = Message::Raft(Box::new(raft_message(MessageType::MsgReadIndex))).encode();
    assert!(Message::decode(&bytes).is_err());
}

#[test]
fn decoders_keep_their_properties_under_mutation() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/control_message");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    paths.sort();
    let corpus: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).expect("it can be read")).collect();
    assert!(corpus.len() >= 20, "the corpus is there");
    // The fuzz target begins with every kind of message.
    for sample in samples() {
        assert!(corpus.contains(&sample.encode()), "fuzz/corpus/control_message lacks {:?}", sample.encode());
    }
    let seed = std::env::var("NABU_FUZZ_SEED").map_or(SEED, |text| text.parse().expect("a number"));
    let mut random = Random::new(seed);
    let run = |input: &[u8]| {
        if catch_unwind(|| checks::check_control_message(input)).is_err() {
            panic!("NABU_FUZZ_SEED={seed}, input b\"{}\"", input.escape_ascii());
        }
    };
    corpus.iter().for_each(|input| run(input));
    for _ in 0..MUTANTS_COUNT {
        let mut input = corpus[random.index(corpus.len())].clone();
        for _ in 0..=random.below(4) {
            let at = random.index(input.len().max(1));
            match random.below(4) {
                0 if at < input.len() => input[at] ^= 1 << random.below(8),
                1 if at < input.len() => input[at] = random.below(256) as u8,
                2 => input.truncate(at),
                _ => {
                    let other = &corpus[random.index(corpus.len())];
                    input.truncate(at);
                    input.extend_from_slice(&other[at.min(other.len())..]);
                }
            }
        }
        run(&input);
    }
}

#[test]
fn ranges_of_arcs_ascend_and_have_none_in_common() {
    let arc = |index| ArcId::new(index).expect("an arc");
    let decoded = |arcs: &[(u16, u16)]| {
        let arcs = arcs.iter().map(|(first, last)| (arc(*first), arc(*last))).collect();
        let change = Change::Report { node: NodeNumber(1), incarnation: Incarnation(1), since: 1, arcs };
        Command::decode(&Command { origin: None, change }.encode())
    };
    for good in [&[][..], &[(0, 4095)], &[(0, 0), (1, 1), (3, 9)]] {
        assert!(decoded(good).is_ok(), "{good:?}");
    }
    for bad in [&[(2, 1)][..], &[(0, 5), (5, 6)], &[(3, 4), (0, 1)], &[(0, 0), (0, 0)]] {
        assert_eq!(decoded(bad).expect_err("no ranges").what, "range of arcs", "{bad:?}");
    }
}

#[test]
fn a_message_beyond_the_longest_is_refused_before_it_is_read() {
    let message = |bytes: usize| {
        let change = Change::Set { name: "k".into(), value: vec![7; bytes], expected: None };
        Message::Forward(Command { origin: None, change }).encode()
    };
    let head_bytes = message(0).len();
    assert!(Message::decode(&message(MESSAGE_BYTES_MAX - head_bytes)).is_ok());
    let error = Message::decode(&message(MESSAGE_BYTES_MAX - head_bytes + 1)).expect_err("it is too long");
    assert_eq!(error.what, "message that is too long");
}
