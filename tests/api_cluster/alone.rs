//! A cluster of one.

use simd_json::prelude::*;

use crate::nodes::{Cluster, find, get, post, state};
use crate::support::exposition::{Exposition, check_documented};
use crate::support::http::Request;
use crate::support::server::{READ_TOKEN, Server};
use crate::support::wait_for;

fn ring_version(server: &Server) -> u64 {
    state(server).get_u64("ring_version").expect("a version")
}

const WEST_3: &str = r#"{"node_id": "node-west-3", "address": "10.0.1.23:7070", "capacity_bytes": 1099511627776}"#;

#[test]
fn the_founder_is_active_leads_and_has_the_ring() {
    let cluster = Cluster::new();
    let server = cluster.found("node-west-1");
    let shown = state(&server);
    let node = find(&shown, "node-west-1").expect("it is a member");
    let address = server.address.to_string();
    for (key, value) in [("state", "active"), ("address", &address), ("client_address", &address), ("zone", "default")]
    {
        assert_eq!(node.get_str(key), Some(value), "{key} of {node}");
    }
    for key in ["voter", "leader", "reachable"] {
        assert_eq!(node.get_bool(key), Some(true), "{key} of {node}");
    }
    assert_eq!(node.get_u64("incarnation"), Some(1));
    assert!(node.get_u64("capacity_bytes") > Some(0), "{node}");
    assert_eq!((shown.get_str("leader"), shown.get_str("node_id")), (Some("node-west-1"), Some("node-west-1")));
    assert_eq!(shown.get_str("cluster_id").map(str::len), Some(32));

    let ring = get(&server, "/v1/cluster/ring");
    assert_eq!((ring.get_u64("vnodes"), ring.get_u64("moving")), (Some(4096), Some(0)));
    let share = find(&ring, "node-west-1").expect("it has seats");
    assert_eq!((share["seats"][0].as_u64(), share.get_f64("share")), (Some(4096), Some(1.0)));

    let scrape = server.exchange(&Request::get("/metrics").token(READ_TOKEN)).expect(200);
    let scrape = Exposition::parse(std::str::from_utf8(&scrape.body).expect("a scrape is text"));
    check_documented(&scrape);
    for name in ["in_contact", "has_leader", "is_leader", "voters", "incarnation"] {
        assert_eq!(scrape.find(&format!("nabu_cluster_{name}"), &[]), Some(1.0), "{name}");
    }
    assert_eq!(scrape.find("nabu_cluster_members", &[("state", "active")]), Some(1.0));
}

#[test]
fn a_start_is_counted_and_the_cluster_is_the_same_after_it() {
    let cluster = Cluster::new();
    let server = cluster.found("a");
    let before = state(&server);
    server.stop();
    let server = cluster.found("a");
    let after = state(&server);
    assert_eq!(after.get_str("cluster_id"), before.get_str("cluster_id"));
    assert_eq!(find(&after, "a").expect("it is there").get_u64("incarnation"), Some(2));
}

#[test]
fn a_node_that_is_announced_is_joining_once_however_often_and_may_leave_again() {
    let cluster = Cluster::new();
    let server = cluster.found("node-west-1");
    let before = ring_version(&server);
    for _ in 0..2 {
        let joined = post(&server, "/v1/cluster/join", WEST_3).expect(200).json();
        assert_eq!(joined.get_bool("accepted"), Some(true));
        assert!(joined.get_u64("ring_version").expect("a version") > before);
        let node = find(&joined, "node-west-3").expect("it is announced");
        assert_eq!((node.get_str("state"), node.get_str("address")), (Some("joining"), Some("10.0.1.23:7070")));
        assert_eq!((node.get_u64("capacity_bytes"), node.get_u64("used_bytes")), (Some(1 << 40), Some(0)));
        assert!(find(&joined, "node-west-1").is_some() && find(&state(&server), "node-west-3").is_some());
    }
    assert_eq!(get(&server, "/v1/cluster/ring").get_u64("vnodes"), Some(4096), "it has no seat");

    let joined = ring_version(&server);
    let left = post(&server, "/v1/cluster/leave", r#"{"node_id":"node-west-3"}"#).expect(200).json();
    assert_eq!(left.get_bool("accepted"), Some(true));
    assert!(left.get_u64("ring_version") > Some(joined), "{left}");
    assert!(find(&state(&server), "node-west-3").is_none());
    let again = post(&server, "/v1/cluster/leave", r#"{"node_id":"node-west-3"}"#);
    assert!(again.expect_error(404, "unknown node").contains("node-west-3"));
}

#[test]
fn a_name_and_an_address_have_one_node_that_is_alive() {
    let cluster = Cluster::new();
    let server = cluster.found("node-west-1");
    let elsewhere = r#"{"node_id":"node-west-1","address":"10.0.1.23:7070","capacity_bytes":1}"#;
    let message = post(&server, "/v1/cluster/join", elsewhere).expect_error(409, "node conflict");
    assert!(message.contains(&server.address.to_string()), "{message}");
    let there = format!(r#"{{"node_id":"other","address":"{}","capacity_bytes":1}}"#, server.address);
    let message = post(&server, "/v1/cluster/join", &there).expect_error(409, "node conflict");
    assert!(message.contains("node-west-1"), "{message}");
    let itself = format!(r#"{{"node_id":"node-west-1","address":"{}","capacity_bytes":1}}"#, server.address);
    post(&server, "/v1/cluster/join", &itself).expect(200);
}

#[test]
fn the_last_node_stays_and_one_that_is_there_is_not_removed_by_force() {
    let cluster = Cluster::new();
    let server = cluster.found("a");
    post(&server, "/v1/cluster/leave", r#"{"node_id":"a"}"#).expect_error(409, "last node");
    post(&server, "/v1/cluster/leave", r#"{"node_id":"a","force":true}"#).expect_error(409, "wrong node state");
    assert_eq!(find(&state(&server), "a").expect("it stays").get_str("state"), Some("active"));
}

#[test]
fn a_heartbeat_and_a_sync_tell_a_caller_what_it_lacks() {
    let cluster = Cluster::new();
    let server = cluster.found("a");
    let version = ring_version(&server);
    let beat = |node_id: &str, version: u64| {
        let body = format!(r#"{{"node_id":"{node_id}","ring_version":{version},"used_bytes":0,"blob_count":0}}"#);
        let answer = post(&server, "/v1/cluster/heartbeat", &body).expect(200);
        String::from_utf8(answer.body).expect("text")
    };
    assert_eq!(beat("a", version), format!(r#"{{"ok":true,"ring_version":{version},"commands":[]}}"#));
    assert_eq!(beat("a", version - 1), format!(r#"{{"ok":true,"ring_version":{version},"commands":["sync-ring"]}}"#));
    assert_eq!(beat("b", version), format!(r#"{{"ok":false,"ring_version":{version},"commands":["rejoin"]}}"#));
    assert_eq!(beat("b", u64::MAX), format!(r#"{{"ok":false,"ring_version":{version},"commands":["rejoin"]}}"#));

    for (known, updated) in [(version - 1, true), (version, false), (version + 1, false)] {
        let synced =
            post(&server, "/v1/cluster/sync-ring", &format!(r#"{{"ring_version":{known}}}"#)).expect(200).json();
        assert_eq!(synced.get_bool("updated"), Some(updated), "{synced}");
        assert_eq!((synced.get_u64("ring_version"), synced.get_u64("vnodes")), (Some(version), Some(4096)));
        assert!(find(&synced, "a").is_some());
    }
}

#[test]
fn a_body_that_can_not_be_is_refused_and_changes_nothing() {
    let cluster = Cluster::new();
    let server = cluster.found("a");
    let version = ring_version(&server);
    for path in ["join", "leave", "heartbeat", "sync-ring"] {
        let path = format!("/v1/cluster/{path}");
        post(&server, &path, "{}").expect_error(400, "missing field");
        post(&server, &path, "{").expect_error(400, "malformed JSON");
        post(&server, &path, "[]").expect_error(422, "unprocessable value");
        post(&server, &path, &format!(r#"{{"x":"{}"}}"#, "x".repeat(20_000))).expect_error(413, "body too large");
        let request = Request::new("POST", &path).token(crate::support::server::ADMIN_TOKEN);
        server.exchange(&request).expect_error(415, "unsupported media type");
    }
    let no_address = r#"{"node_id":"b","address":"b","capacity_bytes":1}"#;
    let message = post(&server, "/v1/cluster/join", no_address).expect_error(422, "unprocessable value");
    assert!(message.contains("\"b\" is not host:port"), "{message}");
    assert_eq!(ring_version(&server), version);
}

#[test]
fn a_node_that_looks_for_its_cluster_is_not_ready_and_says_so() {
    let cluster = Cluster::new();
    let mut options = cluster.options("a");
    // Nobody listens there.
    options.flags.extend(["--join".to_owned(), "127.0.0.1:1".to_owned()]);
    let server = options.spawn();
    wait_for("the control plane to run", || {
        let answer = server.exchange(&Request::get("/readyz"));
        let text = String::from_utf8(answer.body.clone()).expect("text");
        assert_eq!(answer.status(), 503, "{text}");
        text.contains("belongs to no cluster yet").then_some(())
    });
    assert_eq!(state(&server).get_array("nodes").map(Vec::len), Some(0));
    post(&server, "/v1/cluster/join", WEST_3).expect_error(503, "no cluster");
}
