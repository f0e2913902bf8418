//! What a server is told about who may connect, who may do what, and how often: `tls`, `auth` and `rate_limit`.
//!
//! Here are the values and how they are read; what the files hold that they name is not known here.

use std::path::PathBuf;

use super::document::{Entry, Value};
use super::layer::{FileReader, Reader};
use super::setting::{self, Number, Problem, Raw, Source, Sourced};

/// The leeway for clocks that differ, in seconds.
const LEEWAY_SECONDS_DEFAULT: u64 = 60;
const LEEWAY_SECONDS: Number = Number::count(0, 3600);
const ROLE_CLAIM_DEFAULT: &str = "role";
/// The most names in a list of issuers or audiences.
const NAMES_MAX: usize = 64;
/// Requests a second, and how many may come at once.
pub const REQUESTS: Number = Number::count(1, 1_000_000);
/// Bytes a second.
pub const BYTES: Number = Number::bytes(64 << 10, 1 << 40);

const TLS_KEYS: [&str; 5] = ["cert", "key", "client_ca", "client_auth", "kernel"];
const JWT_KEYS: [&str; 6] = ["keys", "algorithms", "issuer", "audience", "role_claim", "leeway_seconds"];
const RATE_KEYS: [&str; 3] = ["requests_per_second", "burst", "bytes_per_second"];

/// What the configuration says about TLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsOptions {
    /// The certificate and those between it and the root, in PEM.
    pub cert: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
    /// The authorities whose client certificates are taken; there exactly when clients are asked for one.
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
}

/// What the configuration says about JWTs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JwtOptions {
    /// Public keys in PEM, or a JWKS.
    pub keys: PathBuf,
    /// Those that are taken, at least one.
    pub algorithms: Vec<JwtAlgorithm>,
    /// Of whom a token must come, and for whom it must be; any where empty.
    pub issuers: Vec<String>,
    pub audiences: Vec<String>,
    pub role_claim: String,
    pub leeway_seconds: u64,
}

/// How much a token may ask for; what is `None` is not limited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RateLimit {
    pub requests_per_second: Option<u64>,
    /// Requests that may come at once; by default those of a second.
    pub burst: Option<u64>,
    pub bytes_per_second: Option<u64>,
}

impl RateLimit {
    pub fn is_off(&self) -> bool {
        self.requests_per_second.is_none() && self.bytes_per_second.is_none()
    }
}

/// The security settings of one layer.
#[derive(Default)]
pub struct SecurityLayer {
    /// Where TLS, or JWTs, are spoken of at all.
    tls: Option<Source>,
    tls_cert: Option<Sourced<PathBuf>>,
    tls_key: Option<Sourced<PathBuf>>,
    tls_client_ca: Option<Sourced<PathBuf>>,
    tls_client_auth: Option<Sourced<ClientAuth>>,
    tls_kernel: Option<Sourced<bool>>,
    jwt: Option<Source>,
    jwt_keys: Option<Sourced<PathBuf>>,
    jwt_algorithms: Option<Sourced<Vec<JwtAlgorithm>>>,
    jwt_issuers: Option<Sourced<Vec<String>>>,
    jwt_audiences: Option<Sourced<Vec<String>>>,
    jwt_role_claim: Option<Sourced<String>>,
    jwt_leeway: Option<Sourced<u64>>,
    requests_per_second: Option<Sourced<u64>>,
    burst: Option<Sourced<u64>>,
    bytes_per_second: Option<Sourced<u64>>,
}

/// The words of the command line, or of the environment, about TLS: certificate, key, client authorities, client authentication.
pub type TlsWords = [Option<(std::ffi::OsString, Source)>; 4];

impl SecurityLayer {
    pub(super) fn of_words(words: TlsWords, reader: &mut Reader<'_>) -> Self {
        let tls = words.iter().flatten().next().map(|(_, source)| source.clone());
        let [cert, key, client_ca, client_auth] = words;
        Self {
            tls,
            tls_cert: reader.word(cert, setting::path),
            tls_key: reader.word(key, setting::path),
            tls_client_ca: reader.word(client_ca, setting::path),
            tls_client_auth: reader.word(client_auth, client_auth_setting),
            ..Self::default()
        }
    }

    /// Reads `tls` of a file.
    pub(super) fn read_tls(&mut self, reader: &mut FileReader<'_>, entry: &Entry) {
        self.tls = Some(reader.source("", "tls", entry.line));
        for entry in reader.map(entry, "tls") {
            match entry.key.as_str() {
                "cert" => self.tls_cert = reader.value("tls.", entry, setting::path),
                "key" => self.tls_key = reader.value("tls.", entry, setting::path),
                "client_ca" => self.tls_client_ca = reader.value("tls.", entry, setting::path),
                "client_auth" => self.tls_client_auth = reader.value("tls.", entry, client_auth_setting),
                "kernel" => self.tls_kernel = reader.value("tls.", entry, kernel_setting),
                _ => reader.unknown("tls.", entry, &TLS_KEYS),
            }
        }
    }

    /// Reads `auth` of a file.
    pub(super) fn read_auth(&mut self, reader: &mut FileReader<'_>, entry: &Entry) {
        for entry in reader.map(entry, "auth") {
            match entry.key.as_str() {
                "jwt" => self.read_jwt(reader, entry),
                _ => reader.unknown("auth.", entry, &["jwt"]),
            }
        }
    }

    fn read_jwt(&mut self, reader: &mut FileReader<'_>, entry: &Entry) {
        self.jwt = Some(reader.source("auth.", "jwt", entry.line));
        for entry in reader.map(entry, "auth.jwt") {
            match entry.key.as_str() {
                "keys" => self.jwt_keys = reader.value("auth.jwt.", entry, setting::path),
                "algorithms" => self.jwt_algorithms = reader.value("auth.jwt.", entry, algorithms),
                "issuer" => self.jwt_issuers = reader.value("auth.jwt.", entry, names),
                "audience" => self.jwt_audiences = reader.value("auth.jwt.", entry, names),
                "role_claim" => self.jwt_role_claim = reader.value("auth.jwt.", entry, name),
                "leeway_seconds" => {
                    self.jwt_leeway = reader.value("auth.jwt.", entry, |raw| LEEWAY_SECONDS.read(raw));
                }
                _ => reader.unknown("auth.jwt.", entry, &JWT_KEYS),
            }
        }
    }

    /// Reads `rate_limit` of a file.
    pub(super) fn read_rate_limit(&mut self, reader: &mut FileReader<'_>, entry: &Entry) {
        const PARENT: &str = "rate_limit.";
        for entry in reader.map(entry, "rate_limit") {
            match entry.key.as_str() {
                "requests_per_second" => {
                    self.requests_per_second = reader.value(PARENT, entry, |raw| REQUESTS.read(raw));
                }
                "burst" => self.burst = reader.value(PARENT, entry, |raw| REQUESTS.read(raw)),
                "bytes_per_second" => self.bytes_per_second = reader.value(PARENT, entry, |raw| BYTES.read(raw)),
                _ => reader.unknown(PARENT, entry, &RATE_KEYS),
            }
        }
    }

    pub fn over(self, below: Self) -> Self {
        Self {
            tls: self.tls.or(below.tls),
            tls_cert: self.tls_cert.or(below.tls_cert),
            tls_key: self.tls_key.or(below.tls_key),
            tls_client_ca: self.tls_client_ca.or(below.tls_client_ca),
            tls_client_auth: self.tls_client_auth.or(below.tls_client_auth),
            tls_kernel: self.tls_kernel.or(below.tls_kernel),
            jwt: self.jwt.or(below.jwt),
            jwt_keys: self.jwt_keys.or(below.jwt_keys),
            jwt_algorithms: self.jwt_algorithms.or(below.jwt_algorithms),
            jwt_issuers: self.jwt_issuers.or(below.jwt_issuers),
            jwt_audiences: self.jwt_audiences.or(below.jwt_audiences),
            jwt_role_claim: self.jwt_role_claim.or(below.jwt_role_claim),
            jwt_leeway: self.jwt_leeway.or(below.jwt_leeway),
            requests_per_second: self.requests_per_second.or(below.requests_per_second),
            burst: self.burst.or(below.burst),
            bytes_per_second: self.bytes_per_second.or(below.bytes_per_second),
        }
    }

    /// TLS as the settings say together; `None` is plain HTTP.
    pub fn tls(&self, problems: &mut Vec<Problem>) -> Option<TlsOptions> {
        let source = self.tls.as_ref()?;
        let mut problem = |source: &Source, message: &str| problems.push(Problem::new(source, message));
        if self.tls_cert.is_none() {
            problem(source, "TLS needs a certificate: give tls.cert, NABU_TLS_CERT or --tls-cert too");
        }
        if self.tls_key.is_none() {
            problem(source, "TLS needs a private key: give tls.key, NABU_TLS_KEY or --tls-key too");
        }
        let client_auth = match (&self.tls_client_ca, &self.tls_client_auth) {
            (None, None) => ClientAuth::None,
            (Some(_), None) => ClientAuth::Required,
            (Some(_), Some(auth)) => auth.value,
            (None, Some(auth)) => {
                if auth.value != ClientAuth::None {
                    problem(
                        &auth.source,
                        "client certificates need the authorities that signed them: give tls.client_ca too",
                    );
                }
                auth.value
            }
        };
        let client_ca = self.tls_client_ca.as_ref().filter(|_| client_auth != ClientAuth::None);
        Some(TlsOptions {
            cert: self.tls_cert.as_ref()?.value.clone(),
            key: self.tls_key.as_ref()?.value.clone(),
            client_ca: client_ca.map(|path| path.value.clone()),
            client_auth,
            kernel: self.tls_kernel.as_ref().is_none_or(|kernel| kernel.value),
        })
    }

    /// JWTs as the settings say together; `None` takes none.
    pub fn jwt(&self, problems: &mut Vec<Problem>) -> Option<JwtOptions> {
        let source = self.jwt.as_ref()?;
        if self.jwt_keys.is_none() {
            problems.push(Problem::new(source, "needs the keys that tokens are signed with: give auth.jwt.keys too"));
        }
        let names =
            |names: &Option<Sourced<Vec<String>>>| names.as_ref().map_or(Vec::new(), |names| names.value.clone());
        let algorithms = self.jwt_algorithms.as_ref();
        Some(JwtOptions {
            keys: self.jwt_keys.as_ref()?.value.clone(),
            algorithms: algorithms.map_or_else(|| JwtAlgorithm::ALL.to_vec(), |algorithms| algorithms.value.clone()),
            issuers: names(&self.jwt_issuers),
            audiences: names(&self.jwt_audiences),
            role_claim: self
                .jwt_role_claim
                .as_ref()
                .map_or_else(|| ROLE_CLAIM_DEFAULT.to_owned(), |claim| claim.value.clone()),
            leeway_seconds: self.jwt_leeway.as_ref().map_or(LEEWAY_SECONDS_DEFAULT, |leeway| leeway.value),
        })
    }

    pub fn rate_limit(&self, problems: &mut Vec<Problem>) -> RateLimit {
        let value = |setting: &Option<Sourced<u64>>| setting.as_ref().map(|setting| setting.value);
        if let (Some(burst), None) = (&self.burst, &self.requests_per_second) {
            let message = "is the burst of a rate that isn't set: give rate_limit.requests_per_second too";
            problems.push(Problem::new(&burst.source, message));
        }
        RateLimit {
            requests_per_second: value(&self.requests_per_second),
            burst: value(&self.burst),
            bytes_per_second: value(&self.bytes_per_second),
        }
    }
}

fn client_auth_setting(raw: Raw<'_>) -> Result<ClientAuth, String> {
    match raw.text().map(str::trim) {
        Some("none") => Ok(ClientAuth::None),
        Some("optional") => Ok(ClientAuth::Optional),
        Some("required") => Ok(ClientAuth::Required),
        _ => Err("must be none, optional or required".to_owned()),
    }
}

fn kernel_setting(raw: Raw<'_>) -> Result<bool, String> {
    match raw {
        Raw::Value(Value::Text(text)) if text == "auto" => Ok(true),
        // YAML 1.1 readers take `off` for a Boolean.
        Raw::Value(Value::Text(text)) if text == "off" => Ok(false),
        Raw::Value(Value::Bool(false)) => Ok(false),
        _ => Err("must be auto or off".to_owned()),
    }
}

fn name(raw: Raw<'_>) -> Result<String, String> {
    raw.text().filter(|text| !text.is_empty()).map(str::to_owned).ok_or_else(|| "must be a text".to_owned())
}

fn names(raw: Raw<'_>) -> Result<Vec<String>, String> {
    let names: Option<Vec<String>> = match raw {
        Raw::Value(Value::List(nodes)) => nodes.iter().map(|node| name(Raw::Value(&node.value)).ok()).collect(),
        raw => name(raw).ok().map(|name| vec![name]),
    };
    names
        .filter(|names| (1..=NAMES_MAX).contains(&names.len()))
        .ok_or_else(|| format!("must be a text or a list of 1..{NAMES_MAX} texts, none of them empty"))
}

fn algorithms(raw: Raw<'_>) -> Result<Vec<JwtAlgorithm>, String> {
    let known = |name: &String| JwtAlgorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name);
    let algorithms = names(raw).ok().and_then(|names| names.iter().map(known).collect::<Option<Vec<_>>>());
    algorithms.ok_or_else(|| {
        let known: Vec<_> = JwtAlgorithm::ALL.iter().map(|algorithm| algorithm.name()).collect();
        format!("must be one of {}, or a list of them", known.join(", "))
    })
}
