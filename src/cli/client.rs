//! The HTTP client that the commands share: addresses, tokens, and what an answer means.
//!
//! Talks to the server directly, by HTTP/1.1 over plain connections or TLS: proxy variables are not
//! used, redirects are not followed.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::header::AUTHORIZATION;
use ureq::http::{HeaderMap, HeaderValue, Method, Request, Response};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, AsSendBody, Body};

use nabu_engine::types::{ContentHash, unhex};

use super::address;
use super::exit::{Exit, Failure};
use crate::text::printable;
use crate::tls;

/// The most time until a connection stands, over all addresses of the host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The most time without a byte from the server. An upload's answer comes after its last frame is
/// durable, which a slow disk delays.
const READ_TIMEOUT: Duration = Duration::from_secs(120);
/// The most time without a byte to the server.
const WRITE_TIMEOUT: Duration = Duration::from_secs(120);
/// The most bytes of a JSON answer: a page of ids has 10,000 of them at most.
const JSON_BYTES_MAX: u64 = 4 << 20;
/// The most bytes read of an error's answer.
const ERROR_BYTES_MAX: u64 = 64 << 10;

/// What a server that is overloaded, restarts or fails answers.
const PASSING_STATUSES: [u16; 5] = [429, 500, 502, 503, 504];
/// What stays as it is until somebody stores the blob again.
const LASTING_ERRORS: [&str; 2] = ["blob damaged", "blob quarantined"];

/// The server's address, and the caller's token.
#[derive(Args, Clone)]
pub struct ApiOptions {
    /// The server's address
    #[arg(
        long,
        env = "NABU_API",
        value_name = "URL",
        default_value = "http://127.0.0.1:7070",
        global = false,
        display_order = 800
    )]
    pub api: String,

    /// The token to send; prefer the variable, because command lines are visible to other users
    #[arg(long, env = "NABU_TOKEN", value_name = "TOKEN", hide_env_values = true, display_order = 801)]
    pub token: Option<String>,

    /// The CAs to trust for https://, in PEM, instead of the system's own
    #[arg(long, env = "NABU_CACERT", value_name = "FILE", display_order = 802)]
    pub cacert: Option<PathBuf>,

    /// Send the token over http:// even to another machine, although anybody on the way can read it
    #[arg(
        long,
        env = "NABU_INSECURE_HTTP",
        value_parser = clap::builder::FalseyValueParser::new(),
        display_order = 803
    )]
    pub insecure_http: bool,
}

/// A server, and the token it is shown.
pub struct Client {
    agent: Agent,
    base: String,
    authorization: Option<HeaderValue>,
}

/// The shape of every error that the server answers.
#[derive(Deserialize)]
struct ErrorShape {
    error: String,
    message: String,
}

impl Client {
    /// Checks address and token; connects at the first request.
    pub fn new(options: &ApiOptions) -> Result<Self, Failure> {
        let base = address::check(&options.api)?;
        let authorization = match options.token.as_deref().map(str::trim) {
            None | Some("") => None,
            Some(token) => {
                address::refuse_exposed_token(&base, options.insecure_http)?;
                let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
                    Failure::usage("the token (--token or NABU_TOKEN) has characters that a token can't have")
                })?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("nabu-store/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .timeout_per_write(Some(WRITE_TIMEOUT));
        let config = if base.starts_with("https://") {
            config.tls_config(tls_config(options.cacert.as_deref())?)
        } else {
            config
        };
        Ok(Self { agent: config.build().new_agent(), base, authorization })
    }

    /// The server's address, for messages.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends a request and returns the head of the answer, whatever its status.
    pub fn send(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: impl AsSendBody,
    ) -> Result<Response<Body>, Failure> {
        let uri = format!("{}{path}", self.base);
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .body(body)
            .map_err(|error| Failure::usage(format!("{} is not the address of a server: {error}", self.base)))?;
        *request.headers_mut() = headers;
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        self.agent.run(request).map_err(|error| self.transport_failure(&error))
    }

    /// The same without a body, and an answer that is not a success is a failure.
    pub fn ask(&self, method: Method, path: &str) -> Result<Response<Body>, Failure> {
        let response = self.send(method, path, HeaderMap::new(), ())?;
        if response.status().is_success() { Ok(response) } else { Err(self.status_failure(response)) }
    }

    /// The failure for an answer that is not a success.
    pub fn status_failure(&self, response: Response<Body>) -> Failure {
        let status = response.status();
        let exit = Exit::of_status(status.as_u16());
        let asked = header_number(response.headers(), "retry-after").map(Duration::from_secs);
        let mut bytes = Vec::new();
        // An answer that breaks off here still has its status, and that is what counts.
        let _ = response.into_body().into_reader().take(ERROR_BYTES_MAX).read_to_end(&mut bytes);
        let (error, message) = match simd_json::from_slice::<ErrorShape>(&mut bytes) {
            Ok(shape) => (shape.error, printable(&shape.message)),
            Err(_) => {
                let reason = status.canonical_reason().unwrap_or("an unknown status");
                (reason.to_ascii_lowercase(), format!("{} answered {} {reason}", self.base, status.as_u16()))
            }
        };
        let hint = match status.as_u16() {
            401 if self.authorization.is_none() => "; set NABU_TOKEN",
            _ => "",
        };
        let is_passing = PASSING_STATUSES.contains(&status.as_u16()) && !LASTING_ERRORS.contains(&error.as_str());
        let retry_after = is_passing.then(|| asked.unwrap_or_default());
        Failure { exit, error, message: format!("{message}{hint}"), status: Some(status.as_u16()), retry_after }
    }

    /// The failure for a request that got no answer.
    fn transport_failure(&self, error: &ureq::Error) -> Failure {
        let base = &self.base;
        match error {
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => Failure::passing(
                Exit::Unreachable,
                "connection refused",
                format!("no server listens on {base}; start one, or name another with --api or NABU_API"),
            ),
            // What the peer of a handshake does wrong comes as an error of the connection.
            ureq::Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
                self.tls_failure(&error.to_string())
            }
            ureq::Error::Io(error) => {
                let message = format!("the connection to {base} failed: {error}");
                Failure::passing(Exit::Unreachable, "connection lost", message)
            }
            ureq::Error::HostNotFound => Failure::new(
                Exit::Unreachable,
                "host not found",
                format!("the host of {base} has no address; correct --api or NABU_API"),
            ),
            ureq::Error::ConnectionFailed | ureq::Error::Timeout(_) => {
                Failure::passing(Exit::Unreachable, "no answer", format!("{base} doesn't answer: {error}"))
            }
            ureq::Error::Rustls(error) => self.tls_failure(&error.to_string()),
            ureq::Error::Tls(reason) => self.tls_failure(reason),
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                Failure::usage(format!("{base} is not the address of a server: {error}"))
            }
            other => {
                Failure::new(Exit::Failed, "protocol error", format!("{base} did not answer with valid HTTP: {other}"))
            }
        }
    }
}

impl Client {
    fn tls_failure(&self, reason: &str) -> Failure {
        Failure::new(Exit::Unreachable, "TLS failed", tls::insecure(&self.base, reason))
    }
}

/// Whom to trust: the authorities in a file, or those of the system.
fn tls_config(cacert: Option<&Path>) -> Result<TlsConfig, Failure> {
    let trusted = tls::trusted(cacert).map_err(|error| Failure::usage(format!("--cacert: {error}")))?;
    let trusted: Vec<_> = trusted.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(tls::provider())
        .root_certs(RootCerts::Specific(Arc::new(trusted)))
        .build())
}

/// Reads a JSON answer.
pub fn json_of<T: DeserializeOwned>(response: Response<Body>) -> Result<T, Failure> {
    let mut bytes = Vec::new();
    response.into_body().into_reader().take(JSON_BYTES_MAX).read_to_end(&mut bytes).map_err(|error| {
        Failure::passing(Exit::Unreachable, "connection lost", format!("the answer ended early: {error}"))
    })?;
    simd_json::from_slice(&mut bytes).map_err(|error| {
        Failure::new(Exit::Failed, "protocol error", format!("the answer is not the expected JSON: {error}"))
    })
}

/// The content's hash, which the server sends as the entity tag.
pub fn etag_hash(headers: &HeaderMap) -> Option<ContentHash> {
    let etag = headers.get("etag")?.to_str().ok()?;
    unhex(etag.strip_prefix('"')?.strip_suffix('"')?.as_bytes()).map(ContentHash)
}

/// A header's value as text, if it is there and is text.
pub fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A header's value as a number.
pub fn header_number(headers: &HeaderMap, name: &str) -> Option<u64> {
    header_text(headers, name)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_cannot_travel_is_refused_and_not_shown() {
        let options = ApiOptions {
            api: "http://localhost".into(),
            token: Some("secret\nX-Evil: 1".into()),
            cacert: None,
            insecure_http: false,
        };
        let failure = Client::new(&options).err().expect("refused");
        assert_eq!(failure.exit, Exit::Usage);
        assert!(!failure.message.contains("secret"));
    }

    #[test]
    fn only_a_quoted_sha256_is_taken_as_hash() {
        let hash = ContentHash([0xab; 32]);
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("etag", HeaderValue::from_str(value).expect("a value"));
            etag_hash(&headers)
        };
        assert_eq!(of(&format!("\"{}\"", hash.to_hex())), Some(hash));
        for other in [hash.to_hex(), format!("W/\"{}\"", hash.to_hex()), "\"abc\"".into(), String::new()] {
            assert_eq!(of(&other), None, "{other:?}");
        }
    }
}
