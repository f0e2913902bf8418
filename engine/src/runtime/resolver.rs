//! Which addresses a name has.
//!
//! The resolver of the C library reads files and asks servers, and blocks meanwhile, for half a
//! minute where no server answers. So it runs on a thread of its own, and a caller that gives up
//! leaves that thread behind. How many there may be is bounded for the whole process. A literal
//! address needs none.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, LazyLock};

use super::blocking::block_elsewhere;

/// Names that are resolved at the same time, in the whole process.
const RESOLUTIONS_MAX: usize = 16;
/// Modules of the name service switch take more of the stack than a look at a disk.
const STACK_BYTES: usize = 512 << 10;

/// What every resolution under way has a clone of.
static UNDER_WAY: LazyLock<Arc<()>> = LazyLock::new(Arc::default);

/// The addresses of a host, a name or an address without brackets, each with this port. At least
/// one, in the order in which the system wants them tried.
///
/// # Errors
/// `NotFound` when the name has no address, or nobody says which; `ResourceBusy` when too many
/// names are being resolved.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let ticket = UNDER_WAY.clone();
    // One is the original.
    if Arc::strong_count(&ticket) > 1 + RESOLUTIONS_MAX {
        let message = format!(
            "{host}: {RESOLUTIONS_MAX} names are being resolved already: does the name server answer? \
             An address in place of the name needs none"
        );
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
    }
    let asked = host.to_owned();
    let answer = block_elsewhere("resolver", STACK_BYTES, move || {
        let _ticket = ticket;
        (asked.as_str(), port).to_socket_addrs().map(Vec::from_iter)
    });
    match answer.await? {
        Ok(addresses) if !addresses.is_empty() => Ok(addresses),
        Ok(_) => Err(io::Error::new(io::ErrorKind::NotFound, format!("{host}: this name has no address"))),
        Err(error) => Err(io::Error::new(io::ErrorKind::NotFound, format!("{host}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{RuntimeOptions, run};

    fn resolved(host: &'static str) -> io::Result<Vec<SocketAddr>> {
        let (answer, told) = std::sync::mpsc::channel();
        run(&RuntimeOptions { cores: 1, pin: false }, move |_, _| {
            let answer = answer.clone();
            async move { answer.send(resolve(host, 7070).await).expect("somebody listens") }
        })
        .expect("a core");
        told.recv().expect("an answer")
    }

    // One test, as they share what is under way.
    #[test]
    fn names_and_addresses_are_resolved_and_only_so_many_names_at_once() {
        let literal = |text: &str| vec![text.parse::<SocketAddr>().expect("an address")];
        assert_eq!(resolved("192.0.2.1").expect("an address"), literal("192.0.2.1:7070"));
        assert_eq!(resolved("2001:db8::1").expect("an address"), literal("[2001:db8::1]:7070"));
        let local = resolved("localhost").expect("every machine knows it");
        assert!(local.iter().all(|address| address.ip().is_loopback() && address.port() == 7070), "{local:?}");
        let nobody = resolved("nobody.invalid").expect_err("the name is reserved for this (RFC 2606)");
        assert_eq!(nobody.kind(), io::ErrorKind::NotFound);
        assert!(nobody.to_string().contains("nobody.invalid"), "{nobody}");
        let tickets = vec![UNDER_WAY.clone(); RESOLUTIONS_MAX];
        assert_eq!(resolved("localhost").expect_err("too many").kind(), io::ErrorKind::ResourceBusy);
        assert_eq!(resolved("192.0.2.1").expect("no name is asked for"), literal("192.0.2.1:7070"));
        drop(tickets);
        resolved("localhost").expect("there is room again");
    }
}
