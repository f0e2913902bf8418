//! What TLS 1.3 exports of a connection (RFC 8446, section 7.5), to bind a handshake inside to it
//! (RFC 9266).
//!
//! rustls exports from connections with buffers of its own alone. Without them it tells the secret
//! that exporters come from to a key log, once per handshake. The log here keeps what is derived
//! from the secret, and not the secret.

use std::fmt;
use std::sync::{Arc, OnceLock};

use nabu_net::peer::handshake::{BINDING_BYTES, BINDING_LABEL};
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::crypto::tls13::{HkdfExpander, OkmBlock};
use rustls::{KeyLog, Tls13CipherSuite};

/// What the key log of NSS calls the secret that exporters come from.
const EXPORTER_SECRET: &str = "EXPORTER_SECRET";
/// Bytes of that secret, and of the hash that it was made with: SHA-256.
pub const SECRET_BYTES: usize = 32;

/// What binds a handshake to a TLS connection: the same on both sides of it, and on no other.
pub type Binding = [u8; BINDING_BYTES];

/// The binding of one connection, once hands are shaken. Its cipher suites hash with SHA-256.
#[derive(Clone, Default)]
pub struct Exporter(Arc<OnceLock<Binding>>);

impl Exporter {
    pub fn binding(&self) -> Option<Binding> {
        self.0.get().copied()
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Exporter(hidden)")
    }
}

impl KeyLog for Exporter {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        if self.will_log(label) && secret.len() == SECRET_BYTES {
            self.0.get_or_init(|| export(secret));
        }
    }

    fn will_log(&self, label: &str) -> bool {
        label == EXPORTER_SECRET
    }
}

/// `TLS-Exporter(BINDING_LABEL, "", BINDING_BYTES)`.
fn export(secret: &[u8]) -> Binding {
    let suite = suite();
    let of_nothing = suite.common.hash_provider.hash(&[]);
    let mut derived = [0; SECRET_BYTES];
    let expander = suite.hkdf_provider.expander_for_okm(&OkmBlock::new(secret));
    expand_label(&*expander, BINDING_LABEL, of_nothing.as_ref(), &mut derived);
    let mut binding = [0; BINDING_BYTES];
    let expander = suite.hkdf_provider.expander_for_okm(&OkmBlock::new(&derived));
    expand_label(&*expander, b"exporter", of_nothing.as_ref(), &mut binding);
    binding
}

/// Any suite with this hash: it derives the same as the others.
fn suite() -> &'static Tls13CipherSuite {
    TLS13_AES_128_GCM_SHA256.tls13().expect("a suite of TLS 1.3")
}

/// `HKDF-Expand-Label` (RFC 8446, section 7.1).
fn expand_label(expander: &dyn HkdfExpander, label: &[u8], context: &[u8], output: &mut [u8]) {
    const PREFIX: &[u8] = b"tls13 ";
    let length = |of: usize| u8::try_from(of).expect("labels and hashes are short");
    let output_length = u16::try_from(output.len()).expect("a binding is short").to_be_bytes();
    let info: [&[u8]; 6] =
        [&output_length, &[length(PREFIX.len() + label.len())], PREFIX, label, &[length(context.len())], context];
    expander.expand_slice(&info, output).expect("a hash expands to its own length");
}

#[cfg(test)]
mod tests {
    use rustls::{ClientConnection, ServerConnection};

    use super::*;
    use crate::tls::peer::PeerTls;

    fn shake_hands(client: &mut ClientConnection, server: &mut ServerConnection) {
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).expect("written");
            server.read_tls(&mut &bytes[..]).expect("read");
            server.process_new_packets().expect("a good client");
            let mut bytes = Vec::new();
            server.write_tls(&mut bytes).expect("written");
            client.read_tls(&mut &bytes[..]).expect("read");
            client.process_new_packets().expect("a good server");
        }
    }

    #[test]
    fn the_binding_is_what_rustls_exports_itself_on_both_sides_and_another_on_each_connection() {
        let tls = PeerTls::new().expect("a certificate");
        let mut seen = Vec::new();
        for _ in 0..2 {
            let (server_config, of_server) = tls.server_config();
            let (client_config, of_client) = tls.client_config();
            assert_eq!((of_server.binding(), of_client.binding()), (None, None));
            let mut client = ClientConnection::new(client_config, crate::tls::peer::name()).expect("a client");
            let mut server = ServerConnection::new(server_config).expect("a server");
            shake_hands(&mut client, &mut server);
            let theirs = client.export_keying_material([0; BINDING_BYTES], BINDING_LABEL, Some(&[])).expect("exported");
            assert_eq!((of_server.binding(), of_client.binding()), (Some(theirs), Some(theirs)));
            seen.push(theirs);
        }
        assert_ne!(seen[0], seen[1]);
    }

    #[test]
    fn nothing_but_the_secret_of_exporters_is_logged() {
        let exporter = Exporter::default();
        for label in ["CLIENT_TRAFFIC_SECRET_0", "SERVER_HANDSHAKE_TRAFFIC_SECRET", "CLIENT_RANDOM"] {
            assert!(!exporter.will_log(label));
            exporter.log(label, &[0; 32], &[1; 32]);
        }
        exporter.log(EXPORTER_SECRET, &[0; 32], &[1; 48]);
        assert_eq!(exporter.binding(), None);
        exporter.log(EXPORTER_SECRET, &[0; 32], &[1; 32]);
        assert!(exporter.binding().is_some());
        assert_eq!(format!("{exporter:?}"), "Exporter(hidden)");
    }
}
