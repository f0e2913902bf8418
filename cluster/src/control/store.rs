//! What a node keeps on disk for the group: raft's log and votes, and the state, in one `redb`
//! file.
//!
//! All that a round changes is one durable transaction, so that no crash takes log and state apart.
//!
//! Invariants:
//! - A transaction that failed is the last: what it left on disk is known only to the next start.
//! - The state on disk is that after the entry `applied`, and no entry above `applied` is missing
//!   in the log.

use std::fmt;

use raft::prelude::{ConfState, Entry, HardState};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use super::keys::Write;
use super::member::{ClusterId, Membership, StoreId};
use super::state::State;
use super::wire;
use crate::bytes::{Malformed, Reader, Writer};
use crate::mutant::{Mutant, is_planted};
use crate::node::NodeNumber;

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const STATE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("state");
const NOTES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("notes");

/// The form of what lies in the file.
const FORMAT: u32 = 2;
/// What `redb` may keep of the file in memory.
const CACHE_BYTES: usize = 4 << 20;

/// The keys of the notes.
mod note {
    pub const FORMAT: &str = "format";
    pub const STORE: &str = "store";
    pub const MEMBERSHIP: &str = "membership";
    pub const HARD: &str = "hard state";
    pub const CONF: &str = "voters";
    pub const BASE: &str = "base";
    pub const APPLIED: &str = "applied";
}

/// Why the file can't be used.
#[derive(Debug)]
pub enum StoreError {
    /// `redb` or the disk below it failed.
    Database(Box<redb::Error>),
    /// What was read is not what this program writes.
    Malformed(Malformed),
    /// Another release wrote it.
    Format { found: u32 },
}

impl fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Database(error) => write!(formatter, "{error}"),
            StoreError::Malformed(malformed) => write!(formatter, "{malformed}"),
            StoreError::Format { found } => {
                write!(formatter, "format {found} is not format {FORMAT}, which this release reads")
            }
        }
    }
}

impl std::error::Error for StoreError {}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        StoreError::Database(Box::new(error.into()))
    }
}

/// The index and the term of the entry before the first of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Base {
    pub index: u64,
    pub term: u64,
}

/// What the file holds.
#[derive(Debug)]
pub struct Saved {
    pub store: StoreId,
    /// `None` before the node belongs to a cluster.
    pub membership: Option<Membership>,
    pub hard: HardState,
    pub conf: ConfState,
    pub base: Base,
    pub entries: Vec<Entry>,
    pub applied: u64,
    pub state: State,
}

/// What one transaction writes.
#[derive(Default)]
pub struct Round {
    pub membership: Option<Membership>,
    pub hard: Option<HardState>,
    pub conf: Option<ConfState>,
    /// The log begins after this entry now; those up to it go.
    pub base: Option<Base>,
    /// New entries; whatever was at or after the first of them goes.
    pub entries: Vec<Entry>,
    /// The log is empty but for what is in `entries`.
    pub is_new_log: bool,
    pub applied: Option<u64>,
    /// The pairs of the state are these alone.
    pub state: Option<Vec<(Vec<u8>, Vec<u8>)>>,
    /// Pairs that changed, in order, after that.
    pub writes: Vec<Write>,
}

/// The open file.
pub struct Store {
    database: Database,
}

impl Store {
    /// Opens the file, or makes it, for the store of this id.
    pub fn open(backend: impl StorageBackend, new_store: StoreId) -> Result<(Store, Saved), StoreError> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend)?;
        let store = Store { database };
        store.make(new_store)?;
        let saved = store.load()?;
        Ok((store, saved))
    }

    /// Makes the tables of a new file.
    fn make(&self, new_store: StoreId) -> Result<(), StoreError> {
        let transaction = self.database.begin_write()?;
        {
            transaction.open_table(LOG)?;
            transaction.open_table(STATE)?;
            let mut notes = transaction.open_table(NOTES)?;
            if notes.get(note::FORMAT)?.is_some() {
                drop(notes);
                transaction.abort()?;
                return Ok(());
            }
            notes.insert(note::FORMAT, FORMAT.to_le_bytes().as_slice())?;
            notes.insert(note::STORE, new_store.0.as_slice())?;
        }
        transaction.commit()?;
        Ok(())
    }

    fn load(&self) -> Result<Saved, StoreError> {
        let transaction = self.database.begin_read()?;
        let notes = transaction.open_table(NOTES)?;
        let note = |name: &'static str| -> Result<Option<Vec<u8>>, StoreError> {
            Ok(notes.get(name)?.map(|value| value.value().to_vec()))
        };
        let format = note(note::FORMAT)?.unwrap_or_default();
        match Reader::new(&format).u32("format") {
            Ok(FORMAT) => {}
            Ok(found) => return Err(StoreError::Format { found }),
            Err(malformed) => return Err(StoreError::Malformed(malformed)),
        }
        let mut entries = Vec::new();
        for pair in transaction.open_table(LOG)?.iter()? {
            entries.push(read(pair?.1.value(), wire::read_entry)?);
        }
        let mut pairs = Vec::new();
        for pair in transaction.open_table(STATE)?.iter()? {
            let (key, value) = pair?;
            pairs.push((key.value().to_vec(), value.value().to_vec()));
        }
        let pairs = pairs.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        let number = |reader: &mut Reader<'_>| reader.u64("number");
        Ok(Saved {
            store: read(&note(note::STORE)?.unwrap_or_default(), |reader| reader.array("store").map(StoreId))?,
            membership: note(note::MEMBERSHIP)?.map(|bytes| read(&bytes, read_membership)).transpose()?,
            hard: note(note::HARD)?.map(|bytes| read(&bytes, wire::read_hard)).transpose()?.unwrap_or_default(),
            conf: note(note::CONF)?.map(|bytes| read(&bytes, wire::read_conf)).transpose()?.unwrap_or_default(),
            base: note(note::BASE)?.map(|bytes| read(&bytes, read_base)).transpose()?.unwrap_or_default(),
            entries,
            applied: note(note::APPLIED)?.map(|bytes| read(&bytes, number)).transpose()?.unwrap_or_default(),
            state: State::of_pairs(pairs).map_err(StoreError::Malformed)?,
        })
    }

    /// Makes a round durable.
    pub fn write(&self, round: &Round) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_write()?;
        let is_unsynced = is_planted(Mutant::LogUnsynced) && !round.entries.is_empty();
        transaction.set_durability(if is_unsynced { Durability::None } else { Durability::Immediate })?;
        {
            let mut notes = transaction.open_table(NOTES)?;
            let mut put = |name: &str, bytes: Vec<u8>| notes.insert(name, bytes.as_slice()).map(drop);
            if let Some(membership) = &round.membership {
                put(note::MEMBERSHIP, written(|writer| write_membership(writer, membership)))?;
            }
            if let Some(hard) = &round.hard {
                put(note::HARD, written(|writer| wire::write_hard(writer, hard)))?;
            }
            if let Some(conf) = &round.conf {
                put(note::CONF, written(|writer| wire::write_conf(writer, conf)))?;
            }
            if let Some(base) = round.base {
                let bytes = written(|writer| {
                    writer.u64(base.index);
                    writer.u64(base.term);
                });
                put(note::BASE, bytes)?;
            }
            if let Some(applied) = round.applied {
                put(note::APPLIED, applied.to_le_bytes().into())?;
            }
        }
        if round.is_new_log || round.base.is_some() || !round.entries.is_empty() {
            let mut log = transaction.open_table(LOG)?;
            if round.is_new_log {
                log.retain(|_, _| false)?;
            }
            if let Some(base) = round.base {
                log.retain_in(..=base.index, |_, _| false)?;
            }
            if let Some(first) = round.entries.first() {
                log.retain_in(first.index.., |_, _| false)?;
            }
            for entry in &round.entries {
                let bytes = written(|writer| wire::write_entry(writer, entry));
                log.insert(entry.index, bytes.as_slice())?;
            }
        }
        if round.state.is_some() || !round.writes.is_empty() {
            let mut state = transaction.open_table(STATE)?;
            if let Some(pairs) = &round.state {
                state.retain(|_, _| false)?;
                for (key, value) in pairs {
                    state.insert(key.as_slice(), value.as_slice())?;
                }
            }
            for (key, value) in &round.writes {
                match value {
                    Some(value) => state.insert(key.as_slice(), value.as_slice())?,
                    None => state.remove(key.as_slice())?,
                };
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

fn read<T>(bytes: &[u8], read: impl FnOnce(&mut Reader<'_>) -> Result<T, Malformed>) -> Result<T, StoreError> {
    let mut reader = Reader::new(bytes);
    let value = read(&mut reader).map_err(StoreError::Malformed)?;
    reader.end("record of the control plane").map_err(StoreError::Malformed)?;
    Ok(value)
}

fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    write(&mut writer);
    writer.into_bytes()
}

fn write_membership(writer: &mut Writer, membership: &Membership) {
    writer.raw(&membership.cluster.0);
    writer.u64(membership.node.0);
}

fn read_membership(reader: &mut Reader<'_>) -> Result<Membership, Malformed> {
    Ok(Membership { cluster: ClusterId(reader.array("cluster")?), node: NodeNumber(reader.u64("node")?) })
}

fn read_base(reader: &mut Reader<'_>) -> Result<Base, Malformed> {
    Ok(Base { index: reader.u64("index of the base")?, term: reader.u64("term of the base")? })
}
