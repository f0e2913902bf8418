//! What the connections of one core share, and what the cores share.

use std::cell::{Cell, RefCell};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use std::net::SocketAddr;

use nabu_engine::io::{AlignedBuf, Clock, Disk, Instant, Randomness};
use nabu_engine::runtime::{Half, RingIo, Stream};
use nabu_engine::store::{Shard, Store};
use nabu_engine::types::CoreId;
use nabu_net::http::head::HeadLimits;

use super::connections::{ConnectionCount, Connections};
use super::maintenance::Control;
use super::report::AccessLog;
use super::security::{CoreAccess, Security};
use super::shutdown::Gate;
use super::transport::RECORDS_BYTES;
use crate::api::request_id::RequestIds;
use crate::config::{Config, Limits};
use crate::metrics::Recorder;
use crate::metrics::collector::Collector;

/// Header fields that one request may carry.
const HEAD_FIELDS_MAX: usize = 128;
/// Byte vectors that a core keeps for reuse, and the largest it keeps.
const POOL_VECTORS_MAX: usize = 64;
const POOL_VECTOR_BYTES_MAX: usize = 64 << 10;
/// Buffers for records that are out at one time, each for a large answer that is encrypted; more large answers are copied in small pieces.
const RECORDS_OUT_MAX: usize = 256;
/// Buffers for records that a core keeps for reuse: one is filled and sent at a time, and a few wait for room in a socket.
const POOL_RECORDS_MAX: usize = 16;
/// The share of a core's memory that bodies of JSON may take, as a divisor.
const JSON_MEMORY_DIVISOR: u64 = 4;
/// Beyond its timeout, a transfer gets a second for each this many bytes in flight, so that one large send is not held against a slow line.
const FLOOR_BYTES_PER_SECOND: u64 = 16 << 10;

/// What all cores share.
pub struct Shared {
    pub config: Config,
    pub security: Security,
    pub store: Store<<RingIo as Disk>::File>,
    /// The address that the first core bound.
    pub address: OnceLock<SocketAddr>,
    pub connection_count: ConnectionCount,
    pub gate: Gate,
    pub maintenance: Control,
    pub collector: Collector,
    pub started_at: SystemTime,
    /// The first reason to end in failure.
    pub failure: Mutex<Option<String>>,
    /// A core could not close the store in time.
    pub is_left_open: AtomicBool,
}

/// A place among the buffers that are out; given back when dropped.
pub struct RecordsPlace<'core>(&'core Cell<usize>);

impl Drop for RecordsPlace<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// One core of the server.
pub struct Core {
    pub id: CoreId,
    pub io: RingIo,
    pub shared: Arc<Shared>,
    pub connections: Connections,
    pub request_ids: RequestIds,
    pub access: CoreAccess,
    pub recorder: Recorder,
    pub access_log: AccessLog,
    /// A request that takes the server longer than this is logged.
    pub slow_request_ns: u64,
    shard: RefCell<Option<Shard<RingIo>>>,
    stopping: Cell<bool>,
    vectors: RefCell<Vec<Vec<u8>>>,
    records: RefCell<Vec<AlignedBuf>>,
    records_out: Cell<usize>,
    json_bytes: Cell<u64>,
}

impl Core {
    pub fn new(id: CoreId, io: RingIo, shared: Arc<Shared>) -> Self {
        let request_ids = RequestIds::new(io.random_u64());
        let access = CoreAccess::new(&shared.security);
        let log = &shared.config.log;
        Self {
            recorder: Recorder::default(),
            access_log: AccessLog::new(&log.access),
            slow_request_ns: log.slow_request_ms * 1_000_000,
            id,
            io,
            shared,
            access,
            connections: Connections::default(),
            request_ids,
            shard: RefCell::new(None),
            stopping: Cell::new(false),
            vectors: RefCell::new(Vec::new()),
            records: RefCell::new(Vec::new()),
            records_out: Cell::new(0),
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

    /// A buffer for the records of a large answer, from those that came back, with its place; it may hold what was sent before. `None` when too many are out.
    pub fn records_buffer(&self) -> Option<(AlignedBuf, RecordsPlace<'_>)> {
        let out = self.records_out.get();
        if out == RECORDS_OUT_MAX {
            return None;
        }
        self.records_out.set(out + 1);
        let buffer = self.records.borrow_mut().pop().unwrap_or_else(|| AlignedBuf::stale(RECORDS_BYTES));
        Some((buffer, RecordsPlace(&self.records_out)))
    }

    /// Takes a buffer of records back.
    pub fn recycle_records(&self, records: AlignedBuf) {
        let mut kept = self.records.borrow_mut();
        if kept.len() < POOL_RECORDS_MAX {
            kept.push(records);
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

    /// Bytes of JSON bodies that are charged now.
    pub fn json_bytes(&self) -> u64 {
        self.json_bytes.get()
    }

    pub fn release_json(&self, bytes: u64) {
        self.json_bytes.set(self.json_bytes.get().checked_sub(bytes).expect("released what was charged"));
    }

    /// Sets a deadline in `milliseconds` from now.
    pub fn set_deadline(&self, stream: &Stream, milliseconds: u64, half: Half) {
        stream.set_deadline(Some((self.after(Duration::from_millis(milliseconds)), half)));
    }

    /// Sets the deadline for a send of `bytes` that begins now.
    pub fn set_send_deadline(&self, stream: &Stream, now: Instant, bytes: usize) {
        let seconds = bytes as u64 / FLOOR_BYTES_PER_SECOND;
        let duration = Duration::from_millis(self.limits().progress_timeout_ms) + Duration::from_secs(seconds);
        stream.set_deadline(Some((now.after(duration), Half::Both)));
    }

    fn after(&self, duration: Duration) -> Instant {
        self.io.now().after(duration)
    }
}
