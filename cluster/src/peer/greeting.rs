//! A handshake, driven over a link.

use std::fmt;
use std::io;

use nabu_engine::link::{LinkReader, LinkWriter};
use nabu_net::peer::handshake::{Acceptor, Established, HandshakeError, Initiator, SENT_BYTES_MAX, Step};

/// Either side of a handshake.
pub enum Side {
    Initiator(Box<Initiator>),
    Acceptor(Box<Acceptor>),
}

impl Side {
    fn feed(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<Step, HandshakeError> {
        match self {
            Side::Initiator(initiator) => initiator.feed(input, output),
            Side::Acceptor(acceptor) => acceptor.feed(input, output),
        }
    }
}

/// Why nothing was established.
#[derive(Debug)]
pub enum GreetingError {
    Link(io::Error),
    /// The peer closed the connection.
    Ended,
    Handshake(HandshakeError),
}

impl fmt::Display for GreetingError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(error) => write!(formatter, "the connection broke in the handshake: {error}"),
            Self::Ended => formatter.write_str(
                "the peer closed the connection in the handshake: see its log; it may have another secret, or too \
                 many connections",
            ),
            Self::Handshake(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for GreetingError {}

/// Goes through a handshake, whose first message `output` may hold. Gives what is established, and
/// the bytes behind the handshake that came with it.
///
/// # Errors
/// The connection must be closed then.
pub async fn greet(
    reader: &mut impl LinkReader,
    writer: &mut impl LinkWriter,
    mut side: Side,
    mut output: Vec<u8>,
) -> Result<(Established, Vec<u8>), GreetingError> {
    let mut buf = vec![0; SENT_BYTES_MAX];
    loop {
        flush(writer, &mut output).await?;
        let (result, returned) = reader.read(buf).await;
        buf = returned;
        let count = match result.map_err(GreetingError::Link)? {
            0 => return Err(GreetingError::Ended),
            count => count,
        };
        match side.feed(&buf[..count], &mut output) {
            Ok(Step { consumed, established: Some(established) }) => {
                flush(writer, &mut output).await?;
                return Ok((established, buf[consumed..count].to_vec()));
            }
            Ok(_) => {}
            Err(error) => {
                // The peer is told what it takes to find the same error.
                let _ = flush(writer, &mut output).await;
                return Err(GreetingError::Handshake(error));
            }
        }
    }
}

async fn flush(writer: &mut impl LinkWriter, output: &mut Vec<u8>) -> Result<(), GreetingError> {
    if output.is_empty() {
        return Ok(());
    }
    let (result, returned) = writer.write(std::mem::take(output)).await;
    *output = returned;
    output.clear();
    result.map_err(GreetingError::Link)
}
