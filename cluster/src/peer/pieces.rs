//! What the lane puts into message frames: where its sender is reached, and control messages, of
//! which long ones come in pieces. `docs/wire.md` has the table.
//!
//! Invariants:
//! - A connection begins with the address of its sender, and has it once.
//! - A message is put together from pieces that follow one another. Its length is known from the
//!   first one, is within the bounds, and is what the pieces have together.
//! - What is held of a message is what came of it.

use std::fmt;

use crate::bytes::Reader;
use crate::control::member::address_problem;
use crate::control::message::MESSAGE_BYTES_MAX;
use crate::mutant::{Mutant, is_planted};

const ADDRESS: u8 = 1;
const WHOLE: u8 = 2;
const FIRST: u8 = 3;
const NEXT: u8 = 4;

/// Bytes before those of the message, in the payload that has most of them.
pub const PIECE_HEAD_BYTES_MAX: usize = 1 + 4;

/// The payload that says where this node is reached.
pub fn address_payload(address: &str) -> Vec<u8> {
    [&[ADDRESS], address.as_bytes()].concat()
}

/// A control message on its way out.
#[derive(Debug)]
pub struct Splitter {
    message: Vec<u8>,
    sent: usize,
}

impl Splitter {
    /// # Panics
    /// When the message is longer than any may be.
    pub fn new(message: Vec<u8>) -> Self {
        assert!(message.len() <= MESSAGE_BYTES_MAX, "a control message of {} bytes", message.len());
        Self { message, sent: 0 }
    }

    /// The next payload, with at most this many bytes of the message; whether it is the last.
    pub fn next(&mut self, piece_bytes: usize) -> (Vec<u8>, bool) {
        let rest = &self.message[self.sent..];
        let piece = &rest[..rest.len().min(piece_bytes)];
        let is_last = piece.len() == rest.len();
        let payload = match (self.sent, is_last) {
            (0, true) => [&[WHOLE], piece].concat(),
            (0, false) => [&[FIRST], (self.message.len() as u32).to_le_bytes().as_slice(), piece].concat(),
            _ => [&[NEXT], piece].concat(),
        };
        self.sent += piece.len();
        (payload, is_last)
    }
}

/// Why a payload is refused. The connection must be closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PieceError {
    Empty,
    Kind {
        got: u8,
    },
    /// It begins with something else than the address, or has it twice.
    AddressOrder,
    Address,
    Length {
        got: usize,
    },
    /// A piece without a message that it belongs to, or a message within another.
    Order,
    /// The pieces have more than the first one said, or one has nothing.
    Excess {
        expected: usize,
        got: usize,
    },
}

impl fmt::Display for PieceError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => formatter.write_str("a control message is empty"),
            Self::Kind { got } => write!(formatter, "the kind of a control message is {got}, and should be 1 to 4"),
            Self::AddressOrder => formatter.write_str("a control connection should begin with one address"),
            Self::Address => formatter.write_str("the address of the peer is not host:port"),
            Self::Length { got } => write!(
                formatter,
                "a control message in pieces should have 1 to {MESSAGE_BYTES_MAX} bytes, and is to have {got}"
            ),
            Self::Order => formatter.write_str("the pieces of a control message don't follow one another"),
            Self::Excess { expected, got } => {
                write!(formatter, "a control message of {expected} bytes comes with {got}, or with an empty piece")
            }
        }
    }
}

impl std::error::Error for PieceError {}

/// What a payload has completed.
#[derive(PartialEq, Eq, Debug)]
pub enum Received {
    Address(String),
    Message(Vec<u8>),
}

/// The payloads of one connection, put together.
#[derive(Debug, Default)]
pub struct Assembly {
    has_address: bool,
    /// The message that is coming, and how long it will be.
    partial: Option<(Vec<u8>, usize)>,
}

impl Assembly {
    /// Takes a payload; `None` as long as a message is not complete. After an error it is of no
    /// use.
    pub fn take(&mut self, payload: &[u8]) -> Result<Option<Received>, PieceError> {
        let (kind, rest) = payload.split_first().ok_or(PieceError::Empty)?;
        if (*kind == ADDRESS) == self.has_address {
            return Err(PieceError::AddressOrder);
        }
        match *kind {
            ADDRESS => {
                let address = std::str::from_utf8(rest).ok().filter(|text| address_problem(text).is_none());
                self.has_address = true;
                Ok(Some(Received::Address(address.ok_or(PieceError::Address)?.into())))
            }
            WHOLE if self.partial.is_none() => Ok(Some(Received::Message(rest.into()))),
            FIRST if self.partial.is_none() => {
                let mut reader = Reader::new(rest);
                let length = reader.u32("length of a message").map_err(|_| PieceError::Empty)? as usize;
                let is_bounded = length <= MESSAGE_BYTES_MAX || is_planted(Mutant::PiecesUnbounded);
                if length == 0 || !is_bounded {
                    return Err(PieceError::Length { got: length });
                }
                self.partial = Some((Vec::new(), length));
                self.add(reader.rest())
            }
            NEXT if self.partial.is_some() => self.add(rest),
            WHOLE | FIRST | NEXT => Err(PieceError::Order),
            got => Err(PieceError::Kind { got }),
        }
    }

    fn add(&mut self, piece: &[u8]) -> Result<Option<Received>, PieceError> {
        let (bytes, expected) = self.partial.as_mut().expect("a message is coming");
        let (got, expected) = (bytes.len() + piece.len(), *expected);
        if piece.is_empty() || got > expected {
            return Err(PieceError::Excess { expected, got });
        }
        if bytes.capacity() < got {
            // Doubling, but never beyond what it will be.
            bytes.reserve_exact((2 * bytes.capacity()).clamp(got, expected) - bytes.len());
        }
        bytes.extend_from_slice(piece);
        if got < expected {
            return Ok(None);
        }
        let (bytes, _) = self.partial.take().expect("it was there");
        Ok(Some(Received::Message(bytes)))
    }

    /// Bytes that are held of a message that is not complete.
    pub fn held_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |(bytes, _)| bytes.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> Assembly {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.take(&address_payload("n1:7070")), Ok(Some(Received::Address("n1:7070".into()))));
        assembly
    }

    #[test]
    fn a_message_of_any_length_comes_back_from_its_pieces() {
        let mut assembly = begun();
        for length in [0, 1, 6, 7, 8, 13, 14, 15, 1_000] {
            let message: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let mut splitter = Splitter::new(message.clone());
            loop {
                let (payload, is_last) = splitter.next(7);
                let received = assembly.take(&payload).expect("sound");
                assert!(assembly.held_bytes() <= message.len());
                if is_last {
                    assert_eq!(received, Some(Received::Message(message)));
                    break;
                }
                assert_eq!(received, None);
            }
            assert_eq!(assembly.held_bytes(), 0);
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_page_of_the_wire() {
        assert_eq!(address_payload("n1:70"), b"\x01n1:70");
        assert_eq!(Splitter::new(b"abc".to_vec()).next(3), (b"\x02abc".to_vec(), true));
        let mut splitter = Splitter::new(b"abcd".to_vec());
        assert_eq!(splitter.next(3), (b"\x03\x04\0\0\0abc".to_vec(), false));
        assert_eq!(splitter.next(3), (b"\x04d".to_vec(), true));
    }

    #[test]
    fn a_connection_has_one_address_and_has_it_first() {
        assert_eq!(Assembly::default().take(b"\x02abc"), Err(PieceError::AddressOrder));
        assert_eq!(begun().take(&address_payload("n2:7070")), Err(PieceError::AddressOrder));
        for address in ["", "n1", "n1:0", "n1:99999", "a b:1", "\u{e4}:1"] {
            assert_eq!(Assembly::default().take(&address_payload(address)), Err(PieceError::Address), "{address}");
        }
        assert_eq!(Assembly::default().take(b"\x01\xff:1"), Err(PieceError::Address));
    }

    #[test]
    fn pieces_that_lie_about_their_length_are_refused() {
        let first = |length: u32, bytes: &[u8]| [&[FIRST], length.to_le_bytes().as_slice(), bytes].concat();
        let too_long = MESSAGE_BYTES_MAX as u32 + 1;
        assert_eq!(begun().take(&first(0, b"")), Err(PieceError::Length { got: 0 }));
        assert_eq!(begun().take(&first(too_long, b"a")), Err(PieceError::Length { got: too_long as usize }));
        assert_eq!(begun().take(&first(2, b"abc")), Err(PieceError::Excess { expected: 2, got: 3 }));
        assert_eq!(begun().take(&first(2, b"")), Err(PieceError::Excess { expected: 2, got: 0 }));
        let mut assembly = begun();
        assert_eq!(assembly.take(&first(u32::MAX >> 8, b"a")), Ok(None));
        assert!(assembly.held_bytes() <= 16, "nothing is set aside for what has not come");
        assert_eq!(assembly.take(b"\x04"), Err(PieceError::Excess { expected: 0xff_ffff, got: 1 }));
    }

    #[test]
    fn pieces_that_do_not_follow_one_another_are_refused() {
        let first = [FIRST, 3, 0, 0, 0, b'a'];
        for second in [&[WHOLE, b'b'][..], &first] {
            let mut assembly = begun();
            assert_eq!(assembly.take(&first), Ok(None));
            assert_eq!(assembly.take(second), Err(PieceError::Order));
        }
        assert_eq!(begun().take(&[NEXT, b'a']), Err(PieceError::Order));
        assert_eq!(begun().take(&[9]), Err(PieceError::Kind { got: 9 }));
        assert_eq!(begun().take(&[]), Err(PieceError::Empty));
        assert_eq!(begun().take(&[FIRST, 1]), Err(PieceError::Empty));
    }
}
