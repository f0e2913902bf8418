//! How values that are no whole number are read: paths, addresses, names, durations, parts.
//!
//! A reader takes a [`Raw`] value and returns either the value or the requirement it failed, as the
//! end of a sentence ("must be …").

use std::ffi::OsStr;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bounds::{
    DATA_DIRS_MAX, JOIN_MAX, LOG_FILTER_BYTES_MAX, NAME_BYTES_MAX, NAMES_MAX, PATH_BYTES_MAX, SAMPLE_ALWAYS,
    SCRUB_DAYS_MAX, TEXT_BYTES_MAX,
};
use super::document::Value;
use super::network::Network;
use super::node_address::{InvalidNodeAddress, NodeAddress};
use super::raw::Raw;
use super::security::JwtAlgorithm;
use super::span::{self, Span};

/// The levels that a log filter knows.
pub const LOG_LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// A path that the kernel takes: not empty, not too long, without a zero byte.
pub fn path(raw: Raw<'_>) -> Result<PathBuf, String> {
    let path = match raw {
        Raw::Word(word) => Some(PathBuf::from(word)),
        Raw::Value(Value::Text(text)) => Some(PathBuf::from(text)),
        Raw::Words(_) | Raw::Value(_) => None,
    };
    let path = path.filter(|path| !path.as_os_str().is_empty()).ok_or("must be a path")?;
    check_path(&path)?;
    Ok(path)
}

fn check_path(path: &Path) -> Result<(), String> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() > PATH_BYTES_MAX {
        return Err(format!("must be a path of at most {PATH_BYTES_MAX} bytes, not {}", bytes.len()));
    }
    if bytes.contains(&0) {
        return Err("must be a path without a zero byte".to_owned());
    }
    Ok(())
}

/// Data directories: one path or a list of them in a file, paths with `:` between them in a
/// variable, one path for each flag, whatever characters are in its name.
pub fn paths(raw: Raw<'_>) -> Result<Vec<PathBuf>, String> {
    let paths: Option<Vec<PathBuf>> = match raw {
        Raw::Word(word) => {
            Some(word.as_bytes().split(|byte| *byte == b':').map(|part| OsStr::from_bytes(part).into()).collect())
        }
        Raw::Words(words) => Some(words.iter().map(PathBuf::from).collect()),
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
    let is_whole = |paths: &Vec<PathBuf>| !paths.is_empty() && paths.iter().all(|path| !path.as_os_str().is_empty());
    let paths = paths.filter(is_whole).ok_or("must be a path or a list of paths, none of them empty")?;
    if paths.len() > DATA_DIRS_MAX {
        return Err(format!("must be at most {DATA_DIRS_MAX} directories, not {}", paths.len()));
    }
    for (index, path) in paths.iter().enumerate() {
        check_path(path)?;
        if paths[..index].contains(path) {
            return Err(format!("must name each directory once; {} appears twice", path.display()));
        }
    }
    Ok(paths)
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

/// `14d`, `12h`, `30m`, `10s`, or `off`.
pub fn interval(raw: Raw<'_>) -> Result<Option<Duration>, String> {
    const BOUNDS: Span = Span { seconds_min: 1, seconds_max: SCRUB_DAYS_MAX * 86_400 };
    let text = raw.text_or_off().map(str::trim).unwrap_or_default();
    if text == "off" {
        return Ok(None);
    }
    match span::parse(text).filter(|interval| BOUNDS.contains(*interval)) {
        Some(interval) => Ok(Some(interval)),
        None => Err(format!("must be off, or {BOUNDS} with s, m, h or d after the number, such as 14d")),
    }
}

/// `15m`, within bounds.
pub fn duration(raw: Raw<'_>, bounds: Span) -> Result<Duration, String> {
    let duration = raw.text().and_then(|text| span::parse(text.trim())).filter(|duration| bounds.contains(*duration));
    duration.ok_or_else(|| format!("must be {bounds} with s, m, h or d after the number, such as 15m"))
}

/// The address of a node.
pub fn node_address(raw: Raw<'_>) -> Result<NodeAddress, String> {
    raw.text().unwrap_or_default().parse().map_err(|error: InvalidNodeAddress| format!("must be {error}"))
}

/// Addresses of nodes: one or a list of them in a file, with commas between them elsewhere.
pub fn node_addresses(raw: Raw<'_>) -> Result<Vec<NodeAddress>, String> {
    let texts: Option<Vec<&str>> = match raw {
        Raw::Words(words) => words.iter().map(|word| word.to_str()).collect(),
        Raw::Value(Value::List(nodes)) => nodes.iter().map(|node| Raw::Value(&node.value).text()).collect(),
        raw => raw.text().map(|text| vec![text]),
    };
    let texts = texts.filter(|texts| !texts.is_empty());
    let texts = texts.ok_or_else(|| format!("must be {}, or a list of such addresses", InvalidNodeAddress::Form))?;
    let mut addresses = Vec::new();
    for text in texts.into_iter().flat_map(|text| text.split(',')) {
        let address: NodeAddress =
            text.parse().map_err(|error: InvalidNodeAddress| format!("must be {error}; {text:?} isn't"))?;
        if addresses.contains(&address) {
            return Err(format!("must name each node once; {address} appears twice"));
        }
        addresses.push(address);
    }
    if addresses.len() > JOIN_MAX {
        return Err(format!("must be at most {JOIN_MAX} addresses, not {}", addresses.len()));
    }
    Ok(addresses)
}

/// The name of a node or a zone.
pub fn name(raw: Raw<'_>) -> Result<String, String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_name = |text: &&str| (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_allowed);
    let name = raw.text().map(str::trim).filter(is_name);
    name.map(str::to_owned)
        .ok_or_else(|| format!("must be a name of 1..{NAME_BYTES_MAX} letters, digits, dots, underscores and hyphens"))
}

/// `info`, or `warn,nabu_store=debug`.
pub fn log_filter(raw: Raw<'_>) -> Result<String, String> {
    let text = raw.text_or_off().map(str::trim).unwrap_or_default();
    if text.len() > LOG_FILTER_BYTES_MAX {
        return Err(format!("must have at most {LOG_FILTER_BYTES_MAX} bytes, not {}", text.len()));
    }
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

pub fn switch(raw: Raw<'_>) -> Result<bool, String> {
    let word = match raw {
        Raw::Value(Value::Bool(value)) => return Ok(*value),
        Raw::Word(word) => word.to_str(),
        Raw::Words(_) | Raw::Value(_) => None,
    };
    match word.map(str::trim) {
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// Which of some words it is.
pub fn choice(raw: Raw<'_>, words: impl Iterator<Item = &'static str> + Clone) -> Result<&'static str, String> {
    let text = raw.text_or_off().map(str::trim);
    words.clone().find(|word| Some(*word) == text).ok_or_else(|| {
        let words: Vec<&str> = words.collect();
        let (last, others) = words.split_last().expect("a choice has words");
        format!("must be {} or {last}", others.join(", "))
    })
}

/// A part of all, in parts of [`SAMPLE_ALWAYS`].
pub fn part(raw: Raw<'_>) -> Result<u32, String> {
    let number = match raw {
        Raw::Value(Value::Float(number)) => Some(*number),
        Raw::Word(word) => word.to_str().and_then(|text| text.trim().parse().ok()),
        Raw::Words(_) | Raw::Value(_) => raw.integer().map(|integer| integer as f64),
    };
    let number = number.filter(|number| (0.0..=1.0).contains(number));
    let number = number.ok_or("must be a number from 0 to 1, such as 0.01 for one request in a hundred")?;
    let part = (number * f64::from(SAMPLE_ALWAYS)).round() as u32;
    if number > 0.0 && part == 0 {
        return Err("must be 0, or at least 0.000001: one request in a million".to_owned());
    }
    Ok(part)
}

pub fn text(raw: Raw<'_>) -> Result<String, String> {
    let text = raw.text().filter(|text| !text.is_empty()).ok_or("must be a string")?;
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("must be a string of at most {TEXT_BYTES_MAX} bytes, not {}", text.len()));
    }
    Ok(text.to_owned())
}

/// One text or a list of them.
pub fn texts(raw: Raw<'_>) -> Result<Vec<String>, String> {
    let parts: Vec<Raw<'_>> = match raw {
        Raw::Value(Value::List(nodes)) => nodes.iter().map(|node| Raw::Value(&node.value)).collect(),
        raw => vec![raw],
    };
    let are_texts = parts.iter().all(|part| part.text().is_some_and(|text| !text.is_empty()));
    if !are_texts || !(1..=NAMES_MAX).contains(&parts.len()) {
        return Err(format!("must be a string or a list of 1..{NAMES_MAX} strings, none of them empty"));
    }
    parts.into_iter().map(text).collect()
}

/// Networks: one or a list of them.
pub fn networks(raw: Raw<'_>) -> Result<Vec<Network>, String> {
    let networks = texts(raw).ok().and_then(|texts| texts.iter().map(|text| text.parse().ok()).collect());
    networks
        .ok_or_else(|| format!("must be an address, a network such as 10.0.0.0/8, or a list of 1..{NAMES_MAX} of them"))
}

/// Signature algorithms of JWTs: one or a list of them.
pub fn algorithms(raw: Raw<'_>) -> Result<Vec<JwtAlgorithm>, String> {
    let known = |name: &String| JwtAlgorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name);
    let algorithms = texts(raw).ok().and_then(|names| names.iter().map(known).collect::<Option<Vec<_>>>());
    algorithms.ok_or_else(|| format!("must be one of {}, or a list of them", JwtAlgorithm::names()))
}
