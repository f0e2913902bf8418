//! Opening a store: from what the disks hold to a shard on each core.
//!
//! Core 0 agrees on the directories, lists the segments and reads the checkpoint; then every core reads its share of the segments that the
//! checkpoint does not cover, by their footers where they have valid ones, by a scan where not, and sends each record to the owner of
//! its id. When all have read everything, each builds its index.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::index::Index;
use crate::io::{Instant, Io};
use crate::log::dir_io::DirIo;
use crate::log::free_files::FreeFiles;
use crate::log::writer::{Log, LogOptions, Purpose};
use crate::memory::Frames;
use crate::runtime::mailbox::Receiver;
use crate::store::accounting::Accounting;
use crate::store::background::Worker;
use crate::store::backlog::Backlog;
use crate::store::calls::Calls;
use crate::store::hashing::Sessions;
use crate::store::locks::Locks;
use crate::store::message::{Message, Plan, Recovery};
use crate::store::plan::make_plan;
use crate::store::reading::read_share;
use crate::store::recent::Recent;
use crate::store::reclaim::{Event, Reclaimer};
use crate::store::replay::Replay;
use crate::store::shard::{Inner, Shard};
use crate::store::shared::Store;
use crate::store::{OpenError, SegmentCounts};
use crate::sync::Notify;
use crate::types::{CoreId, SegmentId, Sequence};

/// Two to the power of this bounds the operations of a life of which nothing could be read at the next start.
const UNREAD_SEQUENCES_SHIFT: u32 = 28;

pub(super) async fn open<I: Io>(
    store: Store<I::File>,
    core: CoreId,
    io: I,
    mut mailbox: Receiver<Message>,
) -> Result<Shard<I>, OpenError> {
    let started = io.now();
    let backlog = Rc::new(Backlog::default());
    if core == CoreId(0) {
        let (store, own, backlog) = (store.clone(), io.clone(), backlog.clone());
        io.spawn(async move {
            let plan = Arc::new(make_plan(&store, &own, &backlog).await);
            tell_all(&store, || Recovery::Plan(plan.clone()));
        });
    }
    // Every core sends to all mailboxes one after another, so a fast core's next message may arrive
    // before a slow one's last: each wait takes what belongs to the step after it, too. What a core
    // is sent it enters at once, whatever it reads itself.
    let mut replay = Replay::new();
    let mut plan = None;
    let mut scans = Vec::new();
    let mut ready = 0;
    while scans.len() < usize::from(store.0.options.cores) {
        match receive(&mut mailbox).await? {
            Message::Recovery(Recovery::Slice(slice)) => {
                let count = slice.entries.len();
                replay.add_slice(slice);
                entered(&store, CoreId(0), count);
            }
            Message::Recovery(Recovery::DiscardSlices) => replay.discard_slices(),
            Message::Recovery(Recovery::Plan(made)) => {
                made.result.clone()?;
                replay.begin();
                plan = Some(made.clone());
                let (store, own, backlog) = (store.clone(), io.clone(), backlog.clone());
                io.spawn(async move {
                    let (max_sequence, result) = read_share(&store, core, &own, &made, &backlog).await;
                    tell_all(&store, || Recovery::Scanned { max_sequence, result: result.clone() });
                });
            }
            Message::Recovery(Recovery::Replay { from, records }) => {
                let count = records.len();
                replay.add_records(records);
                entered(&store, from, count);
            }
            Message::Recovery(Recovery::Entered(count)) => backlog.remove(count),
            Message::Recovery(Recovery::Scanned { max_sequence, result }) => scans.push((max_sequence, result)),
            // Another core is ahead.
            Message::Recovery(Recovery::Ready) => ready += 1,
            other => unreachable_message(&other),
        }
    }
    let plan = plan.expect("a core reads by the plan, and it comes to all before any is done");
    let mut sequence = plan.max_sequence;
    for (max_sequence, result) in scans {
        sequence = sequence.max(max_sequence);
        result?;
    }
    if store.0.is_incomplete() || store.0.missing_dirs.load(Ordering::Acquire) > 0 {
        sequence = above_unread(sequence, store.0.table.watermark());
    }
    let shard = build(&store, core, io, &plan, replay, sequence);
    if core == CoreId(0) && !store.0.options.read_only && !store.0.table.is_empty() {
        // Before anybody can take the space.
        shard.keep_reserve().await;
    }
    tell_all(&store, || Recovery::Ready);
    let mut early = Vec::new();
    while ready < store.0.options.cores {
        match receive(&mut mailbox).await? {
            Message::Recovery(Recovery::Ready) => ready += 1,
            Message::Recovery(Recovery::Entered(count)) => backlog.remove(count),
            // A core that is ready already may ask.
            message => early.push(message),
        }
    }
    start(&shard, early, mailbox, started);
    Ok(shard)
}

fn tell_all<F>(store: &Store<F>, message: impl Fn() -> Recovery) {
    for mailbox in store.0.core_mailboxes() {
        let _ = mailbox.send(Message::Recovery(message()));
    }
}

/// Tells the core that sent records that they are entered.
fn entered<F>(store: &Store<F>, from: CoreId, count: usize) {
    if count > 0 {
        let _ = store.0.mailboxes[usize::from(from.0)].send(Message::Recovery(Recovery::Entered(count)));
    }
}

/// A sequence above all that unread segments may hold. Such a segment has a number below `watermark`, and the segments of a later
/// incomplete life have higher ones; so each such life gets a range of its own.
fn above_unread(sequence: Sequence, watermark: SegmentId) -> Sequence {
    Sequence(sequence.0 + (u64::from(watermark.0) << UNREAD_SEQUENCES_SHIFT))
}

async fn receive(mailbox: &mut Receiver<Message>) -> Result<Message, OpenError> {
    mailbox.recv().await.ok_or_else(|| OpenError("another core ended during recovery".into()))
}

fn unreachable_message(message: &Message) -> ! {
    let kind = match message {
        Message::Request { .. } => "request",
        Message::Reply { .. } => "reply",
        Message::Recovery(_) => "recovery",
    };
    panic!("a {kind} message came out of its turn during recovery")
}

fn build<I: Io>(
    store: &Store<I::File>,
    core: CoreId,
    io: I,
    plan: &Plan,
    replay: Replay,
    sequence: Sequence,
) -> Shard<I> {
    let options = &store.0.options;
    let free = store.0.free.get_or_init(|| Arc::new(FreeFiles::new(&plan.segment_sizes))).clone();
    let dirs = store.0.dirs_io(&io);
    let own: Vec<usize> = dirs_of(core, options.cores, dirs.len()).collect();
    // Where its own directories take no more, it writes to the others.
    let others = (0..dirs.len()).filter(|dir_index| !own.contains(dir_index));
    let logs = own
        .iter()
        .copied()
        .chain(others)
        .map(|dir_index| start_log(store, &dirs, plan.store, &free, Purpose::Clients, dir_index))
        .collect();
    let frames = Frames::new(options.buffers_per_core());
    let logs = Logs { logs, own: own.len() };
    assemble(store, core, io, dirs, plan.store, replay.finish(), sequence, logs, frames)
}

/// The logs of a shard, those in its own directories first.
struct Logs<I: Io> {
    logs: Vec<Log<I>>,
    own: usize,
}

fn start_log<I: Io>(
    store: &Store<I::File>,
    dirs: &[DirIo<I>],
    identity: [u8; 16],
    free: &Arc<FreeFiles<I::File>>,
    purpose: Purpose,
    dir_index: usize,
) -> Log<I> {
    let (shared, fenced) = (store.0.clone(), store.0.clone());
    let options = LogOptions {
        purpose,
        dir_index,
        dir: shared.options.dirs[dir_index].clone(),
        store: identity,
        segment_size: free.segment_size(dir_index),
        batch_bytes_max: shared.options.limits.batch_bytes_max,
        reserve_bytes_max: shared.options.limits.tombstone_reserve_bytes_max,
        table: shared.table.clone(),
        free: free.clone(),
        sealed: Box::new(move |segment, bytes| {
            let _ = shared.events.send(Event::Sealed { segment, bytes });
            shared.background.space_changed();
        }),
        fenced: Box::new(move |segment| {
            let _ = fenced.events.send(Event::Dead(segment));
            fenced.background.space_changed();
        }),
    };
    Log::start(dirs[dir_index].clone(), options)
}

/// Bytes of memory that a worker has for frames.
const WORKER_BUFFERS: usize = 16 << 20;

/// Opens the shard of a worker, once the cores have opened theirs; `None` when the store is being closed. It must be closed by
/// [`Shard::close_worker`], or the cores can't be.
pub(super) fn open_worker<I: Io>(store: &Store<I::File>, worker: Worker, io: I) -> Option<Shard<I>> {
    let shared = &store.0;
    if !shared.background.enter() {
        return None;
    }
    let options = &shared.options;
    let identity = *shared.identity.get().expect("workers begin when the cores are open");
    let free = shared.free.get().expect("set with the identity");
    let dirs = store.0.dirs_io(&io);
    let written = if worker == Worker::Compaction { 0..options.dirs.len() } else { 0..0 };
    let logs: Vec<_> =
        written.map(|dir_index| start_log(store, &dirs, identity, free, Purpose::Compaction, dir_index)).collect();
    let logs = Logs { own: logs.len(), logs };
    let core = worker.core(options.cores);
    let frames = Frames::new(WORKER_BUFFERS);
    let shard = assemble(store, core, io, dirs, identity, Index::new(), Sequence(0), logs, frames);
    let mailbox = store.take_receiver(core);
    shard.0.io.spawn(shard.clone().serve(Vec::new(), mailbox));
    shared.background.set_running(worker);
    Some(shard)
}

#[allow(clippy::too_many_arguments)]
fn assemble<I: Io>(
    store: &Store<I::File>,
    core: CoreId,
    io: I,
    dirs: Vec<DirIo<I>>,
    store_uuid: [u8; 16],
    index: Index,
    sequence: Sequence,
    logs: Logs<I>,
    frames: Frames,
) -> Shard<I> {
    Shard(Rc::new(Inner {
        frames,
        hash_sessions: Sessions::default(),
        io,
        core,
        store: store.clone(),
        store_uuid,
        index: RefCell::new(index),
        locks: Locks::new(Sequence(sequence.0 + 1)),
        calls: Calls::default(),
        recent: Recent::default(),
        dirs,
        own_logs: logs.own,
        logs: logs.logs,
        next_log: Cell::new(0),
        accounting: Accounting::new(sequence),
        uploads: Cell::new(0),
        operations: Cell::new(0),
        operation_ended: Notify::default(),
        closing: Cell::new(false),
        paid_until: Cell::new(Instant(0)),
        closed_cores: RefCell::default(),
        core_closed: Notify::default(),
        reclaimer: Reclaimer::default(),
    }))
}

/// The data directories that a core writes to first: one when there are as many cores as
/// directories or more, else its share.
fn dirs_of(core: CoreId, cores: u16, dirs: usize) -> impl Iterator<Item = usize> {
    let (core, cores) = (usize::from(core.0), usize::from(cores));
    let (first, step) = if dirs <= cores { (core % dirs, dirs) } else { (core, cores) };
    (first..dirs).step_by(step)
}

fn start<I: Io>(shard: &Shard<I>, early: Vec<Message>, mailbox: Receiver<Message>, started: Instant) {
    let io = &shard.0.io;
    io.spawn(shard.clone().serve(early, mailbox));
    io.spawn(shard.clone().account());
    if shard.0.core == CoreId(0) && !shard.shared().options.read_only {
        let events = shard.shared().events_receiver.lock().expect("no panic under the lock").take();
        io.spawn(shard.clone().reclaim(events.expect("core 0 opens once")));
        let shard = shard.clone();
        io.clone().spawn(async move {
            let took_ms = shard.0.io.now().since(started).as_millis() as u64;
            let status = shard.status().await;
            let SegmentCounts { active, sealed, fenced } = status.segments;
            let segments = active + sealed + fenced;
            tracing::info!(
                blobs = status.blob_count,
                segments,
                took_ms,
                damage = status.damage_count,
                "store recovered"
            );
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_directory_is_written_by_some_core_and_every_core_writes() {
        for cores in 1..=8u16 {
            for dirs in 1..=8usize {
                let mut used = vec![false; dirs];
                for core in 0..cores {
                    let own: Vec<usize> = dirs_of(CoreId(core), cores, dirs).collect();
                    assert!(!own.is_empty(), "core {core} of {cores}, {dirs} directories");
                    own.iter().for_each(|dir| used[*dir] = true);
                }
                assert!(used.iter().all(|used| *used), "{cores} cores, {dirs} directories");
            }
        }
    }
}
