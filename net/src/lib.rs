//! The protocols of Nabu Store as pure code: bytes in, events out. HTTP/1.1 for clients, and what
//! nodes say to each other. Does no I/O, so it is fuzzed and tested without a network.

#![forbid(unsafe_code)]

pub mod http;
pub mod peer;
