//! What names an event that is due: an operation that ends, a timer that fires, a late write that
//! lands, a pause that is over.

/// Given out in order, and never twice in a simulation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct EventId(pub u64);
