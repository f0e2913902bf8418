//! The head of a frame, byte by byte. `docs/wire.md` has the table.

use super::error::FrameError;
use super::kind::{FrameKind, IGNORED_BYTES_MAX, PayloadLimits, StreamId};
use crate::peer::codec::{crc32c, get_u16, get_u32, get_u64, put};

const KIND_AT: usize = 0;
const FLAGS_AT: usize = KIND_AT + 1;
const ZERO_AT: usize = FLAGS_AT + 1;
const STREAM_AT: usize = ZERO_AT + 2;
const LENGTH_AT: usize = STREAM_AT + 4;
const SEQUENCE_AT: usize = LENGTH_AT + 4;
const RING_VERSION_AT: usize = SEQUENCE_AT + 4;
pub(super) const PAYLOAD_CHECKSUM_AT: usize = RING_VERSION_AT + 8;
const HEAD_CHECKSUM_AT: usize = PAYLOAD_CHECKSUM_AT + 4;
/// Bytes of a head.
pub const HEAD_BYTES: usize = HEAD_CHECKSUM_AT + 4;

/// The flag of a frame that a receiver which doesn't know its kind may skip.
const MAY_BE_IGNORED: u8 = 1 << 0;

const _: () = assert!(HEAD_BYTES == 32, "docs/wire.md");

/// What the head of a frame says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHead {
    pub kind: FrameKind,
    /// `None` when the frame is about the connection.
    pub stream: Option<StreamId>,
    /// Bytes of the payload.
    pub length: u32,
    /// The number of the frame in its direction, modulo 2^32.
    pub sequence: u32,
    /// The version of the ring that its sender had.
    pub ring_version: u64,
    /// The CRC32C of the payload.
    pub checksum: u32,
}

/// A head that a receiver can go on from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Parsed {
    Known(FrameHead),
    /// Of a kind that isn't known; its payload is skipped.
    Ignored {
        length: u32,
        checksum: u32,
    },
}

impl Parsed {
    pub fn length(&self) -> u32 {
        match self {
            Self::Known(head) => head.length,
            Self::Ignored { length, .. } => *length,
        }
    }

    pub fn checksum(&self) -> u32 {
        match self {
            Self::Known(head) => head.checksum,
            Self::Ignored { checksum, .. } => *checksum,
        }
    }
}

impl FrameHead {
    pub(super) fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[KIND_AT] = self.kind.code();
        put(&mut bytes, STREAM_AT, &self.stream.map_or(0, StreamId::get).to_le_bytes());
        put(&mut bytes, LENGTH_AT, &self.length.to_le_bytes());
        put(&mut bytes, SEQUENCE_AT, &self.sequence.to_le_bytes());
        put(&mut bytes, RING_VERSION_AT, &self.ring_version.to_le_bytes());
        put(&mut bytes, PAYLOAD_CHECKSUM_AT, &self.checksum.to_le_bytes());
        let checksum = crc32c(&bytes[..HEAD_CHECKSUM_AT]);
        put(&mut bytes, HEAD_CHECKSUM_AT, &checksum.to_le_bytes());
        bytes
    }

    /// Reads a head. Its checksum comes first: nothing else is believed before.
    pub(super) fn parse(bytes: &[u8; HEAD_BYTES], sequence: u32, limits: &PayloadLimits) -> Result<Parsed, FrameError> {
        let checksum = crc32c(&bytes[..HEAD_CHECKSUM_AT]);
        expect("checksum of the head", HEAD_CHECKSUM_AT, checksum, get_u32(bytes, HEAD_CHECKSUM_AT))?;
        expect("number", SEQUENCE_AT, sequence, get_u32(bytes, SEQUENCE_AT))?;
        expect("reserved field", ZERO_AT, 0u16, get_u16(bytes, ZERO_AT))?;
        let (code, flags, length) = (bytes[KIND_AT], bytes[FLAGS_AT], get_u32(bytes, LENGTH_AT));
        let checksum = get_u32(bytes, PAYLOAD_CHECKSUM_AT);
        let Some(kind) = FrameKind::from_code(code) else {
            if flags != MAY_BE_IGNORED {
                return Err(FrameError::Kind { offset: KIND_AT, got: code });
            }
            check_length(None, 0, IGNORED_BYTES_MAX, length)?;
            return Ok(Parsed::Ignored { length, checksum });
        };
        expect("flags", FLAGS_AT, 0, flags)?;
        let number = get_u32(bytes, STREAM_AT);
        let stream = StreamId::new(number);
        if !kind.allows_stream(stream) {
            return Err(FrameError::Stream { kind, offset: STREAM_AT, got: number });
        }
        let allowed = kind.payload_bytes(limits);
        check_length(Some(kind), *allowed.start(), *allowed.end(), length)?;
        let ring_version = get_u64(bytes, RING_VERSION_AT);
        Ok(Parsed::Known(Self { kind, stream, length, sequence, ring_version, checksum }))
    }
}

/// A field that can have but one value.
pub(super) fn expect<N: Into<u64> + PartialEq>(
    field: &'static str,
    offset: usize,
    expected: N,
    got: N,
) -> Result<(), FrameError> {
    if expected == got {
        return Ok(());
    }
    Err(FrameError::Field { field, offset, expected: expected.into(), got: got.into() })
}

fn check_length(kind: Option<FrameKind>, min: u32, max: u32, got: u32) -> Result<(), FrameError> {
    if (min..=max).contains(&got) {
        return Ok(());
    }
    Err(FrameError::Length { kind, offset: LENGTH_AT, min, max, got })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PayloadLimits = PayloadLimits { open_bytes: 10, message_bytes: 20, data_bytes: 30 };

    fn head(kind: FrameKind, stream: u32, length: u32) -> FrameHead {
        let stream = StreamId::new(stream);
        FrameHead { kind, stream, length, sequence: 5, ring_version: 9, checksum: 0 }
    }

    /// The bytes of a head, changed at one place, with the checksum that belongs to them.
    fn changed(at: usize, value: u8) -> [u8; HEAD_BYTES] {
        let mut bytes = head(FrameKind::Message, 0, 20).encode();
        bytes[at] = value;
        let checksum = crc32c(&bytes[..HEAD_CHECKSUM_AT]);
        put(&mut bytes, HEAD_CHECKSUM_AT, &checksum.to_le_bytes());
        bytes
    }

    #[test]
    fn every_kind_takes_the_lengths_and_streams_that_it_has_and_no_others() {
        for kind in FrameKind::ALL {
            let allowed = kind.payload_bytes(&LIMITS);
            for (stream, length) in [0, 1, 2, u32::MAX].into_iter().flat_map(|stream| {
                [0, 1, 4, 8, 10, 11, 20, 21, 30, 31, u32::MAX].into_iter().map(move |length| (stream, length))
            }) {
                let head = head(kind, stream, length);
                match FrameHead::parse(&head.encode(), 5, &LIMITS) {
                    Ok(parsed) => {
                        assert_eq!(parsed, Parsed::Known(head));
                        assert!(allowed.contains(&length) && kind.allows_stream(head.stream), "{head:?}");
                    }
                    Err(FrameError::Stream { got, .. }) => {
                        assert!(got == stream && !kind.allows_stream(head.stream), "{head:?}");
                    }
                    Err(error) => {
                        let (min, max) = (*allowed.start(), *allowed.end());
                        let expected = FrameError::Length { kind: Some(kind), offset: 8, min, max, got: length };
                        assert!(error == expected && !allowed.contains(&length), "{head:?}: {error}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_head_is_refused_for_what_is_wrong_with_it() {
        let field = |field, offset, expected, got| FrameError::Field { field, offset, expected, got };
        for (bytes, error) in [
            (changed(KIND_AT, 0), FrameError::Kind { offset: 0, got: 0 }),
            (changed(KIND_AT, 77), FrameError::Kind { offset: 0, got: 77 }),
            (changed(FLAGS_AT, 1), field("flags", 1, 0, 1)),
            (changed(ZERO_AT + 1, 1), field("reserved field", 2, 0, 256)),
            (changed(SEQUENCE_AT, 6), field("number", 12, 5, 6)),
        ] {
            assert_eq!(FrameHead::parse(&bytes, 5, &LIMITS), Err(error));
        }
        let mut bytes = changed(LENGTH_AT, 20);
        bytes[LENGTH_AT + 3] ^= 0x80;
        let Err(FrameError::Field { field: "checksum of the head", offset: 28, .. }) =
            FrameHead::parse(&bytes, 5, &LIMITS)
        else {
            panic!("a length is not believed before the checksum");
        };
    }

    #[test]
    fn a_frame_of_a_kind_to_come_is_skipped_if_it_says_so_and_is_short() {
        let ignorable = |length: u32, flags: u8| {
            let mut bytes = head(FrameKind::Message, 3, length).encode();
            (bytes[KIND_AT], bytes[FLAGS_AT]) = (200, flags);
            let checksum = crc32c(&bytes[..HEAD_CHECKSUM_AT]);
            put(&mut bytes, HEAD_CHECKSUM_AT, &checksum.to_le_bytes());
            FrameHead::parse(&bytes, 5, &LIMITS)
        };
        assert_eq!(ignorable(IGNORED_BYTES_MAX, 1), Ok(Parsed::Ignored { length: IGNORED_BYTES_MAX, checksum: 0 }));
        let (max, got) = (IGNORED_BYTES_MAX, IGNORED_BYTES_MAX + 1);
        assert_eq!(ignorable(got, 1), Err(FrameError::Length { kind: None, offset: 8, min: 0, max, got }));
        assert_eq!(ignorable(0, 0), Err(FrameError::Kind { offset: 0, got: 200 }));
        assert_eq!(ignorable(0, 3), Err(FrameError::Kind { offset: 0, got: 200 }));
    }
}
