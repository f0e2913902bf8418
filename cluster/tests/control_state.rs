//! The state that the group agrees on: who may join, start, leave, and what lies on disk of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use nabu_cluster::control::command::{Change, Command, Origin, Outcome, Refusal};
use nabu_cluster::control::member::{ClusterId, Incarnation, MemberState, Profile, StoreId};
use nabu_cluster::control::state::State;
use nabu_cluster::node::NodeNumber;
use nabu_cluster::placement::{ArcId, Candidate, Ring};
use nabu_engine::sim::Random;

const N1: NodeNumber = NodeNumber(1);
const N2: NodeNumber = NodeNumber(2);
const N3: NodeNumber = NodeNumber(3);

/// A state, and the pairs that a disk would have of it.
#[derive(Default)]
struct Group {
    state: State,
    pairs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Group {
    fn apply(&mut self, origin: Option<Origin>, change: Change) -> Outcome {
        let mut writes = Vec::new();
        let outcome = self.state.apply(&Command { origin, change }, &mut writes);
        for (key, value) in writes {
            match value {
                Some(value) => self.pairs.insert(key, value),
                None => self.pairs.remove(&key),
            };
        }
        outcome
    }

    fn change(&mut self, change: Change) -> Outcome {
        self.apply(None, change)
    }

    /// A cluster of so many active nodes.
    fn of(count: u64) -> Self {
        let mut group = Group::default();
        let (cluster, store) = (ClusterId([1; 16]), store(1));
        group.change(Change::Bootstrap { cluster, node_id: "node-1".into(), store, profile: profile(1) });
        group.start(1, 1);
        for number in 2..=count {
            group.join(number);
            let incarnation = group.start(number, number);
            group.change(Change::Activate { node: NodeNumber(number), incarnation });
        }
        group
    }

    fn join(&mut self, number: u64) -> Outcome {
        let node_id = format!("node-{number}");
        self.change(Change::Join { node_id, store: Some(store(number)), profile: profile(number) })
    }

    fn start(&mut self, number: u64, nonce: u64) -> Incarnation {
        let node = NodeNumber(number);
        match self.change(Change::Start { node, store: store(number), nonce, profile: profile(number) }) {
            Outcome::Started { incarnation } => incarnation,
            other => panic!("{node} was told {other:?}"),
        }
    }

    fn state_of(&self, node: NodeNumber) -> Option<MemberState> {
        self.state.members.get(&node).map(|member| member.state)
    }

    fn incarnation(&self, node: NodeNumber) -> Incarnation {
        self.state.members[&node].incarnation
    }

    fn offline(&mut self, node: NodeNumber) {
        let incarnation = self.incarnation(node);
        self.change(Change::Offline { node, incarnation });
        assert_eq!(self.state_of(node), Some(MemberState::Offline));
    }
}

fn store(number: u64) -> StoreId {
    StoreId([number as u8; 16])
}

fn profile(number: u64) -> Profile {
    Profile {
        address: format!("host-{number}:7070"),
        client_address: format!("host-{number}:7070"),
        zone: "zone".into(),
        capacity_bytes: 1 << 40,
        version: "1".into(),
        levels: (1, 1),
    }
}

fn set(name: &str) -> Change {
    Change::Set { name: name.into(), value: b"value".into(), expected: None }
}

#[test]
fn a_join_that_is_told_twice_gives_one_number() {
    let mut group = Group::of(1);
    assert_eq!(group.join(2), Outcome::Joined { node: N2 });
    let version = group.state.ring_version;
    assert_eq!(group.join(2), Outcome::Joined { node: N2 });
    assert_eq!(group.state.ring_version, version, "nothing has changed");
    assert_eq!(group.join(3), Outcome::Joined { node: N3 });
}

#[test]
fn a_node_that_is_announced_again_with_nothing_new_changes_nothing() {
    let mut group = Group::of(1);
    let announce = |profile| Change::Join { node_id: "node-2".into(), store: None, profile };
    assert_eq!(group.change(announce(profile(2))), Outcome::Joined { node: N2 });
    let version = group.state.ring_version;
    assert_eq!(group.change(announce(profile(2))), Outcome::Joined { node: N2 });
    assert_eq!(group.state.ring_version, version);
    assert_eq!(group.change(announce(profile(3))), Outcome::Joined { node: N2 });
    assert!(group.state.ring_version > version, "it is elsewhere");
}

#[test]
fn a_living_node_keeps_its_name_and_its_address() {
    let mut group = Group::of(2);
    let conflict = Outcome::Refused(Refusal::Conflict { node: N2 });
    let same_name = Change::Join { node_id: "node-2".into(), store: Some(store(9)), profile: profile(9) };
    assert_eq!(group.change(same_name.clone()), conflict);
    let same_address = Change::Join { node_id: "node-9".into(), store: Some(store(9)), profile: profile(2) };
    assert_eq!(group.change(same_address), conflict);
    let announced = Change::Join { node_id: "node-2".into(), store: None, profile: profile(9) };
    assert_eq!(group.change(announced), conflict);
    group.offline(N2);
    assert_eq!(group.change(same_name), Outcome::Joined { node: N3 }, "the machine has another disk");
    assert_eq!(group.state_of(N2), None);
}

#[test]
fn a_store_that_was_removed_never_comes_back() {
    let mut group = Group::of(3);
    group.offline(N2);
    assert_eq!(
        group.change(Change::Remove { node: N2, is_forced: false }),
        Outcome::Refused(Refusal::WrongState),
        "only by force"
    );
    assert!(matches!(group.change(Change::Remove { node: N2, is_forced: true }), Outcome::Settled { .. }));
    let retired = Outcome::Refused(Refusal::Retired { store: store(2) });
    assert_eq!(group.join(2), retired);
    let start = Change::Start { node: N2, store: store(2), nonce: 99, profile: profile(2) };
    assert_eq!(group.change(start), retired);
    assert_eq!(group.state.ring.as_ref().map(|ring| ring.nodes()), Some(vec![N1, N3]));
}

#[test]
fn a_node_that_is_active_is_not_removed_and_leaves_in_two_steps() {
    let mut group = Group::of(2);
    for is_forced in [false, true] {
        assert_eq!(group.change(Change::Remove { node: N2, is_forced }), Outcome::Refused(Refusal::WrongState));
    }
    let holds_data = Outcome::Refused(Refusal::HoldsData);
    assert_eq!(group.change(Change::Leave { node: N2, is_empty: false }), holds_data);
    assert!(matches!(group.change(Change::Leave { node: N2, is_empty: true }), Outcome::Settled { .. }));
    assert_eq!(group.state_of(N2), Some(MemberState::Leaving));
    assert!(group.state.is_seated(N2), "it may rely on its seats until it has seen that it is to go");
    assert!(matches!(group.change(Change::Remove { node: N2, is_forced: false }), Outcome::Settled { .. }));
    assert_eq!(group.state_of(N2), None);
    let last = Outcome::Refused(Refusal::LastNode);
    assert_eq!(group.change(Change::Leave { node: N1, is_empty: true }), last);
}

#[test]
fn a_fourth_node_waits_until_there_is_a_seat() {
    let mut group = Group::of(3);
    group.join(4);
    let node = NodeNumber(4);
    let incarnation = group.start(4, 4);
    let activate = Change::Activate { node, incarnation };
    assert_eq!(group.change(activate.clone()), Outcome::Refused(Refusal::NoSeat));
    assert_eq!(group.state_of(node), Some(MemberState::Joining));
    group.change(Change::Leave { node: N2, is_empty: true });
    group.change(Change::Remove { node: N2, is_forced: false });
    assert!(matches!(group.change(activate), Outcome::Settled { .. }));
    assert_eq!(group.state_of(node), Some(MemberState::Active));
}

#[test]
fn what_an_earlier_start_says_is_refused() {
    let mut group = Group::of(2);
    let old = group.incarnation(N2);
    let current = group.start(2, 77);
    assert!(current > old);
    assert_eq!(group.start(2, 77), current, "a start that is told twice counts once");
    let refused = Outcome::Refused(Refusal::OldIncarnation { current });
    assert_eq!(group.change(Change::Offline { node: N2, incarnation: old }), refused);
    let origin = Origin { node: N2, incarnation: old, sequence: 1, floor: 1 };
    assert_eq!(group.apply(Some(origin), set("name")), refused);
    let origin = Origin { incarnation: current, ..origin };
    assert_eq!(group.apply(Some(origin), set("name")), Outcome::Set { version: 1 });
}

#[test]
fn a_command_counts_once() {
    let mut group = Group::of(1);
    let origin = |sequence, floor| Origin { node: N1, incarnation: Incarnation(1), sequence, floor };
    assert_eq!(group.apply(Some(origin(1, 1)), set("name")), Outcome::Set { version: 1 });
    assert_eq!(group.apply(Some(origin(1, 1)), set("name")), Outcome::Set { version: 1 });
    assert_eq!(group.apply(Some(origin(3, 2)), set("name")), Outcome::Set { version: 2 });
    assert_eq!(group.apply(Some(origin(1, 1)), set("name")), Outcome::Refused(Refusal::GivenUp));
    assert_eq!(group.apply(Some(origin(2, 2)), set("name")), Outcome::Set { version: 3 }, "it was only late");
}

#[test]
fn nothing_counts_before_the_founder_is_there() {
    let mut group = Group::default();
    assert_eq!(group.join(2), Outcome::Refused(Refusal::WrongState));
    let (cluster, store) = (ClusterId([1; 16]), store(1));
    let bootstrap = Change::Bootstrap { cluster, node_id: "node-1".into(), store, profile: profile(1) };
    assert_eq!(group.change(bootstrap.clone()), Outcome::Joined { node: N1 });
    assert_eq!(group.change(bootstrap), Outcome::Refused(Refusal::WrongState));
}

#[test]
fn a_profile_out_of_bounds_is_refused() {
    let mut group = Group::of(1);
    for address in ["", "host", "host:0", "host:70000", ":7070", "a b:1"] {
        let profile = Profile { address: address.into(), ..profile(2) };
        let join = Change::Join { node_id: "node-2".into(), store: Some(store(2)), profile };
        assert_eq!(group.change(join), Outcome::Refused(Refusal::Invalid), "{address:?}");
    }
    let join = Change::Join { node_id: "a/b".into(), store: Some(store(2)), profile: profile(2) };
    assert_eq!(group.change(join), Outcome::Refused(Refusal::Invalid));
}

#[test]
fn the_pairs_on_disk_are_the_state_after_any_commands() {
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let mut group = Group::of(1 + random.below(3));
        let arcs: Vec<ArcId> = ArcId::all().step_by(2_000).collect();
        for step in 0..100 {
            let number = 1 + random.below(5);
            let node = NodeNumber(number);
            let member = group.state.members.get(&node);
            let incarnation = member.map_or(Incarnation(1), |member| member.incarnation);
            let returned = member.map_or(0, |member| member.state_since);
            let since = match &group.state.ring {
                Some(ring) if random.chance(0.7) => ring.placement(arcs[0]).since,
                _ => random.below(20),
            };
            let change = match random.below(12) {
                0 => Change::Join {
                    node_id: format!("node-{number}"),
                    store: random.chance(0.7).then(|| store(number + random.below(2) * 8)),
                    profile: profile(number),
                },
                1 => {
                    let nonce = random.below(4);
                    Change::Start { node, store: store(number), nonce, profile: profile(number) }
                }
                2 => Change::Activate { node, incarnation },
                3 => Change::Offline { node, incarnation },
                4 => Change::Back { node, incarnation },
                5 => Change::CaughtUp { node, incarnation, since: returned - random.below(2).min(returned) },
                6 | 7 => {
                    Change::Report { node, incarnation, since, arcs: vec![(arcs[0], arcs[0]), (arcs[1], arcs[2])] }
                }
                8 => Change::Leave { node, is_empty: true },
                9 => Change::Remove { node, is_forced: random.chance(0.5) },
                _ => set(&format!("name-{}", random.below(2))),
            };
            let sequence = 1 + random.below(20);
            let origin = Origin { node, incarnation, sequence, floor: sequence.saturating_sub(random.below(8)) };
            group.apply(random.chance(0.5).then_some(origin), change);
            let pairs: BTreeMap<_, _> = group.state.pairs().into_iter().collect();
            assert_eq!(pairs, group.pairs, "seed {seed}, step {step}");
            let ring = group.state.ring.as_ref().expect("somebody has seats");
            for node in ring.nodes().iter().chain(group.state.members.keys()) {
                let has_seats = ring.vnodes_of(*node) > 0;
                assert_eq!(has_seats, group.state.is_seated(*node), "{node}, seed {seed}, step {step}");
            }
            let again = State::of_pairs(pairs.iter().map(|(key, value)| (key.as_slice(), value.as_slice())));
            let again = again.expect("what was written can be read");
            assert_eq!(again.pairs(), group.state.pairs(), "seed {seed}, step {step}");
            assert!(again.ring == group.state.ring && again.members == group.state.members, "seed {seed}, step {step}");
        }
    }
}

#[test]
fn a_start_that_was_stopped_is_not_brought_back_by_what_it_said_before() {
    for was_offline in [false, true] {
        let mut group = Group::of(3);
        let incarnation = group.incarnation(N2);
        if was_offline {
            group.offline(N2);
        }
        let version = group.state.ring_version;
        let settled = Outcome::Settled { ring_version: version + 1 };
        assert_eq!(group.change(Change::Stop { node: N2, incarnation }), settled);
        assert_eq!(group.state_of(N2), Some(MemberState::Offline));
        let old = Outcome::Refused(Refusal::OldIncarnation { current: group.incarnation(N2) });
        // It heard the node before it stopped; or the node said so twice.
        for late in [Change::Back { node: N2, incarnation }, Change::Stop { node: N2, incarnation }] {
            assert_eq!(group.change(late), old);
        }
        assert_eq!(group.state_of(N2), Some(MemberState::Offline));
        let next = group.start(2, 77);
        assert!(next > group.state.members[&N1].incarnation && next.0 == incarnation.0 + 2);
        group.change(Change::Back { node: N2, incarnation: next });
        assert_eq!(group.state_of(N2), Some(MemberState::Returning));
    }
}

#[test]
fn a_node_that_was_offline_is_active_when_it_has_caught_up_since_its_last_return() {
    let mut group = Group::of(3);
    let incarnation = group.incarnation(N2);
    let refused = Outcome::Refused(Refusal::WrongState);
    let mut returned = Vec::new();
    for _ in 0..2 {
        group.offline(N2);
        let caught_up = |since| Change::CaughtUp { node: N2, incarnation, since };
        assert_eq!(group.change(caught_up(group.state.ring_version)), refused, "it is not back yet");
        group.change(Change::Back { node: N2, incarnation });
        assert_eq!(group.state_of(N2), Some(MemberState::Returning));
        assert_eq!(group.state.members[&N2].state_since, group.state.ring_version);
        assert_eq!(group.change(Change::Remove { node: N2, is_forced: true }), refused, "it is there");
        assert_eq!(group.change(Change::Leave { node: N2, is_empty: true }), refused);
        returned.push(group.state.ring_version);
    }
    let mut caught_up = |since| group.change(Change::CaughtUp { node: N2, incarnation, since });
    assert_eq!(caught_up(returned[0]), refused, "it has missed more since");
    let settled = Outcome::Settled { ring_version: returned[1] + 1 };
    assert_eq!(caught_up(returned[1]), settled);
    assert_eq!(caught_up(returned[1]), settled, "told twice");
    assert_eq!(group.state_of(N2), Some(MemberState::Active));
}

#[test]
fn seats_that_were_added_count_alone_when_all_have_reported() {
    let arcs: Vec<ArcId> = ArcId::all().collect();
    let all = vec![(arcs[0], arcs[arcs.len() - 1])];
    let moving = |group: &Group| group.state.ring.as_ref().unwrap().moving().count();
    let since = |group: &Group| group.state.ring.as_ref().unwrap().placement(arcs[0]).since;
    let mut group = Group::of(2);
    let overtaken = since(&group);
    group.join(3);
    let incarnation = group.start(3, 3);
    group.change(Change::Activate { node: N3, incarnation });
    let report = |group: &mut Group, node: NodeNumber, since: u64| {
        let incarnation = group.incarnation(node);
        let version = |group: &Group| group.state.ring.as_ref().unwrap().version();
        let before = version(group);
        let told = group.change(Change::Report { node, incarnation, since, arcs: all.clone() });
        (told, version(group) > before)
    };
    let now = since(&group);
    let (told, is_news) = report(&mut group, N2, overtaken);
    assert!(matches!(told, Outcome::Settled { .. }) && !is_news, "those were other seats");
    let ring_version = group.state.ring_version;
    for node in [N1, N2, N3] {
        assert_eq!((moving(&group), group.state.ring_version), (arcs.len(), ring_version));
        assert!(report(&mut group, node, now).1);
        assert!(!report(&mut group, node, now).1, "it has said so");
    }
    assert_eq!((moving(&group), group.state.ring_version), (0, ring_version + 1));

    // Without one that is lost the others agree on what each of them lacks.
    group.offline(N3);
    assert_eq!(report(&mut group, N3, now).0, Outcome::Refused(Refusal::WrongState));
    group.change(Change::Remove { node: N3, is_forced: true });
    assert_eq!(moving(&group), arcs.len());
    let now = since(&group);
    report(&mut group, N1, now);
    assert_eq!(moving(&group), arcs.len(), "the other one may have what this one lacks");
    // Nor can it be told any more once that one is lost, too.
    group.offline(N2);
    assert_eq!(moving(&group), arcs.len());
    group.change(Change::Remove { node: N2, is_forced: true });
    assert_eq!(moving(&group), 0);
}

#[test]
fn an_arc_waits_for_a_node_without_a_seat_until_that_is_offline() {
    let arcs: Vec<ArcId> = ArcId::all().collect();
    let all = vec![(arcs[0], arcs[arcs.len() - 1])];
    let mut group = Group::of(3);
    // The third node is to lose its seats, and stays a member.
    let candidate = |node: NodeNumber| Candidate { number: node, weight: 1, zone: "zone".into() };
    let ring = group.state.ring.as_ref().unwrap().without_lost(|_| false);
    let ring = ring.with_change(&[candidate(N1), candidate(N2)]).unwrap();
    let since = ring.placement(arcs[0]).since;
    group.state.ring = Some(Arc::new(ring));
    for node in [N1, N2] {
        let incarnation = group.incarnation(node);
        group.change(Change::Report { node, incarnation, since, arcs: all.clone() });
    }
    let ring = |group: &Group| group.state.ring.clone().unwrap();
    let before = ring(&group);
    assert!(before.moving().count() == arcs.len() && before.placement(arcs[0]).awaits(N3));
    let ring_version = group.state.ring_version;
    group.offline(N3);
    let after = ring(&group);
    assert_eq!((after.moving().count(), after.version()), (0, before.version() + 1));
    assert!(group.state.ring_version > ring_version);
    assert_eq!(Ring::decode(&group.pairs[&vec![b'r']]).as_ref(), Ok(&*after), "it lies on disk");
}
