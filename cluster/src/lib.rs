//! What is true of several nodes, and the way to contents wherever they lie.
//!
//! | room | question it answers |
//! | --- | --- |
//! | [`policy`] | how many copies or shards has a blob, and how many nodes does that take? |
//! | [`blobs`] | where does a content come from, and where does it go? |
//! | [`placement`] | which nodes hold what, and what moves when a node comes or goes? |
//! | [`register`] | is an id there, and which record of it counts? |
//! | [`control`] | what do the nodes agree on, and how? |
//! | [`peer`] | how do the messages of control planes get from node to node? |
//! | [`node`] | by which number does the cluster know a node? |
//! | [`bytes`] | how do numbers and texts become bytes and come back? |
//!
//! Everything here is generic over the engine's [`Io`](nabu_engine::io::Io), so that it runs in the
//! simulation. It knows no HTTP, no sockets, and neither the ring nor the runtime of the engine.

#![forbid(unsafe_code)]

pub mod blobs;
pub mod bytes;
pub mod control;
#[doc(hidden)]
pub mod mutant;
pub mod node;
pub mod peer;
pub mod placement;
pub mod policy;
#[doc(hidden)]
pub mod probe;
pub mod register;
