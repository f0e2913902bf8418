//! The response head parser, for clients: strict and incremental (RFC 9112, sections 4 to 6).
//!
//! Invariants:
//! - The verdict depends only on the bytes, never on how they were split into calls: the first
//!   place that fails decides.
//! - What was looked at is not looked at again when more comes.
//! - A [`ResponseHead`] exists only for a head whose framing is unambiguous: one length, or
//!   `chunked`, never both.
//! - Line ends are exactly CR LF. Folded lines, whitespace around a field name and control bytes
//!   are errors.
//!
//! A head holds offsets, not bytes: its accessors take the same input that was parsed. The body is
//! the business of `body`.

use std::fmt;

use super::scan;

/// `HTTP/1.1 200`, and the byte behind it.
const STATUS_LINE_FIXED: usize = 13;

/// What a head may take at most.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHeadLimits {
    /// Bytes of the whole head, status line and empty line included.
    pub head_bytes: usize,
    pub fields: usize,
}

/// What was asked, as far as it decides whether a body follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnswerTo {
    /// A `HEAD` request, whose answer never has a body.
    Head,
    Other,
}

/// Where the body of the response ends (RFC 9112, section 6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResponseFraming {
    None,
    Length(u64),
    Chunked,
    /// It ends when the server closes the connection.
    UntilClose,
}

/// Why a head is refused. The connection must be closed: what follows can't be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResponseHeadError {
    /// Not HTTP; the offset of the first byte that is wrong, and what was expected there.
    Malformed { offset: usize, expected: &'static str },
    /// A version other than 1.0 and 1.1.
    Version,
    /// The head is larger, or has more fields, than the limits allow.
    TooLarge,
    /// Where the body ends is ambiguous; says which rule.
    Framing { reason: &'static str },
}

impl fmt::Display for ResponseHeadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { offset, expected } => {
                write!(formatter, "the answer is not valid HTTP/1.1: byte {offset} should be {expected}")
            }
            Self::Version => formatter.write_str("the answer has an HTTP version other than 1.0 and 1.1"),
            Self::TooLarge => formatter.write_str("the head of the answer is too large"),
            Self::Framing { reason } => write!(formatter, "the length of the answer's body is ambiguous: {reason}"),
        }
    }
}

impl std::error::Error for ResponseHeadError {}

/// A parsed head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResponseHead {
    size: usize,
    fields_start: usize,
    status: u16,
    is_http_10: bool,
    content_length: Option<u64>,
    is_chunked: bool,
    has_connection_close: bool,
    has_connection_keep_alive: bool,
    to_head: bool,
}

impl ResponseHead {
    const EMPTY: Self = Self {
        size: 0,
        fields_start: 0,
        status: 0,
        is_http_10: false,
        content_length: None,
        is_chunked: false,
        has_connection_close: false,
        has_connection_keep_alive: false,
        to_head: false,
    };

    /// Bytes of the head; the body starts there.
    pub fn size(&self) -> usize {
        self.size
    }

    pub fn status(&self) -> u16 {
        self.status
    }

    /// Another head follows, of the final answer (1xx, but for 101, after which the connection
    /// speaks no HTTP any more).
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    /// The value of `Content-Length`, also where no body follows, as in answers to `HEAD`.
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    pub fn framing(&self) -> ResponseFraming {
        if self.to_head || self.status < 200 || matches!(self.status, 204 | 304) {
            ResponseFraming::None
        } else if self.is_chunked {
            ResponseFraming::Chunked
        } else {
            self.content_length.map_or(ResponseFraming::UntilClose, ResponseFraming::Length)
        }
    }

    /// Whether another request may follow on the connection once the body is read.
    pub fn keep_alive(&self) -> bool {
        let persists = !self.has_connection_close && (!self.is_http_10 || self.has_connection_keep_alive);
        persists && self.status != 101 && self.framing() != ResponseFraming::UntilClose
    }

    /// The fields in order, names as they were sent.
    pub fn fields<'i>(&self, input: &'i [u8]) -> impl Iterator<Item = (&'i [u8], &'i [u8])> {
        let mut rest = &input[self.fields_start..self.size - 2];
        std::iter::from_fn(move || {
            let colon = rest.iter().position(|byte| *byte == b':')?;
            let end = colon + rest[colon..].iter().position(|byte| *byte == b'\r')?;
            let field = (&rest[..colon], scan::trim(&rest[colon + 1..end]));
            rest = &rest[end + 2..];
            Some(field)
        })
    }

    /// The first value of a field.
    pub fn field<'i>(&self, input: &'i [u8], name: &str) -> Option<&'i [u8]> {
        self.fields(input).find(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    fn note_field(&mut self, name: &[u8], value: &[u8]) -> Result<(), ResponseHeadError> {
        let framing = |reason| Err(ResponseHeadError::Framing { reason });
        if name.eq_ignore_ascii_case(b"content-length") {
            let Some(length) = decimal(value) else { return framing("Content-Length is not a number of bytes") };
            if self.content_length.replace(length).is_some_and(|other| other != length) {
                return framing("Content-Length appears twice with different values");
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return framing("the transfer coding is not `chunked`, once");
            }
            self.is_chunked = true;
        } else if name.eq_ignore_ascii_case(b"connection") {
            for option in value.split(|byte| *byte == b',').map(scan::trim) {
                self.has_connection_close |= option.eq_ignore_ascii_case(b"close");
                self.has_connection_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        Ok(())
    }

    fn check_complete(&self) -> Result<(), ResponseHeadError> {
        let reason = match (self.is_chunked, self.content_length, self.is_http_10) {
            (true, Some(_), _) => "Content-Length appears together with Transfer-Encoding",
            (true, None, true) => "HTTP/1.0 has no transfer codings",
            _ => return Ok(()),
        };
        Err(ResponseHeadError::Framing { reason })
    }
}

fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    value.iter().try_fold(0u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

/// Parses heads of one connection, one after another; remembers how far it looked.
#[derive(Debug)]
pub struct ResponseHeadParser {
    limits: ResponseHeadLimits,
    head: ResponseHead,
    /// Where the line that is read starts.
    line: usize,
    /// Everything before it has been looked at.
    scanned: usize,
    /// Where the current field line's colon stands; 0 while its name is read.
    colon: usize,
    field_count: usize,
}

/// Whether the element is complete.
type Step = Result<bool, ResponseHeadError>;

impl ResponseHeadParser {
    pub fn new(limits: ResponseHeadLimits) -> Self {
        Self { limits, head: ResponseHead::EMPTY, line: 0, scanned: 0, colon: 0, field_count: 0 }
    }

    /// Parses a head at the start of `input`; `None` when it is not complete yet (call again with
    /// the same bytes and more). After a head or an error the parser is fresh again.
    pub fn parse(&mut self, input: &[u8], to: AnswerTo) -> Result<Option<ResponseHead>, ResponseHeadError> {
        let window = &input[..input.len().min(self.limits.head_bytes)];
        assert!(self.scanned <= window.len(), "the input holds the bytes that were given before");
        let outcome = match self.advance(window) {
            Ok(true) => Ok(Some(ResponseHead { to_head: to == AnswerTo::Head, ..self.head })),
            Ok(false) if window.len() == self.limits.head_bytes => Err(ResponseHeadError::TooLarge),
            Ok(false) => return Ok(None),
            Err(error) => Err(error),
        };
        *self = Self::new(self.limits);
        outcome
    }

    fn advance(&mut self, window: &[u8]) -> Step {
        if self.head.fields_start == 0 && !self.read_status_line(window)? {
            return Ok(false);
        }
        loop {
            if window.get(self.line) == Some(&b'\r') {
                return match window.get(self.line + 1) {
                    None => Ok(false),
                    Some(b'\n') => {
                        self.head.size = self.line + 2;
                        self.head.check_complete().map(|()| true)
                    }
                    Some(_) => malformed(self.line + 1, "LF after CR"),
                };
            }
            if !self.read_field(window)? {
                return Ok(false);
            }
        }
    }

    fn read_status_line(&mut self, window: &[u8]) -> Step {
        // The fixed part is 13 bytes, so that looking at it again is nothing to remember.
        for (offset, byte) in window.iter().enumerate().take(STATUS_LINE_FIXED) {
            check_status_byte(offset, *byte)?;
        }
        let Some(fixed) = window.first_chunk::<STATUS_LINE_FIXED>() else { return Ok(false) };
        let end = scan::value_end(window, self.scanned.max(STATUS_LINE_FIXED - 1));
        self.scanned = end;
        if !line_ends(window, end, "a byte of a reason, or CR LF")? {
            return Ok(false);
        }
        self.head.is_http_10 = fixed[7] == b'0';
        self.head.status = fixed[9..12].iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
        self.head.fields_start = end + 2;
        self.begin_line(end + 2);
        Ok(true)
    }

    fn read_field(&mut self, window: &[u8]) -> Step {
        if self.colon == 0 {
            let end = scan::token_end(window, self.scanned);
            self.scanned = end;
            match window.get(end) {
                None => return Ok(false),
                Some(b':') if end > self.line => {}
                Some(_) if end == self.line => return malformed(end, "a field name or an empty line"),
                Some(_) => return malformed(end, "a colon right after the field name"),
            }
            if self.field_count == self.limits.fields {
                return Err(ResponseHeadError::TooLarge);
            }
            self.colon = end;
            self.scanned = end + 1;
        }
        let end = scan::value_end(window, self.scanned);
        self.scanned = end;
        if !line_ends(window, end, "a byte of a field value, or CR LF")? {
            return Ok(false);
        }
        let value = scan::trim(&window[self.colon + 1..end]);
        self.head.note_field(&window[self.line..self.colon], value)?;
        self.field_count += 1;
        self.begin_line(end + 2);
        Ok(true)
    }

    fn begin_line(&mut self, line: usize) {
        self.line = line;
        self.scanned = line;
        self.colon = 0;
    }
}

fn check_status_byte(offset: usize, byte: u8) -> Result<(), ResponseHeadError> {
    let (fits, expected) = match offset {
        0..=4 => (byte == b"HTTP/"[offset], "`HTTP/1.1`"),
        5 if byte != b'1' && byte.is_ascii_digit() => return Err(ResponseHeadError::Version),
        5 => (byte == b'1', "`HTTP/1.1`"),
        6 => (byte == b'.', "`HTTP/1.1`"),
        7 if byte > b'1' && byte.is_ascii_digit() => return Err(ResponseHeadError::Version),
        7 => (matches!(byte, b'0' | b'1'), "`HTTP/1.1`"),
        8 => (byte == b' ', "a space after the version"),
        9 => (matches!(byte, b'1'..=b'9'), "a status of three digits"),
        10 | 11 => (byte.is_ascii_digit(), "a status of three digits"),
        // Without a reason the space before it belongs there too, but is widely left out.
        _ => (matches!(byte, b' ' | b'\r'), "a space or CR LF after the status"),
    };
    if fits { Ok(()) } else { malformed(offset, expected).map(drop) }
}

/// Whether CR LF stands at `end`; `Ok(false)` when it can't be told yet.
fn line_ends(window: &[u8], end: usize, expected: &'static str) -> Step {
    match window[end..] {
        [b'\r', b'\n', ..] => Ok(true),
        [] | [b'\r'] => Ok(false),
        [b'\r', _, ..] => malformed(end + 1, "LF after CR"),
        _ => malformed(end, expected),
    }
}

#[cold]
fn malformed(offset: usize, expected: &'static str) -> Step {
    Err(ResponseHeadError::Malformed { offset, expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ResponseHeadLimits = ResponseHeadLimits { head_bytes: 256, fields: 4 };

    fn parse(text: &str) -> Result<Option<ResponseHead>, ResponseHeadError> {
        ResponseHeadParser::new(LIMITS).parse(text.as_bytes(), AnswerTo::Other)
    }

    fn head(text: &str) -> ResponseHead {
        parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}")).expect("complete")
    }

    #[test]
    fn the_framing_follows_from_status_and_fields() {
        use ResponseFraming::{Chunked, Length, None, UntilClose};
        for (text, framing, keep_alive) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Length(5), true),
            ("HTTP/1.1 200 OK\r\ncontent-length:5\r\nContent-Length: 5\r\n\r\n", Length(5), true),
            ("HTTP/1.1 200\r\nTransfer-Encoding: Chunked\r\n\r\n", Chunked, true),
            ("HTTP/1.1 200 \r\n\r\n", UntilClose, false),
            ("HTTP/1.1 204 No Content\r\n\r\n", None, true),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", None, true),
            ("HTTP/1.1 100 Continue\r\n\r\n", None, true),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", None, false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: foo, Close\r\n\r\n", Length(0), false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", Length(0), false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", Length(0), true),
        ] {
            let head = head(text);
            assert_eq!((head.framing(), head.keep_alive()), (framing, keep_alive), "{text:?}");
            assert_eq!(head.size(), text.len());
        }
    }

    #[test]
    fn an_answer_to_head_has_a_length_and_no_body() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n";
        let head = ResponseHeadParser::new(LIMITS).parse(text, AnswerTo::Head).unwrap().expect("complete");
        assert_eq!((head.framing(), head.content_length()), (ResponseFraming::None, Some(12345)));
        assert!(head.keep_alive());
    }

    #[test]
    fn fields_are_found_by_name_in_any_case_and_trimmed() {
        let text = "HTTP/1.1 206 Partial Content\r\nETag:  \"a b\"\t\r\nX:\r\nEtag: second\r\n\r\nbody: no\r\n";
        let head = head(text);
        assert_eq!(head.status(), 206);
        assert_eq!(head.field(text.as_bytes(), "etag"), Some(&b"\"a b\""[..]));
        assert_eq!(head.field(text.as_bytes(), "x"), Some(&b""[..]));
        assert_eq!(head.field(text.as_bytes(), "body"), None);
        assert_eq!(head.fields(text.as_bytes()).count(), 3);
    }

    #[test]
    fn ambiguous_framing_is_refused() {
        for fields in [
            "Content-Length: 1\r\nContent-Length: 2",
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 1",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: gzip, chunked",
            "Content-Length: ",
            "Content-Length: +1",
            "Content-Length: 1, 1",
            "Content-Length: 18446744073709551616",
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
            assert!(matches!(parse(&text), Err(ResponseHeadError::Framing { .. })), "{fields:?}");
        }
        let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(matches!(parse(old), Err(ResponseHeadError::Framing { .. })));
    }

    #[test]
    fn what_is_no_http_is_refused_at_the_byte_that_shows_it() {
        for (text, offset) in [
            ("SSH-2.0", 0),
            ("HTTP/1.1_200", 8),
            ("HTTP/1.1 20x", 11),
            ("HTTP/1.1 099", 9),
            ("HTTP/1.1 2000", 12),
            ("HTTP/1.1 200 OK\n", 15),
            ("HTTP/1.1 200 OK\r\r", 16),
            ("HTTP/1.1 200 OK\r\n folded", 17),
            ("HTTP/1.1 200 OK\r\nName : x", 21),
            ("HTTP/1.1 200 OK\r\nName: \0", 23),
            ("HTTP/1.1 200 OK\r\n\r\r", 18),
        ] {
            match parse(text) {
                Err(ResponseHeadError::Malformed { offset: found, .. }) => assert_eq!(found, offset, "{text:?}"),
                other => panic!("{text:?}: {other:?}"),
            }
            assert_eq!(parse(&text[..offset]), Ok(None), "{text:?}");
        }
        assert_eq!(parse("HTTP/2"), Err(ResponseHeadError::Version));
        assert_eq!(parse("HTTP/1.2"), Err(ResponseHeadError::Version));
    }

    #[test]
    fn a_head_over_a_limit_is_refused_as_soon_as_that_is_seen() {
        let many = format!("HTTP/1.1 200 OK\r\n{}", "a: b\r\n".repeat(5));
        assert_eq!(parse(&many), Err(ResponseHeadError::TooLarge));
        let long = format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(300));
        assert_eq!(parse(&long), Err(ResponseHeadError::TooLarge));
        assert_eq!(parse(&long[..255]), Ok(None));
    }

    #[test]
    fn a_parser_is_fresh_after_a_head() {
        let mut parser = ResponseHeadParser::new(LIMITS);
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
        assert!(parser.parse(&interim[..20], AnswerTo::Other).unwrap().is_none());
        assert!(parser.parse(interim, AnswerTo::Other).unwrap().is_some_and(|head| head.is_interim()));
        let last = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n";
        let head = parser.parse(last, AnswerTo::Other).unwrap().expect("complete");
        assert_eq!((head.status(), head.framing()), (201, ResponseFraming::Length(2)));
    }
}
