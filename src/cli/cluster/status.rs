//! `cluster status`: the nodes, and whether the cluster is whole.

use clap::Args;
use serde::Serialize;

use super::state::{NodeShape, StateShape};
use super::table::{Side, Table};
use crate::cli::client::{ApiOptions, Client};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{Output, human_size};
use crate::text::printable;

/// Show the nodes of a cluster, and whether it is whole
///
/// Any node can be asked: it reports what the nodes have agreed on, and which of them it can reach
/// itself. Whole means that all nodes are active and in reach, and that one of them leads; the exit
/// code is 0 then, and 8 otherwise.
#[derive(Args)]
#[command(after_help = "\
Examples:
  nabu-store cluster status
  nabu-store cluster status --api https://node-2:7070 --json
  until nabu-store cluster status --quiet > /dev/null; do sleep 1; done")]
pub struct Status {
    #[command(flatten)]
    api: ApiOptions,
    #[command(flatten)]
    output: Output,
}

/// What `--json` prints.
#[derive(Serialize)]
struct ResultShape<'a> {
    whole: bool,
    verdict: &'a str,
    voters: usize,
    /// How many more voters may be lost.
    spare_voters: usize,
    #[serde(flatten)]
    state: &'a StateShape,
}

impl Status {
    pub fn output(&self) -> Output {
        self.output
    }

    pub fn run(self) -> Result<(), Failure> {
        let client = Client::new(&self.api)?;
        let state = StateShape::ask(&client)?;
        let verdict = state.verdict();
        let shape = ResultShape {
            whole: verdict.is_whole,
            verdict: &verdict.text,
            voters: verdict.voters,
            spare_voters: verdict.spare_voters,
            state: &state,
        };
        self.output.result(&shape, || format!("{}{}\n", to_text(&state), verdict.text))?;
        if verdict.is_whole {
            Ok(())
        } else {
            Err(Failure::new(Exit::NotWhole, "cluster is not whole", verdict.remedy))
        }
    }
}

fn to_text(state: &StateShape) -> String {
    let mut text = String::new();
    if let Some(id) = &state.cluster_id {
        text = format!("cluster {}", printable(id));
        for (what, number) in [("ring version", state.ring_version), ("term", state.term)] {
            text.push_str(&number.map_or_else(String::new, |number| format!(", {what} {number}")));
        }
        if let Some(node) = &state.node_id {
            text.push_str(&format!(", as {} sees it", printable(node)));
        }
        text.push_str("\n\n");
    }
    text.push_str(&nodes(state));
    text.push('\n');
    text
}

fn nodes(state: &StateShape) -> String {
    use Side::{Left, Right};
    let columns = [
        ("NODE", Left),
        ("ADDRESS", Left),
        ("CLIENTS", Left),
        ("STATE", Left),
        ("ROLE", Left),
        ("ZONE", Left),
        ("USED", Right),
        ("CAPACITY", Right),
        ("BLOBS", Right),
        ("VERSION", Left),
    ];
    let mut table = Table::new(columns.map(|(name, side)| (name.to_owned(), side)));
    for node in &state.nodes {
        let text = |text: &Option<String>| text.as_deref().map(printable);
        table.add(vec![
            Some(printable(&node.node_id)),
            Some(printable(&node.address)),
            text(&node.client_address).filter(|address| *address != node.address),
            Some(seen_state(node)),
            role(node, state.leader.as_deref()).map(str::to_owned),
            text(&node.zone),
            node.used_bytes.map(human_size),
            node.capacity_bytes.map(human_size),
            node.blob_count.map(|count| count.to_string()),
            text(&node.version),
        ]);
    }
    table.to_text()
}

/// The state by agreement, and whether the node that answered reaches it.
fn seen_state(node: &NodeShape) -> String {
    let out_of_reach = if node.is_cut_off() { ", out of reach" } else { "" };
    format!("{}{out_of_reach}", printable(&node.state))
}

fn role(node: &NodeShape, leader: Option<&str>) -> Option<&'static str> {
    if node.leader == Some(true) || leader == Some(node.node_id.as_str()) {
        Some("leader")
    } else if node.voter == Some(true) {
        Some("voter")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_takes_no_column() {
        let node = NodeShape {
            node_id: "standalone".into(),
            address: "127.0.0.1:7070".into(),
            state: "active".into(),
            used_bytes: Some(1536),
            blob_count: Some(7),
            ..NodeShape::default()
        };
        let state = StateShape { nodes: vec![node], ..StateShape::default() };
        let expected = "NODE        ADDRESS         STATE      USED  BLOBS\nstandalone  127.0.0.1:7070  active  1.5 KiB      7\n\n";
        assert_eq!(to_text(&state), expected);
    }

    #[test]
    fn what_a_node_says_of_itself_does_not_drive_the_terminal() {
        let node = NodeShape { zone: Some("\u{1b}[2J".into()), ..NodeShape::default() };
        let state = StateShape { cluster_id: Some("\u{7}".into()), nodes: vec![node], ..StateShape::default() };
        assert!(!to_text(&state).contains(['\u{1b}', '\u{7}']));
    }
}
