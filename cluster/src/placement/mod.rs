//! Which nodes hold what: pure functions, in integers, the same on every node.
//!
//! | file | question it answers |
//! | --- | --- |
//! | [`arc`] | which arc of the ring does an id belong to? |
//! | [`seats`] | which nodes hold an arc, and which of them its records or a policy's bytes? |
//! | [`members`] | for which nodes is a ring planned, and of which can none be made? |
//! | `score` | how much does an arc prefer a node? |
//! | `share` | how many arcs should a node have in the first seats? |
//! | `rank` | who gets one seat of every arc? |
//! | `plan` | what are all seats, given those that were? |
//! | [`ring`] | where does each arc lie, what still moves, and what is the next ring? |
//! | [`encoding`] | what are the bytes of a ring? |
//!
//! Invariants: the seats of an arc are distinct nodes, in as many zones as there are. A table
//! depends on the table before and on the candidates, and neither on their order nor on the
//! machine: no floats, no hash maps, no clock, no randomness. Tables of different programs of one
//! cluster must be equal, so a change of this arithmetic needs a feature level; a test holds the
//! present one to its golden table. `docs/cluster.md` explains it.

pub mod arc;
pub mod encoding;
pub mod members;
mod plan;
mod rank;
pub mod ring;
mod score;
pub mod seats;
mod share;
#[cfg(test)]
mod tests;

pub use self::arc::{ARCS, ArcId};
pub use self::encoding::{DecodeError, RING_BYTES_MAX};
pub use self::members::{Candidate, NODES_MAX, PlanError};
pub use self::ring::{Movement, Placement, Ring};
pub use self::seats::{SEATS_MAX, Seats};
