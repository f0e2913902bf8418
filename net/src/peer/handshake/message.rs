//! The messages of the handshake, byte by byte. `docs/wire.md` has the tables.
//!
//! The first 16 bytes of a hello and of a challenge are the same in all versions of the protocol,
//! so that nodes that have no version in common find out.

use super::error::HandshakeError;
use crate::peer::codec::{get_u16, put};
use crate::peer::identity::{IDENTITY_BYTES, Malformed};
use crate::peer::version_range::VersionRange;

/// The versions of the protocol that this code speaks.
pub const PROTOCOLS: VersionRange = VersionRange::new(1, 1).expect("a range");
/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 32;
/// Bytes of a proof: an HMAC-SHA256.
pub const PROOF_BYTES: usize = 32;
/// Proofs of a challenge: as many as a node has secrets at most.
pub const CHALLENGE_PROOFS: usize = crate::peer::secrets::SECRETS_MAX;

pub const INITIATOR_MAGIC: [u8; 8] = *b"NABU-INI";
pub const ACCEPTOR_MAGIC: [u8; 8] = *b"NABU-ACC";

const MAGIC_AT: usize = 0;
const OLDEST_AT: usize = MAGIC_AT + 8;
const NEWEST_AT: usize = OLDEST_AT + 2;
const PURPOSE_AT: usize = NEWEST_AT + 2;
const ZERO_AT: usize = PURPOSE_AT + 1;
/// Bytes of what all versions begin a hello and a challenge with.
pub const PREFIX_BYTES: usize = ZERO_AT + 3;

const NONCE_AT: usize = PREFIX_BYTES;
/// Bytes of a hello.
pub const HELLO_BYTES: usize = NONCE_AT + NONCE_BYTES;
/// Where the proofs of a challenge start, and what they prove ends.
pub const CHALLENGE_PROOFS_AT: usize = NONCE_AT + NONCE_BYTES;
/// Bytes of a challenge.
pub const CHALLENGE_BYTES: usize = CHALLENGE_PROOFS_AT + CHALLENGE_PROOFS * PROOF_BYTES;
/// Where the proof of an introduction starts, and what it proves ends.
pub const INTRODUCTION_PROOF_AT: usize = IDENTITY_BYTES;
/// Bytes of an introduction.
pub const INTRODUCTION_BYTES: usize = INTRODUCTION_PROOF_AT + PROOF_BYTES;

/// Bytes of the largest message, and so of the buffer for one.
pub const MESSAGE_BYTES_MAX: usize =
    if CHALLENGE_BYTES > INTRODUCTION_BYTES { CHALLENGE_BYTES } else { INTRODUCTION_BYTES };
/// The most bytes that either side sends in a handshake.
pub const SENT_BYTES_MAX: usize = 512;

const _: () = assert!(PREFIX_BYTES == 16 && HELLO_BYTES == 48, "docs/wire.md");
const _: () = assert!(CHALLENGE_BYTES == 112 && INTRODUCTION_BYTES == 152, "docs/wire.md");
const _: () = assert!(HELLO_BYTES + INTRODUCTION_BYTES <= SENT_BYTES_MAX);
const _: () = assert!(CHALLENGE_BYTES + INTRODUCTION_BYTES <= SENT_BYTES_MAX);

/// What a connection is for. Control and bulk have connections of their own, so that a small
/// message never waits behind a large one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    Control,
    Bulk,
}

impl Purpose {
    fn code(self) -> u8 {
        match self {
            Self::Control => 1,
            Self::Bulk => 2,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Control, Self::Bulk].into_iter().find(|purpose| purpose.code() == code)
    }
}

/// A hello.
pub fn hello(purpose: Purpose, nonce: &[u8; NONCE_BYTES]) -> [u8; HELLO_BYTES] {
    let mut bytes = [0; HELLO_BYTES];
    put_prefix(&mut bytes, INITIATOR_MAGIC);
    bytes[PURPOSE_AT] = purpose.code();
    put(&mut bytes, NONCE_AT, nonce);
    bytes
}

/// A challenge whose proofs are yet to be put in.
pub fn challenge(nonce: &[u8; NONCE_BYTES]) -> [u8; CHALLENGE_BYTES] {
    let mut bytes = [0; CHALLENGE_BYTES];
    put_prefix(&mut bytes, ACCEPTOR_MAGIC);
    put(&mut bytes, NONCE_AT, nonce);
    bytes
}

fn put_prefix(bytes: &mut [u8], magic: [u8; 8]) {
    put(bytes, MAGIC_AT, &magic);
    put(bytes, OLDEST_AT, &PROTOCOLS.oldest().to_le_bytes());
    put(bytes, NEWEST_AT, &PROTOCOLS.newest().to_le_bytes());
}

/// Reads the versions that a peer speaks, and gives the newest in common.
pub fn common_protocol(prefix: &[u8], magic: [u8; 8], message: &'static str) -> Result<u16, HandshakeError> {
    if prefix[MAGIC_AT..OLDEST_AT] != magic {
        let got = prefix[MAGIC_AT..OLDEST_AT].try_into().expect("eight bytes");
        return Err(HandshakeError::NoPeer { expected: magic, got });
    }
    let theirs = VersionRange::new(get_u16(prefix, OLDEST_AT), get_u16(prefix, NEWEST_AT)).ok_or(malformed(
        message,
        OLDEST_AT,
        "a range of versions",
    ))?;
    PROTOCOLS.common(theirs).ok_or(HandshakeError::NoCommonProtocol { ours: PROTOCOLS, theirs })
}

/// Reads what a hello says behind the versions.
pub fn hello_purpose(hello: &[u8]) -> Result<Purpose, HandshakeError> {
    let purpose =
        Purpose::from_code(hello[PURPOSE_AT]).ok_or(malformed("hello", PURPOSE_AT, "1 (control) or 2 (bulk)"))?;
    check_zero(hello, ZERO_AT, "hello")?;
    Ok(purpose)
}

/// Checks what a challenge has behind the versions.
pub fn check_challenge(challenge: &[u8]) -> Result<(), HandshakeError> {
    check_zero(challenge, PURPOSE_AT, "challenge")
}

fn check_zero(bytes: &[u8], start: usize, message: &'static str) -> Result<(), HandshakeError> {
    match (start..PREFIX_BYTES).find(|at| bytes[*at] != 0) {
        None => Ok(()),
        Some(offset) => Err(malformed(message, offset, "zero")),
    }
}

fn malformed(message: &'static str, offset: usize, expected: &'static str) -> HandshakeError {
    HandshakeError::Malformed { message, at: Malformed { offset, expected } }
}

/// The nonce of a hello or a challenge.
pub fn nonce(message: &[u8]) -> &[u8] {
    &message[NONCE_AT..NONCE_AT + NONCE_BYTES]
}

/// The proofs of a challenge.
pub fn challenge_proofs(challenge: &[u8]) -> impl Iterator<Item = &[u8]> {
    challenge[CHALLENGE_PROOFS_AT..CHALLENGE_BYTES].chunks_exact(PROOF_BYTES)
}
