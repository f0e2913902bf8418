//! What the server is told: flags over environment over file over defaults.
//!
//! [`load`] reads every layer, checks every value in every layer (one that a higher layer overrides too), and then how the values relate. All
//! that is wrong is reported at once, and each problem names where it stands, the value and the remedy. Nothing here touches the data directories.
//!
//! | room | question it answers |
//! | --- | --- |
//! | `document` | what does the YAML say, and on which line? |
//! | `setting` | is this one value right? |
//! | `layer` | which settings does one layer give? |
//! | `limits` | which limits are there, and within which bounds? |
//! | `security` | what is said about TLS, JWTs and rates? |
//! | `size` | how many bytes is `512MiB`? |
//! | `machine` | what does this machine have? |

mod document;
mod layer;
mod limits;
pub(crate) mod machine;
pub(crate) mod security;
mod setting;
pub(crate) mod size;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use nabu_engine::store::{Missing, ScrubOptions};

pub use layer::{Environment, Flags, TlsFlags};
pub use limits::Limits;
pub use security::{ClientAuth, JwtAlgorithm, JwtOptions, RateLimit, TlsOptions};
pub use setting::{Problem, Source};
pub use size::exact as exact_size;

use layer::Layer;

/// Where data goes when nothing says otherwise.
pub const DATA_DEFAULT: &str = "./nabu-data";
/// Where the server listens when nothing says otherwise.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:7070";
/// The most cores.
pub const CORES_MAX: u16 = 1024;
/// The most data directories.
pub const DATA_DIRS_MAX: usize = nabu_engine::log::superblock::DIRS_MAX;
/// The least memory for buffers that a core can work with.
pub const MEMORY_PER_CORE_MIN: u64 = 16 << 20;
/// The default memory is a quarter of the machine's, within these bounds and [`MEMORY_PER_CORE_MIN`].
pub const MEMORY_DEFAULT_MIN: u64 = 256 << 20;
/// See [`MEMORY_DEFAULT_MIN`].
pub const MEMORY_DEFAULT_MAX: u64 = 64 << 30;
/// The most memory, also on a machine that doesn't say what it has.
pub const MEMORY_MAX: u64 = 64 << 40;
/// The bounds of a segment, and what its size must be a multiple of.
pub const SEGMENT_SIZE_MIN: u64 = SEGMENT_SIZE_STEP;
/// See [`SEGMENT_SIZE_MIN`].
pub const SEGMENT_SIZE_MAX: u64 = nabu_engine::log::SEGMENT_SIZE_MAX;
/// See [`SEGMENT_SIZE_MIN`].
pub const SEGMENT_SIZE_STEP: u64 = 1 << 20;

const _: () = assert!(MEMORY_DEFAULT_MIN >= MEMORY_PER_CORE_MIN && MEMORY_DEFAULT_MAX <= MEMORY_MAX);
const _: () = assert!(
    SEGMENT_SIZE_MIN >= nabu_engine::log::SEGMENT_SIZE_MIN && SEGMENT_SIZE_MAX.is_multiple_of(SEGMENT_SIZE_STEP)
);

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
    /// From the beginning of one scrub of everything to that of the next; `None`: nothing is scrubbed.
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
}

/// What is logged, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogOptions {
    /// A level, or a list of `target=level`, as `tracing` filters read it.
    pub level: String,
    pub format: LogFormat,
    pub access: AccessOptions,
    /// A request that takes the server itself at least this long is logged.
    pub slow_request_ms: u64,
}

/// The log of requests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessOptions {
    pub enabled: bool,
    /// How many of all requests, in parts of [`SAMPLE_ALWAYS`].
    pub sample: u32,
}

/// Every request: a sample is in millionths.
pub const SAMPLE_ALWAYS: u32 = 1_000_000;
/// How long a request may take the server itself when nothing says otherwise.
pub const SLOW_REQUEST_MS_DEFAULT: u64 = 1_000;
/// The longest time that can be set for it.
pub const SLOW_REQUEST_MS_MAX: u64 = 3_600_000;

/// How a log line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Text,
            access: AccessOptions::default(),
            slow_request_ms: SLOW_REQUEST_MS_DEFAULT,
        }
    }
}

impl Default for AccessOptions {
    fn default() -> Self {
        Self { enabled: false, sample: SAMPLE_ALWAYS }
    }
}

/// All that is wrong with a configuration, at least one problem; one line each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            fmt::Display::fmt(problem, formatter)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// What the machine offers, for defaults and upper bounds.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    pub cores: usize,
    pub memory_bytes: Option<u64>,
}

impl Machine {
    /// This machine, as the kernel and the control group of this process tell it.
    pub fn this() -> Self {
        Self { cores: machine::cores(), memory_bytes: machine::memory_bytes() }
    }

    fn cores_default(&self) -> u16 {
        u16::try_from(self.cores).unwrap_or(CORES_MAX).clamp(1, CORES_MAX)
    }

    fn memory_default(&self, cores: u16) -> u64 {
        let quarter = self.memory_bytes.unwrap_or(0) / 4;
        quarter.clamp(MEMORY_DEFAULT_MIN, MEMORY_DEFAULT_MAX).max(u64::from(cores) * MEMORY_PER_CORE_MIN)
    }
}

/// Reads all layers and checks them. Reads the configuration file if one is named; resolves the host name of `listen`.
///
/// # Errors
/// Every problem of every layer. When single values are wrong, relations between values are not reported.
pub fn load(flags: &Flags, environment: &Environment<'_>, machine: &Machine) -> Result<Config, ConfigError> {
    let mut problems = Vec::new();
    let from_flags = Layer::of_flags(flags, &mut problems);
    let from_environment = Layer::of_environment(environment, &mut problems);
    let file = flags.config.clone().map(|path| (path, Source::flag("--config"))).or_else(|| {
        let path = environment("NABU_CONFIG").filter(|value| !value.is_empty())?;
        Some((PathBuf::from(path), Source::environment("NABU_CONFIG")))
    });
    let from_file = file.map_or_else(Layer::default, |(path, source)| Layer::of_file(&path, source, &mut problems));
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    let mut config = merge(from_flags.over(from_environment).over(from_file), machine)?;
    if flags.forget_missing {
        config.on_missing = Missing::Forget;
    }
    Ok(config)
}

/// Fills in the defaults and checks the relations.
fn merge(layer: Layer, machine: &Machine) -> Result<Config, ConfigError> {
    let mut problems = Vec::new();
    let cores = layer.cores.as_ref().map_or_else(|| machine.cores_default(), |cores| cores.value);
    let memory_floor = u64::from(cores) * MEMORY_PER_CORE_MIN;
    let memory_bytes = match &layer.memory_bytes {
        None => machine.memory_default(cores),
        Some(memory) => {
            if memory.value < memory_floor {
                let requirement = format!(
                    "must be at least {} for each core, {} for {cores} cores; give more, or fewer cores",
                    size::exact(MEMORY_PER_CORE_MIN),
                    size::exact(memory_floor),
                );
                problems.push(Problem::new(&memory.source, requirement).got(size::exact(memory.value)));
            }
            if let Some(total) = machine.memory_bytes.filter(|total| memory.value > *total) {
                let requirement = format!("must fit in the {} bytes of memory that this process may use", total);
                problems.push(Problem::new(&memory.source, requirement).got(size::exact(memory.value)));
            }
            memory.value
        }
    };
    let limits = limits::merge(&layer.limits, &mut problems);
    let tls = layer.security.tls(&mut problems);
    let jwt = layer.security.jwt(&mut problems);
    let rate_limit = layer.security.rate_limit(&mut problems);
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    let log_default = LogOptions::default();
    Ok(Config {
        data: layer.data.map_or_else(|| vec![PathBuf::from(DATA_DEFAULT)], |data| data.value),
        listen: layer.listen.map_or_else(|| LISTEN_DEFAULT.parse().expect("an address"), |listen| listen.value),
        cores,
        memory_bytes,
        token_file: layer.token_file.map(|file| file.value),
        segment_size: layer.segment_size.map(|size| size.value),
        on_missing: if layer.degraded.is_some_and(|degraded| degraded.value) {
            Missing::Serve
        } else {
            Missing::Refuse
        },
        scrub_interval: layer.scrub_interval.map_or(ScrubOptions::default().interval, |interval| interval.value),
        limits,
        log: LogOptions {
            level: layer.log_level.map_or(log_default.level, |level| level.value),
            format: layer.log_format.map_or(log_default.format, |format| format.value),
            access: AccessOptions {
                enabled: layer.access_log.map_or(log_default.access.enabled, |enabled| enabled.value),
                sample: layer.access_log_sample.map_or(log_default.access.sample, |sample| sample.value),
            },
            slow_request_ms: layer.slow_request_ms.map_or(log_default.slow_request_ms, |threshold| threshold.value),
        },
        tls,
        jwt,
        rate_limit,
    })
}

#[cfg(test)]
mod tests;
