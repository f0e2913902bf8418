//! What a client is told when a change did not happen, or when nobody can say whether it did.

use std::time::Duration;

use nabu_cluster::control::Failure;
use nabu_cluster::control::command::Refusal;
use nabu_cluster::control::member::{Member, MemberState};
use nabu_cluster::control::state::MEMBERS_MAX;
use nabu_cluster::node::NodeNumber;

use crate::api::json;
use crate::control::View;
use crate::http::HttpError;

/// What a change was about.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub node_id: &'a str,
    /// Where the node is said to be, if it was to join.
    pub address: Option<&'a str>,
    /// A node that has not said how much it stores, if that had a part in it.
    pub silent: Option<&'a str>,
}

/// A standalone node was asked to change its cluster.
pub fn standalone() -> HttpError {
    HttpError::new(
        503,
        "clustering not configured",
        "this node runs standalone: to make it a node of a cluster, start it with cluster.secret_file \
         (--cluster-secret-file) and with --bootstrap, which founds a cluster, or --join, which names nodes of one",
    )
}

/// # Errors
/// 503 where the node belongs to no cluster.
pub fn check_membership(view: &View) -> Result<(), HttpError> {
    if view.is_removed {
        let message = format!(
            "the cluster has removed the node {:?} for good: ask another node; to use this machine again, empty its \
             data directories and start it, and it joins as a new node",
            view.node_id
        );
        return Err(HttpError::new(503, "removed from the cluster", message));
    }
    if view.membership.is_none() {
        return Err(no_cluster(view));
    }
    Ok(())
}

fn no_cluster(view: &View) -> HttpError {
    let why = match &view.problem {
        Some(problem) => format!("belongs to no cluster: {problem}"),
        None => "belongs to no cluster yet: it needs an answer from the nodes that --join names, or --bootstrap to \
                 found one; see its log, and try again"
            .to_owned(),
    };
    HttpError::unavailable("no cluster", format!("the node {:?} {why}", view.node_id))
}

/// What was to be read could not be, after this time.
pub fn not_read(failure: Failure, time: Duration, view: &View) -> HttpError {
    match failure {
        Failure::TimedOut => {
            let seconds = time.as_secs();
            HttpError::unavailable("no quorum", format!("the group did not answer in {seconds} s: {}", remedy(view)))
        }
        Failure::Busy => busy(),
        Failure::NoCluster => no_cluster(view),
    }
}

/// Nobody has said in this time what happened to a change.
pub fn not_changed(failure: Failure, time: Duration, view: &View) -> HttpError {
    match failure {
        Failure::TimedOut => in_doubt(format!("this was not decided within {} s", time.as_secs()), view),
        Failure::Busy => busy(),
        Failure::NoCluster => no_cluster(view),
    }
}

fn in_doubt(what: String, view: &View) -> HttpError {
    let message = format!(
        "{what}, and it may still happen: {}; look at GET /v1/cluster/state, and send it again if it did not happen",
        remedy(view)
    );
    HttpError::unavailable("in doubt", message)
}

fn busy() -> HttpError {
    HttpError::unavailable("busy", "too many changes and reads of the cluster are under way at this node; try again")
}

/// What helps when the group decides nothing.
fn remedy(view: &View) -> String {
    let name = |node: &NodeNumber| view.members.get(node).map_or_else(|| node.to_string(), |it| it.node_id.clone());
    let voters: Vec<String> = view.voters.iter().map(name).collect();
    let (count, voters) = (voters.len(), voters.join(", "));
    let majority = count / 2 + 1;
    match view.leader {
        None => format!(
            "the cluster has no leader, which takes {majority} of its {count} voters ({voters}) that can reach each \
             other"
        ),
        Some(leader) => format!(
            "the node {:?} leads, and needs {majority} of the {count} voters ({voters}); make sure that they run and \
             can reach each other",
            name(&leader)
        ),
    }
}

/// The group has refused a change.
pub fn refused(refusal: &Refusal, asked: &Asked<'_>, view: &View) -> HttpError {
    let node_id = asked.node_id;
    match refusal {
        Refusal::Conflict { node } => conflict(asked, view.members.get(node)),
        // The node that asked is meant, not the one that was asked for.
        Refusal::Unknown { node } if view.me() == Some(*node) => {
            in_doubt("this node is no longer a member".into(), view)
        }
        Refusal::Unknown { .. } => unknown(node_id),
        Refusal::WrongState => wrong_state(node_id, view),
        Refusal::LastNode => HttpError::new(
            409,
            "last node",
            format!("no other node is active, so {node_id:?} holds everything: join another node first"),
        ),
        Refusal::HoldsData => asked.silent.map_or_else(|| holds_data(node_id), |silent| load_unknown(node_id, silent)),
        Refusal::TooMany if asked.address.is_some() && view.members.len() >= MEMBERS_MAX => HttpError::new(
            409,
            "cluster is full",
            format!("a cluster has at most {MEMBERS_MAX} nodes, announced ones included: remove those that are gone"),
        ),
        Refusal::TooMany => busy(),
        Refusal::OldIncarnation { .. } => {
            in_doubt("the control plane of this node was restarted meanwhile".into(), view)
        }
        Refusal::GivenUp => in_doubt("this node gave the change up".into(), view),
        // None of these is an answer to what is asked for here.
        Refusal::Retired { .. } | Refusal::NoSeat | Refusal::OtherVersion { .. } | Refusal::Invalid => {
            json::unprocessable(format!("the cluster refuses this for {node_id:?}: {refusal}"))
        }
    }
}

fn conflict(asked: &Asked<'_>, other: Option<&Member>) -> HttpError {
    let node_id = asked.node_id;
    let address = asked.address.unwrap_or_default();
    let message = match other {
        Some(member) if member.node_id == node_id => format!(
            "a node {node_id:?} is alive at {}, so none can join as {node_id:?} from {address}: stop that one, and wait \
             until it is offline, or choose another `node_id`",
            member.profile.address
        ),
        Some(member) => format!(
            "the node {:?} is alive at {address}, so {node_id:?} can't be there: set `address` to where {node_id:?} \
             can be reached",
            member.node_id
        ),
        None => format!("another node has the id {node_id:?} or the address {address}: look at GET /v1/cluster/state"),
    };
    HttpError::new(409, "node conflict", message)
}

/// There is no such member.
pub fn unknown(node_id: &str) -> HttpError {
    let message = format!("no member of this cluster has the id {node_id:?}: GET /v1/cluster/state names them");
    HttpError::new(404, "unknown node", message)
}

fn holds_data(node_id: &str) -> HttpError {
    let message = format!(
        "{node_id:?} can't leave: nodes of this cluster store blobs, and this release does not move them; delete them \
         first, or let the node stay"
    );
    HttpError::new(412, "cluster holds data", message)
}

fn load_unknown(node_id: &str, silent: &str) -> HttpError {
    let message = format!(
        "{node_id:?} can leave only while no node stores a blob, and what {silent:?} stores is not known yet; try again"
    );
    HttpError::unavailable("load unknown", message)
}

/// Only a node that is offline is removed by force.
pub fn not_offline(node_id: &str) -> HttpError {
    let message = format!(
        "{node_id:?} is active, and only a node that is offline is removed by force: leave out `force`, or stop the \
         node and wait until GET /v1/cluster/state says offline"
    );
    HttpError::new(409, "wrong node state", message)
}

/// It is there, and shown as offline until it has what it missed.
pub fn catching_up(node_id: &str) -> HttpError {
    let message = format!(
        "{node_id:?} was offline and is catching up: wait until GET /v1/cluster/state says active, or stop the node to \
         remove it by force"
    );
    HttpError::new(409, "wrong node state", message)
}

fn wrong_state(node_id: &str, view: &View) -> HttpError {
    let Some((_, member)) = view.member_named(node_id) else { return unknown(node_id) };
    if member.state == MemberState::Returning {
        return catching_up(node_id);
    }
    let message = format!(
        "{node_id:?} is {}, so it can't hand over what it has: start it again, or send \"force\": true to remove it \
         for good; anything stored only there is then lost",
        member.state.name()
    );
    HttpError::new(409, "wrong node state", message)
}

#[cfg(test)]
mod tests {
    use nabu_cluster::control::Problem;
    use nabu_cluster::control::member::{Incarnation, StoreId};

    use super::*;
    use crate::control::sample;

    const TIME: Duration = Duration::from_secs(5);
    const ASKED: Asked<'_> = Asked { node_id: "node-west-2", address: None, silent: None };
    const JOINING: Asked<'_> = Asked { node_id: "node-west-2", address: Some("10.0.9.9:7070"), silent: None };

    fn has_retry_after(error: &HttpError) -> bool {
        error.fields.iter().any(|(name, _)| *name == "Retry-After")
    }

    #[test]
    fn every_refusal_has_a_status_and_names_the_node_or_asks_to_try_again() {
        let view = sample::view();
        let (me, other) = (sample::ME, NodeNumber(2));
        for (refusal, asked, status, phrase) in [
            (Refusal::Conflict { node: other }, JOINING, 409, "node conflict"),
            (Refusal::Conflict { node: me }, JOINING, 409, "node conflict"),
            (Refusal::Conflict { node: NodeNumber(77) }, JOINING, 409, "node conflict"),
            (Refusal::Unknown { node: other }, ASKED, 404, "unknown node"),
            (Refusal::Unknown { node: me }, ASKED, 503, "in doubt"),
            (Refusal::WrongState, ASKED, 409, "wrong node state"),
            (Refusal::LastNode, ASKED, 409, "last node"),
            (Refusal::HoldsData, ASKED, 412, "cluster holds data"),
            (Refusal::HoldsData, Asked { silent: Some("x"), ..ASKED }, 503, "load unknown"),
            (Refusal::TooMany, JOINING, 503, "busy"),
            (Refusal::OldIncarnation { current: Incarnation(3) }, ASKED, 503, "in doubt"),
            (Refusal::GivenUp, ASKED, 503, "in doubt"),
            (Refusal::Retired { store: StoreId([1; 16]) }, JOINING, 422, "unprocessable value"),
            (Refusal::NoSeat, JOINING, 422, "unprocessable value"),
            (Refusal::OtherVersion { version: 1 }, ASKED, 422, "unprocessable value"),
            (Refusal::Invalid, JOINING, 422, "unprocessable value"),
        ] {
            let error = refused(&refusal, &asked, &view);
            assert_eq!((error.status, error.error), (status, phrase), "{refusal:?}");
            assert_eq!(has_retry_after(&error), status == 503, "{refusal:?}");
            assert!(status == 503 || error.message.contains("\"node-west-2\""), "{refusal:?}: {}", error.message);
        }
    }

    #[test]
    fn a_conflict_tells_a_node_that_lives_elsewhere_from_an_address_that_is_taken() {
        let view = sample::view();
        let message = |node| refused(&Refusal::Conflict { node }, &JOINING, &view).message;
        assert!(message(NodeNumber(2)).contains("is alive at 10.0.1.22:7070"), "{}", message(NodeNumber(2)));
        assert!(message(sample::ME).starts_with("the node \"node-west-1\" is alive at 10.0.9.9:7070"));
    }

    #[test]
    fn a_full_cluster_takes_nobody_and_says_how_many_it_has() {
        let mut view = sample::view();
        view.members = std::sync::Arc::new(sample::members(MEMBERS_MAX));
        let error = refused(&Refusal::TooMany, &JOINING, &view);
        assert_eq!((error.status, error.error), (409, "cluster is full"));
        assert!(error.message.contains("512"), "{}", error.message);
        assert_eq!(refused(&Refusal::TooMany, &ASKED, &view).status, 503, "a leave needs no room");
    }

    #[test]
    fn what_nobody_decided_is_in_doubt_and_says_which_nodes_it_takes() {
        let mut view = sample::view();
        let error = not_changed(Failure::TimedOut, TIME, &view);
        assert_eq!((error.status, error.error), (503, "in doubt"));
        assert!(error.message.contains("\"node-west-1\" leads") && error.message.contains("may still happen"));
        view.leader = None;
        let error = not_changed(Failure::TimedOut, TIME, &view);
        assert!(error.message.contains("takes 2 of its 2 voters (node-west-1, node-west-2)"), "{}", error.message);
        let error = not_read(Failure::TimedOut, TIME, &view);
        assert_eq!((error.status, error.error), (503, "no quorum"));
        assert!(error.message.contains("has no leader") && has_retry_after(&error));
    }

    #[test]
    fn too_much_at_once_and_no_cluster_are_503_to_try_again() {
        let view = sample::newcomer();
        for told in [not_read, not_changed] {
            for (failure, phrase) in [(Failure::Busy, "busy"), (Failure::NoCluster, "no cluster")] {
                let error = told(failure, TIME, &view);
                assert_eq!((error.status, error.error), (503, phrase));
                assert!(has_retry_after(&error));
            }
        }
    }

    #[test]
    fn a_node_without_a_cluster_and_one_that_was_removed_change_nothing() {
        assert_eq!(check_membership(&sample::view()), Ok(()));
        assert_eq!(check_membership(&sample::newcomer()).unwrap_err().error, "no cluster");
        let mut refused = sample::newcomer();
        refused.problem = Some(Problem::Refused(Refusal::Conflict { node: NodeNumber(9) }));
        let message = check_membership(&refused).unwrap_err().message;
        assert!(message.contains("is alive"), "{message}");
        let mut removed = sample::view();
        removed.is_removed = true;
        let error = check_membership(&removed).unwrap_err();
        assert_eq!((error.status, error.error), (503, "removed from the cluster"));
        assert!(!has_retry_after(&error), "another try does not help");
    }

    #[test]
    fn a_node_that_stands_alone_says_how_it_would_not() {
        let error = standalone();
        assert_eq!((error.status, error.error), (503, "clustering not configured"));
        for part in ["standalone", "cluster.secret_file", "--bootstrap", "--join"] {
            assert!(error.message.contains(part), "{}", error.message);
        }
        assert!(!has_retry_after(&error), "another try does not help");
    }
}
