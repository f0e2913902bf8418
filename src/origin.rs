//! What counts as one address where a limit is for each.

use std::net::IpAddr;

/// What counts as one address: of IPv6 a network of 64 bits, which one host may have to itself (RFC
/// 4291, section 2.5.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Origin {
    V4([u8; 4]),
    V6([u8; 8]),
    /// The kernel does not say: the connection is gone already.
    Unknown,
}

impl From<Option<IpAddr>> for Origin {
    fn from(address: Option<IpAddr>) -> Self {
        match address.map(|address| address.to_canonical()) {
            Some(IpAddr::V4(address)) => Self::V4(address.octets()),
            Some(IpAddr::V6(address)) => {
                let [network @ .., _, _, _, _, _, _, _, _] = address.octets();
                Self::V6(network)
            }
            None => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Origin {
        Origin::from(Some(text.parse::<IpAddr>().expect("an address")))
    }

    #[test]
    fn a_host_is_one_origin_whichever_of_its_addresses_it_takes() {
        assert_eq!(at("192.0.2.1"), at("::ffff:192.0.2.1"));
        assert_ne!(at("192.0.2.1"), at("192.0.2.2"));
        assert_eq!(at("2001:db8:0:1::1"), at("2001:db8:0:1:ffff::3"));
        assert_ne!(at("2001:db8:0:1::1"), at("2001:db8:0:2::1"));
    }
}
