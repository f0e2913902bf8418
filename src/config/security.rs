//! The settings for who may connect, who may do what, and how often: `tls`, `auth` and
//! `rate_limit`. What the files hold that they name is not known here.

use std::path::PathBuf;

use super::number::Number;
use super::unset::settings_struct;

/// Requests a second, and how many may come at once.
pub const REQUESTS: Number = Number::count(1, 1_000_000);
/// Bytes a second.
pub const BYTES: Number = Number::bytes(64 << 10, 1 << 40);

/// What the configuration says about TLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsOptions {
    /// The certificate and those between it and the root, in PEM.
    pub cert: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
    /// The authorities whose client certificates are taken; there exactly when clients are asked
    /// for one.
    pub client_ca: Option<PathBuf>,
    pub client_auth: ClientAuth,
    /// Whether the kernel may take connections over.
    pub kernel: bool,
}

/// Whether clients show certificates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientAuth {
    /// They are not asked for one.
    None,
    /// One that is shown must be valid.
    Optional,
    Required,
}

/// A signature algorithm of JWTs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JwtAlgorithm {
    Hs256,
    Rs256,
    Es256,
    EdDsa,
}

impl JwtAlgorithm {
    pub const ALL: [Self; 4] = [Self::Hs256, Self::Rs256, Self::Es256, Self::EdDsa];

    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// All of them, for people.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

/// What the configuration says about JWTs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JwtOptions {
    /// Public keys in PEM, or a JWKS.
    pub keys: PathBuf,
    /// Those that are taken, at least one.
    pub algorithms: Vec<JwtAlgorithm>,
    /// Who must have issued a token, and whom it must be for; empty means any.
    pub issuers: Vec<String>,
    pub audiences: Vec<String>,
    pub role_claim: String,
    pub leeway_seconds: u64,
}

settings_struct! {
    /// How much a token may ask for; what is `None` is not limited.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct RateLimit {
        pub requests_per_second: Option<u64>,
        /// Requests that may come at once; by default those of a second.
        pub burst: Option<u64>,
        pub bytes_per_second: Option<u64>,
    }
}

impl RateLimit {
    pub fn is_off(&self) -> bool {
        self.requests_per_second.is_none() && self.bytes_per_second.is_none()
    }
}
