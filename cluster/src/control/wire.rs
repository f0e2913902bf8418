//! Messages and entries of raft in bytes: on the wire and in the log on disk.
//!
//! The library's own format is protobuf, whose parser is not made for bytes of a network. So
//! nothing that was received is ever parsed by it; a change of the voters is taken apart here and
//! put together again.

use protobuf::Message as _;
use raft::prelude::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Entry, EntryType, HardState,
    Message, MessageType, Snapshot,
};

use crate::bytes::{Malformed, Reader, Writer};

/// The kinds of messages that nodes send one another. The others are a node's talk with itself.
const MESSAGE_TYPES: &[(u8, MessageType)] = &[
    (1, MessageType::MsgAppend),
    (2, MessageType::MsgAppendResponse),
    (3, MessageType::MsgRequestVote),
    (4, MessageType::MsgRequestVoteResponse),
    (5, MessageType::MsgSnapshot),
    (6, MessageType::MsgHeartbeat),
    (7, MessageType::MsgHeartbeatResponse),
    (8, MessageType::MsgTimeoutNow),
    (9, MessageType::MsgReadIndex),
    (10, MessageType::MsgReadIndexResp),
    (11, MessageType::MsgRequestPreVote),
    (12, MessageType::MsgRequestPreVoteResponse),
];

const CHANGE_TYPES: &[(u8, ConfChangeType)] =
    &[(1, ConfChangeType::AddNode), (2, ConfChangeType::RemoveNode), (3, ConfChangeType::AddLearnerNode)];

const TRANSITIONS: &[(u8, ConfChangeTransition)] =
    &[(1, ConfChangeTransition::Auto), (2, ConfChangeTransition::Implicit), (3, ConfChangeTransition::Explicit)];

/// How an entry is marked: a command, or a change of the voters.
const ENTRY_NORMAL: u8 = 1;
const ENTRY_VOTERS: u8 = 2;

/// Whether one node may send this kind to another.
pub fn is_sent(kind: MessageType) -> bool {
    MESSAGE_TYPES.iter().any(|(_, sent)| *sent == kind)
}

pub fn write_message(writer: &mut Writer, message: &Message) {
    writer.u8(code_of(MESSAGE_TYPES, message.get_msg_type()));
    for number in [message.to, message.from, message.term, message.log_term, message.index] {
        writer.u64(number);
    }
    for number in [message.commit, message.commit_term, message.request_snapshot, message.reject_hint] {
        writer.u64(number);
    }
    writer.bool(message.reject);
    writer.block(&message.context);
    writer.list(message.entries.iter(), write_entry);
    let snapshot = Some(message.get_snapshot()).filter(|snapshot| !snapshot.is_empty());
    writer.option(snapshot, write_snapshot);
}

pub fn read_message(reader: &mut Reader<'_>) -> Result<Message, Malformed> {
    let mut message = Message::default();
    message.set_msg_type(type_of(MESSAGE_TYPES, reader, "kind of a raft message")?);
    message.to = reader.u64("receiver")?;
    message.from = reader.u64("sender")?;
    message.term = reader.u64("term")?;
    message.log_term = reader.u64("term of the log")?;
    message.index = reader.u64("index")?;
    message.commit = reader.u64("commit")?;
    message.commit_term = reader.u64("term of the commit")?;
    message.request_snapshot = reader.u64("request of a snapshot")?;
    message.reject_hint = reader.u64("hint of a rejection")?;
    message.reject = reader.bool("rejection")?;
    message.context = reader.block("context")?.to_vec().into();
    message.entries = reader.list("entries", read_entry)?.into();
    if let Some(snapshot) = reader.option("snapshot", read_snapshot)? {
        message.set_snapshot(snapshot);
    }
    // The library takes the context of a read from the first entry without a look.
    let is_read = matches!(message.get_msg_type(), MessageType::MsgReadIndex | MessageType::MsgReadIndexResp);
    if is_read && message.entries.len() != 1 {
        return Err(reader.malformed("context of a read"));
    }
    Ok(message)
}

pub fn write_entry(writer: &mut Writer, entry: &Entry) {
    writer.u64(entry.term);
    writer.u64(entry.index);
    match entry.get_entry_type() {
        EntryType::EntryNormal => {
            writer.u8(ENTRY_NORMAL);
            writer.block(&entry.data);
        }
        EntryType::EntryConfChangeV2 => {
            writer.u8(ENTRY_VOTERS);
            write_change(writer, &change_of(entry));
        }
        EntryType::EntryConfChange => unreachable!("changes of the voters are of the second version"),
    }
}

pub fn read_entry(reader: &mut Reader<'_>) -> Result<Entry, Malformed> {
    let mut entry = Entry { term: reader.u64("term")?, index: reader.u64("index")?, ..Entry::default() };
    match reader.u8("kind of an entry")? {
        ENTRY_NORMAL => entry.data = reader.block("data")?.to_vec().into(),
        ENTRY_VOTERS => {
            entry.set_entry_type(EntryType::EntryConfChangeV2);
            let change = read_change(reader)?;
            entry.data = change.write_to_bytes().expect("all of its fields are set").into();
        }
        _ => return Err(reader.malformed("kind of an entry")),
    }
    Ok(entry)
}

/// The change of the voters that an entry is. Its bytes were made in this process.
///
/// # Panics
/// When it is none.
pub fn change_of(entry: &Entry) -> ConfChangeV2 {
    assert_eq!(entry.get_entry_type(), EntryType::EntryConfChangeV2, "entry {}", entry.index);
    let mut change = ConfChangeV2::default();
    change.merge_from_bytes(&entry.data).expect("its bytes were made by this process");
    change
}

fn write_change(writer: &mut Writer, change: &ConfChangeV2) {
    writer.u8(code_of(TRANSITIONS, change.get_transition()));
    writer.list(change.changes.iter(), |writer, single| {
        writer.u8(code_of(CHANGE_TYPES, single.get_change_type()));
        writer.u64(single.node_id);
    });
}

fn read_change(reader: &mut Reader<'_>) -> Result<ConfChangeV2, Malformed> {
    let mut change = ConfChangeV2::default();
    change.set_transition(type_of(TRANSITIONS, reader, "transition of voters")?);
    let singles = reader.list("changes of voters", |reader| {
        let mut single = ConfChangeSingle::default();
        single.set_change_type(type_of(CHANGE_TYPES, reader, "change of a voter")?);
        single.node_id = reader.u64("voter")?;
        Ok(single)
    })?;
    change.set_changes(singles.into());
    Ok(change)
}

pub fn write_conf(writer: &mut Writer, conf: &ConfState) {
    for nodes in [&conf.voters, &conf.learners, &conf.voters_outgoing, &conf.learners_next] {
        writer.list(nodes.iter(), |writer, node| writer.u64(*node));
    }
    writer.bool(conf.auto_leave);
}

pub fn read_conf(reader: &mut Reader<'_>) -> Result<ConfState, Malformed> {
    let nodes = |reader: &mut Reader<'_>| reader.list("voters", |reader| reader.u64("voter"));
    Ok(ConfState {
        voters: nodes(reader)?,
        learners: nodes(reader)?,
        voters_outgoing: nodes(reader)?,
        learners_next: nodes(reader)?,
        auto_leave: reader.bool("end of a joint configuration")?,
        ..ConfState::default()
    })
}

pub fn write_hard(writer: &mut Writer, hard: &HardState) {
    writer.u64(hard.term);
    writer.u64(hard.vote);
    writer.u64(hard.commit);
}

pub fn read_hard(reader: &mut Reader<'_>) -> Result<HardState, Malformed> {
    let (term, vote, commit) = (reader.u64("term")?, reader.u64("vote")?, reader.u64("commit")?);
    Ok(HardState { term, vote, commit, ..HardState::default() })
}

fn write_snapshot(writer: &mut Writer, snapshot: &Snapshot) {
    let metadata = snapshot.get_metadata();
    writer.u64(metadata.index);
    writer.u64(metadata.term);
    write_conf(writer, metadata.get_conf_state());
    writer.block(&snapshot.data);
}

fn read_snapshot(reader: &mut Reader<'_>) -> Result<Snapshot, Malformed> {
    let mut snapshot = Snapshot::default();
    let metadata = snapshot.mut_metadata();
    metadata.index = reader.u64("index of a snapshot")?;
    metadata.term = reader.u64("term of a snapshot")?;
    metadata.set_conf_state(read_conf(reader)?);
    snapshot.data = reader.block("data of a snapshot")?.to_vec().into();
    Ok(snapshot)
}

fn code_of<T: Copy + PartialEq>(table: &[(u8, T)], value: T) -> u8 {
    let row = table.iter().find(|(_, known)| *known == value);
    row.expect("what is not in the table is not written").0
}

fn type_of<T: Copy>(table: &[(u8, T)], reader: &mut Reader<'_>, what: &'static str) -> Result<T, Malformed> {
    let code = reader.u8(what)?;
    let row = table.iter().find(|(known, _)| *known == code);
    row.map(|(_, value)| *value).ok_or_else(|| reader.malformed(what))
}
