//! A node as clients see it: `NODE` of the API.

use nabu_cluster::control::member::Member;
use nabu_cluster::control::message::Load;
use nabu_cluster::node::NodeNumber;
use nabu_engine::store::StoreStatus;
use serde::Serialize;

use crate::api::context::Context;
use crate::control::{Handle, LinkStatus, View};
use crate::http::Exchange;
use crate::metrics::collector::in_time;

/// The zone of a node that names none.
pub const ZONE_DEFAULT: &str = "default";
/// How a node that is in no cluster calls itself.
pub const STANDALONE_NODE_ID: &str = "standalone";

#[derive(Serialize)]
pub struct Node {
    node_id: String,
    /// Where other nodes reach it, as it joined.
    address: String,
    state: &'static str,
    capacity_bytes: u64,
    used_bytes: u64,
    blob_count: u64,
    zone: String,
    /// `None` for one that was announced and did not come yet.
    version: Option<String>,
    voter: bool,
    leader: bool,
    client_address: String,
    incarnation: u64,
    /// `None` where this node has no connection to it to judge by.
    reachable: Option<bool>,
}

impl Node {
    /// The node that answers, if it is standalone. It has been there once, since its start.
    pub fn standalone(address: String, status: Option<&StoreStatus>) -> Self {
        let of = |get: fn(&StoreStatus) -> u64| status.map_or(0, get);
        Self {
            node_id: STANDALONE_NODE_ID.to_owned(),
            client_address: address.clone(),
            address,
            state: if status.is_some() { "active" } else { "joining" },
            capacity_bytes: of(|status| status.capacity_bytes),
            used_bytes: of(|status| status.used_bytes),
            blob_count: of(|status| status.blob_count),
            zone: ZONE_DEFAULT.to_owned(),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            voter: true,
            leader: true,
            incarnation: 1,
            reachable: Some(true),
        }
    }

    fn of_member(number: NodeNumber, member: &Member, view: &View, links: &[LinkStatus]) -> Self {
        let profile = &member.profile;
        let load = view.loads.get(&number).copied().unwrap_or_default();
        let link = links.iter().find(|link| link.address == profile.address);
        let has_come = member.store.is_some();
        Self {
            node_id: member.node_id.clone(),
            address: profile.address.clone(),
            state: member.state.name(),
            capacity_bytes: profile.capacity_bytes,
            used_bytes: load.used_bytes,
            blob_count: load.blob_count,
            zone: profile.zone.clone(),
            version: has_come.then(|| profile.version.clone()),
            voter: view.voters.contains(&number),
            leader: view.leader == Some(number),
            client_address: profile.client_address.clone(),
            incarnation: member.incarnation.0,
            reachable: if view.me() == Some(number) { Some(true) } else { link.map(|link| link.is_up) },
        }
    }
}

/// All members, in the order in which they joined. What this node itself holds is told as of now.
pub fn nodes_of(view: &View, links: &[LinkStatus], own_load: Option<Load>) -> Vec<Node> {
    let of = |(&number, member): (&NodeNumber, &Member)| {
        let node = Node::of_member(number, member, view, links);
        match own_load.filter(|_| view.me() == Some(number)) {
            Some(Load { used_bytes, blob_count }) => Node { used_bytes, blob_count, ..node },
            None => node,
        }
    };
    view.members.iter().map(of).collect()
}

/// All members of the cluster that this node belongs to.
pub async fn nodes(exchange: &Exchange, context: &Context, handle: &Handle, view: &View) -> Vec<Node> {
    nodes_of(view, &handle.links(), own_load(exchange, context).await)
}

/// What this node holds, if its store is recovered and says so in time.
pub async fn own_load(exchange: &Exchange, context: &Context) -> Option<Load> {
    let blobs = context.blobs()?;
    in_time(&exchange.core.io, blobs.holdings()).await.map(Load::from)
}

#[cfg(test)]
mod tests {
    use simd_json::prelude::*;

    use super::*;
    use crate::api::json::to_vec;
    use crate::control::sample;

    fn shown(nodes: &[Node]) -> simd_json::OwnedValue {
        simd_json::to_owned_value(&mut to_vec(&nodes)).expect("it is JSON")
    }

    #[test]
    fn a_node_has_what_the_api_says_and_numbers_are_those_of_its_last_heartbeat() {
        let view = sample::view();
        let nodes = shown(&nodes_of(&view, &sample::links(), None));
        let expected = r#"{"node_id":"node-west-2","address":"10.0.1.22:7070","state":"offline",
            "capacity_bytes":1099511627776,"used_bytes":18253611008,"blob_count":891,"zone":"west","version":"0.1.0",
            "voter":true,"leader":false,"client_address":"store-2:443","incarnation":7,"reachable":false}"#;
        assert_eq!(nodes[1], simd_json::to_owned_value(&mut expected.as_bytes().to_vec()).expect("it is JSON"));
        let ids: Vec<_> = nodes.as_array().unwrap().iter().map(|node| node.get_str("node_id").unwrap()).collect();
        assert_eq!(ids, ["node-west-1", "node-west-2", "node-west-3"]);
    }

    #[test]
    fn one_that_was_announced_has_no_version_and_nobody_knows_whether_it_is_there() {
        let nodes = shown(&nodes_of(&sample::view(), &sample::links(), None));
        let announced = &nodes[2];
        assert_eq!(announced.get_str("state"), Some("joining"));
        assert!(announced["version"].is_null() && announced["reachable"].is_null(), "{announced}");
        assert_eq!((announced.get_u64("used_bytes"), announced.get_u64("incarnation")), (Some(0), Some(0)));
        assert_eq!((announced.get_bool("voter"), announced.get_bool("leader")), (Some(false), Some(false)));
    }

    #[test]
    fn the_node_that_answers_reaches_itself_and_knows_best_what_it_holds() {
        let load = Load { used_bytes: 1, blob_count: 2 };
        let nodes = shown(&nodes_of(&sample::view(), &sample::links(), Some(load)));
        assert_eq!((nodes[0].get_u64("used_bytes"), nodes[0].get_u64("blob_count")), (Some(1), Some(2)));
        assert_eq!(nodes[0].get_bool("reachable"), Some(true));
        assert_eq!(nodes[0].get_bool("leader"), Some(true));
        assert_eq!(nodes[1].get_u64("blob_count"), Some(891));
    }

    #[test]
    fn a_standalone_node_has_the_same_fields_as_a_member() {
        let standalone = shown(&[Node::standalone("127.0.0.1:7070".to_owned(), None)]);
        let member = shown(&nodes_of(&sample::view(), &[], None));
        let keys = |node: &simd_json::OwnedValue| {
            let mut keys: Vec<String> = node.as_object().expect("an object").keys().cloned().collect();
            keys.sort_unstable();
            keys
        };
        assert_eq!(keys(&standalone[0]), keys(&member[0]));
        assert_eq!(standalone[0].get_str("state"), Some("joining"));
        let status = StoreStatus { blob_count: 3, ..StoreStatus::default() };
        let standalone = shown(&[Node::standalone("127.0.0.1:7070".to_owned(), Some(&status))]);
        assert_eq!((standalone[0].get_str("state"), standalone[0].get_u64("blob_count")), (Some("active"), Some(3)));
    }
}
