//! What the connections of one core share, and what the cores share of it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use nabu_engine::io::{AlignedBuf, Clock, Instant, Randomness};
use nabu_engine::runtime::{Half, RingIo, Stream};
use nabu_engine::types::CoreId;
use nabu_net::http::head::HeadLimits;

use super::admission::Admission;
use super::audit::Audit;
use super::client::{Client, Port};
use super::connection::Serving;
use super::connections::{Connections, Slot};
use super::error::Render;
use super::exchange::Exchange;
use super::held::Held;
use super::pace::Slack;
use super::report::AccessLog;
use super::request_id::RequestIds;
use super::transport::RECORDS_BYTES;
use super::unfinished::Unfinished;
use super::upgrade::Upgrades;
use super::vectors::Vectors;
use crate::config::{Limits, LogOptions};
use crate::metrics::{CoreSnapshot, Recorder};
use crate::reloadable::Reloadable;
use crate::tls::ServerTls;

/// Header fields that one request may carry.
const HEAD_FIELDS_MAX: usize = 128;
/// Buffers for records that are out at one time, each for a large answer that is encrypted; more
/// large answers are copied in small pieces.
const RECORDS_OUT_MAX: usize = 256;
/// Buffers for records that a core keeps for reuse: one is filled and sent at a time, and a few
/// wait for room in a socket.
const POOL_RECORDS_MAX: usize = 16;

/// What all cores share.
pub struct Shared {
    pub limits: Limits,
    pub log: LogOptions,
    /// `None` is plain HTTP.
    pub tls: Option<Arc<Reloadable<ServerTls>>>,
    pub admission: Admission,
    /// Of the port of operations.
    pub ops_admission: Admission,
    /// Memory of one core that bodies which are received whole may take.
    pub bodies_bytes_max: u64,
    /// Memory of one core that heads and handshakes may take which are not finished.
    pub unfinished_bytes_max: u64,
    /// What answers of one core may hold whose peers have stalled, with what lies in their sockets.
    pub stalled_bytes_max: u64,
}

impl Shared {
    /// How many connections a port may have.
    pub fn admission(&self, port: Port) -> &Admission {
        match port {
            Port::Main => &self.admission,
            Port::Ops => &self.ops_admission,
        }
    }
}

/// What answers the requests of one core. HTTP knows no more of it.
pub struct Service {
    pub dispatch: Box<dyn Fn(Exchange) -> Serving>,
    /// Whether a path is answered also where there are too many connections: health.
    pub is_always_answered: fn(&str) -> bool,
    /// The body of an error that is met before the request has found its API.
    pub render: Render,
    /// What requests are counted as; the first is for those that no other fits.
    pub routes: Vec<&'static str>,
}

/// A place among the buffers that are out; given back when dropped.
pub struct RecordsPlace<'core>(&'core Cell<usize>);

impl Drop for RecordsPlace<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// One core, as its connections see it.
pub struct Core {
    pub id: CoreId,
    pub io: RingIo,
    pub shared: Arc<Shared>,
    pub service: Service,
    /// What takes connections between nodes; `None` where there are none, as in a store of one
    /// node.
    pub upgrades: Option<Upgrades>,
    pub connections: Connections,
    pub unfinished: Unfinished,
    pub held: Held,
    pub request_ids: RequestIds,
    pub recorder: Recorder,
    pub access_log: AccessLog,
    pub audit: Audit,
    /// A request that takes the server longer than this is logged.
    pub slow_request_ns: u64,
    stopping: Cell<bool>,
    vectors: Rc<Vectors>,
    records: RefCell<Vec<AlignedBuf>>,
    records_out: Cell<usize>,
    bodies_bytes: Cell<u64>,
}

impl Core {
    pub fn new(id: CoreId, io: RingIo, shared: Arc<Shared>, service: Service) -> Self {
        let unfinished = Unfinished::new(shared.unfinished_bytes_max);
        let held = Held::new(shared.stalled_bytes_max);
        Self {
            recorder: Recorder::new(&service.routes),
            access_log: AccessLog::new(&shared.log.access),
            audit: Audit::new(shared.log.audit),
            slow_request_ns: shared.log.slow_request_ms * 1_000_000,
            request_ids: RequestIds::new(io.random_u64()),
            id,
            io,
            shared,
            service,
            upgrades: None,
            connections: Connections::default(),
            unfinished,
            held,
            stopping: Cell::new(false),
            vectors: Rc::default(),
            records: RefCell::new(Vec::new()),
            records_out: Cell::new(0),
            bodies_bytes: Cell::new(0),
        }
    }

    /// The same, which takes connections between nodes.
    pub fn with_upgrades(self, upgrades: Upgrades) -> Self {
        Self { upgrades: Some(upgrades), ..self }
    }

    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    pub fn head_limits(&self) -> HeadLimits {
        let limits = self.limits();
        HeadLimits { head_bytes: limits.head_bytes_max, target_bytes: limits.target_bytes_max, fields: HEAD_FIELDS_MAX }
    }

    /// A connection has begun to ask, and holds this many bytes. Others that did so earlier may
    /// have to go.
    pub fn hold_unfinished(&self, slot: Slot, client: &Client, bytes: usize) {
        let origin = client.limited_origin();
        self.unfinished.hold(slot, origin, bytes);
        while let Some(oldest) = self.unfinished.take_excess(origin) {
            self.recorder.connection_evicted();
            self.connections.break_off_one(oldest);
        }
    }

    /// Whether connections end after the request they serve.
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    pub fn stop(&self) {
        self.stopping.set(true);
    }

    /// The vectors that are kept for reuse.
    pub fn vectors(&self) -> &Rc<Vectors> {
        &self.vectors
    }

    /// An empty vector with some capacity, from those that came back.
    pub fn vector(&self) -> Vec<u8> {
        self.vectors.take()
    }

    /// Takes a vector back, whatever it holds.
    pub fn recycle(&self, vector: Vec<u8>) {
        self.vectors.give_back(vector);
    }

    /// A buffer for the records of a large answer, from those that came back, with its place; it
    /// may hold what was sent before. `None` when too many are out.
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

    /// Charges bytes of a body that is received whole; false, and not charged, when too many are on
    /// their way. One alone always fits.
    pub fn charge_body(&self, bytes: u64) -> bool {
        let charged = self.bodies_bytes.get();
        if charged > 0 && charged + bytes > self.shared.bodies_bytes_max {
            return false;
        }
        self.bodies_bytes.set(charged + bytes);
        true
    }

    pub fn release_body(&self, bytes: u64) {
        self.bodies_bytes.set(self.bodies_bytes.get().checked_sub(bytes).expect("released what was charged"));
    }

    /// What this core counted, and how it is now.
    pub fn snapshot(&self) -> CoreSnapshot {
        CoreSnapshot {
            connections: self.connections.admitted() as u64,
            ring_operations: self.io.operations_in_flight() as u64,
            json_bytes: self.bodies_bytes.get(),
            held: self.held.status(self.io.now()),
            load: self.io.load(),
            ..self.recorder.snapshot(self.id)
        }
    }

    /// Sets a deadline in `milliseconds` from now.
    pub fn set_deadline(&self, stream: &Stream, milliseconds: u64, half: Half) {
        stream.set_deadline(Some((self.after(Duration::from_millis(milliseconds)), half)));
    }

    /// Sets the deadline for a send of `bytes` that begins now and isn't a part of a longer answer.
    pub fn set_send_deadline(&self, stream: &Stream, now: Instant, bytes: usize) {
        stream.set_deadline(Some((Slack::new(self.limits()).deadline(now, bytes), Half::Both)));
    }

    fn after(&self, duration: Duration) -> Instant {
        self.io.now().after(duration)
    }
}
