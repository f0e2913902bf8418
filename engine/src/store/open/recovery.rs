//! Opening a store: from what the disks hold to a shard on each core.
//!
//! Core 0 agrees on the directories, lists the segments and reads the checkpoint; then every core
//! reads its share of the segments that the checkpoint does not cover, by their footers where they
//! have valid ones, by a scan where not, and sends each record to the owner of its id. When all
//! have read everything, each builds its index.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::io::{Instant, Io};
use crate::mailbox::Receiver;
use crate::store::error::OpenError;
use crate::store::message::{Message, Recovery};
use crate::store::open::assemble;
use crate::store::open::backlog::Backlog;
use crate::store::open::plan::make_plan;
use crate::store::open::replay::Replay;
use crate::store::open::segments::read_share;
use crate::store::shard::Shard;
use crate::store::shared::Store;
use crate::store::status::SegmentCounts;
use crate::types::{CoreId, SegmentId, Sequence};

/// Two to the power of this bounds the operations of a life of which nothing could be read at the
/// next start.
const UNREAD_SEQUENCES_SHIFT: u32 = 28;

impl<F: Clone + Send + Sync + fmt::Debug + 'static> Store<F> {
    /// Opens the shard of one core: recovery. Every core must call it once, each on its own thread;
    /// the calls end together, when the whole store is recovered.
    pub async fn open<I: Io<File = F>>(&self, core: CoreId, io: I) -> Result<Shard<I>, OpenError> {
        let (store, mut mailbox) = (self.clone(), self.take_receiver(core));
        let started = io.now();
        let backlog = Rc::new(Backlog::default());
        if core == CoreId(0) {
            let (store, own, backlog) = (store.clone(), io.clone(), backlog.clone());
            io.spawn(async move {
                let plan = Arc::new(make_plan(&store, &own, &backlog).await);
                tell_all(&store, || Recovery::Plan(plan.clone()));
            });
        }
        // Every core sends to all mailboxes one after another, so a fast core's next message may
        // arrive before a slow one's last: each wait takes what belongs to the step after it, too.
        // What a core is sent it enters at once, whatever it reads itself.
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
        let shard = assemble::of_core(&store, core, io, &plan, replay, sequence);
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

/// A sequence above all that unread segments may hold. Such a segment has a number below
/// `watermark`, and the segments of a later incomplete life have higher ones; so each such life
/// gets a range of its own.
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
