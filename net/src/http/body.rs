//! The chunked transfer coding, decoded incrementally (RFC 9112, section 7.1).

/// What the decoder found next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChunkEvent {
    /// The next `usize` bytes after the consumed ones are data of the body: take them, and continue behind them. Never more than the
    /// input given holds.
    Data(usize),
    /// All input is consumed; give more.
    NeedMore,
    /// The body, its trailer included, is over.
    End,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkError {
    pub reason: &'static str,
}

/// Decodes one chunked body.
#[derive(Debug, Default)]
pub struct ChunkDecoder(());

impl ChunkDecoder {
    /// Looks at `input`; returns how many framing bytes to skip first, and what follows them.
    pub fn next(&mut self, input: &[u8]) -> Result<(usize, ChunkEvent), ChunkError> {
        let _ = input;
        todo!()
    }
}
