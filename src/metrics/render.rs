//! Every family: its name, its type and its meaning. One more is a line here and a row in
//! `docs/operations.md`. Those of a cluster are in [`super::cluster`].

use std::collections::BTreeMap;

use nabu_engine::store::StoreStatus;
use nabu_engine::types::CoreId;

use super::cluster::{ClusterSnapshot, render_cluster};
use super::latency::{BOUNDS_US, Buckets};
use super::process::Process;
use super::recorder::{CoreSnapshot, LatencyCount};
use super::text::{Family, Kind, Text, seconds};

/// Everything there is to show.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Every core; `None` for one that did not answer in time.
    pub cores: Vec<(CoreId, Option<CoreSnapshot>)>,
    /// `None` until the store is recovered.
    pub store: Option<StoreStatus>,
    /// `None` on a standalone node.
    pub cluster: Option<ClusterSnapshot>,
    pub process: Process,
    pub is_ready: bool,
    pub connections_max: u64,
}

/// The text of a scrape.
pub fn render(snapshot: &Snapshot) -> Vec<u8> {
    let mut text = Text::default();
    render_server(&mut text, snapshot);
    render_requests(&mut text, snapshot);
    render_cores(&mut text, snapshot);
    if let Some(store) = &snapshot.store {
        render_store(&mut text, store);
        render_log(&mut text, store);
        render_cache(&mut text, store);
        render_background(&mut text, store);
    }
    if let Some(cluster) = &snapshot.cluster {
        render_cluster(&mut text, cluster);
    }
    render_process(&mut text, &snapshot.process);
    text.into_bytes()
}

impl Snapshot {
    fn answered(&self) -> impl Iterator<Item = &CoreSnapshot> {
        self.cores.iter().filter_map(|(_, snapshot)| snapshot.as_ref())
    }

    fn sum(&self, of: impl Fn(&CoreSnapshot) -> u64) -> u64 {
        self.answered().map(of).sum()
    }
}

fn render_server(text: &mut Text, snapshot: &Snapshot) {
    text.family(Kind::Gauge, "nabu_build_info", "Always 1; the version is a label.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], true);
    text.gauge("nabu_ready", "Whether the node is ready for blobs, as /readyz reports it.", snapshot.is_ready);
    text.gauge("nabu_connections_max", "Connections that may be open at once.", snapshot.connections_max);
    let refused = snapshot.sum(|core| core.connections_refused);
    text.counter("nabu_connections_refused_total", "Connections refused because of a limit.", refused);
    let evicted = snapshot.sum(|core| core.connections_evicted);
    let strangers = snapshot.sum(|core| core.strangers_evicted);
    text.family(
        Kind::Counter,
        "nabu_connections_evicted_total",
        "Connections closed to make room for others, by reason.",
    )
    .sample(&[("reason", "unfinished")], evicted)
    .sample(&[("reason", "stranger")], strangers);
    let failed = snapshot.sum(|core| core.logins_failed);
    text.counter("nabu_failed_logins_total", "Requests with a wrong token.", failed);
    text.family(Kind::Counter, "nabu_tls_handshakes_total", "TLS handshakes, by outcome.")
        .sample(&[("result", "ok")], snapshot.sum(|core| core.handshakes_ok))
        .sample(&[("result", "failed")], snapshot.sum(|core| core.handshakes_failed));
    text.family(Kind::Counter, "nabu_tls_connections_total", "TLS connections, by who encrypts.")
        .sample(&[("by", "kernel")], snapshot.sum(|core| core.secured_by_kernel))
        .sample(&[("by", "process")], snapshot.sum(|core| core.secured_by_process));
}

fn render_requests(text: &mut Text, snapshot: &Snapshot) {
    let mut requests = BTreeMap::new();
    let mut errors = BTreeMap::new();
    for core in snapshot.answered() {
        for of in &core.requests {
            *requests.entry((of.route, of.method.name(), of.status)).or_insert(0) += of.count;
        }
        for (error, count) in &core.errors {
            *errors.entry(slug(error)).or_insert(0) += count;
        }
    }
    let mut family = text.family(Kind::Counter, "nabu_http_requests_total", "Answered requests.");
    for ((route, method, status), count) in requests {
        let status = status.to_string();
        family.sample(&[("route", route), ("method", method), ("status", &status)], count);
    }
    let latencies = |text: &mut Text, name: &str, help: &str, of: fn(&LatencyCount) -> &Buckets| {
        let mut sums: BTreeMap<(&str, &str), Buckets> = BTreeMap::new();
        for count in snapshot.answered().flat_map(|core| &core.latencies) {
            sums.entry((count.route, count.method.name())).or_default().add(of(count));
        }
        let mut family = text.family(Kind::Histogram, name, help);
        for ((route, method), buckets) in sums {
            let bounds = BOUNDS_US.map(|microseconds| microseconds as f64 / 1e6);
            let cumulated = bounds.into_iter().zip(buckets.cumulated);
            let labels = [("route", route), ("method", method)];
            family.histogram(&labels, cumulated, buckets.sum_ns as f64 / 1e9, buckets.count);
        }
    };
    latencies(
        text,
        "nabu_http_request_duration_seconds",
        "From the complete head of a request to the end of its answer, including waits for the client.",
        |count| &count.duration,
    );
    latencies(
        text,
        "nabu_http_time_to_first_byte_seconds",
        "From the complete head of a request to the first byte of its answer.",
        |count| &count.first_byte,
    );
    let in_flight = snapshot.sum(|core| core.requests_begun - core.requests_ended);
    text.gauge("nabu_http_requests_in_flight", "Requests in flight.", in_flight);
    let slow = snapshot.sum(|core| core.requests_slow);
    text.counter("nabu_http_slow_requests_total", "Requests in the slow-request log.", slow);
    let broken = snapshot.sum(|core| core.answers_broken);
    text.counter(
        "nabu_http_answers_broken_total",
        "Answers that ended early: the client left, or a read failed.",
        broken,
    );
    let received = snapshot.sum(|core| core.received_body_bytes);
    text.counter("nabu_http_received_body_bytes_total", "Bytes received in the bodies of requests.", received);
    let sent = snapshot.sum(|core| core.sent_body_bytes);
    text.counter("nabu_http_sent_body_bytes_total", "Bytes sent in the bodies of answers.", sent);
    let json = snapshot.sum(|core| core.json_bytes);
    text.gauge("nabu_http_json_bytes", "Memory held by JSON bodies that are still arriving.", json);
    let broken_off = snapshot.sum(|core| core.held.broken_off);
    let help = "Connections reset because peers that don't read their answers held too much memory.";
    text.counter("nabu_http_stalled_broken_off_total", help, broken_off);
    let help = "Peers that have read nothing of their answers for a second.";
    text.gauge("nabu_http_stalled_answers", help, snapshot.sum(|core| core.held.stalled));
    let help = "Memory held by stalled peers, including their sockets.";
    text.gauge("nabu_http_stalled_bytes", help, snapshot.sum(|core| core.held.stalled_bytes));
    let help = "Memory held by answers that are being sent.";
    text.gauge("nabu_http_answer_bytes", help, snapshot.sum(|core| core.held.bytes));
    let mut family =
        text.family(Kind::Counter, "nabu_errors_total", "Refused and failed requests, by the error in the answer.");
    for (error, count) in errors {
        family.sample(&[("error", &error)], count);
    }
}

fn render_cores(text: &mut Text, snapshot: &Snapshot) {
    let help = "Whether the core answered this scrape in time; if not, its counts are missing.";
    let mut family = text.family(Kind::Gauge, "nabu_core_answered", help);
    for (core, answer) in &snapshot.cores {
        family.sample(&[("core", &core.0.to_string())], answer.is_some());
    }
    each_core(
        text.family(
            Kind::Counter,
            "nabu_core_busy_seconds_total",
            "Time that the core neither slept nor worked for another core.",
        ),
        snapshot,
        |core| seconds(core.load.busy_ns),
    );
    each_core(
        text.family(Kind::Gauge, "nabu_core_busy_ratio", "The busy part of the last 2 ms, by which cores share work."),
        snapshot,
        |core| f64::from(core.load.busy_thousandths) / 1000.0,
    );
    each_core(
        text.family(Kind::Gauge, "nabu_core_ring_operations", "Operations in flight in the kernel for the core."),
        snapshot,
        |core| core.ring_operations,
    );
    each_core(text.family(Kind::Gauge, "nabu_connections", "Open connections."), snapshot, |core| core.connections);
    each_core(
        text.family(Kind::Counter, "nabu_connections_accepted_total", "Accepted connections."),
        snapshot,
        |core| core.connections_accepted,
    );
}

fn each_core<V: Into<super::text::Value>>(
    mut family: Family<'_>,
    snapshot: &Snapshot,
    of: impl Fn(&CoreSnapshot) -> V,
) {
    for core in snapshot.answered() {
        family.sample(&[("core", &core.core.to_string())], of(core));
    }
}

fn render_store(text: &mut Text, store: &StoreStatus) {
    text.gauge("nabu_store_blobs", "Stored blobs.", store.blob_count);
    text.gauge("nabu_store_used_bytes", "Bytes of live records, including heads and padding.", store.used_bytes);
    text.gauge("nabu_store_capacity_bytes", "Size of the file systems of the data directories.", store.capacity_bytes);
    text.gauge("nabu_store_available_bytes", "Space left on those file systems.", store.available_bytes);
    text.gauge("nabu_store_index_bytes", "Memory of the index.", store.index_bytes);
    text.gauge(
        "nabu_store_damaged_places",
        "Damaged places on the disk that the last start found.",
        store.damage_count,
    );
    let help = "Whether the last start could not read or trust all of the disk: nothing is reclaimed until one can.";
    text.gauge("nabu_store_incomplete", help, store.is_incomplete);
    let help = "Data directories taken out of service: they take no writes, or nothing at all, until a restart.";
    text.gauge("nabu_store_failed_directories", help, store.failed_dirs);
    let help = "Data directories missing while the others are served (`degraded`).";
    text.gauge("nabu_store_missing_directories", help, store.missing_dirs);
    let help = "Operations abandoned because a disk did not answer; the kernel still holds them.";
    text.gauge("nabu_store_overdue_operations", help, store.overdue_operations);
    text.gauge(
        "nabu_frames_bytes",
        "Memory of uploads in progress and of reads that bypass the cache.",
        store.frame_bytes,
    );
    text.gauge("nabu_frames_capacity_bytes", "The most memory that those may use.", store.frame_budget_bytes);
    text.gauge("nabu_frames_waiters", "Tasks waiting for such memory.", store.frame_waiters);
}

fn render_background(text: &mut Text, store: &StoreStatus) {
    let compaction = &store.compaction;
    text.counter("nabu_compaction_segments_total", "Emptied segments.", compaction.segments);
    text.counter("nabu_compaction_moved_bytes_total", "Bytes moved out of them.", compaction.moved_bytes);
    text.counter("nabu_compaction_moved_records_total", "Moved records.", compaction.moved_records);
    text.counter("nabu_compaction_freed_bytes_total", "Reclaimed bytes.", compaction.freed_bytes);
    text.counter(
        "nabu_compaction_failures_total",
        "Segments that could not be emptied because something failed; they are retried.",
        compaction.failures,
    );
    text.gauge("nabu_compaction_segment_bytes", "Bytes of sealed segments.", compaction.segment_bytes);
    text.gauge(
        "nabu_compaction_dead_bytes",
        "The dead part of them, including tombstones that are still needed.",
        compaction.dead_bytes,
    );
    let scrub = &store.scrub;
    text.counter("nabu_scrub_passes_total", "Complete passes over everything stored.", scrub.passes);
    text.counter("nabu_scrub_bytes_total", "Bytes that were read.", scrub.bytes);
    text.counter("nabu_scrub_segments_total", "Segments that were read.", scrub.segments);
    text.counter("nabu_scrub_blobs_total", "Blobs whose content was compared with its hash.", scrub.blobs);
    text.counter("nabu_scrub_findings_total", "Places that differed from what was written.", scrub.findings);
    text.counter("nabu_scrub_mended_total", "Findings repaired since.", scrub.mended);
    let progress = f64::from(scrub.progress_ppm) / 1e6;
    text.gauge("nabu_scrub_progress_ratio", "Progress of the current pass; 1 between passes.", progress);
    let end = seconds(scrub.last_pass_end_ns);
    text.gauge(
        "nabu_scrub_last_pass_end_time_seconds",
        "When the last complete pass ended, in seconds since 1970; 0 if none has.",
        end,
    );
    text.gauge("nabu_store_quarantined_blobs", "Blobs that failed a check and are refused.", store.quarantined);
}

fn render_log(text: &mut Text, store: &StoreStatus) {
    let log = &store.log;
    text.counter("nabu_log_commits_total", "Syncs that made records durable.", log.commits);
    text.counter("nabu_log_records_total", "Blobs and deletions made durable.", log.records);
    text.counter("nabu_log_written_bytes_total", "Bytes of records written to the disk.", log.bytes_written);
    text.gauge("nabu_log_waiting_records", "Records waiting for their commit.", store.waiting_records);
    let records = &log.commit_records;
    let cumulated = records.cumulated().map(|(bound, count)| (bound as f64, count));
    text.family(Kind::Histogram, "nabu_log_commit_records", "Records sharing a commit.").histogram(
        &[],
        cumulated,
        records.sum() as f64,
        records.count(),
    );
    let durations = &log.commit_ns;
    let cumulated = durations.cumulated().map(|(bound, count)| (seconds(bound), count));
    text.family(Kind::Histogram, "nabu_log_commit_duration_seconds", "Time of a commit: its write and its sync.")
        .histogram(&[], cumulated, seconds(durations.sum()), durations.count());
    text.family(
        Kind::Gauge,
        "nabu_log_segments",
        "Segments by state; fenced ones take no more data after a failed write.",
    )
    .sample(&[("state", "active")], store.segments.active)
    .sample(&[("state", "sealed")], store.segments.sealed)
    .sample(&[("state", "fenced")], store.segments.fenced);
    text.gauge("nabu_log_free_files", "Files of former segments kept for reuse.", store.free_files);
}

fn render_cache(text: &mut Text, store: &StoreStatus) {
    let cache = &store.cache;
    text.counter("nabu_cache_hits_total", "Lookups that found their part of a blob in memory.", cache.hits);
    text.counter("nabu_cache_misses_total", "Lookups that led to a read.", cache.misses);
    text.counter("nabu_cache_waits_total", "Lookups that waited for another's read.", cache.waits);
    text.counter("nabu_cache_evictions_total", "Entries evicted to make room.", cache.evictions);
    text.counter(
        "nabu_cache_bypasses_total",
        "Reads that bypassed the cache because readers held all of it.",
        cache.bypasses,
    );
    text.gauge(
        "nabu_cache_bytes",
        "Memory of the cache, including evicted entries that are still being read.",
        cache.charged_bytes,
    );
    text.gauge("nabu_cache_capacity_bytes", "The most memory that the cache may use.", cache.budget_bytes);
    text.gauge("nabu_cache_entries", "Parts of blobs in the cache.", cache.entries);
}

fn render_process(text: &mut Text, process: &Process) {
    let start = process.start_time_seconds;
    text.gauge("nabu_process_start_time_seconds", "When the server started, in seconds since 1970.", start);
    if let Some(cpu) = process.cpu_seconds {
        text.counter("nabu_process_cpu_seconds_total", "CPU time of all threads, in user and kernel mode.", cpu);
    }
    if let Some(bytes) = process.resident_bytes {
        text.gauge("nabu_process_resident_memory_bytes", "Memory of the process in RAM.", bytes);
    }
    if let Some(threads) = process.threads {
        text.gauge("nabu_process_threads", "Threads of the process.", threads);
    }
    if let Some(count) = process.open_fds {
        text.gauge("nabu_process_open_fds", "Open file descriptors; missing before Linux 6.2.", count);
    }
    if let Some(count) = process.max_fds {
        text.gauge("nabu_process_max_fds", "The most file descriptors that may be open.", count);
    }
}

/// The phrase of an error as the value of a label: `blob not found` is `blob_not_found`.
pub(super) fn slug(phrase: &str) -> String {
    let word = |character: char| if character.is_ascii_alphanumeric() { character.to_ascii_lowercase() } else { '_' };
    phrase.chars().map(word).collect()
}
