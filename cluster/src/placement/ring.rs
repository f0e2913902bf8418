//! The ring: which nodes hold each arc, and what still moves.
//!
//! A ring is never changed: every command makes the next one, of the next version, from the one
//! before. Equal commands on equal rings give equal rings, so all nodes come to the same one.
//!
//! # Change without a stop
//!
//! An arc whose seats change is *moving*: it has its new seats, and beside them in `from` those
//! that it had. What is read and written meanwhile takes a majority of both, until the new seats
//! have all that the old ones hold and the arc is reported synced.
//!
//! A change may be overtaken by the next one while arcs still move. `from` then stays what it was:
//! of all seats that an arc had since it last stood still, the first are those that hold
//! everything. What was acknowledged before lies there, and what was acknowledged since took a
//! majority of theirs, too. The seats in between are given up; they may lack what they had not
//! pulled yet. That demands two things of those who write and read:
//!
//! - What is acknowledged in a moving arc is whole on `from` alone: records on a majority of its
//!   record seats, bytes on its seats as the policy has it.
//! - A node that has a new seat only does not answer alone, for it may lose the seat without being
//!   asked.
//!
//! An arc that is given the seats of its `from` again stands still at once: nothing was ever lost
//! there. Nodes of `from` are never struck from it, not even when they are gone for good: with two
//! fewer, a majority of the rest need not meet every majority of all.
//!
//! Who is a member, who is offline, and which seats have reported what they pulled, is the business
//! of the group that agrees on the ring.

use super::arc::{ARCS, ArcId};
use super::members::{Candidate, PlanError};
use super::plan::plan;
use super::seats::Seats;
use crate::node::NodeNumber;

/// The nodes up to which a ring grows by added seats alone.
pub const GROWTH_NODES: usize = 3;

/// Where an arc lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placement {
    pub seats: Seats,
    /// While the arc moves: the last seats that hold everything.
    pub from: Option<Seats>,
    /// The version of the ring that gave the arc these seats.
    pub since: u64,
}

/// A report that the seats of an arc have everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Synced {
    pub arc: ArcId,
    /// [`Placement::since`] of the seats that are meant. A report on seats that the arc has no more
    /// says nothing about those that it has.
    pub since: u64,
}

/// How much of a ring differs from an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Movement {
    /// Seats whose node had no seat of that arc: what copies and records move.
    pub gained: usize,
    /// Seats whose node did not have that very seat of that arc: what shards move.
    pub reseated: usize,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Ring {
    version: u64,
    /// By arc, [`ARCS`] of them.
    placements: Vec<Placement>,
}

impl Ring {
    /// The ring of a cluster of one.
    pub fn new(first: NodeNumber) -> Self {
        let seats = Seats::new(&[first]).expect("one node is distinct");
        Self { version: 1, placements: vec![Placement { seats, from: None, since: 1 }; ARCS] }
    }

    /// A ring of these placements, by arc, which are sound.
    pub(super) fn of_parts(version: u64, placements: Vec<Placement>) -> Self {
        assert!(placements.len() == ARCS && placements.iter().all(|placement| Self::is_sound(version, placement)));
        Self { version, placements }
    }

    /// Whether a ring of this version can have this placement.
    pub(super) fn is_sound(version: u64, placement: &Placement) -> bool {
        placement.since <= version && placement.from != Some(placement.seats)
    }

    /// Counts the changes, from 1 on.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn placement(&self, arc: ArcId) -> &Placement {
        &self.placements[arc.index()]
    }

    pub fn seats(&self, arc: ArcId) -> &Seats {
        &self.placement(arc).seats
    }

    /// The seats that an arc had, while it moves.
    pub fn from(&self, arc: ArcId) -> Option<&Seats> {
        self.placement(arc).from.as_ref()
    }

    /// By arc.
    pub(super) fn placements(&self) -> &[Placement] {
        &self.placements
    }

    /// The arcs that are not synced yet.
    pub fn moving(&self) -> impl Iterator<Item = ArcId> {
        ArcId::all().filter(|&arc| self.from(arc).is_some())
    }

    /// The nodes that have a seat, or had one in an arc that still moves, in ascending order. A
    /// node that is not among them may go.
    pub fn nodes(&self) -> Vec<NodeNumber> {
        let lists = self.placements.iter().flat_map(|placement| [Some(&placement.seats), placement.from.as_ref()]);
        let mut nodes: Vec<NodeNumber> = Vec::new();
        // There are few of them, each in many lists.
        for node in lists.flatten().flat_map(Seats::nodes) {
            if let Err(index) = nodes.binary_search(node) {
                nodes.insert(index, *node);
            }
        }
        nodes
    }

    /// The virtual nodes: each seat of an arc is one. With *n* nodes there are
    /// `4096 × min(n, 10)`, as soon as the ring is planned for all of them.
    pub fn vnodes(&self) -> usize {
        self.placements.iter().map(|placement| placement.seats.nodes().len()).sum()
    }

    /// The virtual nodes of one node: the arcs in which it has a seat.
    pub fn vnodes_of(&self, node: NodeNumber) -> usize {
        self.placements.iter().filter(|placement| placement.seats.contains(node)).count()
    }

    /// The next ring, with a seat more in every arc for a node that joins a cluster of one or two.
    /// Nobody loses a seat and none changes its place.
    ///
    /// `None` if the node has seats already, or three nodes have.
    pub fn grown(&self, joiner: NodeNumber) -> Option<Self> {
        let grown = |placement: &Placement| {
            let has_room = placement.seats.nodes().len() < GROWTH_NODES;
            placement.seats.with(joiner).filter(|_| has_room)
        };
        Some(self.next(self.placements.iter().map(grown).collect::<Option<Vec<Seats>>>()?))
    }

    /// The next ring, for these nodes: all that are to have seats, whatever the ring had. A node
    /// that joins is added to them, one that leaves is not among them.
    ///
    /// # Errors
    /// No ring can be made for these candidates.
    pub fn with_change(&self, candidates: &[Candidate]) -> Result<Self, PlanError> {
        let seats: Vec<Seats> = self.placements.iter().map(|placement| placement.seats).collect();
        Ok(self.next(plan(&seats, candidates)?))
    }

    /// The next ring, without `from` in these arcs. `None` if no report is about seats that an arc
    /// has and that still move.
    pub fn with_synced(&self, reports: &[Synced]) -> Option<Self> {
        let mut placements = self.placements.clone();
        let mut is_changed = false;
        for report in reports {
            let placement = &mut placements[report.arc.index()];
            if placement.since == report.since {
                is_changed |= placement.from.take().is_some();
            }
        }
        is_changed.then(|| Self { version: self.version + 1, placements })
    }

    /// The same seats, with a version that is so much higher.
    pub fn ahead(&self, versions: u64) -> Self {
        Self { version: self.version + versions, placements: self.placements.clone() }
    }

    /// The arcs whose seats are not those of an earlier ring.
    pub fn moved_since(&self, old: &Self) -> Vec<ArcId> {
        ArcId::all().filter(|&arc| self.seats(arc) != old.seats(arc)).collect()
    }

    /// How much has moved since an earlier ring.
    pub fn movement_since(&self, old: &Self) -> Movement {
        let mut movement = Movement::default();
        for (new, old) in self.placements.iter().zip(&old.placements) {
            for (seat, &node) in new.seats.nodes().iter().enumerate() {
                movement.gained += usize::from(!old.seats.contains(node));
                movement.reseated += usize::from(old.seats.seat_of(node) != Some(seat));
            }
        }
        movement
    }

    fn next(&self, seats: Vec<Seats>) -> Self {
        let version = self.version + 1;
        let moved = |(old, seats): (&Placement, Seats)| {
            if old.seats == seats {
                return *old;
            }
            let from = old.from.unwrap_or(old.seats);
            Placement { seats, from: (from != seats).then_some(from), since: version }
        };
        Self { version, placements: self.placements.iter().zip(seats).map(moved).collect() }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let moving = self.moving().count();
        write!(formatter, "Ring {{ version: {}, nodes: {:?}, moving: {moving} }}", self.version, self.nodes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(nodes: &[u64]) -> Vec<NodeNumber> {
        nodes.iter().copied().map(NodeNumber).collect()
    }

    fn candidates(nodes: &[u64]) -> Vec<Candidate> {
        let of = |&node| Candidate { number: NodeNumber(node), weight: 1, zone: String::new() };
        nodes.iter().map(of).collect()
    }

    /// Reports on all arcs of a ring.
    fn reports(ring: &Ring) -> Vec<Synced> {
        ArcId::all().map(|arc| Synced { arc, since: ring.placement(arc).since }).collect()
    }

    #[test]
    fn up_to_three_nodes_seats_are_only_added() {
        let one = Ring::new(NodeNumber(4));
        let two = one.grown(NodeNumber(9)).unwrap();
        let three = two.grown(NodeNumber(2)).unwrap();
        for arc in ArcId::all() {
            assert_eq!(one.seats(arc).nodes(), numbers(&[4]));
            assert_eq!(two.seats(arc).nodes(), numbers(&[4, 9]));
            assert_eq!(three.seats(arc).nodes(), numbers(&[4, 9, 2]));
            assert_eq!((one.from(arc), two.from(arc)), (None, Some(one.seats(arc))));
            // The second node had not reported yet: only the first holds everything.
            assert_eq!(three.from(arc), Some(one.seats(arc)));
        }
        assert_eq!([&one, &two, &three].map(Ring::version), [1, 2, 3]);
        assert_eq!([&one, &two, &three].map(Ring::vnodes), [4096, 8192, 12288]);
        assert_eq!(three.grown(NodeNumber(5)), None);
        assert_eq!(two.grown(NodeNumber(9)), None);
        assert_eq!(three.movement_since(&two), Movement { gained: ARCS, reseated: ARCS });
    }

    #[test]
    fn a_synced_arc_stands_still_and_an_old_report_says_nothing() {
        let one = Ring::new(NodeNumber(1));
        let two = one.grown(NodeNumber(2)).unwrap();
        assert_eq!(two.moving().count(), ARCS);
        let some = two.with_synced(&reports(&two)[..100]).unwrap();
        assert_eq!((some.version(), some.moving().count()), (3, ARCS - 100));
        assert_eq!(some.with_synced(&reports(&two)[..100]), None);
        assert_eq!(some.moved_since(&two), []);

        let three = some.grown(NodeNumber(3)).unwrap();
        for (index, arc) in ArcId::all().enumerate() {
            let source = if index < 100 { two.seats(arc) } else { one.seats(arc) };
            assert_eq!(three.from(arc), Some(source));
        }
        assert_eq!(three.with_synced(&reports(&two)), None);
        let still = three.with_synced(&reports(&three)).unwrap();
        assert_eq!(still.moving().count(), 0);
        assert_eq!(still.nodes(), numbers(&[1, 2, 3]));
    }

    #[test]
    fn a_change_that_is_overtaken_leaves_the_last_whole_seats_as_source() {
        let still = Ring::new(NodeNumber(1)).with_change(&candidates(&[1, 2, 3, 4, 5])).unwrap();
        let still = still.with_synced(&reports(&still)).unwrap();
        let joined = still.with_change(&candidates(&[1, 2, 3, 4, 5, 6])).unwrap();
        let left = joined.with_change(&candidates(&[1, 2, 3, 4, 6])).unwrap();
        for arc in ArcId::all() {
            assert_eq!(joined.from(arc), Some(still.seats(arc)));
            assert_eq!(left.from(arc), Some(still.seats(arc)));
            assert!(!left.seats(arc).contains(NodeNumber(5)));
        }
        // The node that left is a source until the last arc is synced.
        assert_eq!(left.nodes(), numbers(&[1, 2, 3, 4, 5, 6]));
        let synced = left.with_synced(&reports(&left)).unwrap();
        assert_eq!(synced.nodes(), numbers(&[1, 2, 3, 4, 6]));
    }

    #[test]
    fn an_arc_that_gets_its_source_back_as_seats_stands_still() {
        let two = Ring::new(NodeNumber(1)).grown(NodeNumber(2)).unwrap();
        let one = two.with_change(&candidates(&[1])).unwrap();
        assert_eq!((one.moving().count(), one.vnodes()), (0, ARCS));
        assert_eq!(one.version(), 3);
    }

    #[test]
    fn a_change_without_effect_counts_as_a_version_and_a_leap_moves_nothing() {
        let two = Ring::new(NodeNumber(1)).grown(NodeNumber(2)).unwrap();
        let ahead = two.ahead(100);
        assert_eq!((ahead.version(), ahead.moved_since(&two)), (102, vec![]));
        assert_eq!(ArcId::all().map(|arc| ahead.placement(arc).since).max(), Some(2));
        assert_eq!(Ring::new(NodeNumber(1)).with_change(&candidates(&[1])).unwrap().version(), 2);
    }
}
