//! Who is at the other end of a connection, as far as it has shown.

use std::cell::Cell;

use crate::origin::Origin;

/// The port that a connection came in by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Port {
    /// Everything is served here.
    Main,
    /// Health and metrics alone, so that they are answered however busy the main port is.
    Ops,
}

/// The client of a connection.
pub struct Client {
    pub port: Port,
    pub origin: Origin,
    /// Exempt from the limits per address.
    pub is_exempt: bool,
    /// Whether it counts against the limits of connections.
    is_counted: Cell<bool>,
    /// The SHA-256 of the credential that was accepted last; `None` for a stranger.
    accepted: Cell<Option<[u8; 32]>>,
}

impl Client {
    pub fn new(port: Port, origin: Origin, is_exempt: bool) -> Self {
        Self { port, origin, is_exempt, is_counted: Cell::new(false), accepted: Cell::default() }
    }

    /// What the limits of one address count it as; `None` when none holds for it.
    pub fn limited_origin(&self) -> Option<Origin> {
        (!self.is_exempt).then_some(self.origin)
    }

    pub fn is_counted(&self) -> bool {
        self.is_counted.get()
    }

    /// Notes whether it counts against the limits of connections. Returns whether it did before.
    pub fn set_counted(&self, is_counted: bool) -> bool {
        self.is_counted.replace(is_counted)
    }

    /// It has shown a credential with this SHA-256, which is good.
    pub fn accept(&self, hash: [u8; 32]) {
        self.accepted.set(Some(hash));
    }

    /// Whether it has not shown any good credential.
    pub fn is_stranger(&self) -> bool {
        self.accepted.get().is_none()
    }

    /// Whether the credential that was accepted last has this SHA-256. It says nothing of whether
    /// that is still good.
    pub fn has_shown(&self, hash: &[u8; 32]) -> bool {
        self.accepted.get().as_ref() == Some(hash)
    }
}
