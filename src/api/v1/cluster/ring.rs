//! `GET /v1/cluster/ring` and `POST /v1/cluster/sync-ring`: which part of the ring each node has,
//! and whether a caller's ring is the newest.

use std::collections::BTreeMap;

use nabu_cluster::control::member::{Member, MemberState};
use nabu_cluster::node::NodeNumber;
use nabu_cluster::placement::{ARCS, ArcId, Ring};
use serde::Serialize;

use super::group;
use super::node::{Node, STANDALONE_NODE_ID, nodes};
use super::state::STANDALONE_RING_VERSION;
use crate::api::context::Context;
use crate::api::json::{self, Document};
use crate::api::route::PathValues;
use crate::control::View;
use crate::http::{Exchange, HttpError};

/// Decimal places of a share, as a factor: enough to tell a seat of the largest ring.
const SHARE_PRECISION: f64 = 1e6;

#[derive(Serialize)]
struct RingBody {
    ring_version: u64,
    vnodes: usize,
    arcs: usize,
    /// Arcs whose new seats have not all that the old ones have.
    moving: usize,
    nodes: Vec<Share>,
}

/// What one node has of the ring.
#[derive(Serialize, PartialEq, Debug)]
struct Share {
    node_id: String,
    /// How many arcs have it as their first seat, as their second, and so on.
    seats: Vec<usize>,
    /// Its part of all seats, and of the capacity of those that have any.
    share: f64,
    capacity_share: f64,
}

impl RingBody {
    fn of_view(view: &View) -> Self {
        let ring = view.ring.as_deref();
        Self {
            ring_version: view.ring_version,
            vnodes: ring.map_or(0, Ring::vnodes),
            arcs: ARCS,
            moving: ring.map_or(0, |ring| ring.moving().count()),
            nodes: ring.map_or_else(Vec::new, |ring| shares(ring, &view.members)),
        }
    }

    fn standalone() -> Self {
        let node_id = STANDALONE_NODE_ID.to_owned();
        Self {
            ring_version: STANDALONE_RING_VERSION,
            vnodes: ARCS,
            arcs: ARCS,
            moving: 0,
            nodes: vec![Share { node_id, seats: vec![ARCS], share: 1.0, capacity_share: 1.0 }],
        }
    }
}

/// By member, those without seats too.
fn shares(ring: &Ring, members: &BTreeMap<NodeNumber, Member>) -> Vec<Share> {
    let ranks = ArcId::all().map(|arc| ring.seats(arc).nodes().len()).max().unwrap_or(0);
    let mut seats: BTreeMap<NodeNumber, Vec<usize>> = members.keys().map(|node| (*node, vec![0; ranks])).collect();
    for arc in ArcId::all() {
        for (rank, node) in ring.seats(arc).nodes().iter().enumerate() {
            seats.entry(*node).or_insert_with(|| vec![0; ranks])[rank] += 1;
        }
    }
    let capacity_of = |member: &Member| match member.state {
        MemberState::Joining => 0.0,
        _ => member.profile.capacity_bytes as f64,
    };
    let capacity: f64 = members.values().map(capacity_of).sum();
    let share = |part: f64, whole: f64| (part / whole.max(1.0) * SHARE_PRECISION).round() / SHARE_PRECISION;
    seats
        .into_iter()
        .map(|(node, seats)| {
            let member = members.get(&node);
            Share {
                node_id: member.map_or_else(|| node.to_string(), |member| member.node_id.clone()),
                share: share(seats.iter().sum::<usize>() as f64, ring.vnodes() as f64),
                capacity_share: share(member.map_or(0.0, capacity_of), capacity),
                seats,
            }
        })
        .collect()
}

/// Answers which part of the ring each node has.
pub async fn ring(exchange: &mut Exchange, context: &Context, _: &PathValues) -> Result<(), HttpError> {
    let body = match context.cluster()? {
        Some(handle) => RingBody::of_view(&handle.view()),
        None => RingBody::standalone(),
    };
    json::answer(exchange, 200, &[], &body);
    Ok(())
}

#[derive(Serialize)]
struct Synced {
    ring_version: u64,
    /// The caller had an older ring.
    updated: bool,
    nodes: Vec<Node>,
    vnodes: usize,
}

fn read_ring_version(document: &Document<'_>) -> Result<u64, HttpError> {
    document.required_count("ring_version")
}

/// Answers the newest ring that is known here, and whether it is news to the caller.
pub async fn sync_ring(exchange: &mut Exchange, context: &Context, _: &PathValues) -> Result<(), HttpError> {
    let handle = group::of(context)?;
    let known = read_ring_version(&json::body::receive(exchange).await?.parse()?)?;
    let view = group::caught_up(exchange, handle, known).await;
    let nodes = nodes(exchange, context, handle, &view).await;
    let synced = Synced {
        ring_version: view.ring_version,
        updated: view.ring_version > known,
        nodes,
        vnodes: view.ring.as_deref().map_or(0, Ring::vnodes),
    };
    json::answer(exchange, 200, &[], &synced);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::sample;

    #[test]
    fn a_ring_of_two_gives_each_a_seat_of_every_arc_whatever_their_capacity() {
        let view = sample::view();
        let body = RingBody::of_view(&view);
        assert_eq!((body.ring_version, body.vnodes, body.arcs, body.moving), (4, 8192, 4096, 4096));
        let share = |node_id: &str, seats: [usize; 2], share, capacity_share| Share {
            node_id: node_id.to_owned(),
            seats: seats.to_vec(),
            share,
            capacity_share,
        };
        let expected = [
            share("node-west-1", [4096, 0], 0.5, 0.666667),
            share("node-west-2", [0, 4096], 0.5, 0.333333),
            share("node-west-3", [0, 0], 0.0, 0.0),
        ];
        assert_eq!(body.nodes, expected);
    }

    #[test]
    fn before_there_is_a_ring_nobody_has_a_part_of_it() {
        let body = RingBody::of_view(&sample::newcomer());
        assert_eq!((body.ring_version, body.vnodes, body.arcs, body.moving), (0, 0, 4096, 0));
        assert_eq!(body.nodes, []);
    }

    #[test]
    fn a_standalone_node_has_the_whole_ring() {
        let body = String::from_utf8(json::to_vec(&RingBody::standalone())).unwrap();
        let node = r#"{"node_id":"standalone","seats":[4096],"share":1.0,"capacity_share":1.0}"#;
        assert_eq!(body, format!(r#"{{"ring_version":1,"vnodes":4096,"arcs":4096,"moving":0,"nodes":[{node}]}}"#));
    }

    #[test]
    fn the_version_of_a_callers_ring_is_a_number() {
        let read = |text: &str| read_ring_version(&Document::parse(&mut text.as_bytes().to_vec())?);
        assert_eq!(read(r#"{"ring_version":4}"#), Ok(4));
        for text in ["{}", r#"{"ring_version":"4"}"#] {
            let error = read(text).unwrap_err();
            assert!(error.message.contains("`ring_version`"), "{}", error.message);
        }
    }
}
