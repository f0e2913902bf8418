//! What the shards of all cores share.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use crate::cache::CacheStatus;
use crate::io::Io;
use crate::log::dir_io::DirIo;
use crate::log::free_files::FreeFiles;
use crate::log::health::Health;
use crate::log::superblock::Superblock;
use crate::log::table::SegmentTable;
use crate::mailbox::{Receiver, Sender, mailbox};
use crate::mutant::{Mutant, is_planted};
use crate::ring::frames;
use crate::store::background::Background;
use crate::store::cached::Cache;
use crate::store::event::Event;
use crate::store::in_use::InUse;
use crate::store::message::Message;
use crate::store::options::{Missing, StoreOptions};
use crate::store::recent::Changes;
use crate::store::uncounted::Uncounted;
use crate::store::worker::Worker;
use crate::types::CoreId;
use crate::warmer::Warmer;

/// What the shards of all cores share. Made once, before the cores start; clones share it.
pub struct Store<F>(pub(super) Arc<Shared<F>>);

impl<F> Clone for Store<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

pub(super) struct Shared<F> {
    pub options: StoreOptions,
    pub table: Arc<SegmentTable<F>>,
    /// Of the data directories.
    pub health: Health,
    pub free: OnceLock<Arc<FreeFiles<F>>>,
    /// Of the cores, and behind them of the workers.
    pub mailboxes: Vec<Sender<Message>>,
    receivers: Mutex<Vec<Option<Receiver<Message>>>>,
    /// What the reclaimer on core 0 should look at.
    pub events: Sender<Event>,
    pub events_receiver: Mutex<Option<Receiver<Event>>>,
    /// The number of the store, known when it is recovered.
    pub identity: OnceLock<[u8; 16]>,
    /// What the superblocks of the directories say, in their order.
    pub superblocks: Mutex<Vec<Superblock>>,
    /// What is done when directories are missing, and how many were.
    pub on_missing: Mutex<Missing>,
    pub missing_dirs: AtomicU32,
    pub forgetting: Forgetting,
    pub background: Background,
    pub uncounted: Uncounted,
    pub damage_count: AtomicU64,
    /// See [`Shared::is_incomplete`].
    incomplete: AtomicBool,
    pub in_use: InUse,
    pub cache: Cache,
    /// Of each core.
    pub changes: Vec<Changes>,
    /// Uploads that each core hashes for others.
    pub helped_uploads: Vec<AtomicU32>,
}

/// How far directories that are lost are given up.
#[derive(Default)]
pub(super) struct Forgetting {
    pub is_under_way: AtomicBool,
    /// Cores that have looked for what is lost.
    pub done_cores: AtomicU32,
    /// Something could not be looked at or deleted: the directories stay on the list.
    pub is_hindered: AtomicBool,
}

impl<F> Shared<F> {
    /// A handle to each data directory.
    pub fn dirs_io<I: Io<File = F>>(&self, io: &I) -> Vec<DirIo<I>> {
        (0..self.options.dirs.len()).map(|dir| self.dir_io(io, dir)).collect()
    }

    /// A handle of a core to a data directory.
    pub fn dir_io<I: Io<File = F>>(&self, io: &I, dir: usize) -> DirIo<I> {
        DirIo::new(io.clone(), self.health.dir(dir).clone())
    }

    /// The mailboxes of the cores, without those of the workers.
    pub fn core_mailboxes(&self) -> &[Sender<Message>] {
        &self.mailboxes[..usize::from(self.options.cores)]
    }

    /// How many directories are missing while the others are served.
    pub fn served_without(&self) -> u32 {
        let missing = self.missing_dirs.load(Ordering::Acquire);
        if missing > 0 && *self.on_missing.lock().expect("no panic under the lock") == Missing::Serve {
            missing
        } else {
            0
        }
    }

    /// Whether recovery could not read, or not trust, all that is on the disk. It may be there at
    /// the next start, so until then nothing is concluded from its absence: no segment is
    /// reclaimed, no checkpoint is written, and every id counts as in doubt.
    pub fn is_incomplete(&self) -> bool {
        self.incomplete.load(Ordering::Acquire)
    }

    pub fn set_incomplete(&self) {
        if is_planted(Mutant::IncompleteIsComplete) {
            return;
        }
        if !self.incomplete.swap(true, Ordering::AcqRel) {
            // Never taken off again: the accounting does not end.
            self.uncounted.add();
        }
    }
}

impl<F: Clone + Send + Sync + fmt::Debug + 'static> Store<F> {
    /// The data directories.
    pub fn dirs(&self) -> &[PathBuf] {
        &self.0.options.dirs
    }

    /// What is done when data directories are missing. To be set before the store is opened.
    pub fn set_on_missing(&self, on_missing: Missing) {
        *self.0.on_missing.lock().expect("no panic under the lock") = on_missing;
    }

    /// Operations abandoned because a disk did not answer; the kernel still holds them.
    pub fn overdue_operations(&self) -> u32 {
        self.0.health.dirs().map(|dir| dir.overdue()).sum()
    }

    /// Has memory for the cache made ready ahead of its use, for as long as the warmer lives, and
    /// keeps what each core has for buffers when it comes free.
    pub fn warm_up(&self) -> Warmer {
        frames::keep_warm(self.0.options.buffers_per_core());
        Warmer::start(self.0.cache.clone())
    }

    /// The cache of all cores in numbers; costs a lock for each of its shards.
    pub fn cache_status(&self) -> CacheStatus {
        self.0.cache.status()
    }

    /// # Panics
    /// If `options` has no data directory or no core, or limits that contradict each other.
    pub fn new(options: StoreOptions) -> Store<F> {
        assert!(!options.dirs.is_empty() && options.cores > 0, "a store has a directory and a core");
        options.limits.check();
        let (mailboxes, receivers) = (0..options.cores + Worker::COUNT)
            .map(|_| {
                let (sender, receiver) = mailbox();
                (sender, Some(receiver))
            })
            .unzip();
        let (events, events_receiver) = mailbox();
        Store(Arc::new(Shared {
            table: Arc::new(SegmentTable::new(options.dirs.clone(), options.limits.open_files_max)),
            health: Health::new(&options.dirs, options.limits.disk_timeout),
            free: OnceLock::new(),
            mailboxes,
            receivers: Mutex::new(receivers),
            events,
            events_receiver: Mutex::new(Some(events_receiver)),
            identity: OnceLock::new(),
            superblocks: Mutex::default(),
            on_missing: Mutex::default(),
            missing_dirs: AtomicU32::new(0),
            forgetting: Forgetting::default(),
            background: Background::default(),
            uncounted: Uncounted::new(options.cores),
            damage_count: AtomicU64::new(0),
            incomplete: AtomicBool::new(false),
            in_use: InUse::default(),
            cache: Cache::sharded(options.cache_bytes(), options.limits.cache_shard_bytes_min),
            changes: (0..options.cores).map(|_| Changes::default()).collect(),
            helped_uploads: (0..options.cores).map(|_| AtomicU32::new(0)).collect(),
            options,
        }))
    }

    pub(super) fn take_receiver(&self, core: CoreId) -> Receiver<Message> {
        let receiver = self.0.receivers.lock().expect("no panic under the lock")[usize::from(core.0)].take();
        receiver.expect("each core opens its shard once")
    }
}
