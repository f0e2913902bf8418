//! One layer of the configuration: the settings that the command line, the environment or a file gives, each with its place.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::document::{self, Entry, Node, Value};
use super::limits::{LIMITS, LimitSetting};
use super::security::SecurityLayer;
use super::setting::{self, Number, Problem, Raw, Source, Sourced};
use super::{CORES_MAX, LogFormat, MEMORY_MAX, MEMORY_PER_CORE_MIN, SLOW_REQUEST_MS_MAX};

/// The most bytes of a configuration file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The keys at the top of a file, for the message about one that isn't there.
const KEYS: [&str; 13] = [
    "data",
    "listen",
    "cores",
    "memory",
    "token_file",
    "segment_size",
    "scrub_interval",
    "degraded",
    "limits",
    "log",
    "tls",
    "auth",
    "rate_limit",
];

/// What the command line says, unchecked.
#[derive(Clone, Default, Debug)]
pub struct Flags {
    pub config: Option<PathBuf>,
    pub data: Vec<PathBuf>,
    pub listen: Option<OsString>,
    pub cores: Option<OsString>,
    pub memory: Option<OsString>,
    pub token_file: Option<PathBuf>,
    pub degraded: Option<OsString>,
    pub forget_missing: bool,
    pub log_level: Option<OsString>,
    pub log_format: Option<OsString>,
    pub access_log: Option<OsString>,
    pub access_log_sample: Option<OsString>,
    pub slow_request_ms: Option<OsString>,
    pub tls: TlsFlags,
}

/// What the command line says about TLS, unchecked.
#[derive(Clone, Default, Debug)]
pub struct TlsFlags {
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub client_ca: Option<PathBuf>,
    pub client_auth: Option<OsString>,
}

/// Looks up a variable.
pub type Environment<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

/// The settings of one layer; what it doesn't set is `None`.
#[derive(Default)]
pub struct Layer {
    pub data: Option<Sourced<Vec<PathBuf>>>,
    pub listen: Option<Sourced<SocketAddr>>,
    pub cores: Option<Sourced<u16>>,
    pub memory_bytes: Option<Sourced<u64>>,
    pub token_file: Option<Sourced<PathBuf>>,
    pub segment_size: Option<Sourced<u64>>,
    pub scrub_interval: Option<Sourced<Option<Duration>>>,
    pub degraded: Option<Sourced<bool>>,
    pub limits: Vec<LimitSetting>,
    pub log_level: Option<Sourced<String>>,
    pub log_format: Option<Sourced<LogFormat>>,
    pub access_log: Option<Sourced<bool>>,
    pub access_log_sample: Option<Sourced<u32>>,
    pub slow_request_ms: Option<Sourced<u64>>,
    pub security: SecurityLayer,
}

impl Layer {
    pub fn of_flags(flags: &Flags, problems: &mut Vec<Problem>) -> Self {
        let mut reader = Reader { problems };
        let word = |name: &'static str, value: Option<&OsStr>| {
            value.map(|value| (value.to_owned(), Source::flag(name).with_value(value)))
        };
        let listen = word("--listen", flags.listen.as_deref());
        let cores = word("--cores", flags.cores.as_deref());
        let memory = word("--memory", flags.memory.as_deref());
        let token_file = word("--token-file", flags.token_file.as_deref().map(Path::as_os_str));
        let log_level = word("--log-level", flags.log_level.as_deref());
        let log_format = word("--log-format", flags.log_format.as_deref());
        let log = [
            log_level,
            log_format,
            word("--access-log", flags.access_log.as_deref()),
            word("--access-log-sample", flags.access_log_sample.as_deref()),
            word("--slow-request-ms", flags.slow_request_ms.as_deref()),
        ];
        let tls = [
            word("--tls-cert", flags.tls.cert.as_deref().map(Path::as_os_str)),
            word("--tls-key", flags.tls.key.as_deref().map(Path::as_os_str)),
            word("--tls-client-ca", flags.tls.client_ca.as_deref().map(Path::as_os_str)),
            word("--tls-client-auth", flags.tls.client_auth.as_deref()),
        ];
        let degraded = word("--degraded", flags.degraded.as_deref());
        let mut layer = Self::of_words([listen, cores, memory, token_file], log, &mut reader);
        layer.degraded = reader.word(degraded, setting::boolean);
        layer.security = SecurityLayer::of_words(tls, &mut reader);
        if !flags.data.is_empty() {
            // Each --data is one directory, whatever characters are in its name.
            match setting::data_dirs(flags.data.clone()) {
                Ok(value) => layer.data = Some(Sourced { value, source: Source::flag("--data") }),
                Err(message) => reader.problems.push(Problem::new(&Source::flag("--data"), message)),
            }
        }
        layer
    }

    pub fn of_environment(environment: &Environment<'_>, problems: &mut Vec<Problem>) -> Self {
        let mut reader = Reader { problems };
        // An empty variable is one that isn't set, as with `NABU_CORES= nabu-store start`.
        let word = |name: &'static str| {
            let value = environment(name).filter(|value| !value.is_empty())?;
            let source = Source::environment(name).with_value(&value);
            Some((value, source))
        };
        let words = ["NABU_LISTEN", "NABU_CORES", "NABU_MEMORY", "NABU_TOKEN_FILE"].map(word);
        let log = ["NABU_LOG", "NABU_LOG_FORMAT", "NABU_ACCESS_LOG", "NABU_ACCESS_LOG_SAMPLE", "NABU_SLOW_REQUEST_MS"]
            .map(word);
        let tls = ["NABU_TLS_CERT", "NABU_TLS_KEY", "NABU_TLS_CLIENT_CA", "NABU_TLS_CLIENT_AUTH"].map(word);
        let mut layer = Self::of_words(words, log, &mut reader);
        layer.degraded = reader.word(word("NABU_DEGRADED"), setting::boolean);
        layer.security = SecurityLayer::of_words(tls, &mut reader);
        layer.data =
            word("NABU_DATA").and_then(|(value, source)| reader.read(Raw::Word(&value), source, setting::data));
        layer
    }

    /// Listen, cores, memory and token file; and of the log its level and format, the access log, its sample and what is slow.
    fn of_words(
        words: [Option<(OsString, Source)>; 4],
        log: [Option<(OsString, Source)>; 5],
        reader: &mut Reader<'_>,
    ) -> Self {
        let [listen, cores, memory, token_file] = words;
        let [log_level, log_format, access_log, access_log_sample, slow_request_ms] = log;
        Self {
            listen: reader.word(listen, setting::listen),
            cores: reader.word(cores, read_cores),
            memory_bytes: reader.word(memory, read_memory),
            token_file: reader.word(token_file, setting::path),
            log_level: reader.word(log_level, setting::log_level),
            log_format: reader.word(log_format, setting::log_format),
            access_log: reader.word(access_log, setting::boolean),
            access_log_sample: reader.word(access_log_sample, setting::sample),
            slow_request_ms: reader.word(slow_request_ms, read_slow_request_ms),
            ..Self::default()
        }
    }

    /// Reads a file; `named_by` says where its path stands.
    pub fn of_file(path: &Path, named_by: Source, problems: &mut Vec<Problem>) -> Self {
        let mut layer = Self::default();
        let text = match read_text(path) {
            Ok(text) => text,
            Err(reason) => {
                problems.push(Problem::new(&named_by.with_value(path.as_os_str()), reason));
                return layer;
            }
        };
        let root = match document::parse(&text) {
            Ok(root) => root,
            Err(error) => {
                let source = Source::File { path: path.to_owned(), line: Some(error.line), key: None };
                problems.push(Problem::new(&source, format!("not valid YAML: {}", error.reason)));
                return layer;
            }
        };
        let mut reader = FileReader { reader: Reader { problems }, path };
        let entries = match &root.value {
            Value::Map(entries) => entries,
            Value::Null => return layer,
            other => {
                let source = Source::File { path: path.to_owned(), line: Some(root.line), key: None };
                problems
                    .push(Problem::new(&source, "must be a map of keys such as `listen: 127.0.0.1:7070`").got(other));
                return layer;
            }
        };
        for entry in entries {
            match entry.key.as_str() {
                "data" => layer.data = reader.value("", entry, setting::data),
                "listen" => layer.listen = reader.value("", entry, setting::listen),
                "cores" => layer.cores = reader.value("", entry, read_cores),
                "memory" => layer.memory_bytes = reader.value("", entry, read_memory),
                "token_file" => layer.token_file = reader.value("", entry, setting::path),
                "scrub_interval" => layer.scrub_interval = reader.value("", entry, setting::scrub_interval),
                "degraded" => layer.degraded = reader.value("", entry, setting::boolean),
                "segment_size" => layer.segment_size = reader.value("", entry, setting::segment_size),
                "limits" => {
                    for entry in reader.map(entry, "limits") {
                        layer.limits.extend(reader.limit(entry));
                    }
                }
                "log" => {
                    for entry in reader.map(entry, "log") {
                        match entry.key.as_str() {
                            "level" => layer.log_level = reader.value("log.", entry, setting::log_level),
                            "format" => layer.log_format = reader.value("log.", entry, setting::log_format),
                            "access" => layer.read_access(reader.map(entry, "log.access"), &mut reader),
                            "slow_request_ms" => {
                                layer.slow_request_ms = reader.value("log.", entry, read_slow_request_ms);
                            }
                            _ => reader.unknown("log.", entry, &["level", "format", "access", "slow_request_ms"]),
                        }
                    }
                }
                "tls" => layer.security.read_tls(&mut reader, entry),
                "auth" => layer.security.read_auth(&mut reader, entry),
                "rate_limit" => layer.security.read_rate_limit(&mut reader, entry),
                _ => reader.unknown("", entry, &KEYS),
            }
        }
        layer
    }

    fn read_access(&mut self, entries: &[Entry], reader: &mut FileReader<'_>) {
        for entry in entries {
            match entry.key.as_str() {
                "enabled" => self.access_log = reader.value("log.access.", entry, setting::boolean),
                "sample" => self.access_log_sample = reader.value("log.access.", entry, setting::sample),
                _ => reader.unknown("log.access.", entry, &["enabled", "sample"]),
            }
        }
    }

    /// This layer, with another one below it.
    pub fn over(self, below: Self) -> Self {
        let mut limits = below.limits;
        limits.extend(self.limits);
        Self {
            data: self.data.or(below.data),
            listen: self.listen.or(below.listen),
            cores: self.cores.or(below.cores),
            memory_bytes: self.memory_bytes.or(below.memory_bytes),
            token_file: self.token_file.or(below.token_file),
            segment_size: self.segment_size.or(below.segment_size),
            scrub_interval: self.scrub_interval.or(below.scrub_interval),
            degraded: self.degraded.or(below.degraded),
            limits,
            log_level: self.log_level.or(below.log_level),
            log_format: self.log_format.or(below.log_format),
            access_log: self.access_log.or(below.access_log),
            access_log_sample: self.access_log_sample.or(below.access_log_sample),
            slow_request_ms: self.slow_request_ms.or(below.slow_request_ms),
            security: self.security.over(below.security),
        }
    }
}

fn read_cores(raw: Raw<'_>) -> Result<u16, String> {
    let cores = Number::count(1, CORES_MAX.into()).read(raw)?;
    Ok(u16::try_from(cores).expect("CORES_MAX is a u16"))
}

fn read_slow_request_ms(raw: Raw<'_>) -> Result<u64, String> {
    Number::count(0, SLOW_REQUEST_MS_MAX).read(raw)
}

fn read_memory(raw: Raw<'_>) -> Result<u64, String> {
    Number::bytes(MEMORY_PER_CORE_MIN, MEMORY_MAX).read(raw)
}

/// The whole file, or why it can't be read.
fn read_text(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| format!("cannot be read: {error}"))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("is no configuration file: it has more than {FILE_BYTES_MAX} bytes"));
    }
    Ok(text)
}

/// Applies a reader to a value and keeps what was wrong.
pub(super) struct Reader<'a> {
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn read<T>(
        &mut self,
        raw: Raw<'_>,
        source: Source,
        read: impl FnOnce(Raw<'_>) -> Result<T, String>,
    ) -> Option<Sourced<T>> {
        match read(raw) {
            Ok(value) => Some(Sourced { value, source }),
            Err(requirement) => {
                self.problems.push(Problem::new(&source, requirement).got(raw));
                None
            }
        }
    }

    pub(super) fn word<T>(
        &mut self,
        word: Option<(OsString, Source)>,
        read: impl FnOnce(Raw<'_>) -> Result<T, String>,
    ) -> Option<Sourced<T>> {
        word.and_then(|(value, source)| self.read(Raw::Word(&value), source, read))
    }
}

/// A [`Reader`] that knows which file it reads. `parent` is the key above with its dot, or empty.
pub(super) struct FileReader<'a> {
    reader: Reader<'a>,
    path: &'a Path,
}

impl FileReader<'_> {
    pub(super) fn source(&self, parent: &str, key: &str, line: u64) -> Source {
        Source::File { path: self.path.to_owned(), line: Some(line), key: Some(format!("{parent}{key}")) }
    }

    pub(super) fn value<T>(
        &mut self,
        parent: &str,
        entry: &Entry,
        read: impl FnOnce(Raw<'_>) -> Result<T, String>,
    ) -> Option<Sourced<T>> {
        let source = self.source(parent, &entry.key, entry.line);
        let Node { value, .. } = &entry.value;
        if *value == Value::Null {
            self.reader.problems.push(Problem::new(&source, "has no value; give it one or remove the line"));
            return None;
        }
        self.reader.read(Raw::Value(value), source, read)
    }

    fn limit(&mut self, entry: &Entry) -> Option<LimitSetting> {
        let Some(limit) = LIMITS.iter().find(|limit| limit.key == entry.key) else {
            self.unknown("limits.", entry, &LIMITS.each_ref().map(|limit| limit.key));
            return None;
        };
        self.value("limits.", entry, |raw| limit.number.read(raw)).map(|setting| (limit, setting))
    }

    /// The entries of a map; none, and a problem, when it isn't one.
    pub(super) fn map<'e>(&mut self, entry: &'e Entry, key: &str) -> &'e [Entry] {
        match &entry.value.value {
            Value::Map(entries) => entries,
            other => {
                let source = self.source("", key, entry.line);
                self.reader.problems.push(Problem::new(&source, "must be a map of keys below it").got(other));
                &[]
            }
        }
    }

    pub(super) fn unknown(&mut self, parent: &str, entry: &Entry, known: &[&str]) {
        let source = self.source(parent, &entry.key, entry.line);
        self.reader.problems.push(Problem::new(&source, format!("unknown key; known are {}", known.join(", "))));
    }
}
