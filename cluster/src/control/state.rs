//! What all nodes agree on: members, ring, settings. A command changes it, the same way everywhere.
//!
//! Invariants:
//! - Nothing here knows the time, chance, or which node it runs on: equal commands in equal order
//!   make equal states.
//! - A node number and a store id are never given to another node again.
//! - No two members have one node id, and no two that are alive one address.
//! - The ring version grows with every change of what a node may do or where it is; rings of one
//!   version are equal.
//!
//! A state is also a set of pairs of key and value ([`super::pairs`]). Applying a command tells
//! which of them it changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::{Change, Command, Outcome, Refusal, SETTING_NAME_BYTES_MAX, SETTING_VALUE_BYTES_MAX};
use super::keys::{Write, encoded, key, key_of, outcome_key, setting_key};
use super::member::{ClusterId, Incarnation, Member, MemberState, NodeId, Profile, StoreId};
use super::window::{Known, Window};
use crate::mutant::{Mutant, is_planted};
use crate::node::NodeNumber;
use crate::placement::{ArcId, Candidate, Ring};
use crate::probe::{Event, hit};

/// How many members a cluster may have, announced ones included.
pub const MEMBERS_MAX: usize = 512;
/// How many stores of removed members are remembered; the oldest go first.
pub const RETIRED_MAX: usize = 4_096;
/// The weight of a node in the ring is its capacity in units of a GiB.
const WEIGHT_UNIT_BITS: u32 = 30;
/// A ring of more nodes comes with data that moves.
pub const SEATED_NODES_MAX: usize = 3;

/// A value for all nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// How often it was set.
    pub version: u64,
    pub value: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    pub cluster: Option<ClusterId>,
    /// The number that the last member got.
    pub last_number: u64,
    /// How often members or seats have changed.
    pub ring_version: u64,
    pub ring: Option<Arc<Ring>>,
    pub members: BTreeMap<NodeNumber, Member>,
    /// The stores of members that were removed.
    pub retired: BTreeMap<NodeNumber, StoreId>,
    pub settings: BTreeMap<String, Setting>,
    pub(super) windows: BTreeMap<NodeNumber, Window>,
}

impl State {
    /// The member of this name.
    pub fn member_named(&self, node_id: &str) -> Option<(NodeNumber, &Member)> {
        self.members.iter().find(|(_, member)| member.node_id == node_id).map(|(node, member)| (*node, member))
    }

    /// The members that have seats in the ring: all but those that are joining.
    fn seated(&self) -> impl Iterator<Item = NodeNumber> {
        let seated = self.members.iter().filter(|(_, member)| member.state != MemberState::Joining);
        seated.map(|(node, _)| *node)
    }

    /// Whether the node has seats in the ring.
    pub fn is_seated(&self, node: NodeNumber) -> bool {
        self.members.get(&node).is_some_and(|member| member.state != MemberState::Joining)
    }

    /// Whether the node has seats and no other has.
    fn is_only_seat(&self, node: NodeNumber) -> bool {
        self.is_seated(node) && self.seated().count() == 1
    }

    /// Whether the ring takes no more nodes.
    pub fn is_full(&self) -> bool {
        self.seated().count() >= SEATED_NODES_MAX
    }

    /// Does what a command says, once.
    pub fn apply(&mut self, command: &Command, writes: &mut Vec<Write>) -> Outcome {
        let Some(origin) = command.origin else { return self.change(&command.change, writes) };
        let Some(member) = self.members.get(&origin.node) else {
            return Outcome::Refused(Refusal::Unknown { node: origin.node });
        };
        if member.incarnation != origin.incarnation && !is_planted(Mutant::OldIncarnation) {
            hit(Event::OldIncarnationRefused);
            return Outcome::Refused(Refusal::OldIncarnation { current: member.incarnation });
        }
        let window = self.windows.entry(origin.node).or_default();
        if let Some(forgotten) = window.raise(origin.floor) {
            let value = encoded(|writer| writer.u64(window.floor));
            writes.push((key_of(key::WINDOW, origin.node), Some(value)));
            writes.extend(forgotten.into_iter().map(|sequence| (outcome_key(origin.node, sequence), None)));
        }
        match window.look(origin.sequence) {
            Known::New => {}
            Known::Applied(_) if is_planted(Mutant::ApplyTwice) => {}
            Known::Applied(outcome) => {
                hit(Event::CommandDoubled);
                return outcome.clone();
            }
            Known::GivenUp => {
                hit(Event::CommandGivenUp);
                return Outcome::Refused(Refusal::GivenUp);
            }
            Known::Full => return Outcome::Refused(Refusal::TooMany),
        }
        let outcome = self.change(&command.change, writes);
        // A command may take away the one whose it is.
        if let Some(window) = self.windows.get_mut(&origin.node) {
            window.remember(origin.sequence, outcome.clone());
            let value = encoded(|writer| outcome.write(writer));
            writes.push((outcome_key(origin.node, origin.sequence), Some(value)));
        }
        outcome
    }

    fn change(&mut self, change: &Change, writes: &mut Vec<Write>) -> Outcome {
        // Numbers count from the founder's, whatever reaches its log before it is there itself.
        if self.cluster.is_none() && !matches!(change, Change::Bootstrap { .. }) {
            return Outcome::Refused(Refusal::WrongState);
        }
        let done = match change {
            Change::Bootstrap { cluster, node_id, store, profile } => {
                self.bootstrap(*cluster, node_id, *store, profile, writes)
            }
            Change::Join { node_id, store, profile } => self.join(node_id, *store, profile, writes),
            Change::Start { node, store, nonce, profile } => self.start(*node, *store, *nonce, profile, writes),
            Change::Activate { node, incarnation } => self.activate(*node, *incarnation, writes),
            Change::Offline { node, incarnation } => {
                let counted_on = [MemberState::Active, MemberState::Returning];
                self.turn(*node, *incarnation, &counted_on, MemberState::Offline, writes)
            }
            Change::Back { node, incarnation } => {
                self.turn(*node, *incarnation, &[MemberState::Offline], MemberState::Returning, writes)
            }
            Change::CaughtUp { node, incarnation, since } => self.caught_up(*node, *incarnation, *since, writes),
            Change::Report { node, incarnation, since, arcs } => self.report(*node, *incarnation, *since, arcs, writes),
            Change::Stop { node, incarnation } => self.stop(*node, *incarnation, writes),
            Change::Leave { node, is_empty } => self.leave(*node, *is_empty, writes),
            Change::Remove { node, is_forced } => self.remove(*node, *is_forced, writes),
            Change::Set { name, value, expected } => self.set(name, value, *expected, writes),
        };
        done.unwrap_or_else(Outcome::Refused)
    }

    fn bootstrap(
        &mut self,
        cluster: ClusterId,
        node_id: &str,
        store: StoreId,
        profile: &Profile,
        writes: &mut Vec<Write>,
    ) -> Result<Outcome, Refusal> {
        if self.cluster.is_some() {
            return Err(Refusal::WrongState);
        }
        self.cluster = Some(cluster);
        let node = self.add(node_id, Some(store), profile, writes)?;
        self.seat(node, writes);
        Ok(Outcome::Joined { node })
    }

    fn join(
        &mut self,
        node_id: &str,
        store: Option<StoreId>,
        profile: &Profile,
        writes: &mut Vec<Write>,
    ) -> Result<Outcome, Refusal> {
        if let Some(store) = store.filter(|store| self.retired.values().any(|retired| retired == store)) {
            return Err(Refusal::Retired { store });
        }
        let known = store.and_then(|store| self.members.iter().find(|(_, member)| member.store == Some(store)));
        if let Some((node, member)) = known {
            let node = *node;
            return if member.node_id == node_id {
                Ok(Outcome::Joined { node })
            } else {
                Err(Refusal::Conflict { node })
            };
        }
        let namesake = self.member_named(node_id).map(|(node, _)| node);
        let is_at = |member: &Member| member.is_alive() && member.profile.address == profile.address;
        let other = self.members.iter().find(|(node, member)| Some(**node) != namesake && is_at(member));
        if let Some((node, _)) = other {
            return Err(Refusal::Conflict { node: *node });
        }
        let Some(node) = namesake else {
            return self.add(node_id, store, profile, writes).map(|node| Outcome::Joined { node });
        };
        let member = self.members.get_mut(&node).expect("it was found");
        match (member.store, store) {
            // Announced again, with nothing new: the ring is the one that it was.
            (None, None) if member.profile == *profile => {}
            // It was announced; now it is here, or is announced anew.
            (None, _) => {
                member.store = store;
                member.profile = profile.clone();
                self.write_member(node, writes);
                self.count_change(writes);
            }
            (Some(_), None) if member.profile.address != profile.address && member.is_alive() => {
                return Err(Refusal::Conflict { node });
            }
            (Some(_), None) => {}
            // The machine is there with another disk.
            (Some(_), Some(_)) if member.state == MemberState::Offline => {
                if self.is_only_seat(node) {
                    return Err(Refusal::LastNode);
                }
                self.take_out(node, writes);
                return self.add(node_id, store, profile, writes).map(|node| Outcome::Joined { node });
            }
            (Some(_), Some(_)) => return Err(Refusal::Conflict { node }),
        }
        Ok(Outcome::Joined { node })
    }

    fn start(
        &mut self,
        node: NodeNumber,
        store: StoreId,
        nonce: u64,
        profile: &Profile,
        writes: &mut Vec<Write>,
    ) -> Result<Outcome, Refusal> {
        if profile.problem().is_some() {
            return Err(Refusal::Invalid);
        }
        if self.retired.get(&node) == Some(&store) {
            return Err(Refusal::Retired { store });
        }
        let is_at = |member: &Member| member.is_alive() && member.profile.address == profile.address;
        if let Some((other, _)) = self.members.iter().find(|(other, member)| **other != node && is_at(member)) {
            return Err(Refusal::Conflict { node: *other });
        }
        let member = self.members.get_mut(&node).filter(|member| member.store == Some(store));
        let Some(member) = member else { return Err(Refusal::Unknown { node }) };
        if member.start_nonce != nonce {
            hit(Event::Started);
            member.incarnation.0 += 1;
            member.start_nonce = nonce;
            let incarnation = member.incarnation;
            let is_other = member.profile != *profile;
            member.profile = profile.clone();
            self.forget_window(node, writes);
            self.write_member(node, writes);
            if is_other {
                self.count_change(writes);
            }
            return Ok(Outcome::Started { incarnation });
        }
        Ok(Outcome::Started { incarnation: member.incarnation })
    }

    fn activate(
        &mut self,
        node: NodeNumber,
        incarnation: Incarnation,
        writes: &mut Vec<Write>,
    ) -> Result<Outcome, Refusal> {
        let member = self.current(node, incarnation)?;
        match member.state {
            MemberState::Active => return Ok(Outcome::Settled { ring_version: self.ring_version }),
            MemberState::Leaving | MemberState::Offline | MemberState::Returning => return Err(Refusal::WrongState),
            MemberState::Joining => {}
        }
        if self.is_full() {
            return Err(Refusal::NoSeat);
        }
        self.seat(node, writes);
        Ok(Outcome::Settled { ring_version: self.ring_version })
    }

    fn turn(
        &mut self,
        node: NodeNumber,
        incarnation: Incarnation,
        from: &[MemberState],
        to: MemberState,
        writes: &mut Vec<Write>,
    ) -> Result<Outcome, Refusal> {
        let member = self.current(node, incarnation)?;
        if from.contains(&member.state) {
            self.set_state(node, to, writes);
            self.settle_ring(writes);
        } else if member.state != to {
            return Err(Refusal::WrongState);
        }
        Ok(Outcome::Settled { ring_version: self.ring_version })
    }

    /// A node that was offline has what it missed. One that has been offline again since it began
    /// to pull has missed more.
    fn caught_up(
        &mut self,
        node: NodeNumber,
        incarnation: Incarnation,
        since: u64,
        writes: &mut Vec<Write>,
    ) -> Result<Outcome, Refusal> {
        let member = self.current(node, incarnation)?;
        let is_this = member.state_since == since || is_planted(Mutant::CaughtUpBefore);
        match member.state {
            MemberState::Returning if is_this => {
                hit(Event::Returned);
                self.set_state(node, MemberState::Active, writes);
            }
            MemberState::Active => {}
            _ => {
                hit(Event::CaughtUpLate);
                return Err(Refusal::WrongState);
            }
        }
        Ok(Outcome::Settled { ring_version: self.ring_version })
    }

    /// A node reports on arcs that move.
    fn report(
        &mut self,
        node: NodeNumber,
        incarnation: Incarnation,
        since: u64,
        arcs: &[(ArcId, ArcId)],
        writes: &mut Vec<Write>,
    ) -> Result<Outcome, Refusal> {
        let member = self.current(node, incarnation)?;
        // Who is joining has no seat; one that is offline has not seen what it reports on.
        if matches!(member.state, MemberState::Joining | MemberState::Offline) {
            return Err(Refusal::WrongState);
        }
        let ring = self.ring.as_ref().ok_or(Refusal::WrongState)?;
        let arcs = arcs.iter().flat_map(|(first, last)| ArcId::range(*first, *last));
        if let Some(ring) = ring.with_report(node, since, arcs, |node| self.is_there(node)) {
            hit(Event::ReportCounted);
            // Who asks the seats of an arc does so by the same ones while reports are missing.
            let is_other = ring.moving().count() != self.ring.as_ref().map_or(0, |old| old.moving().count());
            self.write_ring(ring, writes);
            if is_other {
                self.count_change(writes);
            }
        }
        Ok(Outcome::Settled { ring_version: self.ring_version })
    }

    /// Whether the node is a member that may answer.
    fn is_there(&self, node: NodeNumber) -> bool {
        self.members.get(&node).is_some_and(Member::is_alive)
    }

    /// Arcs that waited for a node which is not there any more stand still.
    fn settle_ring(&mut self, writes: &mut Vec<Write>) {
        if let Some(ring) = self.ring.as_ref().and_then(|ring| ring.settled(|node| self.is_there(node))) {
            self.write_ring(ring, writes);
        }
    }

    /// Ends a start of a node. What is still on its way from it names an old incarnation then: a
    /// heartbeat that comes late doesn't make the node active again.
    fn stop(
        &mut self,
        node: NodeNumber,
        incarnation: Incarnation,
        writes: &mut Vec<Write>,
    ) -> Result<Outcome, Refusal> {
        let member = self.current(node, incarnation)?;
        member.incarnation.0 += 1;
        if member.is_counted_on() {
            self.set_state(node, MemberState::Offline, writes);
            self.settle_ring(writes);
        } else {
            self.write_member(node, writes);
            self.count_change(writes);
        }
        self.forget_window(node, writes);
        Ok(Outcome::Settled { ring_version: self.ring_version })
    }

    fn leave(&mut self, node: NodeNumber, is_empty: bool, writes: &mut Vec<Write>) -> Result<Outcome, Refusal> {
        let Some(member) = self.members.get(&node) else { return Err(Refusal::Unknown { node }) };
        match member.state {
            MemberState::Joining => self.take_out(node, writes),
            MemberState::Active => {
                let is_other =
                    |(other, member): (&NodeNumber, &Member)| *other != node && member.state == MemberState::Active;
                if !self.members.iter().any(is_other) {
                    return Err(Refusal::LastNode);
                }
                if !is_empty {
                    return Err(Refusal::HoldsData);
                }
                self.set_state(node, MemberState::Leaving, writes);
            }
            MemberState::Leaving => {}
            MemberState::Offline | MemberState::Returning => return Err(Refusal::WrongState),
        }
        Ok(Outcome::Settled { ring_version: self.ring_version })
    }

    fn remove(&mut self, node: NodeNumber, is_forced: bool, writes: &mut Vec<Write>) -> Result<Outcome, Refusal> {
        let Some(member) = self.members.get(&node) else { return Err(Refusal::Unknown { node }) };
        match member.state {
            MemberState::Joining | MemberState::Leaving => {}
            MemberState::Offline if is_forced => {}
            // It may rely on being one, for a while.
            MemberState::Active | MemberState::Offline | MemberState::Returning => return Err(Refusal::WrongState),
        }
        if self.is_only_seat(node) {
            return Err(Refusal::LastNode);
        }
        self.take_out(node, writes);
        Ok(Outcome::Settled { ring_version: self.ring_version })
    }

    fn set_state(&mut self, node: NodeNumber, state: MemberState, writes: &mut Vec<Write>) {
        self.count_change(writes);
        let member = self.members.get_mut(&node).expect("it is a member");
        (member.state, member.state_since) = (state, self.ring_version);
        self.write_member(node, writes);
    }

    fn set(
        &mut self,
        name: &str,
        value: &[u8],
        expected: Option<u64>,
        writes: &mut Vec<Write>,
    ) -> Result<Outcome, Refusal> {
        if name.is_empty() || name.len() > SETTING_NAME_BYTES_MAX || value.len() > SETTING_VALUE_BYTES_MAX {
            return Err(Refusal::Invalid);
        }
        let version = self.settings.get(name).map_or(0, |setting| setting.version);
        if expected.is_some_and(|expected| expected != version) {
            return Err(Refusal::OtherVersion { version });
        }
        let setting = Setting { version: version + 1, value: value.into() };
        let encoded = encoded(|writer| {
            writer.u64(setting.version);
            writer.block(&setting.value);
        });
        writes.push((setting_key(name), Some(encoded)));
        self.settings.insert(name.into(), setting);
        Ok(Outcome::Set { version: version + 1 })
    }

    fn current(&mut self, node: NodeNumber, incarnation: Incarnation) -> Result<&mut Member, Refusal> {
        let Some(member) = self.members.get_mut(&node) else { return Err(Refusal::Unknown { node }) };
        if member.incarnation != incarnation {
            return Err(Refusal::OldIncarnation { current: member.incarnation });
        }
        Ok(member)
    }

    /// A new member, which holds nothing yet.
    fn add(
        &mut self,
        node_id: &str,
        store: Option<StoreId>,
        profile: &Profile,
        writes: &mut Vec<Write>,
    ) -> Result<NodeNumber, Refusal> {
        if node_id.parse::<NodeId>().is_err() || profile.problem().is_some() {
            return Err(Refusal::Invalid);
        }
        if self.members.len() >= MEMBERS_MAX {
            return Err(Refusal::TooMany);
        }
        hit(Event::Joined);
        self.last_number += 1;
        let node = NodeNumber(self.last_number);
        let member = Member {
            node_id: node_id.into(),
            store,
            profile: profile.clone(),
            state: MemberState::Joining,
            state_since: 0,
            incarnation: Incarnation(0),
            start_nonce: 0,
        };
        self.members.insert(node, member);
        self.set_state(node, MemberState::Joining, writes);
        Ok(node)
    }

    /// Gives a member seats.
    fn seat(&mut self, node: NodeNumber, writes: &mut Vec<Write>) {
        let ring = match &self.ring {
            None => Ring::new(node),
            Some(ring) => ring.grown(node).expect("there is a seat for it"),
        };
        self.write_ring(ring, writes);
        self.set_state(node, MemberState::Active, writes);
    }

    /// Takes a member out for good.
    fn take_out(&mut self, node: NodeNumber, writes: &mut Vec<Write>) {
        if self.is_seated(node) {
            let rest = self.seated().filter(|other| *other != node);
            let rest: Vec<Candidate> = rest.map(|other| self.candidate(other)).collect();
            let ring = self.ring.as_ref().expect("a node is seated").with_change(&rest);
            let ring = ring.expect("others are seated");
            // The others have to agree on what each of them lacks.
            let ring = ring.without_lost(|other| other != node && self.members.contains_key(&other));
            self.write_ring(ring, writes);
        }
        self.forget_window(node, writes);
        let member = self.members.remove(&node).expect("a member is taken out");
        writes.push((key_of(key::MEMBER, node), None));
        if let Some(store) = member.store {
            self.retired.insert(node, store);
            writes.push((key_of(key::RETIRED, node), Some(store.0.into())));
            if self.retired.len() > RETIRED_MAX {
                let (oldest, _) = self.retired.pop_first().expect("there are many");
                writes.push((key_of(key::RETIRED, oldest), None));
            }
        }
        self.count_change(writes);
    }

    /// Goes on without these members, on the word of this one, and with numbers and versions that
    /// nobody can have seen before ([`super::recovery`]). All pairs may be others then.
    pub(super) fn recover(&mut self, me: NodeNumber, lost: &[NodeNumber], leap: u64) {
        let mut writes = Vec::new();
        self.last_number += leap;
        self.ring_version += leap;
        self.ring = self.ring.take().map(|ring| Arc::new(ring.ahead(leap)));
        self.settings.values_mut().for_each(|setting| setting.version += leap);
        // A process that runs on asks for its incarnation anew, and what it sent before counts no
        // more.
        self.members.values_mut().for_each(|member| member.incarnation.0 += leap);
        self.windows.clear();
        let own = self.members.get_mut(&me).expect("it is a member");
        if own.state == MemberState::Leaving {
            own.state = MemberState::Active;
        }
        // The lost ones may have agreed that one of these is offline, and deleted without it.
        let counted_on = self.members.iter().filter(|(_, member)| member.is_counted_on());
        let back: Vec<NodeNumber> = counted_on.map(|(node, _)| *node).collect();
        back.into_iter().for_each(|node| self.set_state(node, MemberState::Returning, &mut writes));
        lost.iter().for_each(|node| self.take_out(*node, &mut writes));
        self.count_change(&mut writes);
    }

    fn candidate(&self, node: NodeNumber) -> Candidate {
        let profile = &self.members[&node].profile;
        let weight = (profile.capacity_bytes >> WEIGHT_UNIT_BITS).clamp(1, u32::MAX.into()) as u32;
        Candidate { number: node, weight, zone: profile.zone.clone() }
    }

    fn forget_window(&mut self, node: NodeNumber, writes: &mut Vec<Write>) {
        let Some(window) = self.windows.remove(&node) else { return };
        writes.push((key_of(key::WINDOW, node), None));
        writes.extend(window.outcomes.keys().map(|sequence| (outcome_key(node, *sequence), None)));
    }

    pub(super) fn header(&self) -> Vec<u8> {
        encoded(|writer| {
            writer.option(self.cluster, |writer, cluster| writer.raw(&cluster.0));
            writer.u64(self.last_number);
            writer.u64(self.ring_version);
        })
    }

    fn count_change(&mut self, writes: &mut Vec<Write>) {
        self.ring_version += 1;
        writes.push((vec![key::HEADER], Some(self.header())));
    }

    fn write_member(&self, node: NodeNumber, writes: &mut Vec<Write>) {
        let value = encoded(|writer| self.members[&node].write(writer));
        writes.push((key_of(key::MEMBER, node), Some(value)));
    }

    fn write_ring(&mut self, ring: Ring, writes: &mut Vec<Write>) {
        // It is large, and only the last one counts.
        writes.retain(|(key, _)| *key != [key::RING]);
        writes.push((vec![key::RING], Some(ring.encode())));
        self.ring = Some(Arc::new(ring));
    }
}
