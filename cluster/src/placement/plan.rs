//! The table of a ring for given nodes, made from the table that was.

use super::arc::ARCS;
use super::members::{Candidate, Members, PlanError};
use super::rank::{OldSeats, Rank};
use super::seats::{SEATS_MAX, Seats};
use super::share::Shares;

/// The seats of every arc for these candidates. `old` are the seats of every arc before, or none.
///
/// # Errors
/// No ring can be made for these candidates.
pub fn plan(old: &[Seats], candidates: &[Candidate]) -> Result<Vec<Seats>, PlanError> {
    assert!(old.is_empty() || old.len() == ARCS, "a table has a row for every arc, not {}", old.len());
    let members = Members::new(candidates)?;
    let shares = Shares::new(&members);
    let mut old_seats = vec![[None; SEATS_MAX]; ARCS];
    for (indices, seats) in old_seats.iter_mut().zip(old) {
        indices_of(&members, seats, indices);
    }
    let mut table: Vec<Vec<u16>> = vec![Vec::new(); ARCS];
    for _ in 0..shares.ranks {
        let rank = Rank::assign(&members, &shares, &old_seats, &table);
        table.iter_mut().zip(rank).for_each(|(seats, member)| seats.push(member));
    }
    let seats = |indices: Vec<u16>| {
        let numbers: Vec<_> = indices.into_iter().map(|index| members.numbers[usize::from(index)]).collect();
        Seats::new(&numbers).expect("a node has one seat of an arc")
    };
    Ok(table.into_iter().map(seats).collect())
}

fn indices_of(members: &Members, seats: &Seats, indices: &mut OldSeats) {
    for (index, &node) in indices.iter_mut().zip(seats.nodes()) {
        *index = members.index_of(node).map(|index| index as u16);
    }
}
