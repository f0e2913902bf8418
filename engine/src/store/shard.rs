//! The store as one core sees it: the owner of a range of ids, and the door to all others.
//!
//! A shard answers the other cores about its ids (`serve`), and asks them about theirs. The index is written here alone: by
//! `apply`, when the holder of an id's lock says what came of its operation.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use crate::cache::CacheStatus;
use crate::index::{Entry, Index, Location};
use crate::io::{Instant, Io};
use crate::log::bytes;
use crate::log::checkpoint::{SLICE_ENTRIES_MAX, Slice};
use crate::log::lifecycle::FreeFiles;
use crate::log::segment::{Segment, SegmentTable, State};
use crate::log::superblock::Superblock;
use crate::log::writer::Log;
use crate::memory::Frames;
use crate::runtime::mailbox::{Receiver, Sender, mailbox};
use crate::store::accounting::Accounting;
use crate::store::background::{Background, Worker};
use crate::store::cached::Cache;
use crate::store::calls::Calls;
use crate::store::hashing::Sessions;
use crate::store::locks::Locks;
use crate::store::message::{Acquired, CoreStatus, Message, Outcome, Released, Reply, Request};
use crate::store::readers::Readers;
use crate::store::recent::{Changes, Recent};
use crate::store::reclaim::{Event, Reclaimer};
use crate::store::{OpenError, Page, StoreError, StoreOptions, StoreStatus, recovery};
use crate::sync::{Notify, promise};
use crate::types::{BlobId, CoreId, Sequence};
use crate::warmer::Warmer;

/// Set in the length of a location whose record holds extents, not the content.
const EXTENTS_BIT: u32 = 1 << 31;

/// Marks a location as one of extents.
pub(super) fn location_length(length_units: u32, extents: bool) -> u32 {
    assert!(length_units < EXTENTS_BIT);
    if extents { length_units | EXTENTS_BIT } else { length_units }
}

/// Bytes of the record at a location.
pub(super) fn record_bytes(location: &Location) -> u64 {
    bytes(location.length_units & !EXTENTS_BIT)
}

/// Whether the record at a location holds extents.
pub(super) fn has_extents(location: &Location) -> bool {
    location.length_units & EXTENTS_BIT != 0
}

/// The first id that a core owns.
pub(super) fn first_owned(core: CoreId, cores: u16) -> BlobId {
    let prefix = (u128::from(core.0) << 64).div_ceil(u128::from(cores));
    BlobId((prefix << 64).to_be_bytes())
}

/// The last id that a core owns.
pub(super) fn last_owned(core: CoreId, cores: u16) -> BlobId {
    if core.0 + 1 == cores {
        return BlobId([0xff; 16]);
    }
    let next = u128::from_be_bytes(first_owned(CoreId(core.0 + 1), cores).0);
    BlobId((next - 1).to_be_bytes())
}

/// The id after this one; `None` after the last.
fn successor(id: BlobId) -> Option<BlobId> {
    u128::from_be_bytes(id.0).checked_add(1).map(|next| BlobId(next.to_be_bytes()))
}

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
    pub free: OnceLock<Arc<FreeFiles<F>>>,
    /// Of the cores, and behind them of the workers.
    pub mailboxes: Vec<Sender<Message>>,
    receivers: Mutex<Vec<Option<Receiver<Message>>>>,
    /// What the reclaimer on core 0 should look at.
    pub events: Sender<Event<F>>,
    pub events_receiver: Mutex<Option<Receiver<Event<F>>>>,
    /// The number of the store, known when it is recovered.
    pub identity: OnceLock<[u8; 16]>,
    /// What the superblocks of the directories say, in their order.
    pub superblocks: OnceLock<Vec<Superblock>>,
    pub background: Background,
    /// Cores that have not counted their live bytes yet.
    pub unaccounted_cores: AtomicU32,
    pub damage_count: AtomicU64,
    /// See [`Shared::is_incomplete`].
    incomplete: AtomicBool,
    pub readers: Readers,
    pub cache: Cache,
    /// Of each core.
    pub changes: Vec<Changes>,
    /// Uploads that each core hashes for others.
    pub helped_uploads: Vec<AtomicU32>,
}

impl<F> Shared<F> {
    /// The mailboxes of the cores, without those of the workers.
    pub fn core_mailboxes(&self) -> &[Sender<Message>] {
        &self.mailboxes[..usize::from(self.options.cores)]
    }

    /// Whether recovery could not read, or not trust, all that is on the disk. It may be there at the next start, so until then nothing is
    /// concluded from its absence: no segment is reclaimed, no checkpoint is written, and every id counts as in doubt.
    pub fn is_incomplete(&self) -> bool {
        self.incomplete.load(Ordering::Acquire)
    }

    pub fn set_incomplete(&self) {
        if !self.incomplete.swap(true, Ordering::AcqRel) {
            // Never taken off again: the accounting does not end.
            self.unaccounted_cores.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl<F: Clone + Send + Sync + fmt::Debug + 'static> Store<F> {
    /// The data directories.
    pub fn dirs(&self) -> &[PathBuf] {
        &self.0.options.dirs
    }

    /// Has memory for the cache made ready ahead of its use, for as long as the warmer lives.
    pub fn warm_up(&self) -> Warmer {
        Warmer::start(self.0.cache.clone())
    }

    /// The cache of all cores in numbers; costs a lock for each of its shards.
    pub fn cache_status(&self) -> CacheStatus {
        self.0.cache.status()
    }

    /// # Panics
    /// If `options` has no data directory or no core.
    pub fn new(options: StoreOptions) -> Store<F> {
        assert!(!options.dirs.is_empty() && options.cores > 0, "a store has a directory and a core");
        let (mailboxes, receivers) = (0..options.cores + Worker::COUNT)
            .map(|_| {
                let (sender, receiver) = mailbox();
                (sender, Some(receiver))
            })
            .unzip();
        let (events, events_receiver) = mailbox();
        Store(Arc::new(Shared {
            table: Arc::new(SegmentTable::new()),
            free: OnceLock::new(),
            mailboxes,
            receivers: Mutex::new(receivers),
            events,
            events_receiver: Mutex::new(Some(events_receiver)),
            identity: OnceLock::new(),
            superblocks: OnceLock::new(),
            background: Background::default(),
            unaccounted_cores: AtomicU32::new(u32::from(options.cores)),
            damage_count: AtomicU64::new(0),
            incomplete: AtomicBool::new(false),
            readers: Readers::default(),
            cache: Cache::new(options.cache_bytes()),
            changes: (0..options.cores).map(|_| Changes::default()).collect(),
            helped_uploads: (0..options.cores).map(|_| AtomicU32::new(0)).collect(),
            options,
        }))
    }

    /// Opens the shard of a worker; see [`recovery::open_worker`].
    pub(crate) fn open_worker<I: Io<File = F>>(&self, worker: Worker, io: I) -> Option<Shard<I>> {
        recovery::open_worker(self, worker, io)
    }

    /// Opens the shard of one core: recovery. Every core must call it once, each on its own thread; the calls end together, when the
    /// whole store is recovered.
    pub async fn open<I: Io<File = F>>(&self, core: CoreId, io: I) -> Result<Shard<I>, OpenError> {
        let receiver = self.take_receiver(core);
        recovery::open(self.clone(), core, io, receiver).await
    }

    pub(super) fn take_receiver(&self, core: CoreId) -> Receiver<Message> {
        let receiver = self.0.receivers.lock().expect("no panic under the lock")[usize::from(core.0)].take();
        receiver.expect("each core opens its shard once")
    }
}

/// The store as one core sees it; clones share it.
pub struct Shard<I: Io>(pub(super) Rc<Inner<I>>);

impl<I: Io> Clone for Shard<I> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

pub(super) struct Inner<I: Io> {
    pub io: I,
    pub core: CoreId,
    pub store: Store<I::File>,
    pub store_uuid: [u8; 16],
    pub index: RefCell<Index>,
    pub locks: Locks,
    pub calls: Calls,
    pub recent: Recent,
    pub frames: Frames,
    pub hash_sessions: Sessions,
    pub logs: Vec<Log<I>>,
    pub next_log: Cell<usize>,
    pub accounting: Accounting,
    /// Uploads begun since the start, for the numbers of their pieces.
    pub uploads: Cell<u64>,
    /// Commits and deletes under way, which [`Shard::close`] waits for.
    pub operations: Cell<u32>,
    pub operation_ended: Notify,
    pub closing: Cell<bool>,
    /// Until when the bytes of uploads have waited for space.
    pub paid_until: Cell<Instant>,
    /// Calls of cores that have closed their logs, on core 0.
    pub closed_cores: RefCell<Vec<(CoreId, Option<u64>)>>,
    pub core_closed: Notify,
    pub reclaimer: Reclaimer,
}

impl<I: Io> Shard<I> {
    pub(super) fn cores(&self) -> u16 {
        self.0.store.0.options.cores
    }

    pub(super) fn shared(&self) -> &Shared<I::File> {
        &self.0.store.0
    }

    pub(super) fn segment(&self, location: &Location) -> Option<Arc<Segment<I::File>>> {
        self.shared().table.get(location.segment)
    }

    pub(super) fn cache(&self) -> &Cache {
        &self.shared().cache
    }

    /// The store that this is a part of.
    pub fn store(&self) -> &Store<I::File> {
        &self.0.store
    }

    /// The handle of this core.
    pub fn io(&self) -> &I {
        &self.0.io
    }

    /// Answers the other cores, until every one of them is gone.
    pub(super) async fn serve(self, early: Vec<Message>, mut receiver: Receiver<Message>) {
        for message in early {
            self.receive(message);
        }
        while let Some(message) = receiver.recv().await {
            self.receive(message);
        }
    }

    fn receive(&self, message: Message) {
        match message {
            Message::Reply { call, reply } => self.0.calls.end(call, reply),
            Message::Request { from, call, request } => self.answer(from, call, request),
            Message::Recovery(_) => unreachable!("recovery is over when a shard serves"),
        }
    }

    fn answer(&self, from: CoreId, call: u64, request: Request) {
        let reply = match request {
            Request::Lookup(id) => Reply::Lookup(self.0.index.borrow().get(&id)),
            Request::Acquire(id) => match self.0.locks.try_acquire(id) {
                Some(sequence) => Reply::Acquired(self.acquired(id, sequence)),
                None => {
                    let shard = self.clone();
                    self.0.io.spawn(async move {
                        let sequence = shard.0.locks.acquire(id).await;
                        shard.reply(from, call, Reply::Acquired(shard.acquired(id, sequence)));
                    });
                    return;
                }
            },
            Request::Locate(ids) => {
                let index = self.0.index.borrow();
                Reply::Located(ids.iter().map(|id| index.get(id)).collect())
            }
            Request::Hold(records) => Reply::Held(records.into_iter().map(|(id, at)| self.hold(id, at)).collect()),
            Request::Moved(records) => {
                for (id, location) in records {
                    self.apply_move(id, location);
                }
                Reply::Moved
            }
            Request::Release { id, outcome } => Reply::Released(self.apply(id, outcome)),
            Request::List { after, limit } => Reply::Listed(self.list_own(after, limit)),
            Request::Slice { after } => {
                let (slice, more) = self.slice_own(after);
                Reply::Slice { slice, more }
            }
            Request::Rotate => {
                let shard = self.clone();
                self.0.io.spawn(async move {
                    for log in &shard.0.logs {
                        log.seal_active().await;
                    }
                    shard.reply(from, call, Reply::Rotated);
                });
                return;
            }
            Request::Status => Reply::Status(Box::new(self.status_own())),
            Request::Bury(head) => {
                let shard = self.clone();
                self.0.io.spawn(async move {
                    let buried = shard.bury_here(head).await;
                    shard.reply(from, call, Reply::Buried(buried));
                });
                return;
            }
            Request::Hash { upload, step } => return self.hash_for_another(from, call, upload, step),
            Request::Closed => {
                self.0.closed_cores.borrow_mut().push((from, Some(call)));
                self.0.core_closed.notify();
                return;
            }
        };
        self.reply(from, call, reply);
    }

    pub(super) fn reply(&self, to: CoreId, call: u64, reply: Reply) {
        // A core that is gone waits for nothing.
        let _ = self.shared().mailboxes[usize::from(to.0)].send(Message::Reply { call, reply });
    }

    /// Asks another core; `None` when it is gone.
    pub(super) async fn call(&self, to: CoreId, request: Request) -> Option<Reply> {
        let (call, reply) = self.0.calls.open();
        let message = Message::Request { from: self.0.core, call, request };
        self.shared().mailboxes[usize::from(to.0)].send(message).ok()?;
        reply.await
    }

    pub(super) fn owner(&self, id: &BlobId) -> CoreId {
        id.owner(self.cores())
    }

    pub(super) async fn lookup(&self, id: BlobId) -> Result<Option<Location>, StoreError> {
        let owner = self.owner(&id);
        if owner == self.0.core {
            return Ok(self.0.index.borrow().get(&id));
        }
        // Before the owner is asked: what changes after it, is asked for again.
        let changes = self.shared().changes[usize::from(owner.0)].count();
        if let Some(location) = self.0.recent.get(&id, changes) {
            return Ok(Some(location));
        }
        match self.call(owner, Request::Lookup(id)).await {
            Some(Reply::Lookup(found)) => {
                if let Some(location) = found {
                    self.0.recent.put(id, location, changes);
                }
                Ok(found)
            }
            _ => Err(StoreError::Closed),
        }
    }

    /// Locks an id. The caller must [`Shard::release`] it.
    pub(super) async fn acquire(&self, id: BlobId) -> Result<Acquired, StoreError> {
        let owner = self.owner(&id);
        if owner == self.0.core {
            let sequence = self.0.locks.acquire(id).await;
            return Ok(self.acquired(id, sequence));
        }
        match self.call(owner, Request::Acquire(id)).await {
            Some(Reply::Acquired(acquired)) => Ok(acquired),
            _ => Err(StoreError::Closed),
        }
    }

    pub(super) async fn release(&self, id: BlobId, outcome: Outcome) -> Result<Released, StoreError> {
        let owner = self.owner(&id);
        if owner == self.0.core {
            return Ok(self.apply(id, outcome));
        }
        match self.call(owner, Request::Release { id, outcome }).await {
            Some(Reply::Released(released)) => Ok(released),
            _ => Err(StoreError::Closed),
        }
    }

    /// Locks an id to move its record, if it still lies there and nobody else is at it.
    fn hold(&self, id: BlobId, location: Location) -> Option<Sequence> {
        let is_there = self.0.index.borrow().get(&id) == Some(location) || cfg!(feature = "mutant-move-blindly");
        is_there.then(|| self.0.locks.try_acquire(id)).flatten()
    }

    fn acquired(&self, id: BlobId, sequence: Sequence) -> Acquired {
        let in_doubt = self.shared().is_incomplete() || self.0.locks.is_in_doubt(&id);
        Acquired { current: self.0.index.borrow().get(&id), in_doubt, sequence }
    }

    /// Enters an outcome into the index and passes the lock on. What was under quarantine and is replaced or removed is so no longer.
    pub(super) fn apply(&self, id: BlobId, outcome: Outcome) -> Released {
        let released = self.enter(id, outcome);
        if let Some(before) = released.before
            && self.shared().background.release(&id, before.sequence)
            && let Some(segment) = self.segment(&before)
        {
            // What is live beside it should not lie there.
            segment.is_damaged.store(true, Ordering::Release);
            self.shared().background.space_changed();
        }
        released
    }

    /// The same for a blob that was moved: it is what it was.
    fn apply_move(&self, id: BlobId, to: Option<Location>) {
        let Some(to) = to else {
            self.apply(id, Outcome::Nothing);
            return;
        };
        let quarantine = &self.shared().background.quarantine;
        quarantine.moves(&id, to.sequence);
        let released = self.enter(id, Outcome::Insert(to));
        if let Some(before) = released.before {
            quarantine.moved(&id, before.sequence, to.sequence);
        }
    }

    fn enter(&self, id: BlobId, outcome: Outcome) -> Released {
        let mut index = self.0.index.borrow_mut();
        let before = match outcome {
            Outcome::Nothing => None,
            Outcome::InDoubt => {
                self.0.locks.doubt(id);
                None
            }
            Outcome::Insert(location) => index.insert(Entry { id, location }),
            Outcome::Remove => index.remove(&id),
        };
        drop(index);
        if before.is_some() {
            self.shared().changes[usize::from(self.0.core.0)].add();
        }
        if matches!(outcome, Outcome::Insert(_) | Outcome::Remove) {
            self.0.locks.settle(&id);
        }
        let accounted = before.is_none_or(|before| self.0.accounting.counted(&id, before.sequence));
        let released = Released { id, before, accounted };
        if !accounted {
            self.hold_for_readers(released);
        }
        self.0.locks.release(id);
        released
    }

    fn list_own(&self, after: Option<BlobId>, limit: usize) -> Vec<BlobId> {
        let mut entries = Vec::new();
        self.0.index.borrow().after(after.as_ref(), limit, &mut entries);
        entries.into_iter().map(|entry| entry.id).collect()
    }

    /// The next slice of this core's ids above `after`, and whether more follow.
    pub(super) fn slice_own(&self, after: Option<BlobId>) -> (Slice, bool) {
        let first = match after {
            Some(after) => successor(after).expect("more follow only below the last id"),
            None => first_owned(self.0.core, self.cores()),
        };
        let mut entries = Vec::new();
        self.0.index.borrow().after(after.as_ref(), SLICE_ENTRIES_MAX, &mut entries);
        let end = last_owned(self.0.core, self.cores());
        let last = match entries.last() {
            Some(entry) if entries.len() == SLICE_ENTRIES_MAX => entry.id,
            _ => end,
        };
        let operations = self.0.locks.under_way(first, last);
        let slice = Slice { first, last, sequence: self.0.locks.last(), operations, entries };
        (slice, last < end)
    }

    fn status_own(&self) -> CoreStatus {
        let index = self.0.index.borrow();
        let mut status = CoreStatus {
            blob_count: index.len() as u64,
            index_bytes: index.memory_bytes() as u64,
            frame_bytes: self.0.frames.charged() as u64,
            frame_budget_bytes: self.0.frames.budget() as u64,
            frame_waiters: self.0.frames.waiting() as u64,
            ..CoreStatus::default()
        };
        for log in &self.0.logs {
            let counters = log.counters();
            status.log.add(&counters);
            status.waiting_records += log.waiting_records() as u64;
            status.failed_logs += u64::from(log.has_failed());
        }
        status
    }

    /// A log that takes writes, in turn; the next one when all have failed, so that its error is told.
    pub(super) fn pick_log(&self) -> Log<I> {
        let logs = &self.0.logs;
        let start = self.0.next_log.get();
        self.0.next_log.set((start + 1) % logs.len());
        let order = (0..logs.len()).map(|step| &logs[(start + step) % logs.len()]);
        order.clone().find(|log| !log.has_failed() && !log.is_full()).or(order.clone().next()).expect("a log").clone()
    }

    /// Runs an operation to its end, also when the caller goes away.
    pub(super) async fn detached<T: 'static>(
        &self,
        operation: impl Future<Output = Result<T, StoreError>> + 'static,
    ) -> Result<T, StoreError> {
        if self.0.closing.get() || self.shared().options.read_only {
            return Err(StoreError::Closed);
        }
        let (result, promised) = promise();
        let shard = self.clone();
        self.0.operations.set(self.0.operations.get() + 1);
        self.0.io.spawn(async move {
            result.keep(operation.await);
            shard.0.operations.set(shard.0.operations.get() - 1);
            shard.0.operation_ended.notify();
        });
        promised.await.unwrap_or(Err(StoreError::Closed))
    }

    /// At most `limit` ids above `after`, over all cores.
    pub async fn list(&self, after: Option<BlobId>, limit: usize) -> Result<Page, StoreError> {
        let start = after.map_or(CoreId(0), |id| self.owner(&id));
        let mut page = Page::default();
        for core in (start.0..self.cores()).map(CoreId) {
            // One more than asked for tells whether more follow.
            let want = limit + 1 - page.ids.len();
            let ids = if core == self.0.core {
                self.list_own(after, want)
            } else {
                match self.call(core, Request::List { after, limit: want }).await {
                    Some(Reply::Listed(ids)) => ids,
                    _ => return Err(StoreError::Closed),
                }
            };
            page.ids.extend(ids);
            if page.ids.len() > limit {
                page.ids.truncate(limit);
                page.has_more = true;
                break;
            }
        }
        Ok(page)
    }

    pub async fn status(&self) -> StoreStatus {
        let mut status = StoreStatus::default();
        let mut failed_logs = 0;
        for core in (0..self.cores()).map(CoreId) {
            let part = if core == self.0.core {
                self.status_own()
            } else {
                match self.call(core, Request::Status).await {
                    Some(Reply::Status(part)) => *part,
                    _ => CoreStatus::default(),
                }
            };
            status.blob_count += part.blob_count;
            status.index_bytes += part.index_bytes;
            status.log.add(&part.log);
            status.waiting_records += part.waiting_records;
            status.frame_bytes += part.frame_bytes;
            status.frame_budget_bytes += part.frame_budget_bytes;
            status.frame_waiters += part.frame_waiters;
            failed_logs += part.failed_logs;
        }
        for segment in self.shared().table.all() {
            status.used_bytes += segment.live_bytes.load(Ordering::Acquire).max(0) as u64;
            match segment.state() {
                State::Active => status.segments.active += 1,
                State::Sealed => status.segments.sealed += 1,
                State::Fenced => status.segments.fenced += 1,
            }
        }
        for dir in &self.shared().options.dirs {
            if let Ok(space) = self.0.io.space(dir).await {
                status.capacity_bytes += space.total;
                status.available_bytes += space.available;
            }
        }
        status.free_files = self.shared().free.get().map_or(0, |free| free.count_all() as u64);
        status.is_incomplete = self.shared().is_incomplete();
        status.damage_count = self.shared().damage_count.load(Ordering::Relaxed);
        status.failed_dirs = failed_logs;
        status.quarantined = self.shared().background.quarantine.count() as u64;
        status.compaction = self.shared().background.compaction.status();
        status.scrub = self.shared().background.scrub.status();
        status.cache = self.cache().status();
        status
    }

    /// Ends a worker, which must have ended its work.
    pub(crate) async fn close_worker(&self) {
        self.0.closing.set(true);
        for log in &self.0.logs {
            log.close().await;
        }
        self.call(CoreId(0), Request::Closed).await;
    }

    /// Ends this core's part: refuses new operations, waits for those in flight, seals, and writes the checkpoint together with the
    /// other cores. Every core must call it once; the calls end together.
    pub async fn close(&self) {
        self.0.closing.set(true);
        self.0.operation_ended.wait_for(|| (self.0.operations.get() == 0).then_some(())).await;
        for log in &self.0.logs {
            log.close().await;
        }
        if self.0.core != CoreId(0) {
            self.call(CoreId(0), Request::Closed).await;
            return;
        }
        self.0.closed_cores.borrow_mut().push((CoreId(0), None));
        self.shared().background.stop();
        let all = || usize::from(self.cores()) + self.shared().background.worker_count();
        self.0.core_closed.wait_for(|| (self.0.closed_cores.borrow().len() == all()).then_some(())).await;
        self.stop_reclaimer().await;
        self.write_checkpoint().await;
        for (core, call) in self.0.closed_cores.take() {
            if let Some(call) = call {
                self.reply(core, call, Reply::Closed);
            }
        }
    }
}

impl<I: Io> fmt::Debug for Shard<I> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Shard({:?})", self.0.core)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owned_ranges_join_without_gap_or_overlap() {
        for cores in [1, 2, 3, 5, 7, 16, 64] {
            assert_eq!(first_owned(CoreId(0), cores), BlobId([0; 16]));
            assert_eq!(last_owned(CoreId(cores - 1), cores), BlobId([0xff; 16]));
            for core in 0..cores {
                let (first, last) = (first_owned(CoreId(core), cores), last_owned(CoreId(core), cores));
                assert_eq!(first.owner(cores), CoreId(core));
                assert_eq!(last.owner(cores), CoreId(core));
                if core + 1 < cores {
                    assert_eq!(successor(last), Some(first_owned(CoreId(core + 1), cores)));
                }
            }
        }
    }
}
