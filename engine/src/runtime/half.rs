//! The halves of a connection, and how one is shut down.

use std::net::{Shutdown, TcpStream};

use crate::ring::sys;

/// Which direction a shutdown or deadline is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Half {
    Read,
    Write,
    Both,
}

/// Shuts a half down. It fails only where there is nothing to shut: the peer is gone already.
pub(super) fn shut_down(stream: &TcpStream, half: Half) {
    let how = match half {
        Half::Read => Shutdown::Read,
        Half::Write => Shutdown::Write,
        Half::Both => Shutdown::Both,
    };
    let _ = stream.shutdown(how);
}

/// Ends a connection whose peer takes nothing: what it has not taken is thrown away.
pub(super) fn abort(stream: &TcpStream) {
    sys::discard_at_close(stream);
    shut_down(stream, Half::Both);
}
