//! What `host:port` names: an address, or a name that has to be resolved.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};

use nabu_engine::runtime::resolve;

/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;

/// A host, as the resolver takes it, and a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address<'a> {
    /// Without the brackets of IPv6.
    pub host: &'a str,
    pub port: u16,
}

impl<'a> Address<'a> {
    /// # Errors
    /// `InvalidInput` when the text is no such thing; the message says what it must be.
    pub fn parse(text: &'a str) -> io::Result<Self> {
        let invalid = || {
            let message = format!(
                "{text:?} is not the address of a node: use host:port, such as node-1:7070 or [2001:db8::1]:7070"
            );
            io::Error::new(io::ErrorKind::InvalidInput, message)
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(invalid)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(literal) if literal.parse::<Ipv6Addr>().is_ok() => literal,
            None if !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)) =>
            {
                host
            }
            _ => return Err(invalid()),
        };
        Ok(Self { host, port })
    }

    /// The addresses to try, in their order.
    pub async fn resolve(self) -> io::Result<Vec<SocketAddr>> {
        let mut addresses = resolve(self.host, self.port).await?;
        addresses.truncate(ADDRESSES_MAX);
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_literals_with_a_port_are_addresses() {
        for (text, host, port) in [
            ("node-1:7070", "node-1", 7070),
            ("node_1.rack.example.:1", "node_1.rack.example.", 1),
            ("192.0.2.1:65535", "192.0.2.1", 65535),
            ("[2001:db8::1]:7070", "2001:db8::1", 7070),
        ] {
            assert_eq!(Address::parse(text).expect(text), Address { host, port });
        }
    }

    #[test]
    fn what_is_none_is_named_with_what_it_must_be() {
        for text in [
            "",
            "node-1",
            ":7070",
            "node-1:",
            "node-1:0",
            "node-1:65536",
            "2001:db8::1:7070",
            "[node-1]:7070",
            "[2001:db8::1]",
            "node 1:7070",
            "node-1\r\n:7070",
            "http://node-1:7070",
            "knoten-ä:7070",
        ] {
            let error = Address::parse(text).expect_err(text);
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&format!("{text:?}")) && error.to_string().contains("host:port"));
        }
    }
}
