//! Certificates and keys in PEM files, and what to tell who named the wrong ones.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::private_file::read_private;

/// The most bytes of a file of certificates: all authorities of the web take a quarter of it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A file that does not hold what it should.
#[derive(Debug)]
pub enum TlsFileError {
    Unreadable {
        file: PathBuf,
        error: io::Error,
    },
    /// What it should hold, and what it holds.
    Wrong {
        file: PathBuf,
        reason: String,
    },
}

impl fmt::Display for TlsFileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, error } => write!(formatter, "{}: cannot be read: {error}", file.display()),
            Self::Wrong { file, reason } => write!(formatter, "{}: {reason}", file.display()),
        }
    }
}

impl std::error::Error for TlsFileError {}

/// All certificates of a file, at least one, in its order.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let unreadable = |error| TlsFileError::Unreadable { file: path.to_owned(), error };
    let wrong = |reason: String| TlsFileError::Wrong { file: path.to_owned(), reason };
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(wrong(format!("is not a file of certificates: it has more than {FILE_BYTES_MAX} bytes")));
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = certificates.map_err(|error| wrong(format!("is damaged: {error}")))?;
    if certificates.is_empty() {
        let remedy = if has_key(&bytes) {
            "a private key belongs in tls.key"
        } else {
            "certificates are in PEM, between BEGIN CERTIFICATE and END CERTIFICATE; convert DER with `openssl x509 -inform der`"
        };
        return Err(wrong(format!("holds no certificate; {remedy}")));
    }
    Ok(certificates)
}

/// The private key of a file, the first one.
pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    let wrong = |reason: &str| TlsFileError::Wrong { file: path.to_owned(), reason: reason.to_owned() };
    let text = read_private(path).map_err(|error| TlsFileError::Unreadable { file: path.to_owned(), error })?;
    match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) if text.contains("BEGIN ENCRYPTED PRIVATE KEY") => Err(wrong(
            "the private key is encrypted with a password; write it without one: `openssl pkey -in KEY -out PLAIN`, and keep that file private",
        )),
        Err(pem::Error::NoItemsFound) if text.contains("BEGIN CERTIFICATE") => {
            Err(wrong("holds no private key; a certificate belongs in tls.cert"))
        }
        Err(pem::Error::NoItemsFound) => Err(wrong(
            "holds no private key; keys are in PEM, between BEGIN PRIVATE KEY and END PRIVATE KEY; convert DER with `openssl pkey -inform der`",
        )),
        Err(error) => Err(wrong(&format!("is damaged: {error}"))),
    }
}

fn has_key(bytes: &[u8]) -> bool {
    PrivateKeyDer::pem_slice_iter(bytes).next().is_some_and(|key| key.is_ok())
}
