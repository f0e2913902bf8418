//! A certificate authority for the tests: certificates, keys, and configurations of clients that
//! trust it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use nabu_store::tls_provider;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};

/// An authority that signs what it is asked to.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pub pem: String,
}

/// A certificate with its key.
pub struct Identity {
    pub certificate: CertificateDer<'static>,
    pub cert_pem: String,
    pub key_pem: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).expect("no names");
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Self { issuer: Issuer::new(parameters, key), certificate: der, pem }
    }

    /// A certificate for `localhost`, changed as the test wants it.
    pub fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut parameters = CertificateParams::new(names).expect("names");
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut parameters);
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a certificate");
        Identity { certificate: certificate.der().clone(), cert_pem: certificate.pem(), key_pem: key.serialize_pem() }
    }

    /// A client that trusts this authority, and shows `identity` where it is asked for one.
    pub fn client(&self, versions: &[&'static SupportedProtocolVersion], identity: Option<&Identity>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("an authority");
        let builder = ClientConfig::builder_with_provider(tls_provider())
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let key = PrivateKeyDer::try_from(identity.key_der()).expect("a key");
                builder.with_client_auth_cert(vec![identity.certificate.clone()], key).expect("a key that fits")
            }
        }
    }

    /// The same for the version that clients use by themselves.
    pub fn trusting(&self) -> Arc<ClientConfig> {
        Arc::new(self.client(&[&version::TLS13], None))
    }
}

impl Identity {
    fn key_der(&self) -> Vec<u8> {
        KeyPair::from_pem(&self.key_pem).expect("our own").serialize_der()
    }

    /// Writes `NAME.crt` and `NAME.key`.
    pub fn write(&self, directory: &Path, name: &str) {
        fs::write(directory.join(format!("{name}.crt")), &self.cert_pem).expect("a file can be written");
        fs::write(directory.join(format!("{name}.key")), &self.key_pem).expect("a file can be written");
    }
}
