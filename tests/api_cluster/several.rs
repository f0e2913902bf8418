//! Clusters of more nodes than one.

use simd_json::OwnedValue;
use simd_json::prelude::*;

use crate::nodes::{Cluster, find, post, state, wait_for_node};
use crate::support::http::Request;
use crate::support::server::Server;
use crate::support::wait_for;

fn is(node: &OwnedValue, state: &str) -> bool {
    node.get_str("state") == Some(state)
}

/// Three nodes that are all active, have a vote, and reach each other.
fn three(cluster: &Cluster) -> [Server; 3] {
    let a = cluster.found("a");
    let b = cluster.join("b", &a);
    let c = cluster.join("c", &b);
    for server in [&a, &b, &c] {
        for node_id in ["a", "b", "c"] {
            wait_for_node(server, node_id, |node| {
                is(node, "active") && ["voter", "reachable"].iter().all(|key| node.get_bool(*key) == Some(true))
            });
        }
    }
    [a, b, c]
}

#[test]
fn every_node_shows_the_same_cluster_and_takes_every_change() {
    let cluster = Cluster::new();
    let servers = three(&cluster);
    for (index, server) in servers.iter().enumerate() {
        let body = format!(r#"{{"node_id":"x{index}","address":"10.0.0.{index}:7070","capacity_bytes":1}}"#);
        let joined = post(server, "/v1/cluster/join", &body).expect(200).json();
        let version = joined.get_u64("ring_version").expect("a version");
        // A node that is asked with the version of that answer has what was answered.
        for other in &servers {
            let asked = format!(r#"{{"ring_version":{version}}}"#);
            let synced = post(other, "/v1/cluster/sync-ring", &asked).expect(200).json();
            assert!(synced.get_u64("ring_version") >= Some(version), "{synced}");
            assert!(find(&synced, &format!("x{index}")).is_some(), "{synced}");
        }
    }
    let states: Vec<_> = servers.iter().map(state).collect();
    for state in &states {
        for key in ["cluster_id", "leader"] {
            assert!(state.get_str(key).is_some() && state.get_str(key) == states[0].get_str(key), "{key} of {state}");
        }
    }
}

#[test]
fn a_node_leaves_an_empty_cluster_and_is_told_that_it_is_gone() {
    let cluster = Cluster::new();
    let [a, b, mut c] = three(&cluster);
    wait_for("what all store to be known", || {
        let left = post(&a, "/v1/cluster/leave", r#"{"node_id":"c"}"#);
        if left.status() == 503 {
            left.expect_error(503, "load unknown");
            return None;
        }
        Some(left.expect(200))
    });
    for server in [&a, &b] {
        wait_for("the node to be gone", || find(&state(server), "c").is_none().then_some(()));
    }
    let status = c.process.wait();
    let log = c.process.log.text();
    assert!(!status.success() && log.contains("removed this node for good"), "{status}: {log}");
}

#[test]
fn a_node_that_is_killed_is_offline_and_removed_by_force_alone() {
    let cluster = Cluster::new();
    let [a, b, c] = three(&cluster);
    c.kill();
    wait_for_node(&a, "c", |node| is(node, "offline") && node.get_bool("reachable") == Some(false));
    post(&b, "/v1/cluster/leave", r#"{"node_id":"c"}"#).expect_error(409, "wrong node state");
    let left = post(&b, "/v1/cluster/leave", r#"{"node_id":"c","force":true}"#).expect(200).json();
    assert_eq!(left.get_bool("accepted"), Some(true));
    for server in [&a, &b] {
        wait_for("the node to be gone", || find(&state(server), "c").is_none().then_some(()));
    }
}

#[test]
fn without_a_majority_the_state_is_shown_and_a_change_is_in_doubt() {
    let cluster = Cluster::new();
    let [a, b, c] = three(&cluster);
    b.kill();
    c.kill();
    let body = r#"{"node_id":"x","address":"10.0.0.1:7070","capacity_bytes":1}"#;
    let message = post(&a, "/v1/cluster/join", body).expect_error(503, "in doubt");
    assert!(message.contains("2 of") && message.contains("may still happen"), "{message}");
    let message = post(&a, "/v1/cluster/leave", r#"{"node_id":"b"}"#).expect_error(503, "no quorum");
    assert!(message.contains("reach each other"), "{message}");
    assert_eq!(state(&a).get_array("nodes").map(Vec::len), Some(3));
    wait_for("the node to say that it is cut off", || {
        let answer = a.exchange(&Request::get("/readyz"));
        let text = String::from_utf8(answer.body.clone()).expect("text");
        (answer.status() == 503 && text.contains("out of contact")).then_some(())
    });
}
