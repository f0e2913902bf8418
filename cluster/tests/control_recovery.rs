//! A cluster that has lost its majority goes on with one node; and files that can't be opened.

mod support;

use nabu_cluster::control::command::{Change, Command, Outcome};
use nabu_cluster::control::member::{ClusterId, MemberState, Membership, Profile, StoreId};
use nabu_cluster::control::recovery::{LEAP, RecoverError};
use nabu_cluster::control::state::State;
use nabu_cluster::control::store::{Base, Round, StoreError};
use nabu_cluster::control::{Answer, Control, Input, Output, Patience, Request, RequestId, Settings, TICK, recover};
use nabu_cluster::node::NodeNumber;
use nabu_engine::io::Instant;
use raft::prelude::{ConfState, Entry, HardState};
use redb::{Database, ReadableDatabase, TableDefinition};
use support::memory::Memory;

const CLUSTER: ClusterId = ClusterId([1; 16]);
const N1: NodeNumber = NodeNumber(1);
const N4: NodeNumber = NodeNumber(4);

fn store(number: u64) -> StoreId {
    StoreId([number as u8; 16])
}

fn profile(number: u64) -> Profile {
    Profile {
        address: format!("n{number}:7070"),
        client_address: format!("n{number}:7070"),
        zone: "zone".into(),
        capacity_bytes: 1 << 40,
        version: "0.0.0".into(),
        levels: (1, 1),
    }
}

fn set(name: &str) -> Change {
    Change::Set { name: name.into(), value: b"value".to_vec(), expected: None }
}

/// Three active members, and one that is joining.
fn state() -> State {
    let mut state = State::default();
    let mut apply = |change| {
        let outcome = state.apply(&Command { origin: None, change }, &mut Vec::new());
        assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    };
    apply(Change::Bootstrap { cluster: CLUSTER, node_id: "node-1".into(), store: store(1), profile: profile(1) });
    for number in 1..=4 {
        let node = NodeNumber(number);
        if number > 1 {
            let node_id = format!("node-{number}");
            apply(Change::Join { node_id, store: Some(store(number)), profile: profile(number) });
        }
        apply(Change::Start { node, store: store(number), nonce: number, profile: profile(number) });
        if (2..=3).contains(&number) {
            apply(Change::Activate { node, incarnation: nabu_cluster::control::member::Incarnation(1) });
        }
    }
    apply(set("applied"));
    state
}

fn entry(index: u64, term: u64, change: Change) -> Entry {
    let data = Command { origin: None, change }.encode().into();
    Entry { index, term, data, ..Entry::default() }
}

/// The file of a node, as it lay when the others were lost.
fn file(node: NodeNumber, state: &State, voters: &[u64]) -> Memory {
    let memory = Memory::default();
    let (file, _) = memory.open(store(node.0)).expect("a new file");
    let learners = (1..=4).filter(|node| !voters.contains(node)).collect();
    let round = Round {
        membership: Some(Membership { cluster: CLUSTER, node }),
        hard: Some(HardState { term: 5, vote: 2, commit: 11, ..HardState::default() }),
        conf: Some(ConfState { voters: voters.to_vec(), learners, ..ConfState::default() }),
        base: Some(Base { index: 10, term: 3 }),
        entries: vec![entry(11, 3, set("committed")), entry(12, 4, set("appended"))],
        applied: Some(10),
        state: Some(state.pairs()),
        ..Round::default()
    };
    file.write(&round).expect("it is written");
    memory
}

#[test]
fn the_node_that_is_left_decides_alone_and_what_it_says_was_never_said_before() {
    let before = state();
    let memory = file(N1, &before, &[1, 2, 3]);
    let (file, saved) = memory.open(store(1)).expect("it opens");
    let recovered = recover(&file, saved).expect("a voter is left");
    let ids: Vec<&str> = recovered.removed.iter().map(|(_, id)| id.as_str()).collect();
    assert_eq!(ids, ["node-2", "node-3"]);
    assert_eq!(recovered.followers, [(N4, "node-4".to_string())]);
    drop(file);

    let (file, saved) = memory.open(store(1)).expect("it opens");
    assert_eq!((saved.conf.voters.as_slice(), saved.conf.learners.as_slice()), (&[1][..], &[4][..]));
    assert_eq!(saved.base, Base { index: 12 + LEAP, term: 5 + LEAP });
    assert_eq!((saved.hard.term, saved.hard.vote, saved.hard.commit), (5 + LEAP, 0, 12 + LEAP));
    assert_eq!((saved.applied, saved.entries.len()), (12 + LEAP, 0));
    let state = &saved.state;
    assert_eq!(state.members.keys().collect::<Vec<_>>(), [&N1, &N4]);
    assert_eq!(state.retired.values().collect::<Vec<_>>(), [&store(2), &store(3)]);
    for name in ["applied", "committed", "appended"] {
        assert_eq!(state.settings[name].version, 1 + LEAP, "{name}");
    }
    assert!(state.ring_version > before.ring_version + LEAP && state.last_number == before.last_number + LEAP);
    for (node, member) in &state.members {
        assert_eq!(member.incarnation.0, before.members[node].incarnation.0 + LEAP, "{node}");
    }
    let ring = state.ring.as_ref().expect("it holds data");
    assert_eq!(ring.nodes(), [N1]);
    // The lost ones may have agreed on any number of rings.
    assert!(ring.version() > before.ring.as_ref().expect("it held data").version() + LEAP);

    // It runs: leads, is active, and sets what it is told.
    let settings = Settings {
        node_id: "node-1".into(),
        profile: profile(1),
        seeds: Vec::new(),
        bootstrap: None,
        patience: Patience::default(),
        holds_blobs: false,
        nonce: 77,
    };
    let mut control = Control::new(settings, file, saved);
    let (mut now, mut answers) = (Instant(0), Vec::new());
    for tick in 0..100 {
        now = now.after(TICK);
        let mut outputs = Vec::new();
        if tick == 60 {
            let request = Request::Change { change: set("applied"), timeout: TICK * 30 };
            control.take(now, Input::Request(RequestId(1), request), &mut outputs).expect("the file works");
        }
        if let Some(since) = control.returning_since() {
            control.take(now, Input::CaughtUp { since }, &mut outputs).expect("the file works");
        }
        control.take(now, Input::Tick, &mut outputs).expect("the file works");
        control.settle(now, &mut outputs).expect("the file works");
        answers.extend(outputs.into_iter().filter_map(|output| match output {
            Output::Answer(_, answer) => Some(answer),
            _ => None,
        }));
    }
    assert_eq!(answers, [Ok(Answer::Outcome(Outcome::Set { version: 2 + LEAP }))]);
    assert!(control.is_in_contact(now));
    assert_eq!(control.state().map(|state| state.members[&N1].state), Some(MemberState::Active));
}

#[test]
fn recovery_is_refused_where_it_makes_no_sense_and_leaves_the_file_as_it_was() {
    let unchanged = |memory: &Memory, node: NodeNumber| {
        let (_, saved) = memory.open(store(node.0)).expect("it opens");
        assert_eq!((saved.base.index, saved.entries.len(), saved.applied), (10, 2, 10));
    };
    let memory = Memory::default();
    let (file_of_outsider, saved) = memory.open(store(1)).expect("a new file");
    assert!(matches!(recover(&file_of_outsider, saved), Err(RecoverError::NoCluster)));

    // It was told that it may join, and nothing since.
    let mut without = state();
    without.members.remove(&N4);
    let memory = file(N4, &without, &[1, 2, 3]);
    let (opened, saved) = memory.open(store(4)).expect("it opens");
    let error = recover(&opened, saved).expect_err("it is no member");
    assert!(matches!(error, RecoverError::NoMember { node: N4 }) && error.to_string().contains("n4"), "{error}");
    drop(opened);
    unchanged(&memory, N4);

    // It holds nothing, and those that do are lost.
    let memory = file(N4, &state(), &[1, 2, 3]);
    let (opened, saved) = memory.open(store(4)).expect("it opens");
    let error = recover(&opened, saved).expect_err("it holds nothing");
    assert!(matches!(error, RecoverError::HoldsNothing { node: N4 }), "{error}");
    drop(opened);
    unchanged(&memory, N4);
}

const NOTES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("notes");
const STATE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("state");
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

/// A file in which something is other than this release writes it.
fn altered(alter: impl FnOnce(&redb::WriteTransaction)) -> StoreError {
    let memory = file(N1, &state(), &[1]);
    let database = Database::builder().create_with_backend(memory.clone()).expect("it opens");
    let transaction = database.begin_write().expect("it begins");
    alter(&transaction);
    transaction.commit().expect("it is written");
    assert!(database.begin_read().is_ok());
    drop(database);
    memory.open(store(1)).err().expect("this can't be opened")
}

fn put_note(name: &'static str, bytes: &'static [u8]) -> StoreError {
    altered(|transaction| {
        transaction.open_table(NOTES).expect("it is there").insert(name, bytes).expect("it is put");
    })
}

#[test]
fn a_file_of_another_release_is_refused_by_its_format() {
    let error = put_note("format", &[9, 0, 0, 0]);
    assert!(matches!(error, StoreError::Format { found: 9 }), "{error}");
    assert!(error.to_string().contains("format 9"), "{error}");
}

#[test]
fn a_file_that_holds_what_nobody_wrote_is_malformed_wherever_that_is() {
    let notes: [(&'static str, &'static [u8]); 9] = [
        ("format", &[1]),
        ("store", &[1; 15]),
        ("store", &[1; 17]),
        ("membership", &[]),
        ("hard state", &[0; 23]),
        ("voters", &[1, 0, 0, 0]),
        ("base", &[0; 15]),
        ("applied", &[0; 9]),
        ("membership", &[0; 25]),
    ];
    for (name, bytes) in notes {
        let error = put_note(name, bytes);
        assert!(matches!(error, StoreError::Malformed(_)), "{name}: {error}");
    }
    let error = altered(|transaction| {
        transaction.open_table(LOG).expect("it is there").insert(11, [1].as_slice()).expect("it is put");
    });
    assert!(matches!(error, StoreError::Malformed(_)), "{error}");
    for (key, value) in [(b"?".as_slice(), b"".as_slice()), (b"h", b"\x02"), (b"m123", b"")] {
        let error = altered(|transaction| {
            transaction.open_table(STATE).expect("it is there").insert(key, value).expect("it is put");
        });
        assert!(matches!(error, StoreError::Malformed(_)), "{key:?}: {error}");
    }
}
