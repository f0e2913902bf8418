//! The chunked transfer coding, decoded incrementally (RFC 9112, section 7.1).
//!
//! Invariants:
//! - The result depends only on the bytes, never on how they were split into calls: framing is read
//!   byte by byte by a state machine that keeps everything it needs, and only data, whose size is
//!   known, is passed over at once.
//! - The decoder never hands out a byte as data that is framing, nor looks past the end of the
//!   body: bytes behind it belong to the next request.
//! - A line ends with exactly CR LF. Sizes are bare hexadecimal digits. Both are where two decoders
//!   can be made to disagree.
//! - Framing is bounded: every line, the trailer, and all extensions in relation to the data they
//!   come with. So a body costs a client at least a fixed share of what it costs the server.
//!
//! Extensions and trailer fields are checked and discarded. Bounding the body as a whole is the
//! caller's business, who sees every size.

use super::scan;

/// Hexadecimal digits of a chunk size: all that fit 64 bits.
const SIZE_DIGITS_MAX: u8 = 16;
/// Bytes of one chunk's extensions.
const EXTENSION_BYTES_MAX: u16 = 256;
/// Bytes of extensions by which a body may be ahead of its data.
const EXTENSION_BYTES_AHEAD_MAX: u64 = 16 << 10;
/// Bytes of the trailer, line ends included, the empty line not.
const TRAILER_BYTES_MAX: u16 = 8 << 10;

const _: () = assert!((EXTENSION_BYTES_MAX as u64) < EXTENSION_BYTES_AHEAD_MAX);

/// What the decoder found next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChunkEvent {
    /// The next `usize` bytes after the consumed ones are data of the body: take them, and continue
    /// behind them. Never zero, never more than the input given holds.
    Data(usize),
    /// All input is consumed; give more.
    NeedMore,
    /// The body, its trailer included, is over.
    End,
}

/// Why a chunked body is refused. The connection must be closed: where the next request starts is
/// not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkError {
    pub reason: &'static str,
}

impl std::fmt::Display for ChunkError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "the chunked body is not valid: {}", self.reason)
    }
}

impl std::error::Error for ChunkError {}

pub(crate) const SIZE_MISSING: &str = "a chunk starts with its size in hexadecimal digits";
pub(crate) const SIZE_TOO_LONG: &str = "a chunk size has at most 16 digits";
pub(crate) const SIZE_END: &str = "a chunk size ends with CR LF or `;`";
pub(crate) const EXTENSION_BYTE: &str = "a chunk extension holds a control byte";
pub(crate) const EXTENSION_TOO_LONG: &str = "a chunk extension is longer than 256 bytes";
pub(crate) const EXTENSIONS_TOO_MANY: &str = "the chunk extensions outweigh the data";
pub(crate) const LINE_FEED: &str = "CR stands without LF";
pub(crate) const DATA_END: &str = "chunk data is not followed by CR LF";
pub(crate) const TRAILER_NAME: &str = "a trailer line is not a field";
pub(crate) const TRAILER_VALUE: &str = "a trailer field holds a control byte";
pub(crate) const TRAILER_TOO_LONG: &str = "the trailer is longer than 8 KiB";

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum State {
    /// At the first byte of a chunk size.
    #[default]
    SizeStart,
    Size,
    /// In whitespace behind a size, which only extensions may follow.
    SizeSpace,
    Extension,
    SizeLineFeed,
    /// In `remaining` bytes of data, more than zero.
    Data,
    DataCarriageReturn,
    DataLineFeed,
    /// At the start of a trailer line, or of the empty line behind the trailer.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    EndLineFeed,
    End,
}

/// Decodes one chunked body.
#[derive(Debug, Default)]
pub struct ChunkDecoder {
    state: State,
    /// Of the chunk whose size was or is read.
    remaining: u64,
    size_digits: u8,
    extension_bytes: u16,
    /// Extension bytes seen so far, less the data bytes seen so far, but not below zero.
    extension_bytes_ahead: u64,
    trailer_bytes: u16,
}

impl ChunkDecoder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at `input`; returns how many framing bytes to skip first, and what follows them. With
    /// `NeedMore` that is all of `input`; with `Data(count)` the caller's next input starts `count`
    /// bytes behind the skipped ones. After `End` it stays at the end and consumes nothing. An
    /// error is final.
    pub fn next(&mut self, input: &[u8]) -> Result<(usize, ChunkEvent), ChunkError> {
        let mut at = 0;
        loop {
            if self.state == State::End {
                return Ok((at, ChunkEvent::End));
            }
            let Some(byte) = input.get(at) else {
                return Ok((at, ChunkEvent::NeedMore));
            };
            if self.state == State::Data {
                let available = input.len() - at;
                let count = usize::try_from(self.remaining).map_or(available, |remaining| remaining.min(available));
                self.remaining -= count as u64;
                if self.remaining == 0 {
                    self.state = State::DataCarriageReturn;
                }
                return Ok((at, ChunkEvent::Data(count)));
            }
            self.state = self.step(*byte).map_err(|reason| ChunkError { reason })?;
            at += 1;
        }
    }

    /// Bytes of data that are to come of the chunk whose size was read last; until its line has
    /// ended, as far as its digits go.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// The state after one byte of framing.
    fn step(&mut self, byte: u8) -> Result<State, &'static str> {
        match self.state {
            State::SizeStart => {
                self.remaining = 0;
                self.size_digits = 0;
                self.extension_bytes = 0;
                if byte.is_ascii_hexdigit() { self.size_digit(byte) } else { Err(SIZE_MISSING) }
            }
            State::Size => match byte {
                b'\r' => Ok(State::SizeLineFeed),
                b';' => self.extension_byte(State::Extension),
                b' ' | b'\t' => self.extension_byte(State::SizeSpace),
                _ if byte.is_ascii_hexdigit() => self.size_digit(byte),
                _ => Err(SIZE_END),
            },
            State::SizeSpace => match byte {
                b';' => self.extension_byte(State::Extension),
                b' ' | b'\t' => self.extension_byte(State::SizeSpace),
                _ => Err(SIZE_END),
            },
            State::Extension => match byte {
                b'\r' => Ok(State::SizeLineFeed),
                _ if scan::is_value(byte) => self.extension_byte(State::Extension),
                _ => Err(EXTENSION_BYTE),
            },
            State::SizeLineFeed | State::TrailerLineFeed | State::EndLineFeed if byte != b'\n' => Err(LINE_FEED),
            State::SizeLineFeed => self.begin_chunk(),
            State::DataCarriageReturn if byte == b'\r' => Ok(State::DataLineFeed),
            State::DataLineFeed if byte == b'\n' => Ok(State::SizeStart),
            State::DataCarriageReturn | State::DataLineFeed => Err(DATA_END),
            State::TrailerStart if byte == b'\r' => Ok(State::EndLineFeed),
            State::TrailerStart if scan::is_token(byte) => self.trailer_byte(State::TrailerName),
            State::TrailerStart => Err(TRAILER_NAME),
            State::TrailerName => match byte {
                b':' => self.trailer_byte(State::TrailerValue),
                _ if scan::is_token(byte) => self.trailer_byte(State::TrailerName),
                _ => Err(TRAILER_NAME),
            },
            State::TrailerValue => match byte {
                b'\r' => self.trailer_byte(State::TrailerLineFeed),
                _ if scan::is_value(byte) => self.trailer_byte(State::TrailerValue),
                _ => Err(TRAILER_VALUE),
            },
            State::TrailerLineFeed => self.trailer_byte(State::TrailerStart),
            State::EndLineFeed => Ok(State::End),
            State::Data | State::End => unreachable!("these take no byte of framing"),
        }
    }

    fn size_digit(&mut self, digit: u8) -> Result<State, &'static str> {
        if self.size_digits == SIZE_DIGITS_MAX {
            return Err(SIZE_TOO_LONG);
        }
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            _ => (digit | 0x20) - b'a' + 10,
        };
        self.size_digits += 1;
        self.remaining = self.remaining << 4 | u64::from(value);
        Ok(State::Size)
    }

    fn extension_byte(&mut self, next: State) -> Result<State, &'static str> {
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES_MAX { Err(EXTENSION_TOO_LONG) } else { Ok(next) }
    }

    fn trailer_byte(&mut self, next: State) -> Result<State, &'static str> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX { Err(TRAILER_TOO_LONG) } else { Ok(next) }
    }

    fn begin_chunk(&mut self) -> Result<State, &'static str> {
        self.extension_bytes_ahead =
            (self.extension_bytes_ahead + u64::from(self.extension_bytes)).saturating_sub(self.remaining);
        if self.extension_bytes_ahead > EXTENSION_BYTES_AHEAD_MAX {
            return Err(EXTENSIONS_TOO_MANY);
        }
        Ok(if self.remaining == 0 { State::TrailerStart } else { State::Data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::iter::repeat;

    /// The data and the bytes consumed, or the reason of the refusal; `input` is given in pieces of
    /// these sizes.
    fn decode(input: &[u8], mut pieces: impl Iterator<Item = usize>) -> Result<(Vec<u8>, Option<usize>), &'static str> {
        let mut decoder = ChunkDecoder::new();
        let mut data = Vec::new();
        let mut at = 0;
        let mut given = 0;
        loop {
            let (skip, event) = decoder.next(&input[at..given]).map_err(|error| error.reason)?;
            at += skip;
            match event {
                ChunkEvent::Data(count) => {
                    assert!(count > 0);
                    data.extend_from_slice(&input[at..at + count]);
                    at += count;
                }
                ChunkEvent::NeedMore => {
                    assert_eq!(at, given, "all input is consumed");
                    if given == input.len() {
                        return Ok((data, None));
                    }
                    given = input.len().min(given + pieces.next().expect("the pieces go on"));
                }
                ChunkEvent::End => return Ok((data, Some(at))),
            }
        }
    }

    fn decode_every_way(input: &[u8]) -> Result<(Vec<u8>, Option<usize>), &'static str> {
        let whole = decode(input, repeat(input.len().max(1)));
        for piece in [1, 2, 3, 7] {
            assert_eq!(decode(input, repeat(piece)), whole, "pieces of {piece}");
        }
        whole
    }

    #[test]
    fn chunks_extensions_and_trailers_decode_to_the_data() {
        for (input, data) in [
            (&b"0\r\n\r\n"[..], &b""[..]),
            (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
            (b"0000000000000003\r\nabc\r\n000\r\n\r\n", b"abc"),
            (b"a\r\n0123456789\r\nB\r\n0123456789A\r\n0\r\n\r\n", b"01234567890123456789A"),
            (b"3;name=value;other=\"a;b\"\r\n\r\n\r\r\n0;last\r\n\r\n", b"\r\n\r"),
            (b"3 \t; a\r\nabc\r\n0\r\n\r\n", b"abc"),
            (b"1\r\na\r\n0\r\nDigest: x\r\nX-Empty:\r\nObs: \xff\t\r\n\r\n", b"a"),
        ] {
            assert_eq!(decode_every_way(input), Ok((data.to_vec(), Some(input.len()))));
            let mut longer = input.to_vec();
            longer.extend_from_slice(b"GET / HTTP/1.1\r\n");
            assert_eq!(
                decode_every_way(&longer),
                Ok((data.to_vec(), Some(input.len()))),
                "the next request is left alone"
            );
            for cut in 0..input.len() {
                let (_, end) = decode_every_way(&input[..cut]).expect("what came so far is valid");
                assert_eq!(end, None, "cut at {cut}");
            }
        }
    }

    #[test]
    fn every_broken_framing_is_refused_for_its_reason() {
        for (input, reason) in [
            (&b"\r\n"[..], SIZE_MISSING),
            (b" 3\r\nabc", SIZE_MISSING),
            (b"+3\r\nabc", SIZE_MISSING),
            (b"-1\r\n", SIZE_MISSING),
            (b";a\r\n", SIZE_MISSING),
            (b"g\r\n", SIZE_MISSING),
            (b"0x3\r\nabc", SIZE_END),
            (b"3_0\r\n", SIZE_END),
            (b"3\nabc\n0\n\n", SIZE_END),
            (b"3 \r\nabc", SIZE_END),
            (b"3 3\r\nabc", SIZE_END),
            (b"3\t\n", SIZE_END),
            (b"3\rabc", LINE_FEED),
            (b"00000000000000003\r\nabc", SIZE_TOO_LONG),
            (b"fffffffffffffffff\r\n", SIZE_TOO_LONG),
            (b"3;a\nabc\r\n0\r\n\r\n", EXTENSION_BYTE),
            (b"3;a\0\r\n", EXTENSION_BYTE),
            (b"3;a\x7f\r\n", EXTENSION_BYTE),
            (b"3;a\rabc", LINE_FEED),
            (b"3\r\nabcd\r\n", DATA_END),
            (b"3\r\nabc\n", DATA_END),
            (b"3\r\nabc\r0", DATA_END),
            (b"3\r\nabc0\r\n\r\n", DATA_END),
            (b"0\r\n\n", TRAILER_NAME),
            (b"0\r\nGET / HTTP/1.1\r\n\r\n", TRAILER_NAME),
            (b"0\r\n: a\r\n\r\n", TRAILER_NAME),
            (b"0\r\n folded\r\n\r\n", TRAILER_NAME),
            (b"0\r\na : b\r\n\r\n", TRAILER_NAME),
            (b"0\r\na: b\n\r\n", TRAILER_VALUE),
            (b"0\r\na: \0\r\n\r\n", TRAILER_VALUE),
            (b"0\r\na: b\r\r\n", LINE_FEED),
            (b"0\r\n\rX", LINE_FEED),
        ] {
            assert_eq!(decode_every_way(input), Err(reason), "{}", input.escape_ascii());
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded_to_the_byte() {
        let with_extension = |size: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "e".repeat(size - 1)).into_bytes();
        assert!(decode_every_way(&with_extension(EXTENSION_BYTES_MAX.into())).is_ok());
        assert_eq!(decode_every_way(&with_extension(usize::from(EXTENSION_BYTES_MAX) + 1)), Err(EXTENSION_TOO_LONG));

        let with_trailer = |size: usize| format!("0\r\na:{}\r\n\r\n", "t".repeat(size - 4)).into_bytes();
        assert!(decode_every_way(&with_trailer(TRAILER_BYTES_MAX.into())).is_ok());
        assert_eq!(decode_every_way(&with_trailer(usize::from(TRAILER_BYTES_MAX) + 1)), Err(TRAILER_TOO_LONG));
    }

    #[test]
    fn extensions_may_not_outweigh_the_data() {
        let extension = "e".repeat(usize::from(EXTENSION_BYTES_MAX) - 1);
        let thin = format!("1;{extension}\r\na\r\n").repeat(100);
        assert_eq!(decode_every_way(thin.as_bytes()), Err(EXTENSIONS_TOO_MANY));
        let fair = format!("100;{extension}\r\n{}\r\n", "d".repeat(256)).repeat(100);
        assert_eq!(decode_every_way(fair.as_bytes()), Ok(("d".repeat(25_600).into_bytes(), None)));
    }

    #[test]
    fn the_largest_size_is_taken_as_it_is() {
        let mut decoder = ChunkDecoder::new();
        assert_eq!(decoder.next(b"ffffffffffffffff\r\nabc"), Ok((18, ChunkEvent::Data(3))));
        assert_eq!(decoder.next(&[0; 4096]), Ok((0, ChunkEvent::Data(4096))));
        assert_eq!(decoder.next(b""), Ok((0, ChunkEvent::NeedMore)));
        assert_eq!(decoder.remaining, u64::MAX - 3 - 4096);
    }

    #[test]
    fn the_end_stays_the_end() {
        let mut decoder = ChunkDecoder::new();
        assert_eq!(decoder.next(b"0\r\n\r\n"), Ok((5, ChunkEvent::End)));
        assert_eq!(decoder.next(b"1\r\n"), Ok((0, ChunkEvent::End)));
    }

    proptest! {
        /// Random data in random chunks with random extensions and trailers, arriving in random
        /// pieces.
        #[test]
        fn encoded_chunks_decode_to_the_data_at_every_split(
            chunks in vec((vec(any::<u8>(), 1..300), "(;[ -~]{0,20})?", any::<bool>(), 0..3usize), 0..6),
            trailer in vec("[A-Za-z-]{1,8}:[ -~]{0,20}", 0..3),
            behind in vec(any::<u8>(), 0..8),
            pieces in vec(1..40usize, 1..20),
        ) {
            let mut input = Vec::new();
            for (data, extension, upper, zeros) in &chunks {
                let digits = if *upper { format!("{:X}", data.len()) } else { format!("{:x}", data.len()) };
                input.extend_from_slice(format!("{}{digits}{extension}\r\n", "0".repeat(*zeros)).as_bytes());
                input.extend_from_slice(data);
                input.extend_from_slice(b"\r\n");
            }
            input.extend_from_slice(b"0\r\n");
            for line in &trailer {
                input.extend_from_slice(format!("{line}\r\n").as_bytes());
            }
            input.extend_from_slice(b"\r\n");
            let size = input.len();
            input.extend_from_slice(&behind);

            let data: Vec<u8> = chunks.iter().flat_map(|(data, ..)| data).copied().collect();
            prop_assert_eq!(decode(&input, pieces.iter().copied().cycle()), Ok((data, Some(size))));
        }
    }
}
