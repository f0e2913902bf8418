//! Health, readiness, and the cluster endpoints of a node that stands alone.

use simd_json::prelude::*;

use crate::start;
use crate::support::content::content;
use crate::support::http::Request;
use crate::support::server::{ADMIN_TOKEN, READ_TOKEN};

#[test]
fn health_and_readiness_are_200_and_take_head_too() {
    let (server, _data) = start();
    let mut connection = server.connect();
    for path in ["/healthz", "/livez", "/readyz"] {
        assert!(!connection.exchange(&Request::get(path)).expect(200).body.is_empty());
        let response = connection.exchange(&Request::new("HEAD", path)).expect(200);
        assert!(response.number("Content-Length") > 0);
    }
}

#[test]
fn the_state_of_the_cluster_is_the_one_node() {
    let (server, _data) = start();
    for seed in 0..3 {
        server.put(&content(seed, 5_000)).expect(201);
    }
    let state = server.exchange(&Request::get("/v1/cluster/state").token(READ_TOKEN)).expect(200).json();
    assert!(state.get_u64("ring_version").is_some(), "{state}");
    let nodes = state.get_array("nodes").expect("nodes");
    assert_eq!(nodes.len(), 1);
    let node = &nodes[0];
    assert!(!node.get_str("node_id").expect("an id").is_empty());
    assert_eq!(node.get_str("address"), Some(&*server.address.to_string()));
    assert_eq!(node.get_str("state"), Some("active"));
    assert_eq!(node.get_u64("blob_count"), Some(3));
    let used = node.get_u64("used_bytes").expect("used bytes");
    let capacity = node.get_u64("capacity_bytes").expect("a capacity");
    assert!((15_000..capacity).contains(&used), "{used} of {capacity}");
}

#[test]
fn changes_of_the_cluster_are_503_and_name_what_to_do() {
    let (server, _data) = start();
    let mut connection = server.connect();
    for (path, body) in [
        ("/v1/cluster/join", r#"{"node_id":"a","address":"10.0.1.23:7070","capacity_bytes":1}"#),
        ("/v1/cluster/leave", r#"{"node_id":"a"}"#),
        ("/v1/cluster/heartbeat", r#"{"node_id":"a","ring_version":1,"used_bytes":0,"blob_count":0}"#),
        ("/v1/cluster/sync-ring", r#"{"ring_version":1}"#),
    ] {
        let response = connection.exchange(&Request::json(path, body).token(ADMIN_TOKEN));
        let message = response.expect_error(503, "clustering not configured");
        assert!(message.contains("standalone"), "{message}");
    }
}
