//! The server's configuration: flags over environment over file over defaults.
//!
//! [`load`] reads every layer, checks every value in every layer (one that a higher layer overrides
//! too), and then how the values relate. It reports everything that is wrong at once, and each
//! problem names where it stands, the value and the remedy. Nothing here touches the data
//! directories, and nothing here knows the server, its API, its metrics or the command line.
//!
//! | module | question it answers |
//! | --- | --- |
//! | `table` | which settings are there? One row says everything about one |
//! | `setting` | what does a row say? |
//! | `kind` | what may the value of a setting be? |
//! | `number`, `words`, `size` | is this one value right? |
//! | `bounds` | which bounds have a reason, and how do they relate? |
//! | `values`, `limits`, `log`, `security` | which field holds the value? |
//! | `flags`, `document`, `raw` | what do command line, environment and YAML say, unchecked? |
//! | `layers` | which settings does each layer give? |
//! | `nearest` | which key was meant? |
//! | `settle` | what do the layers say together, and do the values go together? |
//! | `machine` | what does this machine have? |
//! | `problem` | what is wrong, and where? |
//! | `reference` | are the tables in `docs/configuration.md` those of the table? |

mod bounds;
mod document;
mod flags;
mod kind;
mod layers;
mod limits;
mod log;
pub(crate) mod machine;
mod nearest;
mod network;
mod number;
mod problem;
mod raw;
pub(crate) mod security;
mod setting;
mod settle;
pub(crate) mod size;
mod table;
mod values;
mod words;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use nabu_engine::store::Missing;

pub use bounds::SAMPLE_ALWAYS;
pub use flags::{Environment, Flags};
pub use kind::FlagForm;
pub use layers::Effective;
pub use limits::Limits;
pub use log::{AccessOptions, LogFormat, LogOptions};
pub use machine::Machine;
pub use network::Network;
pub use problem::{ConfigError, Problem, Source};
pub use security::{ClientAuth, JwtAlgorithm, JwtOptions, RateLimit, TlsOptions};
pub use setting::{DefaultValue, Flag, Setting};
pub use table::SETTINGS;

use layers::Layers;
use values::settings_struct;

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
        /// Bytes of a segment; `None` picks by the size of the file system.
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
        /// What each setting is and by what, for the log.
        pub effective: Vec<Effective>,
    }
}

/// Reads all layers and checks them. Reads the configuration file if one is named; resolves the
/// host name of `listen`.
///
/// # Errors
/// Every problem of every layer. When single values are wrong, relations between values are not
/// reported.
pub fn load(flags: &Flags, environment: &Environment<'_>, machine: &Machine) -> Result<Config, ConfigError> {
    let mut layers = Layers::new();
    layers.read_flags(flags);
    layers.read_environment(environment);
    if let (Some(path), Some(source)) = (layers.values.config_file.clone(), layers.source("--config").cloned()) {
        layers.read_file(&path, &source);
    }
    if !layers.problems.is_empty() {
        return Err(ConfigError { problems: layers.problems });
    }
    layers.read_defaults();
    settle::settle(layers, flags.forget_missing, machine)
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
