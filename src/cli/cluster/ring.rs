//! `cluster ring`: which nodes have how many seats.

use clap::Args;
use serde::{Deserialize, Serialize};
use ureq::http::Method;

use super::table::{Side, Table};
use crate::cli::client::{ApiOptions, Client, json_of};
use crate::cli::exit::Failure;
use crate::cli::output::{Output, counted};
use crate::text::printable;

/// Show how many seats each node has
///
/// Ids are divided into arcs, and each arc has an ordered list of seats on different nodes. SHARE
/// is the node's share of all seats, and CAPACITY its share of the capacity of all disks; SEAT 0
/// and so on count the arcs in which it has that seat.
#[derive(Args)]
#[command(after_help = "\
Examples:
  nabu-store cluster ring
  nabu-store cluster ring --json")]
pub struct Ring {
    #[command(flatten)]
    api: ApiOptions,
    #[command(flatten)]
    output: Output,
}

/// The answer to `GET /v1/cluster/ring`, which `--json` prints.
#[derive(Deserialize, Serialize, Default)]
struct RingShape {
    ring_version: u64,
    /// Seats in all.
    vnodes: Option<u64>,
    arcs: Option<u64>,
    nodes: Vec<NodeShape>,
    /// Arcs whose seats change.
    moving: Option<u64>,
}

#[derive(Deserialize, Serialize, Default)]
struct NodeShape {
    node_id: String,
    /// In how many arcs it has the seat of each rank, from 0.
    seats: Vec<u64>,
    share: Option<f64>,
    capacity_share: Option<f64>,
}

impl Ring {
    pub fn output(&self) -> Output {
        self.output
    }

    pub fn run(self) -> Result<(), Failure> {
        let client = Client::new(&self.api)?;
        let ring: RingShape = json_of(client.ask(Method::GET, "/v1/cluster/ring")?)?;
        self.output.result(&ring, || ring.to_text())
    }
}

impl RingShape {
    fn to_text(&self) -> String {
        let ranks = self.nodes.iter().map(|node| node.seats.len()).max().unwrap_or(0);
        let columns = [("NODE", Side::Left), ("SHARE", Side::Right), ("CAPACITY", Side::Right)];
        let columns = columns.map(|(name, side)| (name.to_owned(), side));
        let ranks: Vec<usize> = (0..ranks).collect();
        let mut table =
            Table::new(columns.into_iter().chain(ranks.iter().map(|rank| (format!("SEAT {rank}"), Side::Right))));
        for node in &self.nodes {
            let mut row =
                vec![Some(printable(&node.node_id)), node.share.map(percentage), node.capacity_share.map(percentage)];
            row.extend(ranks.iter().map(|rank| Some(node.seats.get(*rank).copied().unwrap_or(0).to_string())));
            table.add(row);
        }
        format!("{}\n{}\n", table.to_text(), self.summary())
    }

    fn summary(&self) -> String {
        let mut text = format!("ring version {}", self.ring_version);
        for (count, noun) in [(self.arcs, "arc"), (self.vnodes, "seat")] {
            text.push_str(&count.map_or_else(String::new, |count| format!(", {}", counted(count, noun))));
        }
        text.push_str(match self.moving {
            Some(0) => ": nothing moves",
            _ => "",
        });
        if let Some(moving) = self.moving.filter(|moving| *moving > 0) {
            text.push_str(&format!(
                ": {} still {}",
                counted(moving, "arc"),
                if moving == 1 { "moves" } else { "move" }
            ));
        }
        text
    }
}

/// A part of all for people: `33.3 %`.
fn percentage(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, seats: &[u64], share: f64) -> NodeShape {
        NodeShape { node_id: id.into(), seats: seats.into(), share: Some(share), capacity_share: Some(share) }
    }

    #[test]
    fn nodes_show_their_seats_rank_by_rank() {
        let mut ring = RingShape {
            ring_version: 12,
            vnodes: Some(8192),
            arcs: Some(4096),
            nodes: vec![node("a", &[4000, 96], 0.5), node("node-b", &[96, 4000], 0.5)],
            moving: Some(0),
        };
        assert_eq!(
            ring.to_text(),
            "NODE     SHARE  CAPACITY  SEAT 0  SEAT 1\na       50.0 %    50.0 %    4000      96\n\
             node-b  50.0 %    50.0 %      96    4000\n\nring version 12, 4096 arcs, 8192 seats: nothing moves\n"
        );
        ring.moving = Some(1);
        assert!(ring.summary().ends_with("8192 seats: 1 arc still moves"), "{}", ring.summary());
        let least = RingShape { ring_version: 1, ..RingShape::default() };
        assert_eq!(least.summary(), "ring version 1");
    }
}
