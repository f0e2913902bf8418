//! How many connections there may be, in all and of one address.
//!
//! A part is kept for others than the address that has most: by itself half, so that one address
//! never takes all. Each port has its own.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use super::client::{Client, Port};
use super::error::HttpError;
use crate::config::{Limits, Network};
use crate::origin::Origin;

/// Connections to the port of operations, over all cores.
const OPS_CONNECTIONS_MAX: u32 = 64;

/// Counts the connections of all cores to one port against the limits.
#[derive(Debug)]
pub struct Admission {
    port: Port,
    max: u32,
    of_origin_max: u32,
    exempt: Vec<Network>,
    counts: Mutex<Counts>,
}

#[derive(Default, Debug)]
struct Counts {
    all: u32,
    of_origin: HashMap<Origin, u32>,
}

/// Why a connection is not wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    TooMany { max: u32 },
    TooManyOfAddress { max: u32 },
}

impl From<Refusal> for HttpError {
    fn from(refusal: Refusal) -> Self {
        let message = match refusal {
            Refusal::TooMany { max } => format!("this server accepts at most {max} connections at once; try again"),
            Refusal::TooManyOfAddress { max } => {
                format!(
                    "this server accepts at most {max} connections at once from one address; close some, or try again"
                )
            }
        };
        HttpError::unavailable("too many connections", message)
    }
}

impl Admission {
    pub fn new(port: Port, limits: &Limits) -> Self {
        let (max, of_origin_max) = match port {
            Port::Main => (limits.connections_max, limits.connections_per_address_max),
            Port::Ops => (OPS_CONNECTIONS_MAX, OPS_CONNECTIONS_MAX / 2),
        };
        Self { port, max, of_origin_max, exempt: limits.exempt_addresses.clone(), counts: Mutex::default() }
    }

    /// Who connects from an address; `None` when the kernel does not say.
    pub fn client(&self, address: Option<IpAddr>) -> Client {
        let is_exempt = address.is_some_and(|address| self.exempt.iter().any(|network| network.contains(address)));
        Client::new(self.port, Origin::from(address), is_exempt)
    }

    /// Counts one more.
    ///
    /// # Errors
    /// A limit is reached; then it is not counted.
    pub fn enter(&self, client: &Client) -> Result<(), Refusal> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.all >= self.max {
            return Err(Refusal::TooMany { max: self.max });
        }
        let of_origin = counts.of_origin.get(&client.origin).copied().unwrap_or(0);
        if of_origin >= self.of_origin_max && !client.is_exempt {
            return Err(Refusal::TooManyOfAddress { max: self.of_origin_max });
        }
        counts.all += 1;
        counts.of_origin.insert(client.origin, of_origin + 1);
        client.set_counted(true);
        Ok(())
    }

    /// Counts one less, if this one is counted.
    pub fn leave(&self, client: &Client) {
        if !client.set_counted(false) {
            return;
        }
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let Entry::Occupied(mut count) = counts.of_origin.entry(client.origin) else {
            panic!("a connection left that never entered");
        };
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
        counts.all -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(max: u32, of_origin_max: u32) -> Admission {
        let exempt = vec!["127.0.0.0/8".parse().expect("a network")];
        Admission { port: Port::Main, max, of_origin_max, exempt, counts: Mutex::default() }
    }

    fn enter(admission: &Admission, address: &str) -> Result<Client, Refusal> {
        let client = admission.client(Some(address.parse().expect("an address")));
        admission.enter(&client).map(|()| client)
    }

    #[test]
    fn no_more_connections_enter_than_the_limit() {
        let admission = admission(2, 2);
        let first = enter(&admission, "192.0.2.1").expect("room");
        enter(&admission, "192.0.2.2").expect("room");
        assert_eq!(enter(&admission, "127.0.0.1").err(), Some(Refusal::TooMany { max: 2 }));
        admission.leave(&first);
        admission.leave(&first);
        enter(&admission, "192.0.2.3").expect("room again");
        assert_eq!(enter(&admission, "192.0.2.4").err(), Some(Refusal::TooMany { max: 2 }), "it left once");
    }

    #[test]
    fn one_address_leaves_a_part_for_others() {
        let admission = admission(10, 2);
        let refused = Some(Refusal::TooManyOfAddress { max: 2 });
        let first = enter(&admission, "192.0.2.1").expect("room");
        enter(&admission, "::ffff:192.0.2.1").expect("room");
        assert_eq!(enter(&admission, "192.0.2.1").err(), refused);
        // A host of IPv6 may take any address of its network.
        enter(&admission, "2001:db8:0:1::1").expect("room");
        enter(&admission, "2001:db8:0:1::2").expect("room");
        assert_eq!(enter(&admission, "2001:db8:0:1:ffff::3").err(), refused);
        enter(&admission, "2001:db8:0:2::1").expect("room");
        for _ in 0..3 {
            enter(&admission, "127.0.0.1").expect("it is exempt");
        }
        admission.leave(&first);
        enter(&admission, "192.0.2.1").expect("room again");
        assert_eq!(admission.counts.lock().expect("not poisoned").all, 8);
    }
}
