//! Who may have a seat: the nodes that a plan is made for, checked and in the order of their
//! numbers.

use std::fmt;

use crate::node::NodeNumber;

/// The most nodes of a ring: beyond, a node has fewer than four arcs a rank, and a plan takes
/// seconds.
pub const NODES_MAX: usize = 1024;

/// A node that may have seats.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    pub number: NodeNumber,
    /// Its capacity, at least 1. Only the ratio to other weights counts.
    pub weight: u32,
    /// What may fail as one. Nodes of one zone share seats of an arc only when there are more seats
    /// than zones.
    pub zone: String,
}

/// Candidates that no ring can be made for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PlanError {
    NoNodes,
    TooManyNodes { count: usize },
    Twice(NodeNumber),
    NoWeight(NodeNumber),
}

impl fmt::Display for PlanError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNodes => write!(formatter, "a ring needs at least one node"),
            Self::TooManyNodes { count } => {
                write!(formatter, "a ring of {count} nodes: at most {NODES_MAX} have seats")
            }
            Self::Twice(node) => write!(formatter, "node {node} is named twice"),
            Self::NoWeight(node) => write!(formatter, "node {node} has weight 0: it must be at least 1"),
        }
    }
}

impl std::error::Error for PlanError {}

/// Candidates by index: numbers ascend, and zones are numbered by their names.
pub(super) struct Members {
    pub numbers: Vec<NodeNumber>,
    pub weights: Vec<u32>,
    /// The zone of each member, below `zone_sizes.len()`.
    pub zones: Vec<usize>,
    /// Members of each zone, none of them 0.
    pub zone_sizes: Vec<usize>,
}

impl Members {
    /// The same for any order of the candidates.
    pub fn new(candidates: &[Candidate]) -> Result<Self, PlanError> {
        if candidates.is_empty() {
            return Err(PlanError::NoNodes);
        }
        if candidates.len() > NODES_MAX {
            return Err(PlanError::TooManyNodes { count: candidates.len() });
        }
        let mut sorted: Vec<&Candidate> = candidates.iter().collect();
        sorted.sort_by_key(|candidate| candidate.number);
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0].number == pair[1].number) {
            return Err(PlanError::Twice(pair[0].number));
        }
        if let Some(candidate) = sorted.iter().find(|candidate| candidate.weight == 0) {
            return Err(PlanError::NoWeight(candidate.number));
        }
        let mut names: Vec<&str> = sorted.iter().map(|candidate| candidate.zone.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let zone_of = |candidate: &&Candidate| names.iter().position(|name| **name == candidate.zone);
        let zones: Vec<usize> = sorted.iter().filter_map(zone_of).collect();
        let mut zone_sizes = vec![0; names.len()];
        zones.iter().for_each(|&zone| zone_sizes[zone] += 1);
        Ok(Self {
            numbers: sorted.iter().map(|candidate| candidate.number).collect(),
            weights: sorted.iter().map(|candidate| candidate.weight).collect(),
            zones,
            zone_sizes,
        })
    }

    pub fn count(&self) -> usize {
        self.numbers.len()
    }

    /// The index of a node among the members.
    pub fn index_of(&self, node: NodeNumber) -> Option<usize> {
        self.numbers.binary_search(&node).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(number: u64, weight: u32, zone: &str) -> Candidate {
        Candidate { number: NodeNumber(number), weight, zone: zone.to_owned() }
    }

    #[test]
    fn members_are_the_same_for_any_order_of_candidates() {
        let mut candidates = [candidate(7, 2, "b"), candidate(3, 1, "c"), candidate(5, 3, "b")];
        for _ in 0..candidates.len() {
            candidates.rotate_left(1);
            let members = Members::new(&candidates).unwrap();
            assert_eq!(members.numbers, [3, 5, 7].map(NodeNumber));
            assert_eq!(members.weights, [1, 3, 2]);
            assert_eq!(members.zones, [1, 0, 0]);
            assert_eq!(members.zone_sizes, [2, 1]);
            assert_eq!(members.index_of(NodeNumber(5)), Some(1));
            assert_eq!(members.index_of(NodeNumber(6)), None);
        }
    }

    #[test]
    fn what_makes_no_ring_is_refused_with_its_reason() {
        let error = |candidates: &[Candidate]| Members::new(candidates).err().map(|error| error.to_string());
        assert_eq!(error(&[]).unwrap(), "a ring needs at least one node");
        let twice = [candidate(4, 1, ""), candidate(5, 1, ""), candidate(4, 2, "z")];
        assert_eq!(error(&twice).unwrap(), "node n4 is named twice");
        assert_eq!(error(&[candidate(4, 0, "")]).unwrap(), "node n4 has weight 0: it must be at least 1");
        let many: Vec<Candidate> = (0..=NODES_MAX as u64).map(|number| candidate(number, 1, "")).collect();
        assert_eq!(error(&many).unwrap(), "a ring of 1025 nodes: at most 1024 have seats");
        assert_eq!(error(&many[1..]), None);
    }
}
