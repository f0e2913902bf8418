//! The bytes of frames, in the order in which they are sent.

use super::head::{FrameHead, HEAD_BYTES};
use super::kind::{FrameKind, PayloadLimits, StreamId};
use crate::peer::codec::crc32c;

/// Numbers the frames of one direction. What it has encoded must be sent, in that order.
#[derive(Debug, Default)]
pub struct FrameEncoder {
    sequence: u32,
}

impl FrameEncoder {
    pub fn new() -> Self {
        Self::default()
    }

    /// The head of a frame whose payload, of this length and checksum, is sent behind it.
    ///
    /// # Panics
    /// When the protocol has no such frame.
    pub fn head(
        &mut self,
        kind: FrameKind,
        stream: Option<StreamId>,
        ring_version: u64,
        length: u32,
        checksum: u32,
    ) -> [u8; HEAD_BYTES] {
        assert!(kind.allows_stream(stream), "{kind}: stream {stream:?}");
        assert!(kind.payload_bytes(&PayloadLimits::PROTOCOL).contains(&length), "{kind}: {length} bytes");
        let head = FrameHead { kind, stream, length, sequence: self.sequence, ring_version, checksum };
        self.sequence = self.sequence.wrapping_add(1);
        head.encode()
    }

    /// Appends a frame with its payload.
    ///
    /// # Panics
    /// When the protocol has no such frame.
    pub fn frame(
        &mut self,
        kind: FrameKind,
        stream: Option<StreamId>,
        ring_version: u64,
        payload: &[u8],
        output: &mut Vec<u8>,
    ) {
        let length = u32::try_from(payload.len()).expect("payloads have less than 4 GiB");
        output.extend_from_slice(&self.head(kind, stream, ring_version, length, crc32c(payload)));
        output.extend_from_slice(payload);
    }
}
