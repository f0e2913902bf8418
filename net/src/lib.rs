//! HTTP/1.1 for Nabu Store as pure code: bytes in, events out. Does no I/O, so it is fuzzed and
//! tested without a network.

#![forbid(unsafe_code)]

pub mod http;
