//! Hashing what comes in, once: SHA-256 of the content, and the checksums of its check blocks while
//! they are in the cache.
//!
//! An upload usually hashes what it received before it receives more. SHA-256 is then all that
//! bounds one fast upload: a core hashes some 1.3 GB/s, and receives three times as much. So where
//! this core is busy and another one is idle, full frames are hashed there: they travel in
//! messages, one after the other, and the state of the hash goes with the first and stays until it
//! is asked back.
//!
//! Invariants: a frame is written only after it was hashed, so nobody reads memory that another
//! changes. The state of the hash is in one place, which keeps the frames in their order; if it
//! gets lost with a core, the upload can't be committed any more.

use std::sync::atomic::Ordering;

use crate::io::Io;
use crate::log::HEAD_ROOM;
use crate::memory::Frame;
use crate::probe::{self, Event};
use crate::sha256::Sha256;
use crate::store::hash_steps::{HashStep, Piece, Progress};
use crate::store::message::{Message, Reply, Request};
use crate::store::shard::Shard;
use crate::sync::{Promised, promise};
use crate::types::{ContentHash, CoreId};

/// How much longer hashing takes than splicing as many bytes, about: what counts in the turns of
/// bulk work.
const HASH_WEIGHT: usize = 4;
/// Uploads of other cores that a core hashes for at the same time.
const HELPED_UPLOADS_MAX: u32 = 4;

/// Whose time is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    Own,
    Another,
}

impl<I: Io> Shard<I> {
    /// Hashes the rest of a payload, in turns with all others on this core.
    async fn hash(&self, hasher: &mut Sha256, payload: &[u8], progress: &mut Progress, whom: For) {
        while progress.hashed < payload.len() {
            let size = progress.step_end(payload.len()) - progress.hashed;
            self.0.io.bulk_turn(size * HASH_WEIGHT).await;
            match whom {
                For::Own => progress.step(hasher, payload),
                For::Another => self.0.io.lend(|| progress.step(hasher, payload)),
            }
        }
    }

    /// Takes a step for another core; it is answered when it is done.
    pub(super) fn hash_for_another(&self, from: CoreId, call: u64, upload: u64, step: HashStep) {
        let mut sessions = self.0.hash_sessions.borrow_mut();
        let session = sessions.entry((from, upload)).or_default();
        session.steps.push_back((call, step));
        if !std::mem::replace(&mut session.busy, true) {
            self.0.io.spawn(self.clone().take_steps(from, upload));
        }
    }

    async fn take_steps(self, from: CoreId, upload: u64) {
        let key = (from, upload);
        let sessions = &self.0.hash_sessions;
        loop {
            let (call, step, state) = {
                let mut sessions = sessions.borrow_mut();
                let session = sessions.get_mut(&key).expect("it is there until its end");
                let Some((call, step)) = session.steps.pop_front() else {
                    session.busy = false;
                    return;
                };
                (call, step, session.state.take())
            };
            match step {
                HashStep::Piece { state: brought, mut piece } => {
                    let mut state = brought.or(state).expect("the first frame brings the state");
                    let Piece { buf, length, progress } = &mut *piece;
                    self.hash(&mut state, &buf[HEAD_ROOM..HEAD_ROOM + *length], progress, For::Another).await;
                    let mut sessions = sessions.borrow_mut();
                    sessions.get_mut(&key).expect("it is there until its end").state = Some(state);
                    drop(sessions);
                    probe::hit(Event::HashedElsewhere);
                    self.reply(from, call, Reply::Hashed(piece));
                }
                HashStep::End => {
                    sessions.borrow_mut().remove(&key);
                    self.reply(from, call, Reply::HashState(state.expect("a frame came before")));
                    return;
                }
            }
        }
    }

    /// Asks another core at once; the reply comes later, or never from a core that is gone.
    fn ask_to_hash(&self, core: CoreId, upload: u64, step: HashStep) -> Promised<Reply> {
        let (call, reply) = self.0.calls.open();
        let message = Message::Request { from: self.0.core, call, request: Request::Hash { upload, step } };
        if self.shared().mailboxes[usize::from(core.0)].send(message).is_err() {
            self.0.calls.forget(call);
        }
        reply
    }
}

/// The hash of one upload, here or with another core.
pub(super) struct UploadHash<I: Io> {
    shard: Shard<I>,
    /// The number of the upload.
    upload: u64,
    at: At,
    helper: Option<Helper<I>>,
}

enum At {
    Here(Sha256),
    There(CoreId),
    /// It went away with another core, or with a future that was dropped.
    Lost,
}

/// The right to ask a core for help.
struct Helper<I: Io> {
    shard: Shard<I>,
    core: CoreId,
}

impl<I: Io> Drop for Helper<I> {
    fn drop(&mut self) {
        self.shard.shared().helped_uploads[usize::from(self.core.0)].fetch_sub(1, Ordering::AcqRel);
    }
}

impl<I: Io> Drop for UploadHash<I> {
    fn drop(&mut self) {
        if let At::There(core) = self.at {
            // Nobody waits for the state; the other core must not keep it.
            drop(self.shard.ask_to_hash(core, self.upload, HashStep::End));
        }
    }
}

impl<I: Io> UploadHash<I> {
    pub fn new(shard: &Shard<I>, upload: u64) -> Self {
        Self { shard: shard.clone(), upload, at: At::Here(Sha256::new()), helper: None }
    }

    /// Whether the next frame should wait to be hashed by another core: this one is busy, and that
    /// one is not. It is kept for as long as it stays idle.
    pub fn wants_help(&mut self) -> bool {
        let io = &self.shard.0.io;
        let (own, cores) = (self.shard.0.core, self.shard.cores());
        if self.helper.as_ref().is_some_and(|helper| io.is_idle(helper.core)) {
            return true;
        }
        if self.helper.take().is_some() || cores == 1 || io.is_idle(own) {
            return false;
        }
        let claim = |core: &CoreId| {
            let uploads = &self.shard.shared().helped_uploads[usize::from(core.0)];
            let more = |count: u32| (count < HELPED_UPLOADS_MAX).then_some(count + 1);
            io.is_idle(*core) && uploads.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
        };
        let core = (1..cores).map(|step| CoreId((own.0 + step) % cores)).find(claim);
        self.helper = core.map(|core| Helper { shard: self.shard.clone(), core });
        self.helper.is_some()
    }

    /// Lets the helper serve others: the next frames are hashed here.
    pub fn release_helper(&mut self) {
        self.helper = None;
    }

    /// Hashes the rest of a payload here and now, after all that is away. False when the hash got
    /// lost.
    pub async fn hash_here(&mut self, payload: &[u8], progress: &mut Progress) -> bool {
        self.bring_back().await;
        let At::Here(hasher) = &mut self.at else { return false };
        self.shard.hash(hasher, payload, progress, For::Own).await;
        true
    }

    /// Has the helper hash a frame; it comes back hashed, or never when the hash got lost.
    pub fn hash_there(&mut self, mut frame: Frame, length: usize, progress: Progress) -> Hashing {
        let Some(helper) = &self.helper else { unreachable!("only who has a helper waits with hashing") };
        let core = helper.core;
        let state = match std::mem::replace(&mut self.at, At::There(core)) {
            At::Here(hasher) => Some(Box::new(hasher)),
            At::There(before) => {
                assert_eq!(before, core, "the hash is with one core at a time");
                None
            }
            At::Lost => {
                self.at = At::Lost;
                return Hashing::Away(frame, promise().1);
            }
        };
        let piece = Box::new(Piece { buf: frame.lend(), length, progress });
        let reply = self.shard.ask_to_hash(core, self.upload, HashStep::Piece { state, piece });
        Hashing::Away(frame, reply)
    }

    /// The hash of all that was taken; `None` when it got lost.
    pub async fn finish(&mut self) -> Option<ContentHash> {
        self.bring_back().await;
        self.helper = None;
        match std::mem::replace(&mut self.at, At::Lost) {
            At::Here(hasher) => Some(ContentHash(hasher.finalize())),
            At::There(_) | At::Lost => None,
        }
    }

    async fn bring_back(&mut self) {
        let At::There(core) = self.at else { return };
        self.at = At::Lost;
        if let Some(Reply::HashState(state)) = self.shard.ask_to_hash(core, self.upload, HashStep::End).await {
            self.at = At::Here(*state);
        }
    }
}

/// A frame that is hashed, or being hashed by another core.
pub(super) enum Hashing {
    Done(Frame, Progress),
    Away(Frame, Promised<Reply>),
}

impl Hashing {
    /// The frame when it is hashed; `None` when the hash got lost.
    pub async fn done(self) -> Option<(Frame, Progress)> {
        let (mut frame, reply) = match self {
            Hashing::Done(frame, progress) => return Some((frame, progress)),
            Hashing::Away(frame, reply) => (frame, reply),
        };
        let Some(Reply::Hashed(piece)) = reply.await else { return None };
        let Piece { buf, progress, .. } = *piece;
        frame.put_back(buf);
        Some((frame, progress))
    }
}
