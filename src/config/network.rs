//! A network of addresses: `10.0.0.0/8`, `fd00::/8`, or one address alone.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// A network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    /// As an address of IPv6; those of IPv4 are mapped into it (RFC 4291, section 2.5.5.2).
    address: Ipv6Addr,
    /// How many of its bits all addresses of the network have.
    prefix: u32,
}

/// Bits of an address of IPv6, and of those before a mapped one.
const BITS: u32 = 128;
const MAPPED_BITS: u32 = 96;

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

impl Network {
    pub fn contains(&self, address: IpAddr) -> bool {
        let differing = self.address.to_bits() ^ mapped(address).to_bits();
        self.prefix == 0 || differing >> (BITS - self.prefix) == 0
    }
}

/// A text that is no network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidNetwork;

impl fmt::Display for InvalidNetwork {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a network is an address, or one with a prefix such as 10.0.0.0/8")
    }
}

impl std::error::Error for InvalidNetwork {}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u32>().map_err(|_| InvalidNetwork)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| InvalidNetwork)?;
        let before = if address.is_ipv4() { MAPPED_BITS } else { 0 };
        let prefix = prefix.map_or(Some(BITS), |prefix| prefix.checked_add(before)).ok_or(InvalidNetwork)?;
        if prefix > BITS {
            return Err(InvalidNetwork);
        }
        Ok(Self { address: mapped(address), prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_addresses_with_its_prefix() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", &["10.0.0.1", "10.255.255.255", "::ffff:10.1.2.3"][..], &["11.0.0.0", "::1"][..]),
            ("192.0.2.7", &["192.0.2.7"], &["192.0.2.8"]),
            ("0.0.0.0/0", &["1.2.3.4"], &["fd00::1"]),
            ("fd00::/8", &["fd12::1"], &["fe80::1", "10.0.0.1"]),
            ("::/0", &["::1", "10.0.0.1"], &[]),
            ("::1", &["::1"], &["::2"]),
        ] {
            let network: Network = network.parse().expect(network);
            for address in inside {
                assert!(network.contains(address.parse().expect("an address")), "{address}");
            }
            for address in outside {
                assert!(!network.contains(address.parse().expect("an address")), "{address}");
            }
        }
        for bad in ["", "host", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1", "/8", "10.0.0.0/4294967295"] {
            assert_eq!(bad.parse::<Network>(), Err(InvalidNetwork), "{bad}");
        }
    }
}
