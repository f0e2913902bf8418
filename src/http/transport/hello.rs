//! What a TLS client asks for with its first record, before there is a connection to answer it.

use rustls::server::Acceptor;

/// A record's type, version and length.
pub const HEADER_BYTES: usize = 5;
/// The type of the records that a handshake begins with.
pub const HANDSHAKE: u8 = 22;
/// The most bytes of a record behind its header (RFC 8446, section 5.2; RFC 5246, section 6.2.3).
pub const RECORD_BYTES_MAX: usize = (16 << 10) + 2048;

/// Whether the record that `input` starts with is a hello that offers this protocol (ALPN); `None`
/// while the record is not complete. A hello in several records counts as one that doesn't: nodes
/// send theirs in one.
pub fn offers(input: &[u8], protocol: &[u8]) -> Option<bool> {
    let Some((header, _)) = input.split_at_checked(HEADER_BYTES) else {
        return if input.first().is_none_or(|first| *first == HANDSHAKE) { None } else { Some(false) };
    };
    let size = HEADER_BYTES + usize::from(u16::from_be_bytes([header[3], header[4]]));
    if header[0] != HANDSHAKE || size > HEADER_BYTES + RECORD_BYTES_MAX {
        return Some(false);
    }
    let record = input.get(..size)?;
    // So that the hellos of all others aren't read twice.
    if !record.windows(protocol.len()).any(|window| window == protocol) {
        return Some(false);
    }
    let (mut acceptor, mut rest) = (Acceptor::default(), record);
    while !rest.is_empty() {
        if !matches!(acceptor.read_tls(&mut rest), Ok(1..)) {
            return Some(false);
        }
    }
    let Ok(Some(accepted)) = acceptor.accept() else { return Some(false) };
    let offered = accepted.client_hello().alpn();
    Some(offered.is_some_and(|mut offered| offered.any(|name| name == protocol)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;
    use crate::tls::{PEER_PROTOCOL, provider};

    fn hello(protocols: &[&[u8]]) -> Vec<u8> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has ciphers for both versions")
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from("localhost").expect("a name");
        let mut bytes = Vec::new();
        let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
        client.write_tls(&mut bytes).expect("written");
        bytes
    }

    fn offers_peer(input: &[u8]) -> Option<bool> {
        offers(input, PEER_PROTOCOL)
    }

    #[test]
    fn a_hello_is_judged_when_its_record_is_complete_and_by_its_protocols_alone() {
        for (protocols, expected) in [
            (&[][..], false),
            (&[&b"http/1.1"[..]][..], false),
            (&[PEER_PROTOCOL], true),
            (&[b"http/1.1", PEER_PROTOCOL], true),
            // It is in there, and it is not offered.
            (&[b"xnabu-peer/1"], false),
        ] {
            let hello = hello(protocols);
            for end in 0..hello.len() {
                assert_eq!(offers_peer(&hello[..end]), None, "{end} bytes of {protocols:?}");
            }
            assert_eq!(offers_peer(&hello), Some(expected), "{protocols:?}");
            assert_eq!(offers_peer(&[&hello[..], b"more"].concat()), Some(expected), "{protocols:?}");
        }
    }

    #[test]
    fn what_is_no_hello_is_told_at_once_and_nothing_panics() {
        assert_eq!(offers_peer(b"GET / HTTP/1.1\r\n"), Some(false));
        assert_eq!(offers_peer(b"G"), Some(false));
        assert_eq!(offers_peer(&[HANDSHAKE, 3, 1, 0xff, 0xff]), Some(false), "longer than a record");
        assert_eq!(offers_peer(&[HANDSHAKE, 3, 1, 0, 0]), Some(false), "an empty record");
        let good = hello(&[PEER_PROTOCOL]);
        for index in 0..good.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = good.clone();
                changed[index] = value;
                let _ = offers_peer(&changed);
            }
        }
    }
}
