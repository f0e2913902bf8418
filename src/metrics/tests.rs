//! The text of a scrape, read by a strict reader, and beside its documentation.

use std::sync::Arc;
use std::time::SystemTime;

use nabu_cluster::node::NodeNumber;
use nabu_engine::store::StoreStatus;
use nabu_engine::types::CoreId;
use nabu_net::http::head::Method;

use super::cluster::{ClusterSnapshot, Counts};
use super::process::Process;
use super::recorder::{Ended, Recorder};
use super::render::{Snapshot, render, slug};
use super::route::RouteId;
use crate::control::{View, sample};

#[path = "../../tests/support/exposition.rs"]
mod exposition;

use exposition::{Exposition, check_documented};

fn cluster() -> ClusterSnapshot {
    let counts = Counts {
        commands: 5,
        commands_failed: 1,
        command_ns: 250_000_000,
        reads: 4,
        reads_failed: 2,
        received: 900,
        lost: 3,
        file_failures: 1,
    };
    ClusterSnapshot { view: Arc::new(sample::view()), links: Arc::new(sample::links()), counts, is_in_contact: true }
}

/// Two cores that served the same and a third that does not answer.
fn snapshot() -> Snapshot {
    let core = |number| {
        let recorder = Recorder::new(&["unknown", "/v1/blobs/{id}", "/v1/blobs"]);
        for (status, method, milliseconds) in [(200, Method::Get, 1), (404, Method::Get, 3), (201, Method::Post, 7)] {
            recorder.request_began();
            recorder.request_ended(&Ended {
                route: if method == Method::Post { RouteId(2) } else { RouteId(1) },
                method,
                status,
                duration_ns: milliseconds * 1_000_000,
                first_byte_ns: Some(milliseconds * 500_000),
                received_body_bytes: 10,
                sent_body_bytes: 100,
                complete: true,
            });
        }
        recorder.failed("blob not found");
        (CoreId(number), Some(recorder.snapshot(CoreId(number))))
    };
    let process = Process {
        start_time_seconds: 1.7e9,
        cpu_seconds: Some(0.25),
        resident_bytes: Some(1),
        threads: Some(1),
        open_fds: Some(1),
        max_fds: Some(1),
    };
    let mut store = StoreStatus { blob_count: 7, ..StoreStatus::default() };
    store.log.count_commit(3, 250_000);
    Snapshot {
        cores: vec![core(0), core(1), (CoreId(2), None)],
        store: Some(store),
        cluster: Some(cluster()),
        process,
        is_ready: true,
        connections_max: 9,
    }
}

fn parsed(snapshot: &Snapshot) -> Exposition {
    Exposition::parse(std::str::from_utf8(&render(snapshot)).expect("text"))
}

#[test]
fn a_scrape_is_valid_and_the_documentation_lists_each_of_its_families_and_no_other() {
    check_documented(&parsed(&snapshot()));
}

#[test]
fn the_cores_are_added_up_and_one_that_is_silent_shows() {
    let scrape = parsed(&snapshot());
    let get = [("route", "/v1/blobs/{id}"), ("method", "GET")];
    assert_eq!(scrape.value("nabu_http_requests_total", &[get[0], get[1], ("status", "200")]), 2.0);
    assert_eq!(scrape.sum("nabu_http_requests_total"), 6.0);
    assert_eq!(scrape.value("nabu_errors_total", &[("error", "blob_not_found")]), 2.0);
    assert_eq!(scrape.value("nabu_http_received_body_bytes_total", &[]), 60.0);
    let name = "nabu_http_request_duration_seconds";
    assert_eq!(scrape.value(&format!("{name}_count"), &get), 4.0);
    assert_eq!(scrape.value(&format!("{name}_sum"), &get), 0.008);
    assert_eq!(scrape.value(&format!("{name}_bucket"), &[get[0], get[1], ("le", "0.001")]), 2.0);
    assert_eq!(scrape.value("nabu_log_commit_records_sum", &[]), 3.0);
    assert_eq!(scrape.value("nabu_core_answered", &[("core", "1")]), 1.0);
    assert_eq!(scrape.find("nabu_core_answered", &[("core", "2")]), Some(0.0));
    assert_eq!(scrape.find("nabu_connections", &[("core", "2")]), None);
}

#[test]
fn a_node_of_a_cluster_shows_what_it_sees_of_it() {
    let scrape = parsed(&snapshot());
    for (state, count) in [("joining", 1.0), ("active", 1.0), ("leaving", 0.0), ("offline", 1.0)] {
        assert_eq!(scrape.find("nabu_cluster_members", &[("state", state)]), Some(count), "{state}");
    }
    for (name, value) in [
        ("in_contact", 1.0),
        ("is_leader", 1.0),
        ("has_leader", 1.0),
        ("voters", 2.0),
        ("term", 2.0),
        ("applied_index", 31.0),
        ("ring_version", 4.0),
        ("moving_arcs", 4096.0),
        ("incarnation", 7.0),
        ("command_seconds_total", 0.25),
        ("messages_received_total", 900.0),
        ("messages_dropped_total", 3.0),
        ("file_failures_total", 1.0),
    ] {
        assert_eq!(scrape.find(&format!("nabu_cluster_{name}"), &[]), Some(value), "{name}");
    }
    assert_eq!(scrape.value("nabu_cluster_commands_total", &[("result", "decided")]), 5.0);
    assert_eq!(scrape.value("nabu_cluster_commands_total", &[("result", "failed")]), 1.0);
    assert_eq!(scrape.value("nabu_cluster_reads_total", &[("result", "answered")]), 4.0);
    assert_eq!(scrape.value("nabu_cluster_reads_total", &[("result", "failed")]), 2.0);
    let (known, stranger) = ([("node_id", "node-west-2"), ("address", "10.0.1.22:7070")], "10.0.1.99:7070");
    assert_eq!(scrape.find("nabu_cluster_link_up", &known), Some(0.0));
    assert_eq!(scrape.value("nabu_cluster_link_up", &[("node_id", ""), ("address", stranger)]), 1.0);
    assert_eq!(scrape.value("nabu_cluster_sent_bytes_total", &known), 5000.0);
    assert_eq!(scrape.value("nabu_cluster_messages_sent_total", &known), 40.0);
    assert_eq!(scrape.value("nabu_cluster_messages_lost_total", &known), 3.0);
}

#[test]
fn a_follower_and_a_node_without_a_cluster_do_not_lead() {
    let shown = |view| {
        let cluster = ClusterSnapshot { view: Arc::new(view), is_in_contact: false, ..cluster() };
        parsed(&Snapshot { cluster: Some(cluster), ..snapshot() })
    };
    let follower = shown(View { leader: Some(NodeNumber(2)), ..sample::view() });
    assert_eq!(follower.find("nabu_cluster_is_leader", &[]), Some(0.0));
    assert_eq!(follower.find("nabu_cluster_has_leader", &[]), Some(1.0));
    let newcomer = shown(sample::newcomer());
    for name in ["is_leader", "has_leader", "in_contact", "ring_version", "moving_arcs", "incarnation"] {
        assert_eq!(newcomer.find(&format!("nabu_cluster_{name}"), &[]), Some(0.0), "{name}");
    }
}

#[test]
fn a_standalone_node_says_nothing_of_a_cluster() {
    let scrape = parsed(&Snapshot { cluster: None, ..snapshot() });
    assert!(!scrape.0.keys().any(|name| name.starts_with("nabu_cluster")));
    check_documented(&scrape);
}

#[test]
fn before_recovery_nothing_is_said_of_the_store() {
    let scrape = parsed(&Snapshot { store: None, is_ready: false, ..snapshot() });
    assert_eq!(scrape.find("nabu_ready", &[]), Some(0.0));
    assert!(!scrape.0.keys().any(|name| name.starts_with("nabu_store") || name.starts_with("nabu_log")));
    assert_eq!(scrape.sum("nabu_http_requests_total"), 6.0);
}

#[test]
fn a_server_that_has_served_nothing_gives_a_valid_scrape() {
    let snapshot = Snapshot {
        cores: vec![(CoreId(0), Some(Recorder::new(&["unknown", "/v1/blobs/{id}", "/v1/blobs"]).snapshot(CoreId(0))))],
        store: None,
        cluster: None,
        process: Process::read(SystemTime::now()),
        is_ready: false,
        connections_max: 1,
    };
    assert_eq!(parsed(&snapshot).sum("nabu_http_requests_total"), 0.0);
}

#[test]
fn an_error_is_a_label_of_plain_characters() {
    assert_eq!(slug("blob not found"), "blob_not_found");
    assert_eq!(slug("HTTP version not supported"), "http_version_not_supported");
    assert_eq!(slug("bad Host field"), "bad_host_field");
}
