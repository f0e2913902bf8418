//! The result of a run: what a person reads, and what a program does.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::mix::Operation;
use super::monitor::Usage;
use super::plan::{Extent, Pace, Reading};
use super::recorder::{Record, Recorder};
use super::worker::Load;

const NS_PER_US: f64 = 1_000.0;
/// From this share on, the report warns that the client's cores are busy.
const CLIENT_BUSY_NOTE: f64 = 0.9;
/// What GB means here.
const GIGABYTE: f64 = 1e9;

/// The result of a run. GB are 10^9 bytes; latencies are in microseconds.
#[derive(Serialize, Clone, Debug)]
pub struct Report {
    pub target: String,
    pub mode: &'static str,
    /// Requests a second that were due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    pub mix: String,
    pub sizes: String,
    pub objects: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zipf_theta: Option<f64>,
    pub connections: u32,
    pub cores: u16,
    pub seed: u64,
    /// Whether bodies were received, verified or discarded.
    pub bodies: &'static str,
    pub warm_up_s: f64,
    /// The window that was measured.
    pub window_s: f64,
    /// Requests of the window that succeeded.
    pub requests: u64,
    pub failed: u64,
    /// Requests of the window that were due and never sent, because no connection was free.
    pub unsent: u64,
    /// Answers with other bytes than were stored; in the warm-up, too.
    pub wrong: u64,
    pub connect_errors: u64,
    pub reconnects: u64,
    /// Uploads that the store had already.
    pub known_uploads: u64,
    pub requests_per_second: f64,
    /// Bytes of bodies that moved within the window.
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub gb_per_second: f64,
    pub operations: BTreeMap<&'static str, OperationReport>,
    /// Errors by kind.
    pub errors: BTreeMap<String, u64>,
    pub client_cpu: CpuReport,
    /// The share of the client's cores that was in use: near 1 the client is what limits.
    pub client_busy: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu: Option<CpuReport>,
    #[serde(skip)]
    recorder: Recorder,
}

#[derive(Serialize, Clone, Debug)]
pub struct OperationReport {
    pub requests: u64,
    pub failed: u64,
    pub requests_per_second: f64,
    pub bytes: u64,
    /// From when a request was due, in an open loop; from when it was sent, in a closed one.
    pub latency_us: Latencies,
    /// From when it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_us: Option<Latencies>,
}

#[derive(Serialize, Clone, Copy, Debug)]
pub struct Latencies {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    #[serde(rename = "p99.9")]
    pub p999: f64,
    #[serde(rename = "p99.99")]
    pub p9999: f64,
    pub max: f64,
}

/// CPU time within the window.
#[derive(Serialize, Clone, Copy, Debug)]
pub struct CpuReport {
    pub seconds: f64,
    pub seconds_per_gb: Option<f64>,
    pub seconds_per_1000_requests: Option<f64>,
}

impl Latencies {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / NS_PER_US;
        Self {
            mean: histogram.mean() / NS_PER_US,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: histogram.max() as f64 / NS_PER_US,
        }
    }
}

impl CpuReport {
    fn new(seconds: f64, bytes: u64, requests: u64) -> Self {
        let per = |amount: f64| (amount > 0.0).then(|| seconds / amount);
        Self {
            seconds,
            seconds_per_gb: per(bytes as f64 / GIGABYTE),
            seconds_per_1000_requests: per(requests as f64 / 1_000.0),
        }
    }
}

impl Report {
    pub(super) fn new(load: &Load, recorder: Recorder, usage: Usage) -> Self {
        let plan = &load.plan;
        let is_open = plan.pace != Pace::Closed;
        let window_s = match plan.extent {
            Extent::Duration(duration) => duration.as_secs_f64().min(usage.window_s),
            Extent::Requests(_) => recorder.last_end.saturating_sub(load.window.from) as f64 / 1e9,
        };
        let per_second = |count: f64| if window_s > 0.0 { count / window_s } else { 0.0 };
        let operation_report = |record: &Record| OperationReport {
            requests: record.succeeded,
            failed: record.failed,
            requests_per_second: per_second(record.ended_in_window as f64),
            bytes: record.bytes,
            latency_us: Latencies::of(&record.latency),
            service_us: is_open.then(|| Latencies::of(&record.service)),
        };
        let operations: BTreeMap<_, _> = Operation::ALL
            .into_iter()
            .filter_map(|operation| Some((operation.name(), operation_report(recorder.record(operation)?))))
            .collect();
        let ended: u64 =
            Operation::ALL.iter().filter_map(|operation| Some(recorder.record(*operation)?.ended_in_window)).sum();
        let moved = usage.received + usage.sent;
        Self {
            target: plan.target.url.clone(),
            mode: if is_open { "open" } else { "closed" },
            rate: if let Pace::Open { rate } = plan.pace { Some(rate) } else { None },
            mix: plan.mix.to_string(),
            sizes: plan.sizes.to_string(),
            objects: plan.objects,
            zipf_theta: plan.zipf_theta,
            connections: plan.connections,
            cores: plan.cores,
            seed: plan.seed,
            bodies: match plan.reading {
                Reading::Receive => "received",
                Reading::Verify => "verified",
                Reading::Discard => "discarded",
            },
            warm_up_s: plan.warm_up.as_secs_f64(),
            window_s,
            requests: recorder.succeeded(),
            failed: recorder.failed(),
            unsent: recorder.unsent,
            wrong: recorder.wrong,
            connect_errors: recorder.refused,
            reconnects: recorder.reconnects,
            known_uploads: recorder.known_uploads,
            requests_per_second: per_second(ended as f64),
            received_bytes: usage.received,
            sent_bytes: usage.sent,
            gb_per_second: per_second(moved as f64 / GIGABYTE),
            operations,
            errors: recorder.errors().clone(),
            client_cpu: CpuReport::new(usage.client_cpu_s, moved, ended),
            client_busy: per_second(usage.client_cpu_s) / f64::from(plan.cores),
            server_cpu: usage.server_cpu_s.map(|seconds| CpuReport::new(seconds, moved, ended)),
            recorder,
        }
    }

    /// The latencies of each operation that came, for plots.
    pub fn distributions(&self) -> impl Iterator<Item = (&'static str, &Histogram<u64>)> {
        Operation::ALL
            .into_iter()
            .filter_map(|operation| Some((operation.name(), &self.recorder.record(operation)?.latency)))
    }

    /// What a person reads.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        self.write_text(&mut text).expect("a string takes everything");
        text
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let pace = self.rate.map_or("closed loop".to_owned(), |rate| format!("open loop, {rate} requests/s due"));
        writeln!(out, "{}  {}  {}", self.target, self.mix, self.sizes)?;
        writeln!(
            out,
            "{pace}, connections {}, client cores {}, bodies {}, {:.1} s after {:.1} s of warm-up, seed {}\n",
            self.connections, self.cores, self.bodies, self.window_s, self.warm_up_s, self.seed
        )?;
        writeln!(out, "requests/s  {:>12.1}    GB/s  {:>9.3}", self.requests_per_second, self.gb_per_second)?;
        writeln!(
            out,
            "requests    {:>12}    failed {:>8}    unsent {}    wrong {}    reconnects {}",
            self.requests, self.failed, self.unsent, self.wrong, self.reconnects
        )?;
        for (name, cpu) in [("client", Some(self.client_cpu)), ("server", self.server_cpu)] {
            let Some(cpu) = cpu else { continue };
            let per = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
            writeln!(
                out,
                "{name} CPU  {:>12.2} s  {:>9} s/GB  {:>9} s/1000 requests",
                cpu.seconds,
                per(cpu.seconds_per_gb),
                per(cpu.seconds_per_1000_requests)
            )?;
        }
        if self.client_busy > CLIENT_BUSY_NOTE {
            writeln!(
                out,
                "the client's cores were in use for {:.0}% of the time: the client may be the bottleneck; give it \
                 more --cpus",
                self.client_busy * 100.0
            )?;
        }
        if self.unsent > 0 {
            writeln!(
                out,
                "{} requests were due and found no free connection in time; their wait is missing below",
                self.unsent
            )?;
        }
        self.write_latencies(out)?;
        if !self.errors.is_empty() {
            writeln!(out, "\nerrors")?;
            for (kind, count) in &self.errors {
                writeln!(out, "{count:>12}  {kind}")?;
            }
        }
        Ok(())
    }

    fn write_latencies(&self, out: &mut String) -> std::fmt::Result {
        let head = ["p50", "p90", "p99", "p99.9", "p99.99", "max"].map(|name| format!("{name:>11}")).concat();
        writeln!(out, "\n{:<10} {:>10} {:>10}{head}", "latency", "requests", "per s")?;
        for (name, operation) in &self.operations {
            let row = |latencies: &Latencies| {
                let Latencies { p50, p90, p99, p999, p9999, max, .. } = *latencies;
                [p50, p90, p99, p999, p9999, max].map(|value| format!("{:>11}", human_time(value))).concat()
            };
            let count = (operation.requests, operation.requests_per_second);
            writeln!(out, "{name:<10} {:>10} {:>10.1}{}", count.0, count.1, row(&operation.latency_us))?;
            if let Some(service) = &operation.service_us {
                writeln!(out, "{:<10} {:>10} {:>10}{}", "  service", "", "", row(service))?;
            }
        }
        Ok(())
    }
}

/// Microseconds for people, in four digits or so.
fn human_time(microseconds: f64) -> String {
    match microseconds {
        value if value < 1_000.0 => format!("{value:.1} us"),
        value if value < 1_000_000.0 => format!("{:.2} ms", value / 1e3),
        value => format!("{:.2} s", value / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_for_people_carry_into_the_next_unit() {
        for (microseconds, text) in [
            (0.0, "0.0 us"),
            (12.34, "12.3 us"),
            (1_000.0, "1.00 ms"),
            (999_990.0, "999.99 ms"),
            (2_500_000.0, "2.50 s"),
        ] {
            assert_eq!(human_time(microseconds), text);
        }
    }

    #[test]
    fn percentiles_are_in_microseconds() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 1 << 40, 3).expect("fixed bounds");
        (1..=10_000u64).for_each(|value| histogram.record(value * 1_000).expect("in the bounds"));
        let latencies = Latencies::of(&histogram);
        for (found, expected) in [
            (latencies.p50, 5_000.0),
            (latencies.p90, 9_000.0),
            (latencies.p99, 9_900.0),
            (latencies.p999, 9_990.0),
            (latencies.p9999, 9_999.0),
            (latencies.max, 10_000.0),
            (latencies.mean, 5_000.5),
        ] {
            assert!((found - expected).abs() <= expected * 0.002, "{found} {expected}");
        }
    }

    #[test]
    fn cpu_is_divided_by_what_there_was() {
        let cpu = CpuReport::new(2.0, 4_000_000_000, 500);
        assert_eq!((cpu.seconds_per_gb, cpu.seconds_per_1000_requests), (Some(0.5), Some(4.0)));
        let idle = CpuReport::new(2.0, 0, 0);
        assert_eq!((idle.seconds_per_gb, idle.seconds_per_1000_requests), (None, None));
    }
}
