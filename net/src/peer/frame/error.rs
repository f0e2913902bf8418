//! Why a frame is refused. The connection must be closed: where the next frame starts is not known,
//! or the peer doesn't keep to the protocol.

use std::fmt;

use super::kind::FrameKind;

/// What was wrong with a frame. Offsets are in the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// A field that can have but one value has another.
    Field { field: &'static str, offset: usize, expected: u64, got: u64 },
    /// A kind that isn't known, without the flag that it may be ignored.
    Kind { offset: usize, got: u8 },
    /// A stream where the kind has none, or none where it has one.
    Stream { kind: FrameKind, offset: usize, got: u32 },
    /// A length that the kind doesn't have, or that the receiver doesn't take.
    Length { kind: Option<FrameKind>, offset: usize, min: u32, max: u32, got: u32 },
}

impl fmt::Display for FrameError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field { field, offset, expected, got } => {
                write!(formatter, "the {field} of a frame (at byte {offset}) should be {expected:#x}, and is {got:#x}")
            }
            Self::Kind { offset, got } => {
                write!(formatter, "the kind of a frame (at byte {offset}) is {got}, which this node doesn't know")
            }
            Self::Stream { kind, offset, got: 0 } => {
                write!(formatter, "a {kind} frame names no stream (at byte {offset})")
            }
            Self::Stream { kind, offset, got } => {
                write!(formatter, "a {kind} frame is about no stream, and names {got} (at byte {offset})")
            }
            Self::Length { kind, offset, min, max, got } => {
                let name = kind.map_or("skipped", FrameKind::name);
                write!(
                    formatter,
                    "the payload of a {name} frame should have {min} to {max} bytes, and has {got} (at byte {offset})"
                )
            }
        }
    }
}

impl std::error::Error for FrameError {}
