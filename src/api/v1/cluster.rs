//! `/v1/cluster`: the topology, which on a standalone node is just that node.

use serde::Serialize;

use crate::api::context::Context;
use crate::api::json;
use crate::api::route::PathValues;
use crate::http::{Exchange, HttpError};

/// How a node that is in no cluster calls itself.
const STANDALONE_NODE_ID: &str = "standalone";
/// The ring of one node never changes.
const STANDALONE_RING_VERSION: u64 = 1;

#[derive(Serialize)]
struct ClusterState {
    nodes: Vec<Node>,
    ring_version: u64,
}

#[derive(Serialize)]
struct Node {
    node_id: &'static str,
    address: String,
    state: &'static str,
    capacity_bytes: u64,
    used_bytes: u64,
    blob_count: u64,
}

/// Answers the topology.
pub async fn state(exchange: &mut Exchange, context: &Context, _: &PathValues) -> Result<(), HttpError> {
    let (state, status) = match context.blobs() {
        Some(blobs) => ("active", blobs.status().await),
        None => ("joining", Default::default()),
    };
    let node = Node {
        node_id: STANDALONE_NODE_ID,
        address: context.node.address.get().unwrap_or(&context.node.listen).to_string(),
        state,
        capacity_bytes: status.capacity_bytes,
        used_bytes: status.used_bytes,
        blob_count: status.blob_count,
    };
    json::answer(exchange, 200, &[], &ClusterState { nodes: vec![node], ring_version: STANDALONE_RING_VERSION });
    Ok(())
}

/// Refuses every change of the cluster: there is none.
pub async fn change(_: &mut Exchange, _: &Context, _: &PathValues) -> Result<(), HttpError> {
    Err(HttpError::new(
        503,
        "clustering not configured",
        "this node runs standalone, and this release has no clustering to configure; run one node, and store with policy 0 or 1",
    ))
}
