//! The side of a client: which CAs it trusts, and what to tell the user when there is no secure
//! connection.
//!
//! All commands that connect come here, so they trust the same CAs and explain a refusal in the
//! same words. Certificates are always checked; there is no switch that turns that off.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::files::{TlsFileError, read_certificates};
use super::provider;

/// How connections to one server are encrypted. Those that share it resume each other's sessions.
#[derive(Clone, Debug)]
pub struct ClientTls {
    pub config: Arc<ClientConfig>,
    /// What the server's certificate must be made out to.
    pub name: ServerName<'static>,
}

impl ClientTls {
    /// For the server at `host`, a name or an address without brackets.
    ///
    /// # Errors
    /// The file can't be used, or no certificate can be made out to such a host.
    pub fn new(host: &str, cacert: Option<&Path>) -> Result<Self, String> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("{host}: https:// needs a host name or an IP address"))?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(trusted(cacert).map_err(|error| format!("--cacert: {error}"))?);
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has ciphers for both versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), name })
    }
}

/// The certificates to trust: those in a file, or those of the system.
///
/// # Errors
/// The file can't be read, or holds no certificate.
pub fn trusted(cacert: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    match cacert {
        Some(path) => read_certificates(path),
        None => Ok(rustls_native_certs::load_native_certs().certs),
    }
}

/// What to tell the user when no secure connection to `address` came about, and what to do.
pub fn insecure(address: &str, reason: &str) -> String {
    format!("no secure connection to {address}: {reason}; {}", hint(reason))
}

/// What to do about a certificate that isn't trusted. rustls names its reasons in its own words,
/// so a hint that is not found here costs no more than the hint.
fn hint(reason: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    if has(&["CaUsedAsEndEntity"]) {
        "the server shows a CA's certificate as its own, as plain `openssl req -x509` makes them: make it anew with \
         -addext basicConstraints=critical,CA:FALSE (docs/security.md has the command), or sign one with that CA"
    } else if has(&["not valid for name", "NotValidForName"]) {
        "name the server in the address as its certificate does"
    } else if has(&["expired", "Expired", "not valid yet", "NotValidYet"]) {
        "renew the server's certificate, or correct the clock"
    } else if has(&["UnknownIssuer"]) {
        "if your own CA signed the server's certificate, name the CA's file with --cacert or NABU_CACERT"
    } else if has(&["InvalidContentType", "corrupt message"]) {
        "does the server speak plain HTTP there? Then it is http://"
    } else {
        "see docs/security.md for how certificates are made and named"
    }
}
