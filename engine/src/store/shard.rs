//! The store as one core sees it: the owner of a range of ids (`owner.rs`), and the door to all
//! others.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::index::{Index, Location};
use crate::io::{Disk, Instant, Io};
use crate::log::dir_io::DirIo;
use crate::log::segment::{Segment, State};
use crate::log::writer::Log;
use crate::mailbox::Receiver;
use crate::memory::Frames;
use crate::store::accounting::Accounting;
use crate::store::cached::Cache;
use crate::store::calls::Calls;
use crate::store::error::StoreError;
use crate::store::event::Reclaimer;
use crate::store::hash_steps::Sessions;
use crate::store::locks::Locks;
use crate::store::message::{CoreStatus, Message, Reply, Request};
use crate::store::recent::Recent;
use crate::store::shared::{Shared, Store};
use crate::store::status::{Holdings, SegmentCounts, StoreStatus};
use crate::sync::{Notify, promise};
use crate::types::{BlobId, CoreId};

/// One page of ids.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// Ascending.
    pub ids: Vec<BlobId>,
    pub has_more: bool,
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
    /// The data directories, in their order.
    pub dirs: Vec<DirIo<I>>,
    /// A log in each data directory that it may write to; the first `own_logs` of them before the
    /// others.
    pub logs: Vec<Log<I>>,
    pub own_logs: usize,
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

    /// The handle of this core to a data directory: all that it does there goes through it.
    pub(super) fn dir(&self, index: usize) -> &DirIo<I> {
        &self.0.dirs[index]
    }

    /// The answer for what is not there: in a store that is served without some of its directories
    /// it may lie in one of them.
    pub(super) fn absent<T>(&self, answer: T) -> Result<T, StoreError> {
        match self.shared().served_without() {
            0 => Ok(answer),
            missing => Err(StoreError::Degraded { missing }),
        }
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

    /// The logs in the order in which they are to be tried: those of this core's own directories in
    /// turn, then the others; and of each those that take writes before those that may not.
    pub(super) fn logs_in_turn(&self) -> Vec<Log<I>> {
        let (own, others) = self.0.logs.split_at(self.0.own_logs);
        let start = self.0.next_log.get();
        self.0.next_log.set(start.wrapping_add(1));
        // The cores that are left without a directory of their own do not all turn to the same one.
        let turned = |logs: &[Log<I>], start: usize| {
            let (before, after) = logs.split_at(start % logs.len().max(1));
            after.iter().chain(before).cloned().collect::<Vec<_>>()
        };
        let mut order = turned(own, start);
        order.extend(turned(others, start.wrapping_add(usize::from(self.0.core.0))));
        order.sort_by_key(|log| (log.has_failed(), log.is_passed_over()));
        order
    }

    /// The log for the next record; one that has failed when all have, so that its error is told.
    pub(super) fn pick_log(&self) -> Log<I> {
        let own = &self.0.logs[..self.0.own_logs];
        if let [only] = own
            && !only.is_passed_over()
        {
            return only.clone();
        }
        self.logs_in_turn().into_iter().next().expect("a log")
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

    /// What is stored, told from memory: unlike [`Store::status`] it asks no file system.
    pub async fn holdings(&self) -> Holdings {
        let blob_count = self.status_of_cores().await.iter().map(|part| part.blob_count).sum();
        Holdings { blob_count, used_bytes: self.shared().table.live_bytes() }
    }

    async fn status_of_cores(&self) -> Vec<CoreStatus> {
        let mut parts = Vec::with_capacity(self.cores().into());
        for core in (0..self.cores()).map(CoreId) {
            parts.push(if core == self.0.core {
                self.status_own()
            } else {
                match self.call(core, Request::Status).await {
                    Some(Reply::Status(part)) => *part,
                    _ => CoreStatus::default(),
                }
            });
        }
        parts
    }

    pub async fn status(&self) -> StoreStatus {
        let mut status = StoreStatus::default();
        for part in self.status_of_cores().await {
            status.blob_count += part.blob_count;
            status.index_bytes += part.index_bytes;
            status.log.add(&part.log);
            status.waiting_records += part.waiting_records;
            status.frame_bytes += part.frame_bytes;
            status.frame_budget_bytes += part.frame_budget_bytes;
            status.frame_waiters += part.frame_waiters;
        }
        let table = &self.shared().table;
        status.used_bytes = table.live_bytes();
        let [active, sealed, fenced] = [State::Active, State::Sealed, State::Fenced].map(|state| table.count(state));
        status.segments = SegmentCounts { active, sealed, fenced };
        for (index, dir) in self.shared().options.dirs.iter().enumerate() {
            if let Ok(space) = self.dir(index).space(dir).await {
                status.capacity_bytes += space.total;
                status.available_bytes += space.available;
            }
        }
        status.free_files = self.shared().free.get().map_or(0, |free| free.count_all() as u64);
        status.next_segment = self.shared().table.watermark().0;
        status.is_incomplete = self.shared().is_incomplete();
        status.damage_count = self.shared().damage_count.load(Ordering::Relaxed);
        status.failed_dirs = self.shared().health.dirs().filter(|dir| !dir.takes_writes()).count() as u64;
        status.missing_dirs = self.shared().served_without().into();
        status.overdue_operations = self.store().overdue_operations().into();
        status.quarantined = self.shared().background.quarantine.count() as u64;
        status.compaction = self.shared().background.compaction.status();
        status.scrub = self.shared().background.scrub.status();
        status.cache = self.cache().status();
        status
    }

    /// Ends a worker, which must have ended its work.
    pub(crate) async fn close_worker(&self) {
        self.0.closing.set(true);
        self.0.accounting.changed.notify();
        for log in &self.0.logs {
            log.close().await;
        }
        self.call(CoreId(0), Request::Closed).await;
    }

    /// Ends this core's part: refuses new operations, waits for those in flight, seals, and writes
    /// the checkpoint together with the other cores. Every core must call it once; the calls end
    /// together.
    pub async fn close(&self) {
        self.shared().health.begin_closing(self.0.io.now());
        self.0.closing.set(true);
        self.0.accounting.changed.notify();
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
        let checkpoint = self.write_checkpoint().await;
        self.say_what_is_left(checkpoint.is_some());
        for (core, call) in self.0.closed_cores.take() {
            if let Some(call) = call {
                self.reply(core, call, Reply::Closed);
            }
        }
    }
}

impl<I: Io> Shard<I> {
    /// What a store that was closed without one of its directories leaves to the next start.
    fn say_what_is_left(&self, has_checkpoint: bool) {
        let out: Vec<usize> =
            self.shared().health.dirs().filter(|dir| !dir.takes_writes()).map(|dir| dir.index() + 1).collect();
        if out.is_empty() {
            return;
        }
        let all = self.shared().table.all();
        let unsealed = all.iter().filter(|segment| segment.state() != State::Sealed && !segment.is_unused()).count();
        tracing::warn!(
            directories = ?out,
            unsealed,
            overdue = self.store().overdue_operations(),
            checkpoint = has_checkpoint,
            "closed without these data directories: segments that were not sealed are scanned by the next start, and operations that a disk has \
             not answered are left behind"
        );
    }
}

impl<I: Io> fmt::Debug for Shard<I> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Shard({:?})", self.0.core)
    }
}
