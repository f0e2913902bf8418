//! How a node comes to a cluster: who founds one, who joins, and who must not. Messages are passed
//! by hand here, so that each course of events is forced.

mod support;

use std::time::Duration;

use nabu_cluster::control::command::{Change, Command, Origin, Refusal};
use nabu_cluster::control::member::{ClusterId, Incarnation, MemberState, Membership, Profile, StoreId};
use nabu_cluster::control::message::{Message, NotJoined, Sender};
use nabu_cluster::control::state::State;
use nabu_cluster::control::verdicts::{SILENCE, Verdicts};
use nabu_cluster::control::{Bootstrap, Control, Input, Output, Patience, Problem, Settings, TICK};
use nabu_cluster::node::NodeNumber;
use nabu_engine::io::Instant;
use support::memory::Memory;

const CLUSTER: ClusterId = ClusterId([0xc1; 16]);

fn address(number: u8) -> String {
    format!("n{number}:7070")
}

fn store(number: u8) -> StoreId {
    StoreId([number; 16])
}

fn profile(number: u8) -> Profile {
    Profile {
        address: address(number),
        client_address: address(number),
        zone: "zone".into(),
        capacity_bytes: 1 << 40,
        version: "0.0.0".into(),
        levels: (1, 1),
    }
}

fn settings(number: u8, seeds: &[u8], expect: Option<usize>) -> Settings {
    Settings {
        node_id: format!("node-{number}"),
        profile: profile(number),
        seeds: seeds.iter().copied().map(address).collect(),
        bootstrap: expect.map(|expect| Bootstrap { expect, cluster: CLUSTER }),
        patience: Patience::default(),
        holds_blobs: false,
        nonce: 7,
    }
}

/// A node that is driven by hand.
struct Node {
    control: Control,
    now: Instant,
    sent: Vec<(String, Message)>,
}

impl Node {
    fn new(settings: Settings, store_id: StoreId) -> Self {
        let (file, saved) = Memory::default().open(store_id).expect("a new file");
        Self { control: Control::new(settings, file, saved), now: Instant(1_000_000_000), sent: Vec::new() }
    }

    fn take(&mut self, input: Input) {
        let mut outputs = Vec::new();
        self.control.take(self.now, input, &mut outputs).expect("the file works");
        self.control.settle(self.now, &mut outputs).expect("the file works");
        self.sent.extend(outputs.into_iter().filter_map(|output| match output {
            Output::Send { to, message } => Some((to, message)),
            _ => None,
        }));
    }

    fn tick(&mut self) {
        self.now = self.now.after(TICK);
        self.take(Input::Tick);
    }

    fn pass(&mut self, time: Duration) {
        (0..time.as_millis() / TICK.as_millis()).for_each(|_| self.tick());
    }

    /// A seed answers that it belongs to no cluster.
    fn is_outside(&mut self, seed: u8, store_number: u8, may_found: bool) {
        let message = Message::Probed { asked: address(seed), cluster: None, may_found };
        self.take(Input::Message(outsider(seed, store_number), message));
    }

    fn has_founded(&self) -> bool {
        self.control.membership().is_some()
    }

    fn has_asked_to_join(&self) -> bool {
        self.sent.iter().any(|(_, message)| matches!(message, Message::Join { .. }))
    }
}

fn outsider(seed: u8, store_number: u8) -> Sender {
    Sender { address: address(seed), cluster: None, node: None, store: store(store_number) }
}

fn insider(number: u8) -> Sender {
    let node = Some(NodeNumber(number.into()));
    Sender { address: address(number), cluster: Some(CLUSTER), node, store: store(number) }
}

/// The answer to a join of this store.
fn joined(of: u8, told: Result<Membership, NotJoined>) -> Message {
    Message::Joined { store: store(of), told }
}

#[test]
fn of_several_that_may_found_a_cluster_the_one_with_the_lowest_store_does() {
    for (own, founds) in [(1, true), (3, false)] {
        let mut node = Node::new(settings(own, &[1, 2, 3], Some(1)), store(own));
        node.tick();
        let others = [1, 2, 3].into_iter().filter(|other| *other != own);
        others.for_each(|other| node.is_outside(other, other, true));
        node.tick();
        assert!(!node.has_founded(), "n{own}: a seed that is itself has not answered");
        // Its own address leads back to it.
        node.is_outside(own, own, true);
        node.tick();
        assert_eq!(node.has_founded(), founds, "n{own}");
    }
    // One that is lower and may not found doesn't count.
    let mut node = Node::new(settings(3, &[1, 2], Some(1)), store(3));
    node.is_outside(1, 1, false);
    node.is_outside(2, 2, false);
    node.tick();
    assert!(node.has_founded());
}

#[test]
fn a_node_founds_only_when_as_many_stores_as_it_expects_have_said_so() {
    let mut node = Node::new(settings(1, &[2, 3], Some(3)), store(1));
    // Two addresses that lead to one node are one store.
    node.is_outside(2, 2, false);
    node.is_outside(3, 2, false);
    node.tick();
    assert!(!node.has_founded());
    node.is_outside(3, 3, false);
    node.tick();
    assert!(node.has_founded());
    let mut node = Node::new(settings(1, &[2], Some(3)), store(1));
    node.is_outside(2, 2, false);
    // Nobody asked this one.
    node.is_outside(4, 4, false);
    node.tick();
    assert!(!node.has_founded(), "two stores are not three");
}

#[test]
fn a_node_that_is_stopped_outside_stays_outside() {
    // One that could found a cluster, and one that was about to be let in.
    let mut founder = Node::new(settings(1, &[2], Some(1)), store(1));
    founder.is_outside(2, 2, false);
    founder.take(Input::Stop);
    founder.pass(Duration::from_secs(1));
    assert!(!founder.has_founded());
    let mut guest = Node::new(settings(3, &[2], None), store(3));
    guest.take(Input::Message(
        insider(2),
        Message::Probed { asked: address(2), cluster: Some(CLUSTER), may_found: false },
    ));
    guest.tick();
    assert!(guest.has_asked_to_join());
    guest.take(Input::Stop);
    let membership = Membership { cluster: CLUSTER, node: NodeNumber(3) };
    guest.take(Input::Message(insider(2), joined(3, Ok(membership))));
    assert_eq!(guest.control.membership(), None);
}

#[test]
fn a_seed_that_can_not_be_asked_or_was_asked_long_ago_may_belong_to_a_cluster() {
    let mut node = Node::new(settings(1, &[2, 3], Some(1)), store(1));
    node.pass(Duration::from_secs(30));
    assert!(!node.has_founded());
    node.is_outside(2, 2, false);
    node.pass(Duration::from_secs(4));
    node.is_outside(3, 3, false);
    node.pass(Duration::from_secs(10));
    assert!(!node.has_founded(), "n2 said so too long ago");
    node.is_outside(2, 2, false);
    node.is_outside(3, 3, false);
    node.tick();
    assert!(node.has_founded());
}

#[test]
fn a_founder_that_finds_a_cluster_joins_it() {
    let mut node = Node::new(settings(1, &[2, 3], Some(1)), store(1));
    let probed = Message::Probed { asked: address(2), cluster: Some(ClusterId([9; 16])), may_found: false };
    node.take(Input::Message(insider(2), probed));
    node.is_outside(3, 3, false);
    node.pass(Duration::from_secs(2));
    assert!(!node.has_founded() && node.has_asked_to_join());
    let membership = Membership { cluster: ClusterId([9; 16]), node: NodeNumber(5) };
    node.take(Input::Message(insider(2), joined(1, Ok(membership))));
    assert_eq!(node.control.membership(), Some(membership));
    assert_eq!(node.control.problem(), None);
}

#[test]
fn an_answer_for_the_disk_that_the_machine_had_before_is_not_its_own() {
    let mut node = Node::new(settings(3, &[2], None), store(3));
    let probed = Message::Probed { asked: address(2), cluster: Some(CLUSTER), may_found: false };
    node.take(Input::Message(insider(2), probed));
    node.pass(Duration::from_secs(2));
    assert!(node.has_asked_to_join());
    let membership = |node| Membership { cluster: CLUSTER, node: NodeNumber(node) };
    node.take(Input::Message(insider(2), joined(9, Ok(membership(4)))));
    assert_eq!(node.control.membership(), None);
    node.take(Input::Message(insider(2), joined(3, Ok(membership(5)))));
    assert_eq!(node.control.membership(), Some(membership(5)));
}

#[test]
fn a_node_that_holds_blobs_may_found_and_never_joins() {
    let holding = |expect| Settings { holds_blobs: true, ..settings(1, &[2], expect) };
    let mut node = Node::new(holding(Some(1)), store(1));
    node.is_outside(2, 2, false);
    node.tick();
    assert!(node.has_founded());
    for expect in [None, Some(1)] {
        let mut node = Node::new(holding(expect), store(1));
        node.tick();
        assert_eq!(node.control.problem(), None);
        let probed = Message::Probed { asked: address(2), cluster: Some(CLUSTER), may_found: false };
        node.take(Input::Message(insider(2), probed));
        node.pass(Duration::from_secs(10));
        assert!(!node.has_asked_to_join() && !node.has_founded());
        // Whatever anybody says.
        let membership = Membership { cluster: CLUSTER, node: NodeNumber(5) };
        node.take(Input::Message(insider(2), joined(1, Ok(membership))));
        assert_eq!(node.control.membership(), None);
        let problem = node.control.problem().expect("somebody has to do something");
        assert_eq!(problem, Problem::HoldsBlobs { cluster: CLUSTER, seed: address(2) });
        assert!(problem.to_string().contains("n2:7070") && problem.to_string().contains("empty"), "{problem}");
    }
}

#[test]
fn an_outsider_whose_store_was_removed_learns_it_and_one_that_is_refused_says_why() {
    let mut node = Node::new(settings(1, &[2], None), store(1));
    let refused = |refusal| joined(1, Err(NotJoined::Refused(refusal)));
    assert!(!node.control.is_removed());
    let conflict = Refusal::Conflict { node: NodeNumber(3) };
    node.take(Input::Message(insider(2), refused(conflict.clone())));
    assert!(!node.control.is_removed());
    assert_eq!(node.control.problem(), Some(Problem::Refused(conflict)));
    node.take(Input::Message(insider(2), refused(Refusal::Retired { store: store(1) })));
    assert!(node.control.is_removed());
    assert_eq!(node.control.problem(), Some(Problem::Removed));
}

/// A node that has founded its cluster and leads it.
fn leader() -> Node {
    let mut node = Node::new(settings(1, &[], Some(1)), store(1));
    node.pass(Duration::from_secs(5));
    let state = node.control.state().expect("it has founded one");
    assert_eq!(state.members[&NodeNumber(1)].state, MemberState::Active);
    node
}

#[test]
fn a_command_counts_as_that_of_its_sender_alone() {
    let mut node = leader();
    let join = Message::Join { node_id: "node-2".into(), profile: profile(2) };
    node.take(Input::Message(Sender { cluster: None, node: None, ..insider(2) }, join));
    node.tick();
    let set = |name: &str, of: u64| {
        let incarnation = Incarnation(u64::from(of == 1));
        let origin = Origin { node: NodeNumber(of), incarnation, sequence: 1, floor: 1 };
        let change = Change::Set { name: name.into(), value: vec![1], expected: None };
        Message::Forward(Command { origin: Some(origin), change })
    };
    node.take(Input::Message(insider(2), set("of another", 1)));
    node.tick();
    assert!(node.control.state().is_some_and(|state| state.settings.is_empty()), "n2 speaks for n1");
    let other_cluster = Sender { cluster: Some(ClusterId([9; 16])), ..insider(2) };
    node.take(Input::Message(other_cluster, set("of another cluster", 2)));
    node.tick();
    assert!(node.control.state().is_some_and(|state| state.settings.is_empty()));
    node.take(Input::Message(insider(2), set("its own", 2)));
    node.tick();
    assert!(node.control.state().is_some_and(|state| state.settings.contains_key("its own")));
}

#[test]
fn a_node_that_waits_and_is_silent_makes_room_for_the_same_machine_with_another_disk() {
    let mut node = leader();
    let join = |store_number: u8| {
        let sender = Sender { cluster: None, node: None, store: store(store_number), ..insider(2) };
        Input::Message(sender, Message::Join { node_id: "node-2".into(), profile: profile(2) })
    };
    let standing = |node: &Node| {
        let state = node.control.state().expect("it has founded one");
        state.member_named("node-2").map(|(number, member)| (number, member.store, member.state))
    };
    node.take(join(2));
    node.tick();
    let first = Some((NodeNumber(2), Some(store(2)), MemberState::Joining));
    assert_eq!(standing(&node), first);
    node.pass(SILENCE - 2 * TICK);
    node.take(join(3));
    node.tick();
    assert_eq!(standing(&node), first, "it may still be there");
    let is_refused = |(_, message): &(String, Message)| {
        let conflict = NotJoined::Refused(Refusal::Conflict { node: NodeNumber(2) });
        *message == joined(3, Err(conflict))
    };
    assert!(node.sent.iter().any(is_refused));
    // The same disk under another name would be refused for good if its store was retired.
    node.pass(2 * TICK);
    let renamed = Sender { cluster: None, node: None, ..insider(2) };
    node.take(Input::Message(renamed, Message::Join { node_id: "node-9".into(), profile: profile(2) }));
    node.tick();
    assert_eq!(standing(&node), first);
    // It is told to come again, and then there is room.
    node.take(join(3));
    node.tick();
    assert_eq!(standing(&node), None);
    node.take(join(3));
    node.tick();
    assert_eq!(standing(&node), Some((NodeNumber(3), Some(store(3)), MemberState::Joining)));
}

#[test]
fn a_verdict_on_an_earlier_start_does_not_free_the_one_under_way() {
    let node = NodeNumber(1);
    let mut state = State::default();
    let founding =
        Change::Bootstrap { cluster: CLUSTER, node_id: "node-1".into(), store: store(1), profile: profile(1) };
    let start = |nonce| Change::Start { node, store: store(1), nonce, profile: profile(1) };
    for change in [founding, start(1), start(2)] {
        state.apply(&Command { origin: None, change }, &mut Vec::new());
    }
    let current = state.members[&node].incarnation;
    assert_eq!(current, Incarnation(2));
    let mut verdicts = Verdicts::default();
    let begin = Instant(0);
    verdicts.lead(begin);
    let now = begin.after(SILENCE);
    assert_eq!(verdicts.due(now, &state), [(node, current)]);
    verdicts.proposed(node, current);
    assert_eq!(verdicts.due(now, &state), []);
    // That on the earlier start comes from a leader of before.
    verdicts.decided(node, Incarnation(1));
    assert_eq!(verdicts.due(now, &state), [], "the verdict is still under way");
    verdicts.decided(node, current);
    assert_eq!(verdicts.due(now, &state), [(node, current)]);
}
