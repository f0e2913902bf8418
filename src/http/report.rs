//! What is said of a request when it is over: the metrics, the access log, and the log of slow
//! requests.
//!
//! No token ends up here: of the target only the path is logged, and of the header fields only the
//! user agent and the ids of the trace.

use std::cell::Cell;

use nabu_engine::runtime::Stream;
use nabu_net::http::head::Method;

use super::audit::Occasion;
use super::core::Core;
use super::error::HttpError;
use super::exchange::Exchange;
use super::phases::Phase;
use crate::config::{AccessOptions, SAMPLE_ALWAYS};
use crate::metrics::{Ended, RouteId};

/// Bytes of a body that the server is allowed a second for, beyond the threshold, before a request
/// is slow. A core hashes and reads ten times that.
const FLOOR_BYTES_PER_SECOND: u64 = 100_000_000;
/// The most bytes of a client's text in a line of the log.
const SHOWN_BYTES_MAX: usize = 512;

/// Which requests of one core go into the access log.
pub struct AccessLog {
    /// Parts of [`SAMPLE_ALWAYS`]; `None` when the log is off.
    sample: Option<u32>,
    /// What has gathered since the last one that went in.
    gathered: Cell<u32>,
}

impl AccessLog {
    pub fn new(options: &AccessOptions) -> Self {
        Self { sample: options.enabled.then_some(options.sample), gathered: Cell::new(0) }
    }

    pub fn is_on(&self) -> bool {
        self.sample.is_some()
    }

    /// Whether this one goes in: a fixed part of all, evenly spread, and every failure of the
    /// server's.
    fn takes(&self, status: u16) -> bool {
        let Some(sample) = self.sample else { return false };
        let gathered = self.gathered.get() + sample;
        let is_sampled = gathered >= SAMPLE_ALWAYS;
        self.gathered.set(if is_sampled { gathered - SAMPLE_ALWAYS } else { gathered });
        is_sampled || status >= 500
    }
}

impl Exchange {
    /// Books the request, whose answer has ended just now.
    pub(super) fn report(&mut self, complete: bool) {
        let now = self.enter(Phase::Send);
        let phases = self.phases;
        let ended = Ended {
            route: self.route.get(),
            method: self.method(),
            status: self.status(),
            duration_ns: phases.total_ns(),
            first_byte_ns: self.first_byte.map(|at| at.since(phases.began()).as_nanos() as u64),
            received_body_bytes: self.received_body_bytes,
            sent_body_bytes: self.sent_body_bytes(),
            complete,
        };
        self.core.recorder.request_ended(&ended);
        if self.core.access_log.takes(ended.status) {
            self.log_access(&ended);
        }
        if let Some(occasion) = self.core.audit.takes(ended.method, ended.status, now) {
            self.log_audit(&ended, occasion);
        }
        let bytes = ended.received_body_bytes + ended.sent_body_bytes;
        if is_slow(phases.own_ns(), bytes, self.core.slow_request_ns) {
            self.core.recorder.request_was_slow();
            self.log_slow(&ended);
        }
    }

    fn log_access(&self, ended: &Ended) {
        let (blob, trace) = (self.blob_id.get().map(|id| id.to_string()), self.trace());
        tracing::info!(
            target: "nabu_store::access",
            request_id = self.request_id,
            trace_id = trace.map(|trace| trace.trace_id),
            parent_id = trace.map(|trace| trace.parent_id),
            method = self.method_name(),
            path = shown(self.path()),
            status = ended.status,
            received = ended.received_body_bytes,
            sent = ended.sent_body_bytes,
            duration_us = ended.duration_ns / 1000,
            complete = ended.complete,
            blob,
            token = self.caller.get(),
            peer = peer_of(&self.stream),
            user_agent = self.field("user-agent").map(|value| shown(&String::from_utf8_lossy(value)).to_owned()),
            "request"
        );
    }

    fn log_audit(&self, ended: &Ended, occasion: Occasion) {
        let (what, left_out) = match occasion {
            Occasion::Change => ("changed", None),
            Occasion::Refusal { left_out } => ("refused", (left_out > 0).then_some(left_out)),
        };
        let (blob, trace) = (self.blob_id.get().map(|id| id.to_string()), self.trace());
        tracing::info!(
            target: "nabu_store::audit",
            request_id = self.request_id,
            trace_id = trace.map(|trace| trace.trace_id),
            parent_id = trace.map(|trace| trace.parent_id),
            token = self.caller.get(),
            method = self.method_name(),
            path = shown(self.path()),
            status = ended.status,
            blob,
            peer = peer_of(&self.stream),
            left_out,
            "{what} by a request"
        );
    }

    fn log_slow(&self, ended: &Ended) {
        let (phases, trace) = (&self.phases, self.trace());
        let us = |phase| phases.spent_ns(phase) / 1000;
        tracing::warn!(
            target: "nabu_store::slow",
            request_id = self.request_id,
            trace_id = trace.map(|trace| trace.trace_id),
            parent_id = trace.map(|trace| trace.parent_id),
            method = self.method_name(),
            path = shown(self.path()),
            status = ended.status,
            received = ended.received_body_bytes,
            sent = ended.sent_body_bytes,
            duration_us = ended.duration_ns / 1000,
            own_us = phases.own_ns() / 1000,
            slowest = phases.slowest().name(),
            prepare_us = us(Phase::Prepare),
            receive_us = us(Phase::Receive),
            buffer_us = us(Phase::Buffer),
            hash_us = us(Phase::Hash),
            commit_us = us(Phase::Commit),
            read_us = us(Phase::Read),
            encrypt_us = us(Phase::Encrypt),
            send_us = us(Phase::Send),
            "slow request"
        );
    }
}

/// Whether the server took too long for a request of `bytes`. A threshold of zero takes them all.
fn is_slow(own_ns: u64, bytes: u64, threshold_ns: u64) -> bool {
    let allowed_ns = u128::from(bytes) * 1_000_000_000 / u128::from(FLOOR_BYTES_PER_SECOND);
    threshold_ns == 0 || u128::from(own_ns) >= u128::from(threshold_ns) + allowed_ns
}

/// Books a request whose head can't be read, and which was answered with this error.
pub(super) fn report_unread(core: &Core, stream: &Stream, request_id: &str, error: &HttpError, complete: bool) {
    core.recorder.request_began();
    core.recorder.request_ended(&Ended {
        route: RouteId::UNKNOWN,
        method: Method::Other,
        status: error.status,
        duration_ns: 0,
        first_byte_ns: None,
        received_body_bytes: 0,
        sent_body_bytes: 0,
        complete,
    });
    if core.access_log.takes(error.status) {
        tracing::info!(
            target: "nabu_store::access",
            request_id,
            status = error.status,
            complete,
            peer = peer_of(stream),
            error = error.error,
            "request that can't be read"
        );
    }
}

fn peer_of(stream: &Stream) -> Option<String> {
    stream.peer_addr().ok().map(|address| address.to_string())
}

/// A client's text, cut to what a log line may hold of it.
fn shown(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_of(options: &AccessOptions, statuses: impl IntoIterator<Item = u16>) -> Vec<bool> {
        let log = AccessLog::new(options);
        statuses.into_iter().map(|status| log.takes(status)).collect()
    }

    #[test]
    fn a_sample_is_a_fixed_part_evenly_spread() {
        for (sample, expected) in [(SAMPLE_ALWAYS, 1000), (SAMPLE_ALWAYS / 4, 250), (1_000, 1), (0, 0)] {
            let options = AccessOptions { enabled: true, sample };
            let taken = taken_of(&options, std::iter::repeat_n(200, 1000));
            assert_eq!(taken.iter().filter(|taken| **taken).count(), expected, "{sample}");
        }
        let options = AccessOptions { enabled: true, sample: SAMPLE_ALWAYS / 4 };
        assert_eq!(taken_of(&options, [200; 8]), [false, false, false, true, false, false, false, true]);
    }

    #[test]
    fn failures_of_the_server_are_always_taken_unless_the_log_is_off() {
        let options = AccessOptions { enabled: true, sample: 0 };
        assert_eq!(taken_of(&options, [404, 500, 503, 200]), [false, true, true, false]);
        assert_eq!(taken_of(&AccessOptions { enabled: false, sample: SAMPLE_ALWAYS }, [200, 500]), [false, false]);
    }

    #[test]
    fn what_is_slow_depends_on_the_bytes_unless_everything_is() {
        const SECOND: u64 = 1_000_000_000;
        assert!(is_slow(SECOND, 0, SECOND) && !is_slow(SECOND - 1, 0, SECOND));
        assert!(
            is_slow(2 * SECOND, FLOOR_BYTES_PER_SECOND, SECOND)
                && !is_slow(2 * SECOND - 1, FLOOR_BYTES_PER_SECOND, SECOND)
        );
        assert!(!is_slow(3600 * SECOND, u64::MAX, SECOND), "no number of bytes is too many");
        assert!(is_slow(0, u64::MAX, 0));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let long = "ä".repeat(SHOWN_BYTES_MAX);
        assert_eq!(shown(&long).len(), SHOWN_BYTES_MAX);
        assert_eq!(shown(&format!("x{long}")).len(), SHOWN_BYTES_MAX - 1);
        assert_eq!(shown("short"), "short");
    }
}
