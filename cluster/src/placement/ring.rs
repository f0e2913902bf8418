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
//! # Tenure and reports
//!
//! A node that has a seat, or had one in an arc that still moves, has a *tenure* there: the version
//! of the ring that made it one of them, the last time. What it holds of the arc from an earlier
//! tenure counts for nothing: meanwhile others may have forgotten that some of it was deleted.
//!
//! The nodes of a moving arc report: one with a seat, that it has pulled what it lacked from a
//! majority of `from`; one that is to lose its seat, that it knows, and answers alone no more. When
//! all have, or are not there, the arc stands still. A seat reports even if the node is one of
//! `from`: of two seats that are left of three, each may lack what the other one has.
//!
//! Who is a member and who is offline is the business of the group that agrees on the ring.

use super::arc::{ARCS, ArcId};
use super::members::{Candidate, PlanError};
use super::plan::plan;
use super::seats::{SEATS_MAX, Seats};
use crate::mutant::{Mutant, is_planted};
use crate::node::NodeNumber;

/// The nodes up to which a ring grows by added seats alone.
pub const GROWTH_NODES: usize = 3;

/// Where an arc lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placement {
    pub seats: Seats,
    /// While the arc moves: the last seats that hold everything.
    pub from: Option<Seats>,
    /// The version of the ring that gave the arc these seats. A report on seats that it has no more
    /// says nothing about those that it has.
    pub since: u64,
    /// By seat, then by seat of `from`; 0 beyond them.
    pub(super) tenures: [u64; 2 * SEATS_MAX],
    /// While the arc moves: who has reported, by bits in the same order.
    pub(super) reported: u32,
}

impl Placement {
    /// Seats that never move.
    pub(super) fn still(seats: Seats, version: u64) -> Self {
        let mut placement = Self { seats, from: None, since: version, tenures: [0; 2 * SEATS_MAX], reported: 0 };
        placement.tenures[..seats.nodes().len()].fill(version);
        placement
    }

    /// Those who have a seat, then those of `from`: a node may be among both.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeNumber> {
        let from = self.from.as_ref().map_or(&[][..], Seats::nodes);
        self.seats.nodes().iter().chain(from).copied()
    }

    /// How many [`Placement::nodes`] there are.
    pub(super) fn len(&self) -> usize {
        self.seats.nodes().len() + self.from.map_or(0, |from| from.nodes().len())
    }

    /// The version of the ring that made the node a seat; `None` if it is none, and was none when
    /// the arc last stood still.
    pub fn tenure(&self, node: NodeNumber) -> Option<u64> {
        self.nodes().position(|other| other == node).map(|index| self.tenures[index])
    }

    /// Whether a report of this node on these seats is still to come.
    pub fn awaits(&self, node: NodeNumber) -> bool {
        self.from.is_some() && self.nodes().enumerate().any(|(index, other)| other == node && !self.has_reported(index))
    }

    fn has_reported(&self, index: usize) -> bool {
        self.reported >> index & 1 == 1
    }

    /// The next placement, with these seats.
    fn moved_to(&self, seats: Seats, version: u64) -> Self {
        if self.seats == seats {
            return *self;
        }
        let from = Some(self.from.unwrap_or(self.seats)).filter(|from| *from != seats);
        self.between(seats, from, version)
    }

    /// These seats and these to come from, with the tenures that their nodes have.
    fn between(&self, seats: Seats, from: Option<Seats>, version: u64) -> Self {
        let mut next = Self { seats, from, since: version, tenures: [0; 2 * SEATS_MAX], reported: 0 };
        let nodes: Vec<NodeNumber> = next.nodes().collect();
        for (tenure, node) in next.tenures.iter_mut().zip(nodes) {
            *tenure = self.tenure(node).unwrap_or(version);
        }
        next
    }

    /// A node has reported on these seats.
    fn report(&mut self, node: NodeNumber) {
        let its = self.nodes().enumerate().filter(|(_, other)| *other == node);
        self.reported |= its.fold(0, |bits, (index, _)| bits | 1 << index);
    }

    /// Ends the move if everybody has reported who has to; whether it did.
    fn settle(&mut self, is_there: &impl Fn(NodeNumber) -> bool) -> bool {
        let is_settled = |(index, node): (usize, NodeNumber)| {
            let is_seat = index < self.seats.nodes().len();
            // A seat that is not there has not pulled. Who has none can't answer if it is not.
            self.has_reported(index) || (!is_seat && (self.seats.contains(node) || !is_there(node)))
        };
        let seats = self.seats.nodes().len();
        let majority = (0..seats).filter(|index| self.has_reported(*index)).count() * 2 > seats;
        let is_over = self.nodes().enumerate().all(is_settled) || (is_planted(Mutant::SyncedByMajority) && majority);
        let ends = self.from.is_some() && is_over;
        if ends {
            self.stop();
        }
        ends
    }

    /// Goes by what is left of `from`, if that is no majority any more.
    fn give_up(&mut self, version: u64, is_member: &impl Fn(NodeNumber) -> bool) -> Option<()> {
        let records = self.from.as_ref()?.record_seats();
        let left: Vec<NodeNumber> = records.iter().copied().filter(|node| is_member(*node)).collect();
        if left.len() * 2 > records.len() {
            return None;
        }
        match Seats::new(&left).filter(|left| *left != self.seats) {
            Some(left) => *self = self.between(self.seats, Some(left), version),
            None => self.stop(),
        }
        Some(())
    }

    /// The seats are all that counts from now on.
    fn stop(&mut self) {
        self.tenures[self.seats.nodes().len()..].fill(0);
        (self.from, self.reported) = (None, 0);
    }
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
        Self { version: 1, placements: vec![Placement::still(seats, 1); ARCS] }
    }

    /// A ring of these placements, by arc, which are sound.
    pub(super) fn of_parts(version: u64, placements: Vec<Placement>) -> Self {
        assert!(placements.len() == ARCS && placements.iter().all(|placement| Self::is_sound(version, placement)));
        Self { version, placements }
    }

    /// Whether a ring of this version can have this placement.
    pub(super) fn is_sound(version: u64, placement: &Placement) -> bool {
        let (given, beyond) = placement.tenures.split_at(placement.len());
        let knows = |(index, node)| placement.tenure(node) == Some(placement.tenures[index]);
        placement.since <= version
            && placement.from != Some(placement.seats)
            && given.iter().all(|tenure| (1..=placement.since).contains(tenure))
            && beyond.iter().all(|tenure| *tenure == 0)
            && placement.nodes().enumerate().all(knows)
            && placement.reported >> placement.len() == 0
            && (placement.reported == 0 || placement.from.is_some())
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
        let mut nodes: Vec<NodeNumber> = Vec::new();
        // There are few of them, each in many lists.
        for node in unlike_the_last(&self.placements).flat_map(Placement::nodes) {
            if let Err(index) = nodes.binary_search(&node) {
                nodes.insert(index, node);
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

    /// The next ring: a node has reported on these arcs, which got their seats at this version.
    /// `None` if that is no news.
    pub fn with_report(
        &self,
        node: NodeNumber,
        since: u64,
        arcs: impl IntoIterator<Item = ArcId>,
        is_there: impl Fn(NodeNumber) -> bool,
    ) -> Option<Self> {
        let is_meant = |arc: &ArcId| {
            let placement = self.placement(*arc);
            (placement.since == since || is_planted(Mutant::SyncedOthers)) && placement.awaits(node)
        };
        let arcs: Vec<ArcId> = arcs.into_iter().filter(is_meant).collect();
        if arcs.is_empty() {
            return None;
        }
        let mut next = Self { version: self.version + 1, placements: self.placements.clone() };
        for arc in arcs {
            let placement = &mut next.placements[arc.index()];
            if placement.awaits(node) {
                placement.report(node);
                placement.settle(&is_there);
            }
        }
        Some(next)
    }

    /// The next ring: others are there now. `None` if no arc waited for who isn't any more.
    pub fn settled(&self, is_there: impl Fn(NodeNumber) -> bool) -> Option<Self> {
        self.moving().next()?;
        let mut next = Self { version: self.version + 1, placements: self.placements.clone() };
        let settled = next.placements.iter_mut().filter_map(|placement| placement.settle(&is_there).then_some(()));
        let is_changed = settled.count() > 0;
        is_changed.then_some(next)
    }

    /// The next ring, where nodes are lost for good: arcs that have lost a majority of the record
    /// seats of their `from` go by those of them that are left, and stand still if none is. The
    /// same ring if there is no such arc.
    pub fn without_lost(&self, is_member: impl Fn(NodeNumber) -> bool) -> Self {
        let version = self.version + 1;
        let mut next = Self { version, placements: self.placements.clone() };
        let count = next.placements.iter_mut().filter_map(|placement| placement.give_up(version, &is_member)).count();
        if count > 0 { next } else { self.clone() }
    }

    /// The same seats, with a version that is so much higher. What was reported before says nothing
    /// any more.
    pub fn ahead(&self, versions: u64) -> Self {
        let version = self.version + versions;
        let leapt = |placement: &Placement| match placement.from {
            Some(_) => Placement { since: version, reported: 0, ..*placement },
            None => *placement,
        };
        Self { version, placements: self.placements.iter().map(leapt).collect() }
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
        let moved = |(old, seats): (&Placement, Seats)| old.moved_to(seats, version);
        Self { version, placements: self.placements.iter().zip(seats).map(moved).collect() }
    }
}

/// Those that differ from the one before: in a small cluster most arcs are alike.
pub(super) fn unlike_the_last(placements: &[Placement]) -> impl Iterator<Item = &Placement> {
    let is_first_of_its_kind = |index: usize| index == 0 || placements[index] != placements[index - 1];
    placements.iter().enumerate().filter(move |(index, _)| is_first_of_its_kind(*index)).map(|(_, placement)| placement)
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

    /// A node reports on these arcs.
    fn reported(ring: &Ring, node: u64, arcs: &[ArcId]) -> Option<Ring> {
        let since = ring.placement(arcs[0]).since;
        ring.with_report(NodeNumber(node), since, arcs.iter().copied(), |_| true)
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
    fn an_arc_that_all_have_reported_on_stands_still_and_an_old_report_says_nothing() {
        let one = Ring::new(NodeNumber(1));
        let two = one.grown(NodeNumber(2)).unwrap();
        assert_eq!(two.moving().count(), ARCS);
        let all: Vec<ArcId> = ArcId::all().collect();
        let some = reported(&reported(&two, 1, &all[..100]).unwrap(), 2, &all[..100]).unwrap();
        assert_eq!((some.version(), some.moving().count()), (4, ARCS - 100));
        assert_eq!(reported(&some, 2, &all[..100]), None);
        assert_eq!(some.moved_since(&two), []);

        let three = some.grown(NodeNumber(3)).unwrap();
        for (index, arc) in ArcId::all().enumerate() {
            let source = if index < 100 { two.seats(arc) } else { one.seats(arc) };
            assert_eq!(three.from(arc), Some(source));
        }
        assert_eq!(three.with_report(NodeNumber(1), two.placement(all[0]).since, all.clone(), |_| true), None);
        let still = [1, 2, 3].into_iter().fold(three, |ring, node| reported(&ring, node, &all).unwrap());
        assert_eq!(still.moving().count(), 0);
        assert_eq!(still.nodes(), numbers(&[1, 2, 3]));
        assert_eq!([1, 2, 3].map(|node| still.placement(all[0]).tenure(NodeNumber(node))), [Some(1), Some(2), Some(5)]);
    }

    #[test]
    fn a_change_that_is_overtaken_leaves_the_last_whole_seats_as_source() {
        let still = Ring::new(NodeNumber(1)).with_change(&candidates(&[1, 2, 3, 4, 5])).unwrap();
        let still = still.without_lost(|_| false);
        let joined = still.with_change(&candidates(&[1, 2, 3, 4, 5, 6])).unwrap();
        let left = joined.with_change(&candidates(&[1, 2, 3, 4, 6])).unwrap();
        for arc in ArcId::all() {
            assert_eq!(joined.from(arc), Some(still.seats(arc)));
            assert_eq!(left.from(arc), Some(still.seats(arc)));
            assert!(!left.seats(arc).contains(NodeNumber(5)));
        }
        // The node that left is a source until the last arc is synced.
        assert_eq!(left.nodes(), numbers(&[1, 2, 3, 4, 5, 6]));
        let synced = left.without_lost(|_| false);
        assert_eq!(synced.nodes(), numbers(&[1, 2, 3, 4, 6]));
    }

    #[test]
    fn an_arc_goes_by_what_is_left_of_a_majority_that_is_lost() {
        let six = Ring::new(NodeNumber(1)).with_change(&candidates(&[1, 2, 3, 4, 5, 6])).unwrap();
        let six = six.without_lost(|_| false);
        let is_member = |node: NodeNumber| ![1, 2, 3].contains(&node.0);
        // Five of six have the records of an arc, so two or three of them are lost.
        let left = six.with_change(&candidates(&[4, 5, 6])).unwrap().without_lost(is_member);
        let mut counts = [0; 6];
        for arc in ArcId::all() {
            let records = six.seats(arc).record_seats();
            let rest: Vec<NodeNumber> = records.iter().copied().filter(|node| is_member(*node)).collect();
            counts[rest.len()] += 1;
            let from = left.from(arc).map(|from| from.nodes().to_vec());
            match rest.len() {
                3 => assert_eq!(from.as_deref(), Some(six.seats(arc).nodes()), "a majority is left"),
                _ => assert_eq!(from.as_deref(), Some(&rest[..]), "they may have what no other has"),
            }
        }
        assert!(counts[2] > 0 && counts[3] > 0);
        assert_eq!(left.without_lost(is_member), left);
        assert_eq!(left.without_lost(|_| false).moving().count(), 0);
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
        // What moves has to be reported anew.
        assert!(
            ArcId::all().all(|arc| ahead.placement(arc).since == 102 && ahead.placement(arc).awaits(NodeNumber(2)))
        );
        let still = two.without_lost(|_| false).ahead(100);
        assert!(ArcId::all().all(|arc| still.placement(arc).since == 2));
        assert_eq!(Ring::new(NodeNumber(1)).with_change(&candidates(&[1])).unwrap().version(), 2);
    }
}
