//! Opening a store: from what the disks hold to a shard on each core.
//!
//! Core 0 agrees on the directories, lists the segments and reads the checkpoint; then every core reads its share of the segments that the
//! checkpoint does not cover, by their footers where they have valid ones, by a scan where not, and sends each record to the owner of
//! its id. When all have read everything, each builds its index.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::index::Index;
use crate::io::{Disk, Instant, Io, Spawn};
use crate::log::checkpoint::{self, CheckpointReader, Covered, Item, Slice, Unusable};
use crate::log::dir_io::DirIo;
use crate::log::free_files::{FreeFiles, free_file_name, is_draft_name, parse_free_file_name};
use crate::log::health::DirState;
use crate::log::segment::{SEGMENTS_DIR, parse_file_name};
use crate::log::writer::{Log, LogOptions, Purpose};
use crate::log::{REREADS, SEGMENT_SIZE_MAX, SEGMENT_SIZE_MIN};
use crate::memory::Frames;
use crate::mutant::{Mutant, is_planted};
use crate::probe::{self, Event as ProbeEvent};
use crate::runtime::mailbox::Receiver;
use crate::store::accounting::Accounting;
use crate::store::background::Worker;
use crate::store::calls::Calls;
use crate::store::hashing::Sessions;
use crate::store::identity::Missing;
use crate::store::locks::Locks;
use crate::store::message::{Existing, Message, Plan, Recovery, SegmentFile};
use crate::store::reading::read_share;
use crate::store::recent::Recent;
use crate::store::reclaim::{Event, Reclaimer};
use crate::store::replay::Replay;
use crate::store::shard::{Inner, Shard};
use crate::store::shared::Store;
use crate::store::{OpenError, SegmentCounts, identity, scrub};
use crate::sync::Notify;
use crate::types::{CoreId, SegmentId, Sequence};

/// Two to the power of this bounds the operations of a life of which nothing could be read at the next start.
const UNREAD_SEQUENCES_SHIFT: u32 = 28;
/// The part of a file system that one segment takes unless told otherwise: so a store has some thousand segments at most.
const SEGMENT_DIVISOR: u64 = 1024;
/// Numbers of segments that are passed over at a start without a data directory: more than its disk
/// may have got since the others last did.
const SKIPPED_NUMBERS: u32 = 1 << 22;
/// The bounds of a segment's size unless told otherwise.
const DEFAULT_SIZES: std::ops::RangeInclusive<u64> = (4 << 20)..=(256 << 20);

pub(super) async fn open<I: Io>(
    store: Store<I::File>,
    core: CoreId,
    io: I,
    mut mailbox: Receiver<Message>,
) -> Result<Shard<I>, OpenError> {
    let started = io.now();
    if core == CoreId(0) {
        let plan = Arc::new(make_plan(&store, &io).await);
        for mailbox in store.0.core_mailboxes() {
            let _ = mailbox.send(Message::Recovery(Recovery::Plan(plan.clone())));
        }
    }
    // Every core sends to all mailboxes one after another, so a fast core's next message may arrive before a slow one's last: each
    // wait takes what belongs to the step after it, too.
    let mut replay = Replay::default();
    let mut scans = Vec::new();
    let mut ready = 0;
    let plan = loop {
        match receive(&mut mailbox).await? {
            Message::Recovery(Recovery::Slice(slice)) => replay.add_slice(slice),
            Message::Recovery(Recovery::DiscardSlices) => replay.discard_slices(),
            Message::Recovery(Recovery::Plan(plan)) => break plan,
            // Another core is ahead: its records wait for their turn.
            Message::Recovery(Recovery::Replay(records)) => replay.add_records(records),
            Message::Recovery(Recovery::Scanned { max_sequence, result }) => scans.push((max_sequence, result)),
            other => unreachable_message(&other),
        }
    };
    plan.result.clone()?;
    let (max_sequence, result) = read_share(&store, core, &io, &plan).await;
    for mailbox in store.0.core_mailboxes() {
        let _ = mailbox.send(Message::Recovery(Recovery::Scanned { max_sequence, result: result.clone() }));
    }
    while scans.len() < usize::from(store.0.options.cores) {
        match receive(&mut mailbox).await? {
            Message::Recovery(Recovery::Replay(records)) => replay.add_records(records),
            Message::Recovery(Recovery::Scanned { max_sequence, result }) => scans.push((max_sequence, result)),
            Message::Recovery(Recovery::Ready) => ready += 1,
            other => unreachable_message(&other),
        }
    }
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
    for mailbox in store.0.core_mailboxes() {
        let _ = mailbox.send(Message::Recovery(Recovery::Ready));
    }
    let mut early = Vec::new();
    while ready < store.0.options.cores {
        match receive(&mut mailbox).await? {
            Message::Recovery(Recovery::Ready) => ready += 1,
            // A core that is ready already may ask.
            message => early.push(message),
        }
    }
    start(&shard, early, mailbox, started);
    Ok(shard)
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
    let dirs = dirs_io(store, &io);
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

/// A handle to each data directory.
fn dirs_io<I: Io>(store: &Store<I::File>, io: &I) -> Vec<DirIo<I>> {
    (0..store.0.options.dirs.len()).map(|dir| store.0.dir_io(io, dir)).collect()
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
    let dirs = dirs_io(store, &io);
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

/// What there is to read. Sends the slices of the checkpoint to their owners on the way.
async fn make_plan<I: Io>(store: &Store<I::File>, io: &I) -> Plan {
    let mut plan = Plan {
        store: [0; 16],
        segments: Vec::new(),
        covered: Vec::new(),
        max_sequence: Sequence(0),
        segment_sizes: Vec::new(),
        result: Ok(()),
    };
    plan.result = fill_plan(store, io, &mut plan).await;
    plan
}

async fn fill_plan<I: Io>(store: &Store<I::File>, io: &I, plan: &mut Plan) -> Result<(), OpenError> {
    let options = &store.0.options;
    let on_missing = *store.0.on_missing.lock().expect("no panic under the lock");
    let agreed = identity::agree(&dirs_io(store, io), &options.dirs, options.read_only, on_missing).await?;
    plan.store = agreed.store;
    store.0.identity.get_or_init(|| agreed.store);
    *store.0.superblocks.lock().expect("no panic under the lock") = agreed.superblocks;
    note_missing(store, on_missing, agreed.missing, &agreed.absent);
    scrub::saved::recover(&store.0.dir_io(io, 0), store, agreed.store).await;
    for (dir_index, dir) in options.dirs.iter().enumerate() {
        let io = &store.0.dir_io(io, dir_index);
        let fail = |error: io::Error| OpenError(format!("data directory {} can't be read: {error}", dir.display()));
        if agreed.absent.iter().any(|(index, _)| *index == dir_index) {
            plan.segment_sizes.push(SEGMENT_SIZE_MIN);
            continue;
        }
        plan.segment_sizes.push(match options.segment_size {
            Some(size) => size.clamp(SEGMENT_SIZE_MIN, SEGMENT_SIZE_MAX),
            None => default_segment_size(io.space(dir).await.map_err(fail)?.total),
        });
        if !options.read_only && !is_planted(Mutant::SegmentsUnsettled) {
            identity::settle(io, &dir.join(SEGMENTS_DIR)).await?;
        }
        for entry in io.list_dir(&dir.join(SEGMENTS_DIR)).await.map_err(fail)? {
            if let Some(id) = parse_file_name(&entry.name) {
                store.0.table.reserve_above(id);
                plan.segments.push(SegmentFile { id, dir: dir_index, size: entry.size });
            } else if let Some(number) = parse_free_file_name(&entry.name) {
                store.0.table.reserve_above(number);
                if !options.read_only {
                    drop_free_file(io, dir, number).await.map_err(fail)?;
                }
            } else if is_draft_name(&entry.name) && !options.read_only {
                io.remove(&dir.join(SEGMENTS_DIR).join(&entry.name)).await.map_err(fail)?;
            }
        }
    }
    plan.segments.sort_by_key(|file| file.id);
    if let Some(twice) = plan.segments.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(OpenError(format!(
            "segment {} lies in {} and in {}; one of them is a copy: move it away",
            twice[0].id,
            options.dirs[twice[0].dir].display(),
            options.dirs[twice[1].dir].display()
        )));
    }
    if let Some((covered, max_sequence)) = read_checkpoint(store, io, plan).await? {
        plan.max_sequence = max_sequence;
        // Numbers that are still covered must not come again, also when their segments are gone.
        covered.iter().for_each(|covered| store.0.table.reserve_above(covered.segment));
        let by_id: HashMap<SegmentId, Covered> = covered.iter().map(|covered| (covered.segment, *covered)).collect();
        plan.segments.retain(|file| {
            let covering = by_id.get(&file.id);
            if let Some(covering) = covering {
                plan.covered.push((*covering, *file));
            }
            covering.is_none()
        });
        if !plan.segments.is_empty() {
            probe::hit(ProbeEvent::CheckpointOutrun);
        }
    }
    if agreed.missing > 0 {
        skip_numbers(store)?;
    }
    Ok(())
}

/// Says what is missing, and what follows.
fn note_missing<F>(store: &Store<F>, on_missing: Missing, missing: usize, absent: &[(usize, String)]) {
    for (index, why) in absent {
        store.0.health.dir(*index).take_out(DirState::Gone, format!("it is missing: {why}"));
    }
    if missing == 0 || store.0.options.read_only {
        return;
    }
    store.0.missing_dirs.store(missing as u32, Ordering::Release);
    let given: Vec<usize> = absent.iter().map(|(index, _)| index + 1).collect();
    match on_missing {
        Missing::Refuse => unreachable!("refused before"),
        Missing::Serve => {
            store.0.set_incomplete();
            tracing::error!(
                missing,
                given_but_absent = ?given,
                "the store is degraded: data directories are missing, and what may lie there is answered with 503; nothing is reclaimed, compacted or \
                 scrubbed until a start has all of them"
            );
        }
        Missing::Forget => {
            // Taken off when they are given up.
            store.0.unaccounted_cores.fetch_add(1, Ordering::AcqRel);
            store.0.forgetting.is_under_way.store(true, Ordering::Release);
            tracing::warn!(missing, "data directories that are missing are given up: what lay there will be gone");
        }
    }
}

/// A missing directory may hold segments with any number that was given out before. New ones get
/// numbers far above those that are known.
fn skip_numbers<F>(store: &Store<F>) -> Result<(), OpenError> {
    let first = store.0.table.watermark().0;
    if u32::MAX - first < 2 * SKIPPED_NUMBERS {
        return Err(OpenError(format!(
            "too few numbers of segments are left to start without a data directory ({first} were given out): start with all of them"
        )));
    }
    store.0.table.reserve_above(SegmentId(first + SKIPPED_NUMBERS));
    Ok(())
}

/// A free file left over from before may be half prepared: it is removed, not reused.
async fn drop_free_file<I: Io>(io: &I, dir: &Path, number: SegmentId) -> io::Result<()> {
    io.remove(&dir.join(SEGMENTS_DIR).join(free_file_name(number))).await
}

fn default_segment_size(total: u64) -> u64 {
    let share = (total / SEGMENT_DIVISOR).clamp(*DEFAULT_SIZES.start(), *DEFAULT_SIZES.end());
    1 << share.ilog2()
}

/// Reads the checkpoint, if there is a sound one. One that can't be used now must not be used later either: the segments it covers may be gone
/// by then, and their numbers given to others.
async fn read_checkpoint<I: Io>(
    store: &Store<I::File>,
    io: &I,
    plan: &Plan,
) -> Result<Option<(Vec<Covered>, Sequence)>, OpenError> {
    let existing: Existing = plan.segments.iter().map(|file| file.id).collect();
    let mut why = String::new();
    for attempt in 0..=REREADS {
        why = match try_read_checkpoint(store, io, plan.store, &existing).await {
            Ok(read) => {
                probe::hit(ProbeEvent::CheckpointUsed);
                if attempt > 0 {
                    probe::hit(ProbeEvent::RereadHelped);
                }
                return Ok(Some(read));
            }
            Err(Unusable::Missing) => return Ok(None),
            Err(Unusable::Damaged(why)) => why.to_string(),
            Err(Unusable::Io(error)) => error.to_string(),
        };
        for mailbox in store.0.core_mailboxes() {
            let _ = mailbox.send(Message::Recovery(Recovery::DiscardSlices));
        }
    }
    probe::hit(ProbeEvent::CheckpointRefused);
    tracing::warn!(why, "the checkpoint can't be used: every footer is read instead");
    // A directory that is not there keeps its checkpoint.
    if !store.0.options.read_only && !store.0.health.dir(0).is_gone() {
        let dir = &store.0.options.dirs[0];
        checkpoint::remove(&store.0.dir_io(io, 0), dir).await.map_err(|error| {
            OpenError(format!("the unusable checkpoint in {} can't be removed: {error}", dir.display()))
        })?;
    }
    Ok(None)
}

async fn try_read_checkpoint<I: Io>(
    store: &Store<I::File>,
    io: &I,
    store_uuid: [u8; 16],
    existing: &Existing,
) -> Result<(Vec<Covered>, Sequence), Unusable> {
    let io = &store.0.dir_io(io, 0);
    let mut reader = CheckpointReader::open(io, &store.0.options.dirs[0], store_uuid).await?;
    let mut covered = Vec::new();
    let mut max_sequence = Sequence(0);
    loop {
        match reader.next().await? {
            Item::Covered(more) => covered.extend(more),
            Item::Slice(slice) => {
                max_sequence = max_sequence.max(slice.sequence);
                send_slice(store, slice, existing);
            }
            Item::End => return Ok((covered, max_sequence)),
        }
        io.yield_now().await;
    }
}

/// Sends a slice to all cores, each with the entries it owns. Entries in segments that are gone were deleted since.
fn send_slice<F>(store: &Store<F>, slice: Slice, existing: &Existing) {
    let cores = store.0.options.cores;
    let mut parts: Vec<Slice> = (0..cores).map(|_| slice.clone_without_entries()).collect();
    for entry in slice.entries {
        // The number of one that is gone must not come again while something names it.
        store.0.table.reserve_above(entry.location.segment);
        if existing.contains(&entry.location.segment) || is_planted(Mutant::KeepGoneEntries) {
            parts[usize::from(entry.id.owner(cores).0)].entries.push(entry);
        }
    }
    for (mailbox, part) in store.0.core_mailboxes().iter().zip(parts) {
        let _ = mailbox.send(Message::Recovery(Recovery::Slice(part)));
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

    #[test]
    fn the_default_segment_is_a_power_of_two_within_its_bounds() {
        assert_eq!(default_segment_size(64 << 20), 4 << 20);
        assert_eq!(default_segment_size(80 << 30), 64 << 20);
        assert_eq!(default_segment_size(10 << 40), 256 << 20);
    }
}
