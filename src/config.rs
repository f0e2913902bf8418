//! What the server is told: flags over environment over file over defaults.

use std::net::SocketAddr;
use std::path::PathBuf;

/// The effective configuration of a server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Data directories, at least one.
    pub data: Vec<PathBuf>,
    pub listen: SocketAddr,
    pub cores: u16,
    /// Bytes for buffers over all cores.
    pub memory_bytes: u64,
    pub token_file: Option<PathBuf>,
    /// Bytes of a segment; `None` picks by the size of the file system.
    pub segment_size: Option<u64>,
    pub limits: Limits,
}

/// Bounds on what one client may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    pub connections_max: u32,
    pub head_bytes_max: usize,
    pub target_bytes_max: usize,
    /// Bytes of a JSON body.
    pub json_bytes_max: usize,
    /// Bytes of a blob.
    pub blob_bytes_max: u64,
    pub head_timeout_ms: u64,
    pub idle_timeout_ms: u64,
    /// The longest time without progress of a request body, and of a response.
    pub progress_timeout_ms: u64,
    pub shutdown_timeout_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 65_536,
            head_bytes_max: 16 << 10,
            target_bytes_max: 8 << 10,
            json_bytes_max: 64 << 20,
            blob_bytes_max: nabu_engine::store::BLOB_SIZE_MAX,
            head_timeout_ms: 10_000,
            idle_timeout_ms: 75_000,
            progress_timeout_ms: 30_000,
            shutdown_timeout_ms: 30_000,
        }
    }
}
