//! Where a node is reached: a host and a port. A name stays a name, because it is resolved again at
//! each connect: what it stands for may change while the server runs.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// The most bytes of a host name, and of one of its parts (RFC 1035, section 2.3.4).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// `host:port`, with a port of 1 to 65535. Names are in lower case and addresses in their canonical
/// form, so that equal texts are what equal addresses have.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeAddress {
    text: String,
    host_bytes: usize,
}

impl NodeAddress {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host, an address of IPv6 in its brackets.
    pub fn host(&self) -> &str {
        &self.text[..self.host_bytes]
    }

    /// The address, if the host is none by name.
    pub fn ip(&self) -> Option<IpAddr> {
        self.text.parse::<SocketAddr>().ok().map(|address| address.ip())
    }

    fn new(host: &str, port: u16) -> Self {
        Self { text: format!("{host}:{port}"), host_bytes: host.len() }
    }
}

impl From<SocketAddr> for NodeAddress {
    fn from(address: SocketAddr) -> Self {
        match address.ip() {
            IpAddr::V4(ip) => Self::new(&ip.to_string(), address.port()),
            // An index of an interface means nothing on another machine.
            IpAddr::V6(ip) => Self::new(&format!("[{ip}]"), address.port()),
        }
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.text)
    }
}

/// A text that is no address of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InvalidNodeAddress {
    Form,
    /// `0.0.0.0` or `[::]`, which stands for all addresses of a machine.
    Wildcard,
}

impl fmt::Display for InvalidNodeAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Form => "HOST:PORT with a port of 1..65535, such as node-1:7070, 10.0.0.1:7070 or \"[fd00::1]:7070\"",
            Self::Wildcard => "an address to connect to; 0.0.0.0 and [::] are for listening alone",
        })
    }
}

impl std::error::Error for InvalidNodeAddress {}

impl FromStr for NodeAddress {
    type Err = InvalidNodeAddress;

    fn from_str(text: &str) -> Result<Self, InvalidNodeAddress> {
        let (host, port) = text.trim().rsplit_once(':').ok_or(InvalidNodeAddress::Form)?;
        let port = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
        let port: u16 = port.and_then(|port| port.parse().ok()).unwrap_or(0);
        let ip: Option<IpAddr> = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').and_then(|ip| ip.parse().ok()).map(IpAddr::V6),
            None => host.parse().ok().map(IpAddr::V4),
        };
        match ip {
            _ if port == 0 => Err(InvalidNodeAddress::Form),
            Some(ip) if ip.is_unspecified() => Err(InvalidNodeAddress::Wildcard),
            Some(ip) => Ok(SocketAddr::new(ip, port).into()),
            None if is_name(host) => Ok(Self::new(&host.to_ascii_lowercase(), port)),
            None => Err(InvalidNodeAddress::Form),
        }
    }
}

/// Whether it can be a name: one whose last part is a number would be a botched address
/// (RFC 3696, section 2).
fn is_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
            && !label.starts_with('-')
    };
    host.len() <= NAME_BYTES_MAX
        && host.split('.').all(is_label)
        && !host.rsplit('.').next().unwrap_or(host).bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_have_one_text_each() {
        let longest = format!("{}.example:1", "x".repeat(LABEL_BYTES_MAX));
        for (text, shown) in [
            ("node-1:7070", "node-1:7070"),
            (" Node_1.Example.org:65535 ", "node_1.example.org:65535"),
            ("nabu-0.nabu.default.svc.cluster.local.:7070", "nabu-0.nabu.default.svc.cluster.local.:7070"),
            ("10.0.0.1:7070", "10.0.0.1:7070"),
            ("[fd00:0:0::1]:7070", "[fd00::1]:7070"),
            ("localhost:1", "localhost:1"),
            ("1a:1", "1a:1"),
            (&longest, &longest),
        ] {
            let address: NodeAddress = text.parse().expect(text);
            assert_eq!((address.as_str(), address.to_string().as_str()), (shown, shown));
            assert_eq!(address.as_str().rsplit_once(':').map(|(host, _)| host), Some(address.host()), "{text}");
            assert_eq!(shown.parse(), Ok(address), "{text} is in its form already");
        }
        assert_eq!("[fd00:0::1]:1".parse::<NodeAddress>().map(|address| address.ip()), Ok("fd00::1".parse().ok()));
        assert_eq!("node-1:1".parse::<NodeAddress>().map(|address| address.ip()), Ok(None));
    }

    #[test]
    fn what_nobody_can_connect_to_is_refused() {
        let too_long = format!("{}x:1", "x.".repeat(NAME_BYTES_MAX / 2 + 1));
        let long_label = format!("{}:1", "x".repeat(LABEL_BYTES_MAX + 1));
        for text in [
            "",
            ":",
            "7070",
            "node-1",
            ":7070",
            "node-1:",
            "node-1:0",
            "node-1:65536",
            "node-1:+1",
            "node-1:http",
            "http://node-1:7070",
            "user@node-1:7070",
            "node 1:7070",
            "::1:7070",
            "[::1]",
            "[::1:7070",
            "[10.0.0.1]:1",
            "10.0.0:1",
            "10.0.0.256:1",
            "1:1",
            "-x:1",
            "a..b:1",
            "größe:1",
            "[fe80::1%eth0]:1",
            &too_long,
            &long_label,
        ] {
            assert_eq!(text.parse::<NodeAddress>(), Err(InvalidNodeAddress::Form), "{text:?}");
        }
        for text in ["0.0.0.0:7070", "[::]:7070"] {
            assert_eq!(text.parse::<NodeAddress>(), Err(InvalidNodeAddress::Wildcard), "{text:?}");
        }
    }

    #[test]
    fn a_listening_address_becomes_one_to_connect_to() {
        for (listening, shown) in [("127.0.0.1:7071", "127.0.0.1:7071"), ("[fe80::1%3]:7071", "[fe80::1]:7071")] {
            let address = NodeAddress::from(listening.parse::<SocketAddr>().expect("an address"));
            assert_eq!(address.as_str(), shown);
            assert_eq!(shown.parse(), Ok(address));
        }
    }
}
