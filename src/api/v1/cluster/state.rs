//! `GET /v1/cluster/state`: the members, as this node knows them now. It asks nobody, so that it
//! answers also while nobody leads; what others have agreed on meanwhile may be missing.

use serde::Serialize;

use super::node::{Node, STANDALONE_NODE_ID, nodes};
use crate::api::context::Context;
use crate::api::json;
use crate::api::route::PathValues;
use crate::control::View;
use crate::http::{Exchange, HttpError};

/// The ring of one node never changes.
pub const STANDALONE_RING_VERSION: u64 = 1;

#[derive(Serialize)]
struct State {
    nodes: Vec<Node>,
    ring_version: u64,
    cluster_id: Option<String>,
    leader: Option<String>,
    term: u64,
    /// Who answers.
    node_id: String,
}

impl State {
    fn of_view(view: &View, nodes: Vec<Node>) -> Self {
        let leader = view.leader.and_then(|leader| view.members.get(&leader));
        Self {
            nodes,
            ring_version: view.ring_version,
            cluster_id: view.membership.map(|membership| membership.cluster.to_string()),
            leader: leader.map(|leader| leader.node_id.clone()),
            term: view.term,
            node_id: view.node_id.clone(),
        }
    }

    fn standalone(node: Node) -> Self {
        Self {
            nodes: vec![node],
            ring_version: STANDALONE_RING_VERSION,
            cluster_id: None,
            leader: Some(STANDALONE_NODE_ID.to_owned()),
            term: 0,
            node_id: STANDALONE_NODE_ID.to_owned(),
        }
    }
}

/// Answers the members.
pub async fn state(exchange: &mut Exchange, context: &Context, _: &PathValues) -> Result<(), HttpError> {
    let state = match context.cluster()? {
        Some(handle) => {
            let view = handle.view();
            State::of_view(&view, nodes(exchange, context, handle, &view).await)
        }
        None => {
            let status = match context.blobs() {
                Some(blobs) => Some(blobs.status().await),
                None => None,
            };
            let address = context.node.address.get().unwrap_or(&context.node.listen).to_string();
            State::standalone(Node::standalone(address, status.as_ref()))
        }
    };
    json::answer(exchange, 200, &[], &state);
    Ok(())
}

#[cfg(test)]
mod tests {
    use simd_json::prelude::*;

    use super::*;
    use crate::control::sample;

    fn shown(view: &View) -> simd_json::OwnedValue {
        let state = State::of_view(view, Vec::new());
        simd_json::to_owned_value(&mut json::to_vec(&state)).expect("it is JSON")
    }

    #[test]
    fn a_cluster_says_who_leads_and_who_answers() {
        let state = shown(&sample::view());
        assert_eq!(state.get_str("leader"), Some("node-west-1"));
        assert_eq!(state.get_str("node_id"), Some("node-west-1"));
        assert_eq!(state.get_str("cluster_id"), Some("c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1"));
        assert_eq!((state.get_u64("ring_version"), state.get_u64("term")), (Some(4), Some(2)));
    }

    #[test]
    fn without_a_leader_and_before_a_cluster_is_found_there_is_a_state_all_the_same() {
        let mut view = sample::view();
        view.leader = None;
        assert!(shown(&view)["leader"].is_null());
        let state = shown(&sample::newcomer());
        assert!(state["leader"].is_null() && state["cluster_id"].is_null(), "{state}");
        assert_eq!((state.get_str("node_id"), state.get_u64("ring_version")), (Some("node-west-1"), Some(0)));
    }
}
