//! One node's part in the raft group: the library's state machine, its log on disk, and the state
//! that committed commands make.
//!
//! [`Group::settle`] does what the library asks for, in its order: new entries, votes and whatever
//! was applied become durable in one transaction, and only then leaves what depends on it. All the
//! library's traps are handled here: its random election timeouts, snapshots that got lost,
//! messages that would make it panic.
//!
//! Invariants:
//! - Nothing that a message promises is less than durable.
//! - What is applied is durable together with the votes, the commit index and the voters that go
//!   with it, or not at all.

use raft::prelude::{
    ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState, Entry, EntryType, HardState, Message, MessageType,
    Snapshot,
};
use raft::{ProgressState, RawNode, ReadOnlyOption, SnapshotStatus, StateRole, Storage};

use super::command::{Command, Outcome};
use super::log::Log;
use super::member::Membership;
use super::pairs::Pair;
use super::state::State;
use super::store::{Base, Round, Saved, Store, StoreError};
use super::wire;
use crate::bytes::{Malformed, Reader, Writer};
use crate::mutant::{Mutant, is_planted};
use crate::node::NodeNumber;
use crate::probe::{Event, hit};

/// A follower that hears no leader for longer than this many ticks, and up to twice as many, asks
/// for votes. A leader that hears no majority for as long steps down.
const ELECTION_TICKS: usize = 7;
/// Ticks between two heartbeats of raft.
const HEARTBEAT_TICKS: usize = 2;
/// Bytes of entries in one message, and of all that are not committed yet.
const MESSAGE_ENTRIES_BYTES_MAX: u64 = 256 << 10;
const UNCOMMITTED_BYTES_MAX: u64 = 16 << 20;
/// Messages with entries under way to one node.
const MESSAGES_IN_FLIGHT_MAX: usize = 64;
/// Entries that are applied and kept all the same, for nodes that lag behind.
const LOG_ENTRIES_KEPT: u64 = 4_096;
const LOG_BYTES_KEPT: u64 = 4 << 20;
/// How long a snapshot may take to arrive, in ticks, before it is sent again.
const SNAPSHOT_TICKS_MAX: u32 = 50;

const _: () = assert!(HEARTBEAT_TICKS * 3 <= ELECTION_TICKS, "a follower misses a heartbeat, and does not care");

/// What came of settling.
#[derive(Default)]
pub struct Settled {
    /// Commands that were applied, in order.
    pub applied: Vec<(Command, Outcome)>,
    /// The contexts of reads that may be answered from the state as it is now.
    pub reads: Vec<Vec<u8>>,
}

/// Why a proposal was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotProposed {
    /// Another node leads, or none.
    NotLeader,
    /// Too much waits to be committed.
    Busy,
}

pub struct Group {
    raft: RawNode<Log>,
    store: Store,
    state: State,
    applied: u64,
    /// What of that is on disk.
    durable: u64,
    /// Applied and not on disk.
    unsaved: Round,
    /// Reads whose index is not applied yet.
    reads: Vec<(u64, Vec<u8>)>,
    /// How long nodes have been waiting for a snapshot.
    snapshot_ticks: Vec<(u64, u32)>,
    random: u64,
}

impl Group {
    /// Makes the group of one member: this node. Its first command, which makes it a member of the
    /// state, is the caller's to propose.
    pub fn found(store: Store, saved: Saved, membership: Membership, random: u64) -> Result<Group, StoreError> {
        // The log begins after an entry that nobody has: whoever comes later needs a snapshot, and
        // with it learns the voters.
        let base = Base { index: 1, term: 1 };
        let conf = ConfState { voters: vec![membership.node.0], ..ConfState::default() };
        let hard = HardState { term: 1, commit: 1, ..HardState::default() };
        let round = Round {
            membership: Some(membership),
            hard: Some(hard.clone()),
            conf: Some(conf.clone()),
            base: Some(base),
            is_new_log: true,
            applied: Some(base.index),
            ..Round::default()
        };
        store.write(&round)?;
        let saved = Saved { hard, conf, base, entries: Vec::new(), applied: base.index, ..saved };
        Ok(Self::open(store, saved, membership.node, random))
    }

    /// Becomes a node of a group that will tell it everything.
    pub fn enter(store: Store, saved: Saved, membership: Membership, random: u64) -> Result<Group, StoreError> {
        store.write(&Round { membership: Some(membership), ..Round::default() })?;
        Ok(Self::open(store, saved, membership.node, random))
    }

    /// Goes on with what is on disk.
    pub fn open(store: Store, saved: Saved, node: NodeNumber, random: u64) -> Group {
        let Saved { hard, conf, base, entries, applied, state, .. } = saved;
        let config = raft::Config {
            id: node.0,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied,
            max_size_per_msg: MESSAGE_ENTRIES_BYTES_MAX,
            max_inflight_msgs: MESSAGES_IN_FLIGHT_MAX,
            check_quorum: true,
            pre_vote: true,
            read_only_option: ReadOnlyOption::Safe,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
            max_committed_size_per_ready: MESSAGE_ENTRIES_BYTES_MAX,
            ..raft::Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let log = Log::new(hard, conf, base, entries);
        let raft = RawNode::new(&config, log, &logger).expect("the configuration is sound");
        let mut group = Self {
            raft,
            store,
            state,
            applied,
            durable: applied,
            unsaved: Round::default(),
            reads: Vec::new(),
            snapshot_ticks: Vec::new(),
            random,
        };
        group.set_timeout();
        group
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn node(&self) -> NodeNumber {
        NodeNumber(self.raft.raft.id)
    }

    pub fn term(&self) -> u64 {
        self.raft.raft.term
    }

    /// The last entry that is in the state.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    pub fn is_leader(&self) -> bool {
        self.raft.raft.state == StateRole::Leader
    }

    pub fn leader(&self) -> Option<NodeNumber> {
        Some(self.raft.raft.leader_id).filter(|leader| *leader != raft::INVALID_ID).map(NodeNumber)
    }

    /// Who votes, as far as this node has applied.
    pub fn voters(&self) -> &ConfState {
        &self.raft.store().conf
    }

    /// Whether the group needs this node's vote, or will as long as a change of voters is not over.
    pub fn votes(&self, node: NodeNumber) -> bool {
        let conf = self.voters();
        [&conf.voters, &conf.voters_outgoing].into_iter().any(|voters| voters.contains(&node.0))
    }

    pub fn tick(&mut self) {
        self.raft.tick();
        self.set_timeout();
        self.resend_snapshots();
    }

    /// Takes a message in. What makes no sense is dropped.
    pub fn step(&mut self, message: Message) {
        if message.to != self.raft.raft.id || !wire::is_sent(message.get_msg_type()) {
            return;
        }
        // The library would panic: it takes for granted that a follower never loses its log.
        let is_heartbeat = message.get_msg_type() == MessageType::MsgHeartbeat;
        if is_heartbeat && message.commit > self.raft.raft.raft_log.last_index() {
            tracing::error!(commit = message.commit, "the leader counts on entries that this node does not have");
            return;
        }
        // An error says that the message is not for this node in its state.
        let _ = self.raft.step(message);
        self.set_timeout();
    }

    pub fn propose(&mut self, command: &Command) -> Result<(), NotProposed> {
        if !self.is_leader() {
            return Err(NotProposed::NotLeader);
        }
        self.raft.propose(Vec::new(), command.encode()).map_err(|_| NotProposed::Busy)
    }

    /// Asks for a read: its context comes back once the state is as new as now. It may also be
    /// lost.
    pub fn read(&mut self, context: Vec<u8>) {
        self.raft.read_index(context);
    }

    /// Changes who votes and who only follows; through both groups of voters, if there is more than
    /// one change. Nothing happens while another change is under way.
    pub fn change_voters(&mut self, changes: &[(ConfChangeType, NodeNumber)]) -> Result<(), NotProposed> {
        if !self.is_leader() {
            return Err(NotProposed::NotLeader);
        }
        if self.raft.raft.has_pending_conf() {
            return Err(NotProposed::Busy);
        }
        let mut change = ConfChangeV2::default();
        let singles = changes.iter().map(|(kind, node)| {
            let mut single = ConfChangeSingle::default();
            single.set_change_type(*kind);
            single.node_id = node.0;
            single
        });
        change.set_changes(singles.collect::<Vec<_>>().into());
        self.raft.propose_conf_change(Vec::new(), change).map_err(|_| NotProposed::Busy)
    }

    /// Lets another voter lead, if it is up to date.
    pub fn hand_over(&mut self, to: NodeNumber) {
        self.raft.transfer_leader(to.0);
    }

    /// Whether the library knows this node, as a voter or a learner, to have all that is committed.
    pub fn is_caught_up(&self, node: NodeNumber) -> bool {
        let raft = &self.raft.raft;
        raft.prs().get(node.0).is_some_and(|progress| progress.matched >= raft.raft_log.committed)
    }

    /// A node was not reached: what was sent to it is probably lost.
    pub fn unreachable(&mut self, node: NodeNumber) {
        self.raft.report_unreachable(node.0);
    }

    /// Does everything that the library asks for. Gives `send` what may leave at once, before this
    /// call ends.
    ///
    /// # Errors
    /// After the first one the group must not be used any more.
    pub fn settle(&mut self, send: &mut impl FnMut(Message)) -> Result<Settled, StoreError> {
        let mut settled = Settled::default();
        while self.raft.has_ready() {
            let mut ready = self.raft.ready();
            ready.take_messages().into_iter().for_each(&mut *send);
            let reads = ready.take_read_states();
            self.reads.extend(reads.into_iter().map(|read| (read.index, read.request_ctx)));
            if !ready.snapshot().is_empty() {
                self.restore(ready.snapshot())?;
            }
            self.apply(ready.take_committed_entries(), &mut settled)?;
            let entries = ready.take_entries();
            self.raft.mut_store().append(&entries);
            if ready.must_sync() {
                self.unsaved.entries = entries;
                self.save()?;
            }
            ready.take_persisted_messages().into_iter().for_each(&mut *send);
            let mut light = self.raft.advance_append(ready);
            light.take_messages().into_iter().for_each(&mut *send);
            self.apply(light.take_committed_entries(), &mut settled)?;
            self.raft.advance_apply_to(self.applied);
            self.offer_snapshot();
        }
        let applied = if is_planted(Mutant::ReadUnapplied) { u64::MAX } else { self.applied };
        let ripe = self.reads.extract_if(.., |(index, _)| *index <= applied);
        settled.reads.extend(ripe.map(|(_, context)| context));
        Ok(settled)
    }

    fn apply(&mut self, entries: Vec<Entry>, settled: &mut Settled) -> Result<(), StoreError> {
        for entry in entries {
            assert_eq!(entry.index, self.applied + 1, "entries are applied in order, each once");
            match entry.get_entry_type() {
                // A new leader's first, which says nothing.
                EntryType::EntryNormal if entry.data.is_empty() => {}
                EntryType::EntryNormal => {
                    let command = Command::decode(&entry.data).map_err(StoreError::Malformed)?;
                    let outcome = self.state.apply(&command, &mut self.unsaved.writes);
                    settled.applied.push((command, outcome));
                }
                _ => {
                    let conf = self.raft.apply_conf_change(&wire::change_of(&entry));
                    let conf = conf.expect("a leader proposes what its voters can do");
                    if !conf.voters_outgoing.is_empty() {
                        hit(Event::VotersJoint);
                    }
                    self.raft.mut_store().conf = conf.clone();
                    // A node refuses a snapshot of a time before it was there.
                    self.raft.store().offer_snapshot(None);
                    self.unsaved.conf = Some(conf).filter(|_| !is_planted(Mutant::VotersForgotten));
                }
            }
            self.applied = entry.index;
        }
        Ok(())
    }

    /// Takes the state of another node in place of one's own.
    fn restore(&mut self, snapshot: &Snapshot) -> Result<(), StoreError> {
        hit(Event::SnapshotRestored);
        let metadata = snapshot.get_metadata();
        let pairs = decode_pairs(&snapshot.data).map_err(StoreError::Malformed)?;
        let borrowed = pairs.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        self.state = State::of_pairs(borrowed).map_err(StoreError::Malformed)?;
        let base = Base { index: metadata.index, term: metadata.term };
        self.raft.mut_store().restart(base, metadata.get_conf_state().clone());
        self.applied = base.index;
        self.unsaved = Round {
            conf: Some(metadata.get_conf_state().clone()),
            base: Some(base),
            is_new_log: true,
            state: Some(pairs),
            ..Round::default()
        };
        Ok(())
    }

    /// Makes everything durable that is not.
    fn save(&mut self) -> Result<(), StoreError> {
        let mut hard = self.raft.raft.hard_state();
        self.raft.mut_store().hard = hard.clone();
        if is_planted(Mutant::VoteForgotten) {
            hard.vote = 0;
        }
        self.unsaved.hard = Some(hard);
        self.unsaved.applied = Some(self.applied);
        self.store.write(&self.unsaved)?;
        self.unsaved = Round::default();
        self.durable = self.applied;
        self.compact();
        Ok(())
    }

    /// Forgets entries that hardly anybody needs. Those on disk go with the next transaction.
    fn compact(&mut self) {
        let log = self.raft.mut_store();
        let base = log.base().index;
        let too_many = self.durable.saturating_sub(base) > 2 * LOG_ENTRIES_KEPT;
        // Counting is dear: now and then is enough.
        let too_large = self.durable.is_multiple_of(64) && log.bytes_up_to(self.durable) > 2 * LOG_BYTES_KEPT;
        let kept = if too_large { 0 } else { LOG_ENTRIES_KEPT };
        if too_many || too_large {
            hit(Event::LogCut);
            self.unsaved.base = Some(log.compact((self.durable - kept).max(base)));
        }
    }

    fn offer_snapshot(&mut self) {
        let log = self.raft.store();
        if !log.take_snapshot_wish() {
            return;
        }
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = self.applied;
        metadata.term = log.term(self.applied).expect("what is applied is in the log");
        metadata.set_conf_state(log.conf.clone());
        snapshot.data = encode_pairs(&self.state.pairs()).into();
        log.offer_snapshot(Some(snapshot));
    }

    /// Nobody tells the library that a snapshot was lost: it would wait for ever.
    fn resend_snapshots(&mut self) {
        let waiting = self.raft.raft.prs().iter().filter(|(_, progress)| progress.state == ProgressState::Snapshot);
        let before = std::mem::take(&mut self.snapshot_ticks);
        let ticks_of = |node: u64| before.iter().find(|(other, _)| *other == node).map_or(0, |(_, ticks)| *ticks);
        self.snapshot_ticks = waiting.map(|(node, _)| (*node, ticks_of(*node) + 1)).collect();
        let lost: Vec<u64> = self
            .snapshot_ticks
            .iter()
            .filter(|(_, ticks)| *ticks >= SNAPSHOT_TICKS_MAX)
            .map(|(node, _)| *node)
            .collect();
        for node in lost {
            hit(Event::SnapshotLost);
            self.raft.report_snapshot(node, SnapshotStatus::Failure);
        }
        if self.snapshot_ticks.is_empty() {
            self.raft.store().offer_snapshot(None);
        }
    }

    /// The library draws election timeouts by a chance that no simulation can repeat. So each is
    /// replaced by one that this node has for the term: rivals of one term part in the next.
    fn set_timeout(&mut self) {
        // The finaliser of SplitMix64 (Steele et al., OOPSLA 2014).
        let mut mixed = self.random ^ self.raft.raft.term.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let ticks = (mixed ^ (mixed >> 31)) as usize % ELECTION_TICKS;
        self.raft.raft.set_randomized_election_timeout(ELECTION_TICKS + ticks);
    }
}

fn encode_pairs(pairs: &[Pair]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.list(pairs.iter(), |writer, (key, value)| {
        writer.block(key);
        writer.block(value);
    });
    writer.into_bytes()
}

fn decode_pairs(bytes: &[u8]) -> Result<Vec<Pair>, Malformed> {
    let mut reader = Reader::new(bytes);
    let pair = |reader: &mut Reader<'_>| Ok((reader.block("key")?.to_vec(), reader.block("value")?.to_vec()));
    let pairs = reader.list("pairs of a snapshot", pair)?;
    reader.end("snapshot")?;
    Ok(pairs)
}
