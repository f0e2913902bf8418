//! The seats of an arc: which nodes hold it, in order.
//!
//! The order counts. Copies lie on the first seats, and shard *i* lies on seat *i*, so a stronger
//! policy only adds seats. The nodes of one list are distinct.

use std::fmt;

use crate::node::NodeNumber;
use crate::policy::Policy;

/// The most seats of an arc: what the widest policy takes.
pub const SEATS_MAX: usize = 10;
/// The record seats of a cluster of fewer than [`WIDE_NODES`] nodes.
const RECORD_SEATS: usize = 3;
/// The record seats from [`WIDE_NODES`] nodes on, where policies survive two losses: a majority of
/// them does, too.
const RECORD_SEATS_WIDE: usize = 5;
/// The nodes of a cluster that can give a policy which survives two losses.
const WIDE_NODES: usize = 6;

const _: () = assert!(RECORD_SEATS < RECORD_SEATS_WIDE && RECORD_SEATS_WIDE < WIDE_NODES);
const _: () = assert!(WIDE_NODES < SEATS_MAX);

/// At least one node and at most [`SEATS_MAX`], all distinct.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seats {
    count: u8,
    /// Those from `count` on are `UNUSED`, so that equal seats are equal bytes.
    nodes: [NodeNumber; SEATS_MAX],
}

const UNUSED: NodeNumber = NodeNumber(0);

impl Seats {
    /// `None` unless these are 1 to [`SEATS_MAX`] distinct nodes.
    pub fn new(nodes: &[NodeNumber]) -> Option<Self> {
        let is_distinct = nodes.iter().enumerate().all(|(index, node)| !nodes[..index].contains(node));
        if nodes.is_empty() || nodes.len() > SEATS_MAX || !is_distinct {
            return None;
        }
        let mut seats = Self { count: nodes.len() as u8, nodes: [UNUSED; SEATS_MAX] };
        seats.nodes[..nodes.len()].copy_from_slice(nodes);
        Some(seats)
    }

    /// In order: the node at index *i* has seat *i*.
    pub fn nodes(&self) -> &[NodeNumber] {
        &self.nodes[..usize::from(self.count)]
    }

    pub fn contains(&self, node: NodeNumber) -> bool {
        self.seat_of(node).is_some()
    }

    /// The seat of a node, from 0 on.
    pub fn seat_of(&self, node: NodeNumber) -> Option<usize> {
        self.nodes().iter().position(|&seated| seated == node)
    }

    /// The seats that hold the record of an id, whatever its policy: the first three, and from six
    /// nodes on the first five. A ring of six nodes or more has six seats or more, so the list
    /// itself tells.
    pub fn record_seats(&self) -> &[NodeNumber] {
        let wanted = if self.nodes().len() >= WIDE_NODES { RECORD_SEATS_WIDE } else { RECORD_SEATS };
        &self.nodes()[..wanted.min(self.nodes().len())]
    }

    /// The seats that hold the bytes of a blob with this policy, or all if there are too few.
    pub fn policy_seats(&self, policy: Policy) -> &[NodeNumber] {
        let wanted = policy.nodes_needed() as usize;
        &self.nodes()[..wanted.min(self.nodes().len())]
    }

    /// These seats and one more behind them.
    ///
    /// `None` if the node has a seat, or there is no room.
    pub fn with(&self, node: NodeNumber) -> Option<Self> {
        let count = self.nodes().len();
        let mut nodes = [UNUSED; SEATS_MAX];
        nodes[..count].copy_from_slice(self.nodes());
        *nodes.get_mut(count)? = node;
        Self::new(&nodes[..=count])
    }
}

impl fmt::Debug for Seats {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.nodes().iter().map(|node| node.0)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(numbers: std::ops::Range<u64>) -> Vec<NodeNumber> {
        numbers.map(NodeNumber).collect()
    }

    #[test]
    fn seats_are_one_to_ten_distinct_nodes() {
        for count in 1..=SEATS_MAX as u64 {
            let nodes = numbers(0..count);
            assert_eq!(Seats::new(&nodes).unwrap().nodes(), nodes);
        }
        assert_eq!(Seats::new(&[]), None);
        assert_eq!(Seats::new(&numbers(0..SEATS_MAX as u64 + 1)), None);
        assert_eq!(Seats::new(&[NodeNumber(1), NodeNumber(2), NodeNumber(1)]), None);
    }

    #[test]
    fn records_lie_on_three_seats_and_from_six_nodes_on_on_five() {
        for (nodes, record_seats) in [(1, 1), (2, 2), (3, 3), (4, 3), (5, 3), (6, 5), (7, 5), (10, 5)] {
            let seats = Seats::new(&numbers(0..nodes)).unwrap();
            assert_eq!(seats.record_seats(), numbers(0..record_seats));
        }
    }

    #[test]
    fn a_stronger_policy_only_adds_seats() {
        let seats = Seats::new(&numbers(5..15)).unwrap();
        let mut before: &[NodeNumber] = &[];
        for policy in [Policy::None, Policy::Replica2, Policy::Replica3, Policy::Ec42, Policy::Ec82] {
            let now = seats.policy_seats(policy);
            assert_eq!(now.len(), policy.nodes_needed() as usize);
            assert!(now.starts_with(before));
            before = now;
        }
        assert_eq!(Policy::ALL.map(Policy::nodes_needed).into_iter().max(), Some(SEATS_MAX as u32));
    }

    #[test]
    fn a_node_is_added_behind_the_others_and_once() {
        let seats = Seats::new(&numbers(1..3)).unwrap();
        assert_eq!(seats.with(NodeNumber(9)).unwrap().nodes(), [1, 2, 9].map(NodeNumber));
        assert_eq!(seats.with(NodeNumber(2)), None);
        assert_eq!(Seats::new(&numbers(0..10)).unwrap().with(NodeNumber(10)), None);
    }
}
