//! What all connections of a core share: the node, the bounds, and what is counted over all.

use std::cell::Cell;

use nabu_engine::io::{Clock, Randomness, Spawn};
use nabu_engine::link::Link;
use nabu_engine::sync::Notify;
use nabu_net::peer::handshake::NONCE_BYTES;

use super::host::Host;
use super::limits::Limits;
use super::status::Counts;

/// What a lane needs of the engine.
pub trait LaneIo: Clock + Spawn + Randomness + Clone + 'static {}

impl<T: Clock + Spawn + Randomness + Clone + 'static> LaneIo for T {}

/// Something that happens once, and that any task of the core may wait for.
#[derive(Default)]
pub struct Signal {
    is_given: Cell<bool>,
    given: Notify,
}

impl Signal {
    pub fn give(&self) {
        self.is_given.set(true);
        self.given.notify();
    }

    pub fn is_given(&self) -> bool {
        self.is_given.get()
    }

    pub async fn wait(&self) {
        self.given.wait_for(|| self.is_given.get().then_some(())).await;
    }
}

/// What the connections of one core share.
pub struct Lane<I, L, H> {
    pub io: I,
    pub link: L,
    pub host: H,
    pub limits: Limits,
    pub counts: Cell<Counts>,
    /// Bytes that wait for all addresses.
    pub queued_bytes: Cell<usize>,
    /// Bytes of messages that have come in part.
    pub assembled_bytes: Cell<usize>,
    pub stop: Signal,
    /// There is a connection to look after, or nothing will be any more.
    pub busy: Notify,
}

impl<I: LaneIo, L: Link, H: Host> Lane<I, L, H> {
    pub fn new(io: I, link: L, host: H, limits: Limits) -> Self {
        limits.check();
        Self {
            io,
            link,
            host,
            limits,
            counts: Cell::default(),
            queued_bytes: Cell::new(0),
            assembled_bytes: Cell::new(0),
            stop: Signal::default(),
            busy: Notify::default(),
        }
    }

    pub fn count(&self, count: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        count(&mut counts);
        self.counts.set(counts);
    }

    /// A nonce for one handshake.
    pub fn nonce(&self) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        nonce.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&self.io.random_u64().to_le_bytes()));
        nonce
    }
}
