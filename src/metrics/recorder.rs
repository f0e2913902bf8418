//! What one core counts, and snapshots of it.
//!
//! A [`Recorder`] belongs to one core and never leaves it. What a request adds is added when it is
//! over, in one call.

use std::cell::{Cell, RefCell};

use nabu_engine::runtime::CoreLoad;
use nabu_engine::types::CoreId;
use nabu_net::http::head::Method;

use super::latency::{Buckets, Latency};
use super::route::RouteId;

/// A request that is over.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    pub route: RouteId,
    pub method: Method,
    pub status: u16,
    /// From the complete head to the end of the answer.
    pub duration_ns: u64,
    /// From the complete head until the answer began to leave; `None` when it never did.
    pub first_byte_ns: Option<u64>,
    pub received_body_bytes: u64,
    pub sent_body_bytes: u64,
    /// The peer got all of the answer, as far as can be known.
    pub complete: bool,
}

/// Counts for one core.
#[derive(Default)]
pub struct Recorder {
    requests_begun: Cell<u64>,
    requests_ended: Cell<u64>,
    answers_broken: Cell<u64>,
    requests_slow: Cell<u64>,
    received_body_bytes: Cell<u64>,
    sent_body_bytes: Cell<u64>,
    connections_accepted: Cell<u64>,
    connections_refused: Cell<u64>,
    connections_evicted: Cell<u64>,
    strangers_evicted: Cell<u64>,
    logins_failed: Cell<u64>,
    handshakes_ok: Cell<u64>,
    handshakes_failed: Cell<u64>,
    secured_by_kernel: Cell<u64>,
    secured_by_process: Cell<u64>,
    /// Each with its label.
    routes: RefCell<Vec<(&'static str, OfRoute)>>,
    errors: RefCell<Vec<(&'static str, u64)>>,
}

/// The requests of one route. The lists are short: a route has few methods, and those few statuses;
/// the most frequent come first by themselves.
#[derive(Default)]
struct OfRoute {
    statuses: Vec<(Method, u16, u64)>,
    latencies: Vec<(Method, Box<Latencies>)>,
}

#[derive(Default)]
struct Latencies {
    duration: Latency,
    first_byte: Latency,
}

/// What a core counted, to be shown by any core.
#[derive(Clone, Debug, Default)]
pub struct CoreSnapshot {
    pub core: u16,
    pub requests_begun: u64,
    pub requests_ended: u64,
    pub answers_broken: u64,
    pub requests_slow: u64,
    pub received_body_bytes: u64,
    pub sent_body_bytes: u64,
    pub connections_accepted: u64,
    pub connections_refused: u64,
    pub connections_evicted: u64,
    pub strangers_evicted: u64,
    pub logins_failed: u64,
    pub handshakes_ok: u64,
    pub handshakes_failed: u64,
    pub secured_by_kernel: u64,
    pub secured_by_process: u64,
    pub requests: Vec<RequestCount>,
    pub latencies: Vec<LatencyCount>,
    /// By the phrase of the error.
    pub errors: Vec<(&'static str, u64)>,
    /// Open now.
    pub connections: u64,
    /// Operations that the kernel has now.
    pub ring_operations: u64,
    pub json_bytes: u64,
    pub held: AnswersHeld,
    pub load: CoreLoad,
}

/// What the answers of one core hold for their peers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AnswersHeld {
    /// Memory held by answers that are being sent.
    pub bytes: u64,
    /// Peers that have stalled, and what they hold, with their sockets.
    pub stalled: u64,
    pub stalled_bytes: u64,
    /// Peers that were broken off for holding too much, since the start.
    pub broken_off: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestCount {
    pub route: &'static str,
    pub method: Method,
    pub status: u16,
    pub count: u64,
}

#[derive(Clone, Debug)]
pub struct LatencyCount {
    pub route: &'static str,
    pub method: Method,
    pub duration: Buckets,
    pub first_byte: Buckets,
}

fn add(counter: &Cell<u64>, count: u64) {
    counter.set(counter.get() + count);
}

impl Recorder {
    /// Counts requests by these labels; the first is for those that no other fits.
    pub fn new(labels: &[&'static str]) -> Self {
        assert!(!labels.is_empty(), "there is a label for what is unknown");
        let routes = labels.iter().map(|label| (*label, OfRoute::default())).collect();
        Self { routes: RefCell::new(routes), ..Self::default() }
    }

    pub fn request_began(&self) {
        add(&self.requests_begun, 1);
    }

    pub fn request_ended(&self, ended: &Ended) {
        add(&self.requests_ended, 1);
        add(&self.received_body_bytes, ended.received_body_bytes);
        add(&self.sent_body_bytes, ended.sent_body_bytes);
        if !ended.complete {
            add(&self.answers_broken, 1);
        }
        let (_, of_route) = &mut self.routes.borrow_mut()[ended.route.0];
        of_route.count(ended.method, ended.status);
        let latencies = of_route.latencies(ended.method);
        latencies.duration.record(ended.duration_ns);
        if let Some(nanoseconds) = ended.first_byte_ns {
            latencies.first_byte.record(nanoseconds);
        }
    }

    /// Counts an error by its phrase, which is one of those in the code.
    pub fn failed(&self, error: &'static str) {
        let mut errors = self.errors.borrow_mut();
        match errors.iter_mut().find(|(known, _)| *known == error) {
            Some((_, count)) => *count += 1,
            None => errors.push((error, 1)),
        }
    }

    /// Counts a request that took the server too long.
    pub fn request_was_slow(&self) {
        add(&self.requests_slow, 1);
    }

    pub fn connection_accepted(&self) {
        add(&self.connections_accepted, 1);
    }

    pub fn connection_refused(&self) {
        add(&self.connections_refused, 1);
    }

    /// Counts a connection that was broken off since unfinished heads and handshakes took too much.
    pub fn connection_evicted(&self) {
        add(&self.connections_evicted, 1);
    }

    /// Counts a connection that was broken off to make room, having shown no good credential.
    pub fn stranger_evicted(&self) {
        add(&self.strangers_evicted, 1);
    }

    /// Counts a credential that was wrong.
    pub fn login_failed(&self) {
        add(&self.logins_failed, 1);
    }

    /// Counts a TLS handshake.
    pub fn handshake_ended(&self, ok: bool) {
        add(if ok { &self.handshakes_ok } else { &self.handshakes_failed }, 1);
    }

    /// Counts a TLS connection by who makes and opens its records.
    pub fn secured(&self, by_kernel: bool) {
        add(if by_kernel { &self.secured_by_kernel } else { &self.secured_by_process }, 1);
    }

    /// A copy; what the recorder does not count itself is left at zero.
    pub fn snapshot(&self, core: CoreId) -> CoreSnapshot {
        let routes = self.routes.borrow();
        let requests = routes.iter().flat_map(|(route, of_route)| {
            let counts = of_route.statuses.iter();
            counts.map(move |&(method, status, count)| RequestCount { route, method, status, count })
        });
        let latencies = routes.iter().flat_map(|(route, of_route)| {
            of_route.latencies.iter().map(move |(method, latencies)| LatencyCount {
                route,
                method: *method,
                duration: latencies.duration.buckets(),
                first_byte: latencies.first_byte.buckets(),
            })
        });
        CoreSnapshot {
            core: core.0,
            requests_begun: self.requests_begun.get(),
            requests_ended: self.requests_ended.get(),
            answers_broken: self.answers_broken.get(),
            requests_slow: self.requests_slow.get(),
            received_body_bytes: self.received_body_bytes.get(),
            sent_body_bytes: self.sent_body_bytes.get(),
            connections_accepted: self.connections_accepted.get(),
            connections_refused: self.connections_refused.get(),
            connections_evicted: self.connections_evicted.get(),
            strangers_evicted: self.strangers_evicted.get(),
            logins_failed: self.logins_failed.get(),
            handshakes_ok: self.handshakes_ok.get(),
            handshakes_failed: self.handshakes_failed.get(),
            secured_by_kernel: self.secured_by_kernel.get(),
            secured_by_process: self.secured_by_process.get(),
            requests: requests.collect(),
            latencies: latencies.collect(),
            errors: self.errors.borrow().clone(),
            ..CoreSnapshot::default()
        }
    }
}

impl OfRoute {
    fn count(&mut self, method: Method, status: u16) {
        match self.statuses.iter_mut().find(|(has, code, _)| (*has, *code) == (method, status)) {
            Some((_, _, count)) => *count += 1,
            None => self.statuses.push((method, status, 1)),
        }
    }

    fn latencies(&mut self, method: Method) -> &mut Latencies {
        let found = self.latencies.iter().position(|(has, _)| *has == method);
        let index = found.unwrap_or_else(|| {
            self.latencies.push((method, Box::default()));
            self.latencies.len() - 1
        });
        &mut self.latencies[index].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDED: Ended = Ended {
        route: RouteId(1),
        method: Method::Get,
        status: 200,
        duration_ns: 40_000,
        first_byte_ns: Some(30_000),
        received_body_bytes: 0,
        sent_body_bytes: 4096,
        complete: true,
    };

    #[test]
    fn requests_are_counted_by_route_method_and_status() {
        let recorder = Recorder::new(&["unknown", "/v1/blobs/{id}"]);
        for status in [200, 206, 200] {
            recorder.request_began();
            recorder.request_ended(&Ended { status, ..ENDED });
        }
        recorder.request_began();
        recorder.request_ended(&Ended { method: Method::Head, first_byte_ns: None, complete: false, ..ENDED });
        recorder.request_began();
        let snapshot = recorder.snapshot(CoreId(3));
        let of = |method, status, count| RequestCount { route: "/v1/blobs/{id}", method, status, count };
        assert_eq!(
            snapshot.requests,
            [of(Method::Get, 200, 2), of(Method::Get, 206, 1), of(Method::Head, 200, 1)],
            "by route, and within it in the order of their first coming"
        );
        assert_eq!((snapshot.core, snapshot.requests_begun, snapshot.requests_ended), (3, 5, 4));
        assert_eq!((snapshot.sent_body_bytes, snapshot.answers_broken), (4 * 4096, 1));
        let counts: Vec<_> =
            snapshot.latencies.iter().map(|of| (of.method, of.duration.count, of.first_byte.count)).collect();
        assert_eq!(counts, [(Method::Get, 3, 3), (Method::Head, 1, 0)]);
        assert_eq!(snapshot.latencies[0].duration.sum_ns, 120_000);
    }

    #[test]
    fn errors_are_counted_by_their_phrase() {
        let recorder = Recorder::new(&["unknown", "/v1/blobs/{id}"]);
        for error in ["busy", "blob not found", "busy"] {
            recorder.failed(error);
        }
        assert_eq!(recorder.snapshot(CoreId(0)).errors, [("busy", 2), ("blob not found", 1)]);
    }
}
