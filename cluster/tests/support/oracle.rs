//! What must hold at every moment, whatever fails: looked at after each step of each machine.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use nabu_cluster::control::Control;
use nabu_cluster::control::Pair;
use nabu_cluster::control::member::{Incarnation, MemberState};
use nabu_cluster::control::state::State;
use nabu_cluster::node::NodeNumber;
use nabu_cluster::placement::{ArcId, Ring};
use nabu_engine::io::Clock;
use nabu_engine::sim::SimIo;

use super::history::History;
use super::pulls::Pulled;

/// States whose pairs are kept.
const PAIRS_KEPT: usize = 64;

#[derive(Default)]
pub struct Oracle {
    leaders: BTreeMap<u64, NodeNumber>,
    /// What the members and seats of each ring version are.
    rings: BTreeMap<u64, u64>,
    /// What the table of seats of each of its own versions is.
    tables: BTreeMap<u64, u64>,
    /// What the state is after each entry.
    states: BTreeMap<u64, u64>,
    /// And the pairs of the latest of them, to tell how two differ.
    pairs: BTreeMap<u64, Vec<Pair>>,
    /// Who votes after each entry.
    voters: BTreeMap<u64, [Vec<u64>; 2]>,
    /// The newest state that any machine has come to, and after which entry.
    newest: Option<(u64, State)>,
    pub pulled: Pulled,
    pub history: History,
    pub counts: BTreeMap<&'static str, u64>,
}

/// A control plane that runs, as others may look at it.
pub struct Running {
    pub io: SimIo,
    pub control: RefCell<Control>,
    /// After which entry its state was looked at last.
    pub looked_at: Cell<Option<u64>>,
    /// The table of its ring, and the hash of it: it is large, and seldom another.
    pub table: RefCell<Option<(Arc<Ring>, u64)>>,
}

impl Running {
    fn hash_of_table(&self, ring: Option<&Arc<Ring>>) -> u64 {
        let Some(ring) = ring else { return 0 };
        let mut table = self.table.borrow_mut();
        match &*table {
            Some((known, hash)) if Arc::ptr_eq(known, ring) => *hash,
            _ => {
                let mut hash = Hash::default();
                hash.add(&ring.encode());
                *table = Some((ring.clone(), hash.0));
                hash.0
            }
        }
    }
}

impl Oracle {
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Looks at a machine after it has settled, and at the others by what is new there.
    pub fn look(&mut self, machine: &Running, all: &[&Running]) {
        let control = machine.control.borrow();
        let Some(group) = control.group() else { return };
        if group.is_leader() {
            let leader = *self.leaders.entry(group.term()).or_insert(group.node());
            assert_eq!(leader, group.node(), "two leaders of term {}", group.term());
        }
        let state = group.state();
        let applied = group.applied();
        if machine.looked_at.replace(Some(applied)) == Some(applied) {
            let (_, newest) = self.newest.as_ref().expect("it was looked at before");
            check_contact(machine, newest);
            return;
        }
        let table = machine.hash_of_table(state.ring.as_ref());
        let pairs = state.pairs_beside_ring();
        let hash = hash_of_pairs(&pairs, table);
        let known = *self.states.entry(applied).or_insert(hash);
        let first = self.pairs.entry(applied).or_insert_with(|| pairs.clone());
        if known != hash {
            first.iter().filter(|pair| !pairs.contains(pair)).for_each(|pair| eprintln!("only there: {pair:?}"));
            pairs.iter().filter(|pair| !first.contains(pair)).for_each(|pair| eprintln!("only here: {pair:?}"));
        }
        if self.pairs.len() > PAIRS_KEPT {
            self.pairs.pop_first();
        }
        assert_eq!(known, hash, "two states after entry {applied}, one on {}", group.node());
        let conf = group.voters();
        let mut voters = [conf.voters.clone(), conf.voters_outgoing.clone()];
        voters.iter_mut().for_each(|voters| voters.sort_unstable());
        let known = self.voters.entry(applied).or_insert_with(|| voters.clone());
        assert_eq!(*known, voters, "two sets of voters after entry {applied}");
        let ring = hash_of_ring(state);
        let known = *self.rings.entry(state.ring_version).or_insert(ring);
        assert_eq!(known, ring, "two rings of version {}", state.ring_version);
        if let Some(ring) = &state.ring {
            let known = *self.tables.entry(ring.version()).or_insert(table);
            assert_eq!(known, table, "two tables of version {}", ring.version());
        }
        let is_news = self.newest.as_ref().is_none_or(|(newest, _)| applied > *newest);
        if is_news {
            check_members(state);
            if let Some((_, before)) = &self.newest {
                check_pulls(before, state, &self.pulled);
            }
            for (name, setting) in &state.settings {
                self.history.saw(name, setting.version, &setting.value);
            }
            self.newest = Some((applied, state.clone()));
        }
        drop(control);
        let (_, newest) = self.newest.as_ref().expect("it was set before");
        let looked_at: &[&Running] = if is_news { all } else { &[machine] };
        looked_at.iter().for_each(|machine| check_contact(machine, newest));
    }

    pub fn newest_voters(&self) -> [Vec<u64>; 2] {
        self.voters.last_key_value().map(|(_, voters)| voters.clone()).unwrap_or_default()
    }

    pub fn leaders_count(&self) -> u64 {
        self.leaders.len() as u64
    }

    pub fn newest(&self) -> Option<&State> {
        self.newest.as_ref().map(|(_, state)| state)
    }
}

/// Who believes to be in contact is active by agreement.
fn check_contact(machine: &Running, newest: &State) {
    let control = machine.control.borrow();
    let now = machine.io.now();
    let (Some(membership), Some(incarnation)) = (control.membership(), control.incarnation()) else { return };
    if !control.is_in_contact(now) {
        return;
    }
    let node = membership.node;
    let member = newest.members.get(&node);
    let counted: Option<(MemberState, Incarnation)> = member.map(|member| (member.state, member.incarnation));
    // One that leaves keeps its seats until it has seen that it is to go.
    assert!(
        matches!(counted, Some((MemberState::Active | MemberState::Leaving, _))),
        "{node} is in contact at {now:?}, incarnation {incarnation:?}, and not active by agreement: {counted:?}"
    );
}

fn check_members(state: &State) {
    let mut names: Vec<&str> = state.members.values().map(|member| member.node_id.as_str()).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count, "a member is there twice");
    let mut stores: Vec<_> = state.members.values().filter_map(|member| member.store).collect();
    stores.extend(state.retired.values());
    stores.sort_unstable();
    let count = stores.len();
    stores.dedup();
    assert_eq!(stores.len(), count, "a store is there twice, or was taken back");
    assert!(state.members.keys().all(|node| node.0 <= state.last_number), "a number was never given");
    let mut since: Vec<u64> = state.members.values().map(|member| member.state_since).collect();
    since.sort_unstable();
    assert!(since.is_sorted_by(|before, after| before < after), "two members have their states since {since:?}");
    assert!(since.last().is_none_or(|last| *last <= state.ring_version), "a state is of a later version");
}

/// What the group counts as pulled was pulled.
fn check_pulls(before: &State, state: &State, pulled: &Pulled) {
    for (node, member) in &state.members {
        let Some(old) = before.members.get(node) else { continue };
        if member.state == MemberState::Active && !matches!(old.state, MemberState::Active | MemberState::Joining) {
            let is_known = pulled.returns.iter().any(|(who, _, since)| who == node && *since == old.state_since);
            assert!(
                old.state == MemberState::Returning && is_known,
                "{node} is active, was {:?} since {}, and has not pulled what it missed",
                old.state,
                old.state_since
            );
        }
    }
    let (Some(ring), Some(old)) = (&state.ring, &before.ring) else { return };
    if ring.version() == old.version() {
        return;
    }
    for arc in ArcId::all() {
        let (placement, was) = (ring.placement(arc), old.placement(arc));
        let whole = was.from.unwrap_or(was.seats);
        if placement.from.is_some() || placement.seats == whole {
            continue;
        }
        if placement.since != was.since || was.from.is_none() {
            // Without a report: nobody is left to pull from, or those who are have the seats.
            let records = whole.record_seats().iter();
            let left: Vec<_> = records.copied().filter(|node| state.members.contains_key(node)).collect();
            assert!(
                left.is_empty() || left == placement.seats.nodes(),
                "arc {arc} stands still on {:?}, and {left:?} are left of those who have everything",
                placement.seats
            );
            continue;
        }
        let has_pulled = |node| pulled.arcs.get(&(node, was.since)).is_some_and(|arcs| arcs.has(arc));
        for node in was.seats.nodes() {
            assert!(
                has_pulled(*node),
                "arc {arc} stands still, and {node} has not pulled what it lacked since {}",
                was.since
            );
        }
        for node in was.from.iter().flat_map(|from| from.nodes()).filter(|node| !was.seats.contains(**node)) {
            let is_there = state.members.get(node).is_some_and(|member| member.state != MemberState::Offline);
            assert!(!is_there || has_pulled(*node), "arc {arc} stands still, and {node} has not given up its seat");
        }
    }
}

fn hash_of_pairs(pairs: &[Pair], table: u64) -> u64 {
    let mut hash = Hash::default();
    for (key, value) in pairs {
        hash.add(key);
        hash.add(value);
    }
    hash.add(&table.to_le_bytes());
    hash.0
}

/// Of what the ring version counts: members and seats, not who has reported.
fn hash_of_ring(state: &State) -> u64 {
    let mut hash = Hash::default();
    for (node, member) in &state.members {
        hash.add(&node.0.to_le_bytes());
        hash.add(member.node_id.as_bytes());
        hash.add(member.profile.address.as_bytes());
        hash.add(format!("{:?} {}", member.state, member.state_since).as_bytes());
    }
    for placement in state.ring.iter().flat_map(|ring| ArcId::all().map(|arc| *ring.placement(arc))) {
        for node in placement.seats.nodes().iter().chain(placement.from.iter().flat_map(|from| from.nodes())) {
            hash.add(&node.0.to_le_bytes());
        }
        hash.add(&[u8::from(placement.from.is_some())]);
    }
    hash.0
}

/// Like FNV-1a, by words.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn add(&mut self, bytes: &[u8]) {
        let mut mix = |word: u64| self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x0100_0000_01b3);
        mix(bytes.len() as u64);
        for word in bytes.chunks(8) {
            let mut padded = [0; 8];
            padded[..word.len()].copy_from_slice(word);
            mix(u64::from_le_bytes(padded));
        }
    }
}
