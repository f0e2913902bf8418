//! What the connections of one core share, and what the cores share.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use std::net::SocketAddr;

use nabu_engine::io::{Instant, Io};
use nabu_engine::runtime::{Half, RingIo, Stream};
use nabu_engine::store::{Shard, Store};
use nabu_engine::types::CoreId;
use nabu_net::http::head::HeadLimits;

use super::connections::{ConnectionCount, Connections};
use super::maintenance::Start;
use super::shutdown::Gate;
use crate::api::request_id::RequestIds;
use crate::auth::Tokens;
use crate::config::{Config, Limits};

/// Header fields that one request may carry.
const HEAD_FIELDS_MAX: usize = 128;
/// Byte vectors that a core keeps for reuse, and the largest it keeps.
const POOL_VECTORS_MAX: usize = 64;
const POOL_VECTOR_BYTES_MAX: usize = 64 << 10;
/// The share of a core's memory that bodies of JSON may take, as a divisor.
const JSON_MEMORY_DIVISOR: u64 = 4;
/// Beyond its timeout, a transfer gets a second for each this many bytes in flight, so that one large send is not held against a slow line.
const FLOOR_BYTES_PER_SECOND: u64 = 16 << 10;

/// What all cores share.
pub struct Shared {
    pub config: Config,
    pub tokens: Tokens,
    pub store: Store<<RingIo as Io>::File>,
    /// The address that the first core bound.
    pub address: OnceLock<SocketAddr>,
    pub connection_count: ConnectionCount,
    pub gate: Gate,
    pub maintenance: Start,
    /// The first reason to end in failure.
    pub failure: Mutex<Option<String>>,
}

/// One core of the server.
pub struct Core {
    pub id: CoreId,
    pub io: RingIo,
    pub shared: Arc<Shared>,
    pub connections: Connections,
    pub request_ids: RequestIds,
    shard: RefCell<Option<Shard<RingIo>>>,
    stopping: Cell<bool>,
    vectors: RefCell<Vec<Vec<u8>>>,
    json_bytes: Cell<u64>,
}

impl Core {
    pub fn new(id: CoreId, io: RingIo, shared: Arc<Shared>) -> Self {
        let request_ids = RequestIds::new(io.random_u64());
        Self {
            id,
            io,
            shared,
            connections: Connections::default(),
            request_ids,
            shard: RefCell::new(None),
            stopping: Cell::new(false),
            vectors: RefCell::new(Vec::new()),
            json_bytes: Cell::new(0),
        }
    }

    pub fn limits(&self) -> &Limits {
        &self.shared.config.limits
    }

    pub fn head_limits(&self) -> HeadLimits {
        let limits = self.limits();
        HeadLimits { head_bytes: limits.head_bytes_max, target_bytes: limits.target_bytes_max, fields: HEAD_FIELDS_MAX }
    }

    /// The store of this core; `None` until it is recovered.
    pub fn shard(&self) -> Option<Shard<RingIo>> {
        self.shard.borrow().clone()
    }

    pub fn set_shard(&self, shard: Shard<RingIo>) {
        *self.shard.borrow_mut() = Some(shard);
    }

    pub fn take_shard(&self) -> Option<Shard<RingIo>> {
        self.shard.borrow_mut().take()
    }

    /// Whether connections end after the request they serve.
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    pub fn stop(&self) {
        self.stopping.set(true);
    }

    /// An empty vector with some capacity, from those that came back.
    pub fn vector(&self) -> Vec<u8> {
        self.vectors.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a vector back, whatever it holds.
    pub fn recycle(&self, mut vector: Vec<u8>) {
        let mut vectors = self.vectors.borrow_mut();
        if (1..=POOL_VECTOR_BYTES_MAX).contains(&vector.capacity()) && vectors.len() < POOL_VECTORS_MAX {
            vector.clear();
            vectors.push(vector);
        }
    }

    /// Charges bytes of a JSON body to this core; false, and not charged, when too many bodies are on their way. One body alone always
    /// fits.
    pub fn charge_json(&self, bytes: u64) -> bool {
        let config = &self.shared.config;
        let budget = config.memory_bytes / u64::from(config.cores.max(1)) / JSON_MEMORY_DIVISOR;
        let charged = self.json_bytes.get();
        if charged > 0 && charged + bytes > budget {
            return false;
        }
        self.json_bytes.set(charged + bytes);
        true
    }

    pub fn release_json(&self, bytes: u64) {
        self.json_bytes.set(self.json_bytes.get().checked_sub(bytes).expect("released what was charged"));
    }

    /// Sets a deadline in `milliseconds` from now.
    pub fn set_deadline(&self, stream: &Stream, milliseconds: u64, half: Half) {
        stream.set_deadline(Some((self.after(Duration::from_millis(milliseconds)), half)));
    }

    /// Sets the deadline for a send of `bytes`.
    pub fn set_send_deadline(&self, stream: &Stream, bytes: usize) {
        let seconds = bytes as u64 / FLOOR_BYTES_PER_SECOND;
        let duration = Duration::from_millis(self.limits().progress_timeout_ms) + Duration::from_secs(seconds);
        stream.set_deadline(Some((self.after(duration), Half::Both)));
    }

    fn after(&self, duration: Duration) -> Instant {
        self.io.now().after(duration)
    }
}
