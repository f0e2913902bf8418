//! A node's part in its cluster: it takes part in raft, asks which start of it this is, sends
//! heartbeats and what it wants of the group, and does a leader's duties while it leads.

use std::collections::BTreeMap;
use std::time::Duration;

use nabu_engine::io::Instant;

use super::arrivals::Arrivals;
use super::command::{Change, Command, Outcome, Refusal};
use super::departure::{Departure, Next};
use super::duties::Duties;
use super::group::{Group, NotProposed};
use super::lease::Lease;
use super::member::{Incarnation, Member, MemberState, Membership, StoreId};
use super::message::{Heard, Heartbeat, HeartbeatAnswer, Load, Message, NotJoined, Sender};
use super::ports::{Answer, Failure, Output};
use super::reports::Reports;
use super::requests::{RETRY_AFTER, Requests};
use super::settings::Settings;
use super::store::StoreError;
use super::verdicts::{Answered, Verdicts};
use super::voters::VOTERS_MAX;
use crate::mutant::{Mutant, is_planted};
use crate::node::NodeNumber;
use crate::probe::{Event, hit};

/// After so many tries to be told its incarnation a node asks whether it is a member at all.
const STARTS_BEFORE_ASKING: u64 = 4;
/// Nodes that take part in raft and are no members, or not yet as far as is known here.
const HEARD_AT_MAX: usize = 2 * VOTERS_MAX;
/// How long a node goes by what another has said of the leader.
const HINT_FOR: Duration = Duration::from_secs(2);

/// A member of a cluster, or one that was told that it is.
pub struct Participant {
    membership: Membership,
    store: StoreId,
    group: Group,
    incarnation: Option<Incarnation>,
    /// When this node last asked for its incarnation.
    start_sent: Option<Instant>,
    starts_sent: u64,
    lease: Lease,
    verdicts: Verdicts,
    duties: Duties,
    arrivals: Arrivals,
    reports: Reports,
    contexts: u64,
    /// Where nodes are that the state says nothing of yet, as they said themselves.
    heard_at: BTreeMap<NodeNumber, String>,
    /// Where the leader is, as another node has said, and when.
    hint: Option<(String, Instant)>,
    /// The next of the nodes that are asked when no leader is known.
    turn: usize,
    /// It was removed by the others.
    is_removed: bool,
    led_term: Option<u64>,
    /// It is about to stop.
    departure: Option<Departure>,
}

impl Participant {
    pub fn new(membership: Membership, store: StoreId, group: Group) -> Self {
        Self {
            membership,
            store,
            group,
            incarnation: None,
            start_sent: None,
            starts_sent: 0,
            lease: Lease::default(),
            verdicts: Verdicts::default(),
            duties: Duties::default(),
            arrivals: Arrivals::default(),
            reports: Reports::default(),
            contexts: 0,
            heard_at: BTreeMap::new(),
            hint: None,
            turn: 0,
            is_removed: false,
            led_term: None,
            departure: None,
        }
    }

    pub fn membership(&self) -> Membership {
        self.membership
    }

    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Which start of this node this is, once the group has said so.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.incarnation
    }

    pub fn is_removed(&self) -> bool {
        self.is_removed
    }

    /// How full each node was when it was last heard of.
    pub fn loads(&self) -> &BTreeMap<NodeNumber, Load> {
        self.verdicts.loads()
    }

    /// Time has passed: so many ticks are to be made up for. A node that was stopped for long
    /// trusts nothing that it heard before.
    pub fn tick(
        &mut self,
        now: Instant,
        ticks: u64,
        has_stalled: bool,
        settings: &Settings,
        outputs: &mut Vec<Output>,
    ) {
        (0..ticks).for_each(|_| self.group.tick());
        if has_stalled && self.verdicts.is_leading() {
            hit(Event::LeaderStalled);
            self.verdicts.lead(now);
        }
        self.arrivals.give_up(now, outputs);
        if self.verdicts.is_leading() {
            self.duties.look(&mut self.group, &mut self.verdicts, settings.patience, now);
        }
    }

    /// Since when this node is back, and has to pull what it missed.
    pub fn returning_since(&self) -> Option<u64> {
        let member = self.group.state().members.get(&self.me());
        member.filter(|member| member.state == MemberState::Returning).map(|member| member.state_since)
    }

    /// What this node has pulled.
    pub fn reports(&mut self) -> &mut Reports {
        &mut self.reports
    }

    /// The link to an address broke.
    pub fn unreachable(&mut self, address: &str) {
        let mut members = self.group.state().members.iter();
        let node = members.find(|(_, member)| member.profile.address == address).map(|(node, _)| *node);
        if let Some(node) = node {
            self.group.unreachable(node);
        }
    }

    /// The node is to stop. Whatever comes of it, from now on it relies on nothing.
    pub fn stop(&mut self, now: Instant) {
        if self.departure.is_none() {
            self.departure = Some(Departure::new(now));
            if !is_planted(Mutant::StopInContact) {
                self.lease.end();
            }
        }
    }

    /// Goes on with the stop, if the node is to.
    fn depart(&mut self, now: Instant, settings: &Settings, outputs: &mut Vec<Output>) {
        let Some(departure) = &mut self.departure else { return };
        match departure.next(&self.group, self.incarnation, now) {
            Next::Wait => {}
            Next::HandOver(heir) => self.group.hand_over(heir),
            Next::Declare(incarnation) => {
                let change = Change::Stop { node: self.me(), incarnation };
                self.forward(Command { origin: None, change }, settings, now, outputs);
            }
            Next::Over { is_agreed } => {
                hit(if is_agreed { Event::StopAgreed } else { Event::StopUnagreed });
                outputs.push(Output::Stopped { is_agreed });
            }
        }
    }

    fn me(&self) -> NodeNumber {
        self.membership.node
    }

    /// Until when the group surely counts this node as active, as far as is known now.
    pub fn contact_until(&self) -> Option<Instant> {
        let state = self.group.state();
        let member = state.members.get(&self.me());
        let answers_alone = |member: &&Member| {
            let is_back = member.state == MemberState::Returning && is_planted(Mutant::ReturningInContact);
            member.state == MemberState::Active || is_back
        };
        let is_active = member.filter(answers_alone).is_some_and(|member| Some(member.incarnation) == self.incarnation);
        self.lease.until(state.ring_version).filter(|_| is_active)
    }

    fn address_of(&self, node: NodeNumber) -> Option<String> {
        let member = self.group.state().members.get(&node);
        member.map(|member| member.profile.address.clone()).or_else(|| self.heard_at.get(&node).cloned())
    }

    /// Where the leader is that this node knows, unless that is itself.
    fn leader_elsewhere(&self) -> Option<String> {
        let leader = self.group.leader().filter(|leader| *leader != self.me());
        leader.and_then(|leader| self.address_of(leader))
    }

    /// Where the leader is; if none is known, one of those who might know.
    fn leader_or_other(&mut self, settings: &Settings, now: Instant) -> Option<String> {
        let me = self.me();
        // A hint came because what this node believed was wrong: one that is not told anything any
        // more believes for ever in the leader that it had.
        let hint = self.hint.as_ref().filter(|(_, at)| now.since(*at) < HINT_FOR);
        if let Some((hint, _)) = hint {
            return Some(hint.clone());
        }
        if let Some(address) = self.leader_elsewhere() {
            return Some(address);
        }
        let members = self.group.state().members.iter().filter(|(node, _)| **node != me);
        let mut others: Vec<&str> = members.map(|(_, member)| member.profile.address.as_str()).collect();
        others.extend(settings.seeds.iter().map(String::as_str).filter(|seed| *seed != settings.profile.address));
        if others.is_empty() {
            return None;
        }
        self.turn += 1;
        Some(others[self.turn % others.len()].into())
    }

    /// Whether a message may be from the member that it says it is from.
    fn is_genuine(&self, sender: &Sender, node: NodeNumber) -> bool {
        let state = self.group.state();
        let is_member = match (state.members.get(&node), state.retired.get(&node)) {
            (Some(member), _) => member.store == Some(sender.store),
            // It was removed, and may vote until the group has agreed that it doesn't.
            (None, Some(retired)) => *retired == sender.store,
            // It joined after all that is known here, or says so: it proved the secret.
            (None, None) => node.0 > state.last_number,
        };
        is_member && sender.node == Some(node) && sender.cluster == Some(self.membership.cluster)
    }

    /// Takes a message of another node in.
    pub fn receive(
        &mut self,
        now: Instant,
        sender: Sender,
        message: Message,
        requests: &mut Requests,
        outputs: &mut Vec<Output>,
    ) {
        let answer = match message {
            Message::Probe { asked } => {
                Message::Probed { asked, cluster: Some(self.membership.cluster), may_found: false }
            }
            Message::Raft(message) => {
                let from = NodeNumber(message.from);
                if self.is_genuine(&sender, from) {
                    if self.is_unknown(from) {
                        self.heard_at.insert(from, sender.address);
                        if self.heard_at.len() > HEARD_AT_MAX {
                            self.heard_at.pop_first();
                        }
                    }
                    self.group.step(*message);
                }
                return;
            }
            Message::Join { node_id, profile } => {
                let is_other = sender.cluster.is_some_and(|cluster| cluster != self.membership.cluster);
                let is_founded = self.group.state().cluster.is_some();
                let (to, store) = (sender.address.clone(), sender.store);
                if !is_other && is_founded && self.arrivals.ask(now, sender, node_id, profile) {
                    return;
                }
                outputs.push(Output::Send { to, message: Message::Joined { store, told: Err(NotJoined::NotNow) } });
                return;
            }
            Message::Forward(command) => {
                let is_its_own = command.origin.is_none_or(|origin| Some(origin.node) == sender.node);
                let is_member = sender.cluster == Some(self.membership.cluster) && is_its_own;
                if !is_member || self.group.propose(&command) == Ok(()) {
                    return;
                }
                Message::NotProposed { leader: self.leader_elsewhere() }
            }
            Message::NotProposed { leader } => {
                // Without a hint, or told twice in a short time, it waits for the next attempt:
                // nodes that know no leader would send it to and fro.
                let is_told = self.hint.as_ref().is_some_and(|(_, at)| now.since(*at) < RETRY_AFTER);
                if let Some(leader) = leader.filter(|_| !is_told) {
                    self.hint = Some((leader, now));
                    requests.send_again();
                    self.start_sent = None;
                    self.arrivals.send_again();
                }
                return;
            }
            Message::Heartbeat(_) if !self.group.is_leader() => {
                let leader = self.leader_elsewhere();
                if leader.is_none() || sender.cluster != Some(self.membership.cluster) {
                    return;
                }
                Message::NotProposed { leader }
            }
            Message::Heartbeat(heartbeat) => {
                if let Some(node) = sender.node.filter(|node| self.is_genuine(&sender, *node) || self.is_unknown(*node))
                {
                    self.verdicts.receive(node, &sender.address, heartbeat);
                }
                return;
            }
            Message::HeartbeatAnswer(answer) => {
                if sender.cluster == Some(self.membership.cluster) {
                    self.heard(answer, now, requests, outputs);
                }
                return;
            }
            Message::Joined { told: Err(NotJoined::Refused(Refusal::Retired { store })), .. }
                if store == self.store =>
            {
                self.removed();
                return;
            }
            Message::Probed { .. } | Message::Joined { .. } => return,
        };
        outputs.push(Output::Send { to: sender.address, message: answer });
    }

    fn is_unknown(&self, node: NodeNumber) -> bool {
        !self.group.state().members.contains_key(&node)
    }

    /// The leader has answered a heartbeat.
    fn heard(&mut self, answer: HeartbeatAnswer, now: Instant, requests: &mut Requests, outputs: &mut Vec<Output>) {
        match answer.standing {
            Heard::Member(MemberState::Active) => self.lease.answered(&answer, now),
            Heard::Member(MemberState::Returning) if is_planted(Mutant::ReturningInContact) => {
                self.lease.answered(&answer, now);
            }
            Heard::Member(_) => self.lease.end(),
            // A start of this process, told late, counted as another one; or somebody runs on a
            // copy of this node's disk.
            Heard::Old { current } if self.incarnation.is_some_and(|mine| mine < current) => {
                tracing::warn!(
                    current = current.0,
                    "the cluster counts a later start of this node: it asks for a new incarnation"
                );
                self.lease.end();
                self.incarnation = None;
                let abandoned = requests.abandon_commands();
                outputs.extend(abandoned.into_iter().map(|id| Output::Answer(id, Err(Failure::TimedOut))));
            }
            Heard::Old { .. } => {}
            Heard::Unknown => {
                self.lease.end();
                let state = self.group.state();
                // Behind the leader it may not know yet that it is a member.
                if state.ring_version <= answer.ring_version && self.incarnation.is_some() {
                    self.removed();
                }
            }
        }
        let loads = answer.loads;
        self.verdicts.learn_loads(loads, self.group.state());
    }

    fn removed(&mut self) {
        if !self.is_removed {
            tracing::error!("the cluster has removed this node for good");
            self.is_removed = true;
        }
    }

    /// Proposes at once if this node leads, and else sends it to who does.
    fn forward(&mut self, command: Command, settings: &Settings, now: Instant, outputs: &mut Vec<Output>) {
        match self.group.propose(&command) {
            Ok(()) | Err(NotProposed::Busy) => {}
            Err(NotProposed::NotLeader) => {
                if let Some(to) = self.leader_or_other(settings, now) {
                    outputs.push(Output::Send { to, message: Message::Forward(command) });
                }
            }
        }
    }

    /// Sends what is due.
    pub fn send_due(
        &mut self,
        now: Instant,
        settings: &Settings,
        load: Load,
        requests: &mut Requests,
        outputs: &mut Vec<Output>,
    ) {
        self.found(settings);
        self.start(now, settings, outputs);
        self.depart(now, settings, outputs);
        if let Some(incarnation) = self.incarnation {
            for command in requests.commands_due(self.me(), incarnation, now) {
                self.forward(command, settings, now, outputs);
            }
            for change in self.reports.due(self.membership.node, incarnation, self.group.state(), now) {
                self.forward(Command { origin: None, change }, settings, now, outputs);
            }
            let is_leaving = self.departure.is_some();
            if !is_leaving && self.lease.next().is_none_or(|next| now >= next) {
                self.send_heartbeat(incarnation, now, load, settings, outputs);
            }
        }
        for context in
            requests.reads_due(now, || next_context(&mut self.contexts, self.membership.node, settings.nonce))
        {
            self.group.read(context);
        }
        if !self.verdicts.is_leading() {
            return;
        }
        if is_planted(Mutant::AckUnconfirmed) {
            let answers = self.verdicts.unconfirmed(now, &self.group);
            self.send_answers(answers, now, requests, outputs);
        }
        let context = || next_context(&mut self.contexts, self.membership.node, settings.nonce);
        if let Some(context) = self.verdicts.ask(now, context) {
            self.group.read(context);
        }
    }

    /// The founder makes itself the first member, as soon as it leads.
    fn found(&mut self, settings: &Settings) {
        if self.group.state().cluster.is_none() && self.group.is_leader() && self.group.applied() > 1 {
            let change = Change::Bootstrap {
                cluster: self.membership.cluster,
                node_id: settings.node_id.clone(),
                store: self.store,
                profile: settings.profile.clone(),
            };
            // It is refused if it is there already.
            let _ = self.group.propose(&Command { origin: None, change });
        }
    }

    /// Asks the group which start of this node this is.
    fn start(&mut self, now: Instant, settings: &Settings, outputs: &mut Vec<Output>) {
        if self.incarnation.is_some() || self.is_removed || self.departure.is_some() {
            return;
        }
        let (node, store) = (self.me(), self.store);
        let member = self.group.state().members.get(&node).filter(|member| member.store == Some(store));
        let start_nonce = member.map(|member| member.start_nonce);
        if start_nonce == Some(settings.nonce) {
            self.incarnation = member.map(|member| member.incarnation);
            return;
        }
        if self.start_sent.is_some_and(|sent| now.since(sent) < RETRY_AFTER) {
            return;
        }
        self.start_sent = Some(now);
        self.starts_sent += 1;
        if start_nonce.is_some() {
            let change = Change::Start { node, store, nonce: settings.nonce, profile: settings.profile.clone() };
            self.forward(Command { origin: None, change }, settings, now, outputs);
        }
        // Nobody sends anything to a node that was removed: it has to ask.
        let is_asking = self.starts_sent.is_multiple_of(STARTS_BEFORE_ASKING);
        if let Some(to) = is_asking.then(|| self.leader_or_other(settings, now)).flatten() {
            let message = Message::Join { node_id: settings.node_id.clone(), profile: settings.profile.clone() };
            outputs.push(Output::Send { to, message });
        }
    }

    fn send_heartbeat(
        &mut self,
        incarnation: Incarnation,
        now: Instant,
        load: Load,
        settings: &Settings,
        outputs: &mut Vec<Output>,
    ) {
        let sequence = self.lease.send(now);
        let heartbeat = Heartbeat { sequence, incarnation, ring_version: self.group.state().ring_version, load };
        if self.group.is_leader() {
            self.verdicts.receive(self.me(), &settings.profile.address, heartbeat);
        } else if let Some(to) = self.leader_or_other(settings, now) {
            outputs.push(Output::Send { to, message: Message::Heartbeat(heartbeat) });
        }
    }

    /// Makes durable what has come, and passes on what is settled.
    ///
    /// # Errors
    /// The file failed.
    pub fn settle(
        &mut self,
        now: Instant,
        settings: &Settings,
        requests: &mut Requests,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        for change in self.arrivals.due(now) {
            self.forward(Command { origin: None, change }, settings, now, outputs);
        }
        let mut messages = Vec::new();
        let settled = self.group.settle(&mut |message| messages.push(message))?;
        for message in messages {
            if let Some(to) = self.address_of(NodeNumber(message.to)) {
                outputs.push(Output::Send { to, message: Message::Raft(Box::new(message)) });
            }
        }
        self.follow_leadership(now);
        for (command, outcome) in settled.applied {
            self.applied(command, outcome, now, requests, outputs);
        }
        for context in settled.reads {
            outputs.extend(requests.read(&context).into_iter().map(|id| Output::Answer(id, Ok(Answer::Read))));
            let answers = self.verdicts.confirmed(&context, now, &self.group);
            self.send_answers(answers, now, requests, outputs);
        }
        self.verdicts.retain(self.group.state());
        let is_retired = self.group.state().retired.get(&self.me()) == Some(&self.store);
        if is_retired && !self.group.votes(self.me()) {
            self.removed();
        }
        let members = &self.group.state().members;
        self.heard_at.retain(|node, _| !members.contains_key(node));
        Ok(())
    }

    fn follow_leadership(&mut self, now: Instant) {
        let led_term = self.group.is_leader().then(|| self.group.term());
        if led_term == self.led_term {
            return;
        }
        self.led_term = led_term;
        self.verdicts.follow();
        if let Some(term) = led_term {
            tracing::info!(term, "this node leads the cluster");
            self.verdicts.lead(now);
        }
    }

    fn applied(
        &mut self,
        command: Command,
        outcome: Outcome,
        now: Instant,
        requests: &mut Requests,
        outputs: &mut Vec<Output>,
    ) {
        if let Some(origin) = command.origin {
            if let Outcome::Joined { node } = outcome {
                self.verdicts.came(node, now);
            }
            let is_mine = origin.node == self.me() && Some(origin.incarnation) == self.incarnation;
            if let Some(id) = is_mine.then(|| requests.resolve(origin.sequence)).flatten() {
                outputs.push(Output::Answer(id, Ok(Answer::Outcome(outcome))));
            }
            return;
        }
        match (&command.change, &outcome) {
            (Change::Offline { node, incarnation }, _) => self.verdicts.decided(*node, *incarnation),
            (Change::Activate { node, .. } | Change::Back { node, .. }, Outcome::Settled { .. }) => {
                self.verdicts.counted_on(*node, now);
            }
            // Its time to come begins.
            (Change::Join { .. }, Outcome::Joined { node }) => self.verdicts.came(*node, now),
            _ => {}
        }
        if let Change::Join { store: Some(store), .. } = command.change {
            if let Outcome::Refused(Refusal::Conflict { node }) = outcome {
                self.duties.contested(node, store, &mut self.group, &self.verdicts, now);
            }
            self.joined(store, &outcome, outputs);
        }
    }

    /// Tells a node that asked here whether it may join.
    fn joined(&mut self, store: StoreId, outcome: &Outcome, outputs: &mut Vec<Output>) {
        let retired = self.group.state().retired.iter().find(|(_, retired)| **retired == store);
        let told = match outcome {
            // Only when its vote is not needed any more is it over.
            Outcome::Refused(_) if retired.is_some_and(|(node, _)| self.group.votes(*node)) => Err(NotJoined::NotNow),
            Outcome::Joined { node } => Ok(Membership { cluster: self.membership.cluster, node: *node }),
            Outcome::Refused(refusal) => Err(NotJoined::Refused(refusal.clone())),
            _ => Err(NotJoined::Refused(Refusal::Invalid)),
        };
        self.arrivals.tell(store, &told, outputs);
    }

    fn send_answers(
        &mut self,
        answers: Vec<Answered>,
        now: Instant,
        requests: &mut Requests,
        outputs: &mut Vec<Output>,
    ) {
        for answered in answers {
            let state = self.group.state();
            let is_newest = answered.ring_version >= state.ring_version;
            if let Some(member) = state.members.get(&answered.node).filter(|_| is_newest).cloned() {
                self.duties.heard(answered.node, &member, &mut self.group, now);
            }
            if answered.node == self.me() {
                self.heard(answered.answer, now, requests, outputs);
            } else {
                let message = Message::HeartbeatAnswer(answered.answer);
                outputs.push(Output::Send { to: answered.address, message });
            }
        }
    }
}

/// A name for a read that no other has, of this node or another.
fn next_context(contexts: &mut u64, node: NodeNumber, nonce: u64) -> Vec<u8> {
    *contexts += 1;
    [node.0, nonce, *contexts].map(u64::to_le_bytes).concat()
}
