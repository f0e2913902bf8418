//! How a connection to another node comes about: its name is resolved, its addresses are tried one
//! after the other, TLS, and the upgrade inside.
//!
//! Each step has its time, so that a dial ends, whoever answers or doesn't.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use nabu_engine::io::Clock;
use nabu_engine::link::Connection;
use nabu_engine::runtime::{RingIo, Stream};
use nabu_engine::sync::{Either, race};
use nabu_net::peer::upgrade::{UpgradeError, check_answer, request_head};
use rustls::{AlertDescription, Error as TlsError};

use super::address::Address;
use super::halves::{RingReader, RingWriter, halves};
use super::options::LinkOptions;
use crate::http::Vectors;
use crate::http::transport::{Refused, Transport, connect_link};

/// How long to wait for others whose names are being resolved.
const RESOLVE_RETRY: Duration = Duration::from_millis(20);

/// What a core connects with.
pub struct Dialer {
    io: RingIo,
    vectors: Rc<Vectors>,
    options: LinkOptions,
}

impl Dialer {
    pub fn new(io: RingIo, options: LinkOptions) -> Self {
        Self { io, vectors: Rc::default(), options }
    }

    pub fn options(&self) -> &LinkOptions {
        &self.options
    }

    /// Connects to the node at `address`.
    ///
    /// # Errors
    /// What failed last, with a message that names every address that was tried.
    pub async fn dial(&self, address: &str) -> io::Result<Connection<RingReader, RingWriter>> {
        let parsed = Address::parse(address)?;
        let late = format!("{address}: its name was not resolved");
        let addresses = self.in_time(self.resolve(parsed), &late).await?;
        let mut tries = Vec::new();
        let mut kind = io::ErrorKind::NotFound;
        for one in &addresses {
            match self.in_time(self.connect(*one, address), "it did not answer").await {
                Ok((transport, early)) => return Ok(halves(transport, early, None, address.to_owned())),
                Err(error) => {
                    kind = error.kind();
                    // One alone needs no name.
                    tries.push(if addresses.len() > 1 { format!("{one}: {error}") } else { error.to_string() });
                }
            }
        }
        Err(io::Error::new(kind, format!("{address}: {}", tries.join("; "))))
    }

    /// Resolves a name. While too many others are being resolved it waits, as cores that connect to
    /// all nodes at once do.
    async fn resolve(&self, address: Address<'_>) -> io::Result<Vec<SocketAddr>> {
        loop {
            match address.resolve().await {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => self.io.sleep(RESOLVE_RETRY).await,
                resolved => return resolved,
            }
        }
    }

    /// Gives up when its time is over.
    async fn in_time<T>(&self, work: impl Future<Output = io::Result<T>>, late: &str) -> io::Result<T> {
        let patience: Duration = self.options.patience;
        match race(work, self.io.sleep(patience)).await {
            Either::First(result) => result,
            Either::Second(()) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, format!("{late} within {} ms", patience.as_millis())))
            }
        }
    }

    /// Connects to one address of a node; gives also what came behind the head of its answer.
    async fn connect(&self, at: SocketAddr, address: &str) -> io::Result<(Transport, Vec<u8>)> {
        let stream = Stream::connect(&self.io, at).await?;
        let transport = if self.options.allow_plaintext {
            Transport::Plain(stream)
        } else {
            let secured = connect_link(self.io.clone(), self.vectors.clone(), stream, &self.options.tls).await;
            secured.map_err(insecure)?
        };
        transport.send(request_head(address).into_bytes()).await.0?;
        let mut input = Vec::new();
        loop {
            let received = transport.recv().await?;
            if received.is_empty() {
                let message = "it closed the connection without an answer";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
            }
            input.extend_from_slice(&received);
            drop(received);
            if let Some(size) = check_answer(&input).map_err(refused)? {
                input.drain(..size);
                return Ok((transport, input));
            }
        }
    }
}

/// Why there is no TLS to a node.
fn insecure(refused: Refused) -> io::Error {
    let message = match refused {
        Refused::Gone(error) => return error,
        Refused::Protocol(TlsError::AlertReceived(AlertDescription::NoApplicationProtocol))
        | Refused::OtherProtocol => "it speaks TLS, but not for nodes: does the node serve a cluster?".to_owned(),
        Refused::Protocol(TlsError::InvalidMessage(_)) | Refused::NoTls | Refused::PlainHttp => {
            "it answers without TLS: does the node serve a cluster?".to_owned()
        }
        Refused::Protocol(error) => format!("the TLS handshake failed: {error}"),
        Refused::Kernel(_) => unreachable!("no connection between nodes is given to the kernel"),
    };
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Why a node doesn't take a connection.
fn refused(error: UpgradeError) -> io::Error {
    let (kind, message) = match error {
        UpgradeError::Refused { status: 403 } => (
            io::ErrorKind::PermissionDenied,
            "it accepts nodes only over TLS: cluster.allow_plaintext is set here, and not there".to_owned(),
        ),
        UpgradeError::Refused { status: 503 } => {
            (io::ErrorKind::ConnectionRefused, "it has no room for a connection, or is shutting down".to_owned())
        }
        error => (io::ErrorKind::InvalidData, error.to_string()),
    };
    io::Error::new(kind, message)
}
