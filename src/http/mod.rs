//! HTTP/1.1 on the engine's runtime: connections, the requests on them, and how their bytes move.
//! It knows no API, no store and no node: what a request means is decided by the [`Service`] that
//! each core is given.
//!
//! | file | noun |
//! | --- | --- |
//! | [`accept`] | the loop that takes connections in |
//! | [`connection`] | one connection, from its first byte to its end |
//! | [`connections`] | those of one core |
//! | [`membership`] | what a connection is counted as while it lives |
//! | [`upgrade`] | how a connection becomes one between nodes |
//! | [`client`] | who is at the other end, and by which port |
//! | [`admission`] | how many there may be, in all and of one address |
//! | [`unfinished`] | the memory of those that have not finished asking |
//! | [`core`] | what the connections of one core share |
//! | [`held`], [`watch`] | what answers hold for peers that don't take them, and for how long |
//! | [`exchange`] | one request and its answer |
//! | [`body`] | the body of a request |
//! | [`sending`], [`encrypting`], [`copying`], [`pace`] | the body of a large answer, uncopied if possible |
//! | [`streaming`] | the body of an answer that is made while it leaves |
//! | [`transport`] | plain sockets, TLS in this process, TLS in the kernel |
//! | [`conditions`] | conditional requests and ranges |
//! | [`error`] | a refusal, before it has a body |
//! | [`audit`] | who changed what, and who was refused |
//! | [`phases`], [`report`] | where the time of a request goes, and what is said of it |
//! | [`request_id`] | the id that answers and log lines carry |
//! | [`trace_context`] | which trace does a request belong to? |
//! | [`vectors`] | byte vectors that are kept for reuse |

mod accept;
mod admission;
mod audit;
mod body;
mod client;
mod conditions;
mod connection;
mod connections;
mod copying;
mod core;
mod encrypting;
mod error;
mod exchange;
mod held;
mod membership;
mod pace;
mod phases;
mod report;
mod request_id;
mod sending;
mod streaming;
mod trace_context;
pub(crate) mod transport;
mod unfinished;
mod upgrade;
mod vectors;
mod watch;

pub use self::accept::accept_loop;
pub use self::admission::Admission;
pub use self::body::{Charge, SizeLimit};
pub use self::client::Port;
pub use self::conditions::{Conditions, Representation, Selection};
pub use self::connection::Serving;
pub use self::core::{Core, Service, Shared};
pub use self::error::{HttpError, RETRY_AFTER_SECONDS, Render};
pub use self::exchange::{Exchange, run};
pub use self::membership::Membership;
pub use self::phases::Phase;
pub use self::sending::send;
pub use self::streaming::PIECE_BYTES_MAX;
pub use self::upgrade::{Place, Upgraded, Upgrades};
pub use self::vectors::Vectors;
