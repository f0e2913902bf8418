//! Certificates, keys and the parameters of TLS: from what the configuration names to what
//! connections are accepted with.
//!
//! | room | question it answers |
//! | --- | --- |
//! | this one | which protocol do connections get? |
//! | `files` | what do the files hold, and what is wrong with them? |
//! | `validity` | until when is a certificate valid? |
//! | `client` | which CAs does a client trust, and what does it say when a handshake fails? |
//! | `peer` | how do nodes encrypt what they say to each other? |
//! | `exporter` | what binds a handshake of nodes to its TLS connection? |
//! | `records` | how much room do records take? |
//!
//! TLS 1.3 and 1.2, with the ciphers in the order that this machine is fastest with, whatever the
//! client prefers: AES-128-GCM, AES-256-GCM, ChaCha20-Poly1305. Sessions resume by tickets, whose
//! keys live as long as the certificate that is loaded: after a reload every client shakes hands
//! anew.

mod client;
mod exporter;
mod files;
mod peer;
pub mod records;
mod validity;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fmt, io};

use nabu_engine::ring::kernel_tls;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{CipherSuite, InconsistentKeys, RootCertStore, ServerConfig};

use crate::config::{ClientAuth, TlsOptions};

pub use self::client::{ClientTls, insecure, trusted};
pub use self::exporter::{Binding, Exporter};
pub use self::files::TlsFileError;
pub use self::peer::{PEER_PROTOCOL, PeerTls};

/// What new connections are accepted with.
pub struct ServerTls {
    pub config: Arc<ServerConfig>,
    pub offload: Arc<Offload>,
}

/// Whether the kernel takes connections over.
pub struct Offload {
    on: AtomicBool,
    takes_new_keys: bool,
}

impl Offload {
    /// Asks the kernel, and says in the log what came of it.
    pub fn probe(wanted: bool) -> Self {
        let (on, takes_new_keys) = if wanted {
            match kernel_tls::probe() {
                Ok(abilities) => {
                    tracing::info!("TLS: the kernel encrypts, and large answers leave without a copy");
                    (true, abilities.takes_new_keys)
                }
                Err(error) => {
                    let remedy = match error.kind() {
                        io::ErrorKind::NotFound => {
                            "; to give it to the kernel, load its module (modprobe tls) and start again"
                        }
                        _ => "",
                    };
                    tracing::info!(%error, "TLS: this process encrypts, since the kernel does not{remedy}");
                    (false, false)
                }
            }
        } else {
            tracing::info!("TLS: this process encrypts, as configured");
            (false, false)
        };
        Self { on: AtomicBool::new(on), takes_new_keys }
    }

    /// Without TLS there is nothing to take over.
    pub fn off() -> Self {
        Self { on: AtomicBool::new(false), takes_new_keys: false }
    }

    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Whether the kernel takes new keys for a connection that has some.
    pub fn takes_new_keys(&self) -> bool {
        self.takes_new_keys
    }

    /// The kernel refused a connection. It gets no more of them if it would refuse them all; a
    /// client that has left, or a lack of memory, says nothing about the others.
    pub fn refused(&self, error: &io::Error) {
        if !is_for_all(error) {
            tracing::debug!(%error, "TLS: the kernel does not take a connection");
        } else if self.on.swap(false, Ordering::Relaxed) {
            tracing::warn!(%error, "TLS: the kernel refused a connection; from now on this process encrypts");
        }
    }
}

/// Whether the kernel refused a connection for a reason that holds for every other one, too.
fn is_for_all(error: &io::Error) -> bool {
    /// No such module, option, operation, cipher. The numbers are those of every architecture that
    /// this runs on.
    const ENOENT: i32 = 2;
    const EINVAL: i32 = 22;
    const ENOPROTOOPT: i32 = 92;
    const EOPNOTSUPP: i32 = 95;
    matches!(error.raw_os_error(), Some(ENOENT | EINVAL | ENOPROTOOPT | EOPNOTSUPP))
}

/// What is wrong with the certificate, the key or the authorities.
#[derive(Debug)]
pub enum TlsError {
    File(TlsFileError),
    /// The key is not the one of the certificate.
    KeyMismatch {
        cert: PathBuf,
        key: PathBuf,
    },
    Unusable {
        file: PathBuf,
        error: String,
    },
}

impl fmt::Display for TlsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(formatter),
            Self::KeyMismatch { cert, key } => write!(
                formatter,
                "{}: is not the key of the first certificate in {}; name the key that it was made with, and put the server's own certificate first",
                key.display(),
                cert.display()
            ),
            Self::Unusable { file, error } => write!(formatter, "{}: can't be used: {error}", file.display()),
        }
    }
}

impl std::error::Error for TlsError {}

impl From<TlsFileError> for TlsError {
    fn from(error: TlsFileError) -> Self {
        Self::File(error)
    }
}

/// The cryptography of both sides.
pub fn provider() -> Arc<CryptoProvider> {
    const FASTEST_FIRST: [CipherSuite; 3] = [
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    let mut provider = aws_lc_rs::default_provider();
    let name = |suite: CipherSuite| format!("{suite:?}");
    let rank = |suite: CipherSuite| match FASTEST_FIRST.iter().position(|first| *first == suite) {
        Some(position) => position,
        // TLS 1.2, in the same order.
        None if name(suite).contains("AES_128_GCM") => 10,
        None if name(suite).contains("AES_256_GCM") => 11,
        None => 12,
    };
    provider.cipher_suites.sort_by_key(|suite| rank(suite.suite()));
    Arc::new(provider)
}

/// Reads the files and checks that they fit together.
///
/// # Errors
/// The first file that is wrong, and what to do about it.
pub fn load(options: &TlsOptions, offload: Arc<Offload>) -> Result<ServerTls, TlsError> {
    let certificates = files::read_certificates(&options.cert)?;
    let key = files::read_key(&options.key)?;
    validity::warn_about(&options.cert, &certificates[0]);
    let unusable =
        |file: &PathBuf, error: rustls::Error| TlsError::Unusable { file: file.clone(), error: error.to_string() };
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&options.cert, error))?;
    let builder = match (&options.client_ca, options.client_auth) {
        (Some(path), ClientAuth::Optional | ClientAuth::Required) => {
            let mut roots = RootCertStore::empty();
            for certificate in files::read_certificates(path)? {
                roots.add(certificate).map_err(|error| unusable(path, error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            let verifier = match options.client_auth {
                ClientAuth::Optional => verifier.allow_unauthenticated(),
                ClientAuth::None | ClientAuth::Required => verifier,
            };
            let verifier = verifier
                .build()
                .map_err(|error| TlsError::Unusable { file: path.clone(), error: error.to_string() })?;
            builder.with_client_cert_verifier(verifier)
        }
        _ => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(certificates, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::KeyMismatch { cert: options.cert.clone(), key: options.key.clone() }
        }
        rustls::Error::InvalidCertificate(_) => unusable(&options.cert, error),
        error => unusable(&options.key, error),
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ignore_client_order = true;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| unusable(&options.key, error))?;
    config.enable_secret_extraction = offload.is_on();
    Ok(ServerTls { config: Arc::new(config), offload })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_on_after(error: i32) -> bool {
        let offload = Offload { on: AtomicBool::new(true), takes_new_keys: false };
        offload.refused(&io::Error::from_raw_os_error(error));
        offload.is_on()
    }

    #[test]
    fn a_client_that_has_left_and_a_lack_of_memory_turn_nothing_off() {
        // ENOTCONN, ENOMEM, ENOBUFS, ECONNRESET, EINTR.
        for passing in [107, 12, 105, 104, 4] {
            assert!(is_on_after(passing), "{passing}");
        }
    }

    #[test]
    fn a_kernel_that_has_no_tls_is_asked_no_more() {
        // ENOENT, EINVAL, ENOPROTOOPT, EOPNOTSUPP.
        for lasting in [2, 22, 92, 95] {
            assert!(!is_on_after(lasting), "{lasting}");
        }
    }
}
