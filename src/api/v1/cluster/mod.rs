//! `/v1/cluster`: who is a member, and what each holds. A standalone node shows itself as a cluster
//! of one, and refuses changes.
//!
//! | file | question it answers |
//! | --- | --- |
//! | [`state`] | who are the members, and how are they? |
//! | [`ring`] | which part of the ring has each, and is a caller's ring the newest? |
//! | [`join`], [`leave`] | who comes, and who goes? |
//! | [`heartbeat`] | is a node a member, with the newest ring? |
//! | [`node`] | what is a node to a client? |
//! | [`refused`] | what is a change that did not happen to a client? |
//! | [`group`] | how is the group asked, and for how long? |
//!
//! What only shows something is answered from the view of this node at once, also while nobody
//! leads. A change is answered when it is applied here, from the view that has it.

mod group;
mod heartbeat;
mod join;
mod leave;
mod node;
mod refused;
mod ring;
mod state;

pub use heartbeat::heartbeat;
pub use join::join;
pub use leave::leave;
pub use ring::{ring, sync_ring};
pub use state::state;
