//! Opening a store: from what the disks hold to a shard on each core.
//!
//! | file | question |
//! | --- | --- |
//! | [`recovery`] | what does each core do at a start, and in which order? |
//! | [`identity`] | which directories make up this store? |
//! | [`plan`] | what is there to read? |
//! | [`segments`] | what do the segments hold? |
//! | [`backlog`] | how much may be under way to the owners of ids? |
//! | [`replay`] | what of the records that were found counts? |
//! | [`assemble`] | of what is a shard made? |

mod assemble;
mod backlog;
pub(super) mod identity;
mod plan;
mod recovery;
mod replay;
mod segments;
