//! TLS between nodes: a certificate that this process makes itself, and no other is checked.
//!
//! A node is known by the secret of its cluster, which the handshake inside proves
//! (`nabu_net::peer::handshake`). Whoever sits in between has two connections with another binding
//! each, so that a proof is good on neither. The certificate is new at each start and lies in
//! memory alone.
//!
//! TLS 1.3, ALPN `nabu-peer/1`, no client certificates, no tickets: connections live long. The
//! cipher suites are those whose hash is SHA-256, as exporters are derived with that.

use std::fmt::Display;
use std::sync::Arc;

use nabu_net::peer::upgrade::UPGRADE_PROTOCOL;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, UnbufferedServerConnection};
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, Error, PeerIncompatible, ServerConfig, SignatureScheme};

use super::exporter::{Exporter, SECRET_BYTES};
use super::provider;

/// What the ALPN of a connection between nodes names.
pub const PEER_PROTOCOL: &[u8] = UPGRADE_PROTOCOL.as_bytes();
/// What the certificate is made out to. Nobody looks.
const NAME: &str = "nabu-peer";

/// How connections between nodes are encrypted.
pub struct PeerTls {
    server: ServerConfig,
    client: ClientConfig,
}

impl PeerTls {
    /// Makes a key and a certificate.
    ///
    /// # Errors
    /// The cryptography refuses what was made, or the machine has no randomness to give.
    pub fn new() -> Result<Self, String> {
        let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).map_err(unmade)?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = peer_provider();
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .and_then(|builder| {
                builder.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key.into())
            })
            .map_err(unmade)?;
        server.alpn_protocols = vec![PEER_PROTOCOL.to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let verifier = Arc::new(AnyCertificate(provider.signature_verification_algorithms));
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(unmade)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        client.alpn_protocols = vec![PEER_PROTOCOL.to_vec()];
        client.resumption = Resumption::disabled();
        client.enable_sni = false;
        Ok(Self { server, client })
    }

    /// The protocol of a connection that another node makes to this one.
    pub fn accept(&self) -> Result<(UnbufferedServerConnection, Exporter), Error> {
        let (config, exporter) = self.server_config();
        Ok((UnbufferedServerConnection::new(config)?, exporter))
    }

    /// The protocol of a connection to another node.
    pub fn connect(&self) -> Result<(UnbufferedClientConnection, Exporter), Error> {
        let (config, exporter) = self.client_config();
        Ok((UnbufferedClientConnection::new(config, name())?, exporter))
    }

    /// For one connection, as the exporter is of one.
    pub(super) fn server_config(&self) -> (Arc<ServerConfig>, Exporter) {
        let (mut config, exporter) = (self.server.clone(), Exporter::default());
        config.key_log = Arc::new(exporter.clone());
        (Arc::new(config), exporter)
    }

    /// What trusts everybody, for clients in tests.
    #[cfg(test)]
    pub fn trusting(&self) -> ClientConfig {
        self.client.clone()
    }

    /// For one connection.
    pub(super) fn client_config(&self) -> (Arc<ClientConfig>, Exporter) {
        let (mut config, exporter) = (self.client.clone(), Exporter::default());
        config.key_log = Arc::new(exporter.clone());
        (Arc::new(config), exporter)
    }
}

pub(super) fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).expect("it is a name")
}

fn unmade(error: impl Display) -> String {
    format!("can't make a certificate for connections between nodes: {error}")
}

fn peer_provider() -> Arc<CryptoProvider> {
    let mut provider = CryptoProvider::clone(&provider());
    let has_hash = |suite: &rustls::Tls13CipherSuite| suite.common.hash_provider.output_len() == SECRET_BYTES;
    provider.cipher_suites.retain(|suite| suite.tls13().is_some_and(has_hash));
    Arc::new(provider)
}

/// Takes any certificate whose key the other side has.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
