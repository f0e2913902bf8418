//! What a node says of its cluster, and whether the cluster is whole. A standalone node, or one of
//! another release, says less: only what every node says must be there.

use serde::{Deserialize, Serialize};
use ureq::http::Method;

use crate::cli::client::{Client, json_of};
use crate::cli::exit::Failure;
use crate::cli::output::counted;
use crate::text::printable;

/// Nodes that a sentence names.
const NAMED_MAX: usize = 5;

/// The answer to `GET /v1/cluster/state`.
#[derive(Deserialize, Serialize, Default, Debug)]
pub struct StateShape {
    pub cluster_id: Option<String>,
    pub ring_version: Option<u64>,
    /// The id of the node that leads.
    pub leader: Option<String>,
    pub term: Option<u64>,
    /// Who answered.
    pub node_id: Option<String>,
    pub nodes: Vec<NodeShape>,
}

#[derive(Deserialize, Serialize, Default, Debug)]
pub struct NodeShape {
    pub node_id: String,
    pub address: String,
    pub client_address: Option<String>,
    /// `joining`, `active`, `leaving` or `offline`.
    pub state: String,
    pub capacity_bytes: Option<u64>,
    pub used_bytes: Option<u64>,
    pub blob_count: Option<u64>,
    pub zone: Option<String>,
    pub version: Option<String>,
    pub voter: Option<bool>,
    pub leader: Option<bool>,
    /// As the node that answered sees it.
    pub reachable: Option<bool>,
    pub incarnation: Option<u64>,
}

/// What a state means.
#[derive(PartialEq, Eq, Debug)]
pub struct Verdict {
    /// All nodes are active and in reach, and one of them leads.
    pub is_whole: bool,
    pub voters: usize,
    /// How many more voters may be lost before the cluster can't decide anything.
    pub spare_voters: usize,
    /// All of it in a sentence.
    pub text: String,
    /// What to look after, where it is not whole.
    pub remedy: String,
}

impl StateShape {
    pub fn ask(client: &Client) -> Result<Self, Failure> {
        json_of(client.ask(Method::GET, "/v1/cluster/state")?)
    }

    /// Whether the node that answered belongs to no cluster.
    pub fn is_standalone(&self) -> bool {
        self.cluster_id.is_none()
    }

    pub fn verdict(&self) -> Verdict {
        if self.is_standalone() {
            return self.standalone_verdict();
        }
        let voters: Vec<&NodeShape> = self.nodes.iter().filter(|node| node.voter == Some(true)).collect();
        let there = voters.iter().filter(|voter| voter.is_there()).count();
        let majority = voters.len() / 2 + 1;
        let problems = self.problems((!voters.is_empty() && there < majority).then_some((there, voters.len())));
        let spare_voters = there.saturating_sub(majority);
        let mut text = if problems.is_empty() {
            let leader = printable(self.leader.as_deref().unwrap_or_default());
            format!("the cluster is whole: {} active, {leader} leads", counted(self.nodes.len() as u64, "node"))
        } else {
            format!("the cluster is not whole: {}", problems.join("; "))
        };
        text.push_str(&match (voters.len(), spare_voters) {
            (0, _) => String::new(),
            _ if there < majority => String::new(),
            (1, 0) => "; it can't lose its only voter".to_owned(),
            (count, 0) => format!("; it can't lose any more of its {count} voters"),
            (count, spare) => format!("; it can lose {spare} more of its {count} voters"),
        });
        let away: Vec<String> = self.nodes.iter().filter(|node| !node.is_there()).map(NodeShape::place).collect();
        let remedy = match &away[..] {
            [] if self.leader.is_none() => "ask again: a leader is elected within seconds if a majority of the \
                                            voters can reach each other"
                .to_owned(),
            [] => "ask again later: it takes a node some time to join or leave".to_owned(),
            away => format!("check {} and the network", listed(away)),
        };
        Verdict { is_whole: problems.is_empty(), voters: voters.len(), spare_voters, text, remedy }
    }

    fn standalone_verdict(&self) -> Verdict {
        let is_whole = matches!(&self.nodes[..], [node] if node.state == ACTIVE);
        let text = if is_whole {
            "this node runs standalone: it belongs to no cluster"
        } else {
            "this node belongs to no cluster yet: it is starting, or looking for one to join"
        };
        let remedy = "ask again later, or see the log of the node".to_owned();
        Verdict { is_whole, voters: 0, spare_voters: 0, text: text.to_owned(), remedy }
    }

    /// What is not as it should be; `too_few` are the voters that are there, if they are no
    /// majority, and all voters.
    fn problems(&self, too_few: Option<(usize, usize)>) -> Vec<String> {
        let mut problems = Vec::new();
        let mut add = |nodes: Vec<&NodeShape>, state: &str| {
            if let [first, others @ ..] = &nodes[..] {
                let names: Vec<String> = nodes.iter().map(|node| printable(&node.node_id)).collect();
                let verb = if others.is_empty() { "is" } else { "are" };
                let state = if state.is_empty() { printable(&first.state) } else { state.to_owned() };
                problems.push(format!("{} {verb} {state}", listed(&names)));
            }
        };
        let mut states: Vec<&str> =
            self.nodes.iter().map(|node| node.state.as_str()).filter(|state| *state != ACTIVE).collect();
        states.sort_unstable();
        states.dedup();
        for state in states {
            add(self.nodes.iter().filter(|node| node.state == state).collect(), "");
        }
        let from = printable(self.node_id.as_deref().unwrap_or("the node that answered"));
        add(self.nodes.iter().filter(|node| node.is_cut_off()).collect(), &format!("out of reach from {from}"));
        match too_few {
            Some((there, all)) => problems.push(format!(
                "only {there} of {all} voters {} there, which is no majority: nothing can be decided",
                if there == 1 { "is" } else { "are" }
            )),
            None if self.leader.is_none() => problems.push("no node leads".to_owned()),
            None => {}
        }
        problems
    }
}

/// The state of a node that is there.
pub const ACTIVE: &str = "active";
const OFFLINE: &str = "offline";

impl NodeShape {
    pub fn is_there(&self) -> bool {
        self.state != OFFLINE && self.reachable != Some(false)
    }

    /// Whether the others count on it, and the node that answered does not reach it.
    pub fn is_cut_off(&self) -> bool {
        self.state != OFFLINE && self.reachable == Some(false)
    }

    fn place(&self) -> String {
        format!("{} ({})", printable(&self.node_id), printable(&self.address))
    }
}

/// The first of some names, and how many there are beside them.
fn listed(names: &[String]) -> String {
    match names.split_at_checked(NAMED_MAX) {
        Some((named, more @ [_, ..])) => format!("{} and {} more", named.join(", "), more.len()),
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: usize, state: &str, voter: bool) -> NodeShape {
        NodeShape {
            node_id: format!("n{number}"),
            address: format!("10.0.0.{number}:7070"),
            state: state.to_owned(),
            voter: Some(voter),
            reachable: Some(state != OFFLINE),
            ..NodeShape::default()
        }
    }

    fn cluster(leader: Option<&str>, nodes: Vec<NodeShape>) -> StateShape {
        StateShape {
            cluster_id: Some("c1".to_owned()),
            leader: leader.map(str::to_owned),
            node_id: Some("n1".to_owned()),
            nodes,
            ..StateShape::default()
        }
    }

    #[test]
    fn a_whole_cluster_says_how_many_voters_may_be_lost() {
        for (voters, spare, text) in [
            (1, 0, "the cluster is whole: 6 nodes active, n1 leads; it can't lose its only voter"),
            (3, 1, "the cluster is whole: 6 nodes active, n1 leads; it can lose 1 more of its 3 voters"),
            (5, 2, "the cluster is whole: 6 nodes active, n1 leads; it can lose 2 more of its 5 voters"),
        ] {
            let nodes = (1..=6).map(|number| node(number, ACTIVE, number <= voters)).collect();
            let verdict = cluster(Some("n1"), nodes).verdict();
            assert_eq!((verdict.is_whole, verdict.voters, verdict.spare_voters), (true, voters, spare));
            assert_eq!(verdict.text, text);
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let three = |states: [&str; 3]| {
            let nodes = states.iter().enumerate().map(|(index, state)| node(index + 1, state, true));
            nodes.collect::<Vec<_>>()
        };
        let cut_off = || {
            let mut nodes = three([ACTIVE; 3]);
            nodes[2].reachable = Some(false);
            nodes
        };
        for (state, text, remedy) in [
            (
                cluster(Some("n1"), three([ACTIVE, ACTIVE, OFFLINE])),
                "the cluster is not whole: n3 is offline; it can't lose any more of its 3 voters",
                "check n3 (10.0.0.3:7070) and the network",
            ),
            (
                cluster(None, three([ACTIVE, OFFLINE, OFFLINE])),
                "the cluster is not whole: n2, n3 are offline; only 1 of 3 voters is there, which is no majority: \
                 nothing can be decided",
                "check n2 (10.0.0.2:7070), n3 (10.0.0.3:7070) and the network",
            ),
            (
                cluster(Some("n1"), cut_off()),
                "the cluster is not whole: n3 is out of reach from n1; it can't lose any more of its 3 voters",
                "check n3 (10.0.0.3:7070) and the network",
            ),
            (
                cluster(None, three([ACTIVE; 3])),
                "the cluster is not whole: no node leads; it can lose 1 more of its 3 voters",
                "ask again: a leader is elected within seconds if a majority of the voters can reach each other",
            ),
            (
                cluster(Some("n1"), three([ACTIVE, "leaving", "joining"])),
                "the cluster is not whole: n3 is joining; n2 is leaving; it can lose 1 more of its 3 voters",
                "ask again later: it takes a node some time to join or leave",
            ),
        ] {
            let verdict = state.verdict();
            assert_eq!((verdict.is_whole, verdict.text.as_str(), verdict.remedy.as_str()), (false, text, remedy));
        }
    }

    #[test]
    fn a_node_alone_is_whole_as_soon_as_it_is_ready() {
        let alone = |state: &str| StateShape {
            leader: Some("standalone".to_owned()),
            nodes: vec![node(1, state, true)],
            ..StateShape::default()
        };
        assert!(alone(ACTIVE).verdict().is_whole);
        assert!(alone(ACTIVE).verdict().text.contains("runs standalone"));
        assert!(!alone("joining").verdict().is_whole);
        assert!(!StateShape::default().verdict().is_whole);
    }

    #[test]
    fn the_least_that_a_node_says_is_understood() {
        let mut answer =
            br#"{"nodes":[{"node_id":"standalone","address":"a:1","state":"active"}],"ring_version":1}"#.to_vec();
        let state: StateShape = simd_json::from_slice(&mut answer).expect("understood");
        assert!(state.is_standalone());
        let mut answer =
            br#"{"cluster_id":"c","leader":null,"nodes":[{"node_id":"a","address":"a:1","state":"new","reachable":null}],"more":1}"#
                .to_vec();
        let state: StateShape = simd_json::from_slice(&mut answer).expect("understood");
        assert_eq!(state.verdict().text, "the cluster is not whole: a is new; no node leads");
    }

    #[test]
    fn of_many_names_the_first_are_shown() {
        let names: Vec<String> = (1..=7).map(|number| number.to_string()).collect();
        assert_eq!(listed(&names), "1, 2, 3, 4, 5 and 2 more");
        assert_eq!(listed(&names[..5]), "1, 2, 3, 4, 5");
        assert_eq!(listed(&names[..1]), "1");
    }
}
