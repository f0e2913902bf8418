//! One setting: where it stands, whether it is right, and what to say when it isn't.
//!
//! A reader takes a [`Raw`] value and returns either the value or the requirement it failed, as the end of a sentence ("must be …").

use std::ffi::OsStr;
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use super::document::Value;
use super::{DATA_DIRS_MAX, LogFormat, SAMPLE_ALWAYS, SEGMENT_SIZE_MAX, SEGMENT_SIZE_MIN, SEGMENT_SIZE_STEP, size};

/// The most days between two scrubs.
const SCRUB_DAYS_MAX: u64 = 365;

/// The levels that a log filter knows.
const LOG_LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Where a value stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// In a configuration file, under this key with its parents (`limits.idle_timeout_ms`); line and key as far as they are known.
    File { path: PathBuf, line: Option<u64>, key: Option<String> },
    /// In a variable, which has this value.
    Environment { name: &'static str, value: Option<String> },
    /// On the command line, with this value.
    Flag { name: &'static str, value: Option<String> },
}

impl Source {
    pub fn flag(name: &'static str) -> Self {
        Self::Flag { name, value: None }
    }

    pub fn environment(name: &'static str) -> Self {
        Self::Environment { name, value: None }
    }

    /// The same place, with the value that is there.
    pub fn with_value(self, text: &OsStr) -> Self {
        let value = Some(text.to_string_lossy().into_owned());
        match self {
            Self::File { .. } => self,
            Self::Environment { name, .. } => Self::Environment { name, value },
            Self::Flag { name, .. } => Self::Flag { name, value },
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, key } => {
                write!(formatter, "{}", path.display())?;
                if let Some(line) = line {
                    write!(formatter, ":{line}")?;
                }
                key.as_ref().map_or(Ok(()), |key| write!(formatter, ": {key}"))
            }
            Self::Environment { name, value: Some(value) } => write!(formatter, "{name}={value}"),
            Self::Flag { name, value: Some(value) } => write!(formatter, "{name} {value}"),
            Self::Environment { name, value: None } | Self::Flag { name, value: None } => formatter.write_str(name),
        }
    }
}

/// A value that is wrong: where, and what it must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub source: Source,
    pub message: String,
}

impl Problem {
    pub fn new(source: &Source, message: impl Into<String>) -> Self {
        Self { source: source.clone(), message: message.into() }
    }

    /// Adds what was found, unless the source shows it already.
    pub fn got(mut self, value: impl fmt::Display) -> Self {
        if matches!(self.source, Source::File { .. }) {
            self.message = format!("{} (got {value})", self.message);
        }
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.source, self.message)
    }
}

/// A value that is right, and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sourced<T> {
    pub value: T,
    pub source: Source,
}

/// A value as it was found: a word of the environment or the command line, or a typed value of a file.
#[derive(Clone, Copy)]
pub enum Raw<'a> {
    Word(&'a OsStr),
    Value(&'a Value),
}

impl<'a> Raw<'a> {
    /// A text; in a file also one that looks like nothing else.
    pub fn text(self) -> Option<&'a str> {
        match self {
            Self::Word(word) => word.to_str(),
            Self::Value(Value::Text(text)) => Some(text),
            Self::Value(_) => None,
        }
    }

    fn integer(self) -> Option<i128> {
        match self {
            Self::Word(word) => word.to_str()?.trim().parse().ok(),
            Self::Value(Value::Integer(integer)) => Some(*integer),
            Self::Value(_) => None,
        }
    }
}

impl fmt::Display for Raw<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => word.display().fmt(formatter),
            Self::Value(value) => value.fmt(formatter),
        }
    }
}

/// A whole number within bounds, both inclusive; of bytes, if units are allowed.
#[derive(Clone, Copy, Debug)]
pub struct Number {
    pub min: u64,
    pub max: u64,
    in_bytes: bool,
}

impl Number {
    pub const fn count(min: u64, max: u64) -> Self {
        assert!(min <= max);
        Self { min, max, in_bytes: false }
    }

    pub const fn bytes(min: u64, max: u64) -> Self {
        assert!(min <= max);
        Self { min, max, in_bytes: true }
    }

    pub fn contains(&self, value: u64) -> bool {
        (self.min..=self.max).contains(&value)
    }

    /// A value as it can be written.
    pub fn show(&self, value: u64) -> String {
        if self.in_bytes { size::exact(value) } else { value.to_string() }
    }

    pub fn read(&self, raw: Raw<'_>) -> Result<u64, String> {
        let size = raw.text().filter(|_| self.in_bytes).and_then(size::parse).map(i128::from);
        let Some(integer) = size.or_else(|| raw.integer()) else {
            return Err(if self.in_bytes {
                format!("must be a size such as 512MiB or 2G, {self}")
            } else {
                format!("must be a whole number, {self}")
            });
        };
        u64::try_from(integer).ok().filter(|value| self.contains(*value)).ok_or_else(|| format!("must be {self}"))
    }
}

/// The bounds, as messages and documentation write them: `100..600000`, `1KiB..1MiB`.
impl fmt::Display for Number {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}..{}", self.show(self.min), self.show(self.max))
    }
}

/// Data directories: one path or a list of them in a file, paths with `:` between them in a word.
pub fn data(raw: Raw<'_>) -> Result<Vec<PathBuf>, String> {
    const REQUIREMENT: &str = "must be a path or a list of paths, none of them empty";
    let paths: Option<Vec<PathBuf>> = match raw {
        Raw::Word(word) => Some(word.as_bytes().split(|byte| *byte == b':').map(path_of_bytes).collect()),
        Raw::Value(Value::Text(text)) => Some(vec![PathBuf::from(text)]),
        Raw::Value(Value::List(nodes)) => nodes
            .iter()
            .map(|node| match &node.value {
                Value::Text(text) => Some(PathBuf::from(text)),
                _ => None,
            })
            .collect(),
        Raw::Value(_) => None,
    };
    let paths = paths.ok_or(REQUIREMENT)?;
    data_dirs(paths)
}

/// The rules that hold for data directories wherever they come from.
pub fn data_dirs(paths: Vec<PathBuf>) -> Result<Vec<PathBuf>, String> {
    if paths.is_empty() || paths.iter().any(|path| path.as_os_str().is_empty()) {
        return Err("must be a path or a list of paths, none of them empty".to_owned());
    }
    if paths.len() > DATA_DIRS_MAX {
        return Err(format!("must be at most {DATA_DIRS_MAX} directories, not {}", paths.len()));
    }
    for (index, path) in paths.iter().enumerate() {
        if paths[..index].contains(path) {
            return Err(format!("must name each directory once; {} is there twice", path.display()));
        }
    }
    Ok(paths)
}

/// A path that isn't empty.
pub fn path(raw: Raw<'_>) -> Result<PathBuf, String> {
    let path = match raw {
        Raw::Word(word) => Some(PathBuf::from(word)),
        Raw::Value(Value::Text(text)) => Some(PathBuf::from(text)),
        Raw::Value(_) => None,
    };
    path.filter(|path| !path.as_os_str().is_empty()).ok_or_else(|| "must be a path".to_owned())
}

/// `HOST:PORT`. Of the addresses of a name the first IPv4 one is taken, or else the first.
pub fn listen(raw: Raw<'_>) -> Result<SocketAddr, String> {
    const REQUIREMENT: &str = "must be HOST:PORT, such as 127.0.0.1:7070, localhost:7070 or \"[::1]:7070\"";
    let text = raw.text().ok_or(REQUIREMENT)?.trim();
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = text.rsplit_once(':').ok_or(REQUIREMENT)?;
    let port: u16 = port.parse().map_err(|_| REQUIREMENT)?;
    if host.is_empty() {
        return Err(format!("{REQUIREMENT}; 0.0.0.0:{port} listens on all addresses"));
    }
    if host.contains([':', '[', ']', '/']) {
        return Err(REQUIREMENT.to_owned());
    }
    let addresses: Vec<SocketAddr> = match (host, port).to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            return Err(format!("the host {host:?} has no address ({error}); use an address of this machine"));
        }
    };
    let chosen = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    chosen.copied().ok_or_else(|| format!("the host {host:?} has no address; use an address of this machine"))
}

/// The size of a segment.
pub fn segment_size(raw: Raw<'_>) -> Result<u64, String> {
    let bytes = Number::bytes(SEGMENT_SIZE_MIN, SEGMENT_SIZE_MAX).read(raw)?;
    if !bytes.is_multiple_of(SEGMENT_SIZE_STEP) {
        return Err(format!("must be a multiple of {}", size::exact(SEGMENT_SIZE_STEP)));
    }
    Ok(bytes)
}

/// `14d`, `12h`, `30m`, `10s`, or `off`.
pub fn scrub_interval(raw: Raw<'_>) -> Result<Option<Duration>, String> {
    const UNITS: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
    let text = raw.text().map(str::trim).unwrap_or_default();
    // Some readers of YAML take `off` for a truth value.
    if text == "off" || matches!(raw, Raw::Value(Value::Bool(false))) {
        return Ok(None);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit = UNITS.iter().find(|(name, _)| *name == text[digits..].trim_start());
    let seconds = unit.and_then(|(_, factor)| text[..digits].parse::<u64>().ok()?.checked_mul(*factor));
    match seconds.filter(|seconds| (1..=SCRUB_DAYS_MAX * 86_400).contains(seconds)) {
        Some(seconds) => Ok(Some(Duration::from_secs(seconds))),
        None => Err(format!("must be off, or 1s..{SCRUB_DAYS_MAX}d with s, m, h or d behind the number, such as 14d")),
    }
}

/// `info`, or `warn,nabu_store=debug`.
pub fn log_level(raw: Raw<'_>) -> Result<String, String> {
    let text = raw.text().map(str::trim).unwrap_or_default();
    let is_valid = |part: &str| {
        let level = match part.split_once('=') {
            Some((target, level)) if is_log_target(target) => level,
            Some(_) => return false,
            None => part,
        };
        LOG_LEVELS.contains(&level.to_ascii_lowercase().as_str())
    };
    if text.split(',').all(|part| is_valid(part.trim())) {
        Ok(text.to_owned())
    } else {
        Err(format!("must be one of {}, or a list such as warn,nabu_store=debug", LOG_LEVELS.join(", ")))
    }
}

fn is_log_target(target: &str) -> bool {
    !target.is_empty() && target.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:-".contains(&byte))
}

pub fn log_format(raw: Raw<'_>) -> Result<LogFormat, String> {
    match raw.text().map(str::trim) {
        Some("text") => Ok(LogFormat::Text),
        Some("json") => Ok(LogFormat::Json),
        _ => Err("must be text or json".to_owned()),
    }
}

pub fn boolean(raw: Raw<'_>) -> Result<bool, String> {
    let word = match raw {
        Raw::Value(Value::Bool(value)) => return Ok(*value),
        Raw::Value(_) => None,
        Raw::Word(word) => word.to_str(),
    };
    match word.map(str::trim) {
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// A part of all, in parts of [`SAMPLE_ALWAYS`].
pub fn sample(raw: Raw<'_>) -> Result<u32, String> {
    let number = match raw {
        Raw::Value(Value::Float(number)) => Some(*number),
        Raw::Word(word) => word.to_str().and_then(|text| text.trim().parse().ok()),
        Raw::Value(_) => raw.integer().map(|integer| integer as f64),
    };
    let number = number.filter(|number| (0.0..=1.0).contains(number));
    let number = number.ok_or("must be a number from 0 to 1, such as 0.01 for one request in a hundred")?;
    Ok((number * f64::from(SAMPLE_ALWAYS)).round() as u32)
}

fn path_of_bytes(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}
