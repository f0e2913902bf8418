//! The simulated network: connections between machines, and all that may befall them.
//!
//! | file | question it answers |
//! | --- | --- |
//! | `options` | how fast is it, what goes wrong how likely, and what has happened? |
//! | `wire` | what is on its way between the two ends of a connection? |
//! | `path` | which machine reaches which, and what waits until it does? |
//! | `dial` | what becomes of a request to connect? |
//! | `host` | what does a machine have of the network? |
//! | `network` | when does what arrive, and what is lost? |
//! | `handshake` | how do connections come to be? |
//! | `socket` | what do a process and its kernel do with their end of a connection? |
//! | `breakage` | how does the network break, and how does it heal? |
//! | `link` | the seam [`crate::link`] for code that is simulated |
//! | `handle` | the network as a test sees it |
//!
//! Machines are called `n0`, `n1` and so on. Each has one listener, whatever the port: `n0:7070`.
//! It listens from the first [`SimLink::listen`](link::SimLink::listen) or
//! [`accept`](crate::link::Link::accept) of a life until that life ends.
//!
//! What the network does, and where it is simpler than TCP:
//! - A message (what one write gets into the window at once) takes a delay of its own, but arrives
//!   after those before it in its direction of its connection. Bandwidth has no limit.
//! - Acknowledgements take no time, and no cut holds them up: a read makes room for the writer at
//!   once. So the bytes that one direction holds are bounded by one window, which stands for the
//!   buffers of both sides. A cut of one way leaves the other way without any hindrance.
//! - Over a cut nothing arrives and no dial succeeds, and nobody is told. When it heals, what was
//!   sent arrives within [`NetOptions::retransmit_ns_max`](options::NetOptions), or the connection
//!   is lost by chance. Nothing gives a stalled connection up but its owner: a real TCP takes a
//!   quarter of an hour.
//! - A dial that nobody answers is tried again after 1, 2, 4, … s and fails after 127 s.
//! - A killed process leaves a kernel that closes its connections, refuses dials and resets what
//!   still sends. A machine without power is silent; when it is up again, it resets what arrives
//!   for a life before. A peer that only reads is never told.
//! - A machine all of whose cores pause is still answered for by its kernel: dials succeed, and
//!   bytes arrive until the window is full.

mod breakage;
pub mod dial;
pub mod handle;
mod handshake;
pub mod host;
pub mod link;
pub mod network;
pub mod options;
pub mod path;
mod socket;
pub mod wire;
