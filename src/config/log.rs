//! What the configuration says about the log. How an event is written is not known here.

use super::unset::{Unset, settings_struct};

settings_struct! {
    /// What is logged, and how.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct LogOptions {
        /// A level, or a list of `target=level`, as `tracing` filters read it.
        pub level: String,
        pub format: LogFormat,
        pub access: AccessOptions,
        /// Every change, with who made it.
        pub audit: bool,
        /// A request that takes the server itself at least this long is logged.
        pub slow_request_ms: u64,
    }
}

settings_struct! {
    /// The log of requests.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct AccessOptions {
        pub enabled: bool,
        /// How many of all requests, in parts of [`SAMPLE_ALWAYS`](super::bounds::SAMPLE_ALWAYS).
        pub sample: u32,
    }
}

/// How a log line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    Text,
    Json,
}

impl Unset for LogFormat {
    fn unset() -> Self {
        Self::Text
    }
}
