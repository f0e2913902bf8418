//! Raft's log as the library reads it: all of it that is kept lies in memory.
//!
//! Invariants: entries are consecutive and begin after the base; what is here is on disk, or will
//! be before anybody is told of it ([`super::group`]).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use raft::prelude::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

use super::store::Base;

pub struct Log {
    pub hard: HardState,
    pub conf: ConfState,
    base: Base,
    entries: VecDeque<Entry>,
    /// The state as of some entry of the log, for a node that lacks the entries before it.
    snapshot: RefCell<Option<Snapshot>>,
    is_snapshot_wanted: Cell<bool>,
}

impl Log {
    pub fn new(hard: HardState, conf: ConfState, base: Base, entries: Vec<Entry>) -> Self {
        let log = Self {
            hard,
            conf,
            base,
            entries: entries.into(),
            snapshot: RefCell::default(),
            is_snapshot_wanted: Cell::new(false),
        };
        for (entry, index) in log.entries.iter().zip(base.index + 1..) {
            assert_eq!(entry.index, index, "an entry is missing in the log");
        }
        log
    }

    pub fn base(&self) -> Base {
        self.base
    }

    pub fn last(&self) -> u64 {
        self.base.index + self.entries.len() as u64
    }

    /// Bytes of commands in the log.
    pub fn bytes_up_to(&self, index: u64) -> u64 {
        self.entries.iter().take_while(|entry| entry.index <= index).map(|entry| entry.data.len() as u64).sum()
    }

    /// Takes new entries in, in place of what was at or after the first of them.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(first.index > self.base.index && first.index <= self.last() + 1, "entry {} leaves a gap", first.index);
        self.entries.truncate((first.index - self.base.index - 1) as usize);
        self.entries.extend(entries.iter().cloned());
    }

    /// Forgets the entries up to this one, and gives the new base.
    pub fn compact(&mut self, index: u64) -> Base {
        let term = self.term(index).expect("the log is cut where it is");
        self.entries.drain(..(index - self.base.index) as usize);
        self.base = Base { index, term };
        self.base
    }

    /// The log is that after a snapshot.
    pub fn restart(&mut self, base: Base, conf: ConfState) {
        self.base = base;
        self.conf = conf;
        self.entries.clear();
    }

    /// Whether the library asked for a snapshot since the last call.
    pub fn take_snapshot_wish(&self) -> bool {
        self.is_snapshot_wanted.take()
    }

    /// Keeps a snapshot for the library; `None` takes it away.
    pub fn offer_snapshot(&self, snapshot: Option<Snapshot>) {
        *self.snapshot.borrow_mut() = snapshot;
    }
}

impl Storage for Log {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState { hard_state: self.hard.clone(), conf_state: self.conf.clone() })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low <= self.base.index {
            return Err(Error::Store(StorageError::Compacted));
        }
        assert!(high <= self.last() + 1, "entries up to {high} of {}", self.last());
        let range = (low - self.base.index - 1) as usize..(high - self.base.index - 1) as usize;
        let mut entries: Vec<Entry> = self.entries.range(range).cloned().collect();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index == self.base.index {
            return Ok(self.base.term);
        }
        if index < self.base.index {
            return Err(Error::Store(StorageError::Compacted));
        }
        let entry = self.entries.get((index - self.base.index - 1) as usize);
        entry.map(|entry| entry.term).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.base.index + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _: u64) -> Result<Snapshot> {
        let snapshot = self.snapshot.borrow();
        let is_new_enough = |snapshot: &&Snapshot| {
            let index = snapshot.get_metadata().index;
            index >= request_index && index >= self.base.index
        };
        snapshot.as_ref().filter(is_new_enough).cloned().ok_or_else(|| {
            self.is_snapshot_wanted.set(true);
            Error::Store(StorageError::SnapshotTemporarilyUnavailable)
        })
    }
}
