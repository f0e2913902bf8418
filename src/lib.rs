//! Nabu Store: puts the engine and the network code together into one server and one command line.

#![deny(unsafe_code)]

pub mod api;
pub mod auth;
pub mod bench;
pub mod cli;
pub mod config;
pub mod control;
pub mod http;
pub mod metrics;
pub mod node;
mod origin;
pub mod peer;
mod private_file;
mod reloadable;
mod text;
mod tls;

/// The cryptography of the server, for clients in tests that speak to it.
pub use tls::provider as tls_provider;
