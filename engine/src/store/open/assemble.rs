//! Puts a shard together, of a core or of a worker, from what the store is and what recovery has
//! found.
//!
//! A core has a log in every directory, which costs nothing before its first record, and prefers
//! its own.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use crate::index::Index;
use crate::io::{Instant, Io};
use crate::log::dir_io::DirIo;
use crate::log::free_files::FreeFiles;
use crate::log::writer::{Log, LogOptions, Purpose};
use crate::memory::Frames;
use crate::store::accounting::Accounting;
use crate::store::calls::Calls;
use crate::store::event::{Event, Reclaimer};
use crate::store::hash_steps::Sessions;
use crate::store::locks::Locks;
use crate::store::message::Plan;
use crate::store::open::replay::Replay;
use crate::store::recent::Recent;
use crate::store::shard::{Inner, Shard};
use crate::store::shared::Store;
use crate::store::worker::Worker;
use crate::sync::Notify;
use crate::types::{CoreId, Sequence};

/// The shard of a core, with what recovery has found.
pub(super) fn of_core<I: Io>(
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

impl<F: Clone + Send + Sync + fmt::Debug + 'static> Store<F> {
    /// Opens the shard of a worker, once the cores have opened theirs; `None` when the store is
    /// being closed. It must be closed by [`Shard::close_worker`], or the cores can't be.
    pub(crate) fn open_worker<I: Io<File = F>>(&self, worker: Worker, io: I) -> Option<Shard<I>> {
        let shared = &self.0;
        if !shared.background.enter() {
            return None;
        }
        let options = &shared.options;
        let identity = *shared.identity.get().expect("workers begin when the cores are open");
        let free = shared.free.get().expect("set with the identity");
        let dirs = shared.dirs_io(&io);
        let written = if worker == Worker::Compaction { 0..options.dirs.len() } else { 0..0 };
        let logs: Vec<_> =
            written.map(|dir_index| start_log(self, &dirs, identity, free, Purpose::Compaction, dir_index)).collect();
        let logs = Logs { own: logs.len(), logs };
        let core = worker.core(options.cores);
        let frames = Frames::new(WORKER_BUFFERS);
        let shard = assemble(self, core, io, dirs, identity, Index::new(), Sequence(0), logs, frames);
        let mailbox = self.take_receiver(core);
        shard.0.io.spawn(shard.clone().serve(Vec::new(), mailbox));
        shared.background.set_running(worker);
        Some(shard)
    }
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
