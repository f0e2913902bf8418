//! What is wrong with a configuration, and where it stands.

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;

/// Where a value stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// In a configuration file, under this key with its parents (`limits.idle_timeout_ms`); line
    /// and key as far as they are known.
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
