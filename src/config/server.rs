//! What a server runs with: a plain value that says nothing of where it came from but to the log.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use nabu_engine::store::Missing;

use super::cluster::ClusterOptions;
use super::effective::Effective;
use super::limits::Limits;
use super::log::LogOptions;
use super::security::{JwtOptions, RateLimit, TlsOptions};
use super::unset::settings_struct;

settings_struct! {
    /// The effective configuration of a server.
    #[derive(Clone, PartialEq, Debug)]
    pub struct Config {
        /// Data directories, at least one.
        pub data: Vec<PathBuf>,
        pub listen: SocketAddr,
        /// Where health and metrics are served, too.
        pub ops_listen: Option<SocketAddr>,
        pub cores: u16,
        /// Bytes for buffers over all cores.
        pub memory_bytes: u64,
        pub token_file: Option<PathBuf>,
        /// Bytes of a segment; `None`: it depends on the size of the file system.
        pub segment_size: Option<u64>,
        /// From the beginning of one scrub of everything to that of the next; `None`: nothing is
        /// scrubbed.
        pub scrub_interval: Option<Duration>,
        /// What is done when data directories are missing at the start.
        pub on_missing: Missing,
        pub limits: Limits,
        pub log: LogOptions,
        /// `None` is plain HTTP.
        pub tls: Option<TlsOptions>,
        /// `None` takes no JWTs.
        pub jwt: Option<JwtOptions>,
        pub rate_limit: RateLimit,
        /// `None` is a standalone node.
        pub cluster: Option<ClusterOptions>,
        /// What each setting is and by what, for the log.
        pub effective: Vec<Effective>,
    }
}
