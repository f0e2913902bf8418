//! `POST /v1/cluster/leave`: a node is to go, or is removed by force.
//!
//! Data does not move yet, so a node that has seats goes only while no node stores a blob. What the
//! nodes store is known from their last heartbeats; the group has no word in that.

use nabu_cluster::control::command::Change;
use nabu_cluster::control::member::MemberState;
use nabu_cluster::control::message::Load;
use nabu_cluster::node::NodeNumber;
use serde::Serialize;

use super::group;
use super::join::read_node_id;
use super::node::own_load;
use super::refused::{self, Asked};
use crate::api::context::Context;
use crate::api::json::{self, Document};
use crate::api::route::PathValues;
use crate::control::View;
use crate::http::{Exchange, HttpError};

#[derive(Serialize)]
struct Left {
    accepted: bool,
    ring_version: u64,
}

#[derive(PartialEq, Eq, Debug)]
struct Departure {
    node_id: String,
    is_forced: bool,
}

impl Departure {
    fn read(document: &Document<'_>) -> Result<Self, HttpError> {
        let node_id = read_node_id(document)?;
        Ok(Self { node_id, is_forced: document.optional_boolean("force")?.unwrap_or(false) })
    }
}

/// What the nodes store, as far as is known.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Stored {
    Nothing,
    Something,
    /// This node has not said it yet.
    Unknown(String),
}

fn stored(view: &View, own: Option<Load>) -> Stored {
    let load_of = |node: &NodeNumber| {
        let heard = view.loads.get(node).copied();
        if view.me() == Some(*node) { own.or(heard) } else { heard }
    };
    let mut unknown = None;
    // One that is joining has no seat, so it holds nothing for the cluster.
    for (node, member) in view.members.iter().filter(|(_, member)| member.state != MemberState::Joining) {
        match load_of(node) {
            Some(load) if load.blob_count > 0 => return Stored::Something,
            Some(_) => {}
            None => unknown = Some(member.node_id.clone()),
        }
    }
    unknown.map_or(Stored::Nothing, Stored::Unknown)
}

/// What the group is asked for.
///
/// # Errors
/// 404 for a stranger, 409 for force against a node that is there.
fn change(departure: &Departure, view: &View, stored: &Stored) -> Result<Change, HttpError> {
    let Departure { node_id, is_forced } = departure;
    let Some((node, member)) = view.member_named(node_id) else { return Err(refused::unknown(node_id)) };
    match member.state {
        MemberState::Offline if *is_forced => Ok(Change::Remove { node, is_forced: true }),
        MemberState::Active if *is_forced => Err(refused::not_offline(node_id)),
        MemberState::Returning => Err(refused::catching_up(node_id)),
        _ => Ok(Change::Leave { node, is_empty: *stored == Stored::Nothing }),
    }
}

/// Lets a node go.
pub async fn leave(exchange: &mut Exchange, context: &Context, _: &PathValues) -> Result<(), HttpError> {
    let handle = group::of(context)?;
    let departure = Departure::read(&json::body::receive(exchange).await?.parse()?)?;
    // The node may have joined, or gone offline, a moment ago at another node.
    let view = group::read(exchange, handle).await?;
    let stored = stored(&view, own_load(exchange, context).await);
    let change = change(&departure, &view, &stored)?;
    let silent = if let Stored::Unknown(node) = &stored { Some(node.as_str()) } else { None };
    let asked = Asked { node_id: &departure.node_id, address: None, silent };
    let view = group::change(exchange, handle, change, &asked).await?;
    json::answer(exchange, 200, &[], &Left { accepted: true, ring_version: view.ring_version });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::control::sample;

    fn departure(node_id: &str, is_forced: bool) -> Departure {
        Departure { node_id: node_id.to_owned(), is_forced }
    }

    /// The sample, in which one is active, two is in this state, and three has no seat.
    fn view(state: MemberState) -> View {
        let mut view = sample::view();
        Arc::make_mut(&mut view.members).get_mut(&NodeNumber(2)).expect("a member").state = state;
        view
    }

    #[test]
    fn a_node_leaves_and_one_that_is_offline_is_removed_by_force() {
        let node = NodeNumber(2);
        let asked = |state, is_forced| change(&departure("node-west-2", is_forced), &view(state), &Stored::Nothing);
        for state in [MemberState::Joining, MemberState::Active, MemberState::Leaving, MemberState::Offline] {
            assert_eq!(asked(state, false), Ok(Change::Leave { node, is_empty: true }), "{state:?}");
        }
        assert_eq!(asked(MemberState::Offline, true), Ok(Change::Remove { node, is_forced: true }));
        assert_eq!(
            asked(MemberState::Leaving, true),
            Ok(Change::Leave { node, is_empty: true }),
            "it is going already"
        );
        for (state, is_forced) in
            [(MemberState::Active, true), (MemberState::Returning, true), (MemberState::Returning, false)]
        {
            let error = asked(state, is_forced).unwrap_err();
            assert_eq!((error.status, error.error), (409, "wrong node state"), "{state:?}");
        }
        let error = change(&departure("node-west-9", true), &sample::view(), &Stored::Nothing).unwrap_err();
        assert_eq!((error.status, error.error), (404, "unknown node"));
        assert!(error.message.contains("node-west-9"), "{}", error.message);
    }

    #[test]
    fn a_cluster_is_empty_only_when_every_node_with_seats_has_said_so() {
        let (empty, full) = (Load::default(), Load { used_bytes: 9, blob_count: 1 });
        let mut view = sample::view();
        view.loads = [(sample::ME, empty), (NodeNumber(2), full)].into();
        assert_eq!(stored(&view, None), Stored::Something);
        view.loads.insert(NodeNumber(2), empty);
        assert_eq!(stored(&view, None), Stored::Nothing, "one that is joining need not be heard");
        assert_eq!(stored(&view, Some(full)), Stored::Something, "this node knows itself best");
        view.loads.remove(&NodeNumber(2));
        assert_eq!(stored(&view, Some(empty)), Stored::Unknown("node-west-2".to_owned()));
        assert_eq!(stored(&view, Some(full)), Stored::Something);
        for stored in [Stored::Something, Stored::Unknown("a".to_owned())] {
            let change = change(&departure("node-west-1", false), &view, &stored);
            assert_eq!(change, Ok(Change::Leave { node: sample::ME, is_empty: false }), "{stored:?}");
        }
    }

    #[test]
    fn force_is_a_boolean_and_may_be_left_out() {
        let read = |text: &str| Departure::read(&Document::parse(&mut text.as_bytes().to_vec())?);
        assert_eq!(read(r#"{"node_id":"a"}"#), Ok(departure("a", false)));
        assert_eq!(read(r#"{"node_id":"a","force":true}"#), Ok(departure("a", true)));
        let error = read(r#"{"node_id":"a","force":"true"}"#).unwrap_err();
        assert!(error.status == 422 && error.message.contains("`force`"), "{}", error.message);
    }
}
