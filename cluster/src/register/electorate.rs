//! Who decides about an id: the seats of its arc, as one version of the ring has them.

use crate::node::NodeNumber;

/// Some of the members of an electorate, by their places in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Places(u32);

impl Places {
    pub const NONE: Self = Self(0);

    pub fn one(place: usize) -> Self {
        Self(1 << place)
    }

    pub fn with(self, place: usize) -> Self {
        Self(self.0 | 1 << place)
    }

    pub fn without(self, place: usize) -> Self {
        Self(self.0 & !(1 << place))
    }

    pub fn has(self, place: usize) -> bool {
        self.0 >> place & 1 == 1
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn all_of(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    fn majority_of(self, others: Self) -> bool {
        (self.0 & others.0).count_ones() * 2 > others.0.count_ones()
    }
}

/// The most members: twice the seats of an arc.
pub const MEMBERS_MAX: usize = 20;

/// The seats of an arc. While the arc moves, those that it had count beside those that it gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Electorate {
    members: Vec<NodeNumber>,
    seats: Places,
    /// The same as `seats` where nothing moves.
    from: Places,
    /// Whom the group has declared offline.
    offline: Places,
}

impl Electorate {
    /// Of these seats, and those that the arc had before if it moves.
    ///
    /// # Panics
    /// More than [`MEMBERS_MAX`] of them, or none.
    pub fn new(seats: &[NodeNumber], from: Option<&[NodeNumber]>, is_offline: impl Fn(NodeNumber) -> bool) -> Self {
        assert!(!seats.is_empty(), "an arc has a seat");
        let from = from.unwrap_or(seats);
        let mut members: Vec<NodeNumber> = seats.iter().chain(from).copied().collect();
        members.sort_unstable();
        members.dedup();
        assert!(members.len() <= MEMBERS_MAX, "an arc has at most so many seats");
        let of = |is_in: &dyn Fn(NodeNumber) -> bool| {
            let places = (0..members.len()).filter(|place| is_in(members[*place]));
            places.fold(Places::NONE, Places::with)
        };
        Self {
            seats: of(&|node| seats.contains(&node)),
            from: of(&|node| from.contains(&node)),
            offline: of(&is_offline),
            members,
        }
    }

    pub fn members(&self) -> &[NodeNumber] {
        &self.members
    }

    /// Where a node stands; `None` if it has no say.
    pub fn place(&self, node: NodeNumber) -> Option<usize> {
        self.members.binary_search(&node).ok()
    }

    /// Whether the group has declared this member offline.
    pub fn is_offline(&self, place: usize) -> bool {
        self.offline.has(place)
    }

    /// Whether these decide, whatever the others say: a majority of the seats, and of those that
    /// the arc had before.
    pub fn is_majority(&self, places: Places) -> bool {
        places.majority_of(self.seats) && places.majority_of(self.from)
    }

    /// Whether all that are there are among these, and they decide.
    pub fn is_everybody(&self, places: Places) -> bool {
        let everybody = (0..self.members.len()).fold(Places::NONE, Places::with);
        self.is_majority(places) && places.all_of(Places(everybody.0 & !self.offline.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes<const N: usize>(numbers: [u64; N]) -> [NodeNumber; N] {
        numbers.map(NodeNumber)
    }

    fn places(electorate: &Electorate, numbers: &[u64]) -> Places {
        let places = numbers.iter().map(|number| electorate.place(NodeNumber(*number)).expect("a member"));
        places.fold(Places::NONE, Places::with)
    }

    #[test]
    fn a_majority_is_more_than_half() {
        for (seats, too_few, enough) in
            [(1, 0, 1), (2, 1, 2), (3, 1, 2), (4, 2, 3), (5, 2, 3)].map(|(n, few, many)| (n as u64, few, many))
        {
            let all: Vec<NodeNumber> = (1..=seats).map(NodeNumber).collect();
            let electorate = Electorate::new(&all, None, |_| false);
            let first = |count: usize| (0..count).fold(Places::NONE, Places::with);
            assert!(!electorate.is_majority(first(too_few)) && electorate.is_majority(first(enough)), "{seats}");
            assert!(electorate.is_everybody(first(all.len())));
        }
    }

    #[test]
    fn an_arc_that_moves_needs_a_majority_of_both() {
        let electorate = Electorate::new(&nodes([1, 2, 4]), Some(&nodes([1, 2, 3])), |_| false);
        assert_eq!(electorate.members(), nodes([1, 2, 3, 4]));
        for (numbers, is_majority) in
            [(&[1, 2][..], true), (&[1, 3], false), (&[1, 4], false), (&[3, 4], false), (&[1, 3, 4], true)]
        {
            assert_eq!(electorate.is_majority(places(&electorate, numbers)), is_majority, "{numbers:?}");
        }
        assert!(!electorate.is_everybody(places(&electorate, &[1, 2, 3])));
        assert!(electorate.is_everybody(places(&electorate, &[1, 2, 3, 4])));
    }

    #[test]
    fn everybody_is_a_majority_with_all_that_are_not_offline() {
        let electorate = Electorate::new(&nodes([1, 2, 3]), None, |node| node.0 == 3);
        assert!(!electorate.is_everybody(places(&electorate, &[1, 3])));
        assert!(electorate.is_everybody(places(&electorate, &[1, 2])));
        let electorate = Electorate::new(&nodes([1, 2, 3]), None, |node| node.0 > 1);
        assert!(!electorate.is_everybody(places(&electorate, &[1])), "the others may be back");
        assert_eq!(electorate.place(NodeNumber(9)), None);
    }
}
