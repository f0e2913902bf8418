//! The server's configuration: flags over environment over file over defaults.
//!
//! [`load`] reads every layer, checks every value in every layer (one that a higher layer overrides
//! too), and then how the values relate. It reports everything that is wrong at once, and each
//! problem names where it stands, the value and the remedy. Nothing here touches the data
//! directories, and nothing here knows the server, its API, its metrics or the command line.
//!
//! | module | question it answers |
//! | --- | --- |
//! | `settle` | what do the layers say together, and do the values go together? |
//! | `layers` | which settings does each layer give? |
//! | `nearest` | which key was meant? |
//! | `keys` | which keys and groups of keys are there? |
//! | `table` | which settings are there? One row says everything about one |
//! | `setting` | what does a row say? |
//! | `kind` | what may the value of a setting be? |
//! | `words` | is this one value, which is no number, right? |
//! | `values` | which field holds the value while the layers are read? |
//! | `server` | what does a server run with? |
//! | `limits`, `log`, `security`, `cluster` | what does a part of that hold? |
//! | `unset` | what does a field hold before anything is read? |
//! | `number`, `size`, `span` | is this one number, size or span of time right? |
//! | `network`, `node_address` | is this one network, or address of a node, right? |
//! | `machine` | what does this machine have? |
//! | `effective` | what is each setting, and by what? |
//! | `problem` | what is wrong, and where? |
//! | `flags`, `raw`, `document` | what do command line, environment and YAML say, unchecked? |
//! | `bounds` | which bounds have a reason, and how do they relate? |
//! | `reference` | are the tables in `docs/configuration.md` those of the table? |
//!
//! A module imports only modules that stand beside or below it in this table, and nothing from
//! this file.

mod bounds;
mod cluster;
mod document;
mod effective;
mod flags;
mod keys;
mod kind;
mod layers;
mod limits;
mod log;
pub(crate) mod machine;
mod nearest;
mod network;
mod node_address;
mod number;
mod problem;
mod raw;
pub(crate) mod security;
mod server;
mod setting;
mod settle;
pub(crate) mod size;
pub mod span;
mod table;
mod unset;
mod values;
mod words;

pub use bounds::SAMPLE_ALWAYS;
pub use cluster::{ClusterOptions, StaleReads};
pub use effective::Effective;
pub use flags::{Environment, Flags};
pub use kind::FlagForm;
pub use limits::Limits;
pub use log::{AccessOptions, LogFormat, LogOptions};
pub use machine::Machine;
pub use network::Network;
pub use node_address::NodeAddress;
pub use problem::{ConfigError, Problem, Source};
pub use security::{ClientAuth, JwtAlgorithm, JwtOptions, RateLimit, TlsOptions};
pub use server::Config;
pub use setting::{DefaultValue, Flag, Setting};
pub use table::SETTINGS;

use layers::Layers;

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
