//! Writing response heads into a reused buffer.
//!
//! Invariants: a head is well-formed whatever is put into it. Names are tokens and values hold no
//! CR, LF or other control byte, asserted in release builds too, so that a head can not be split by
//! what a client sent. Nothing is allocated but what the buffer needs to grow.

use super::date::format_http_date;
use super::scan;

/// Decimal digits of the largest 64-bit number.
const U64_DIGITS_MAX: usize = 20;

/// Appends a response head to a byte vector: status line, fields, empty line.
#[derive(Debug)]
#[must_use = "a head is finished by `end`"]
pub struct ResponseHead<'b>(&'b mut Vec<u8>);

impl<'b> ResponseHead<'b> {
    /// Writes the status line. Panics on a status that has not three digits.
    pub fn new(out: &'b mut Vec<u8>, status: u16) -> Self {
        assert!((100..1_000).contains(&status), "{status} is no status");
        out.extend_from_slice(b"HTTP/1.1 ");
        write_u64(out, u64::from(status));
        out.push(b' ');
        out.extend_from_slice(reason_phrase(status).as_bytes());
        out.extend_from_slice(b"\r\n");
        Self(out)
    }

    /// Writes a field. Panics on a name that is no token and on control bytes in the value: whoever
    /// passes on what a client sent checks it before.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        assert!(
            scan::value_end(value.as_bytes(), 0) == value.len(),
            "the value of {name} holds a control byte: {value:?}"
        );
        self.begin_field(name);
        self.0.extend_from_slice(value.as_bytes());
        self.end_field()
    }

    pub fn field_u64(mut self, name: &str, value: u64) -> Self {
        self.begin_field(name);
        write_u64(self.0, value);
        self.end_field()
    }

    /// A field whose value is an HTTP date, from seconds since 1970.
    pub fn field_date(mut self, name: &str, seconds: u64) -> Self {
        self.begin_field(name);
        self.0.extend_from_slice(&format_http_date(seconds));
        self.end_field()
    }

    /// Writes the empty line.
    pub fn end(self) {
        self.0.extend_from_slice(b"\r\n");
    }

    fn begin_field(&mut self, name: &str) {
        let is_token = !name.is_empty() && scan::token_end(name.as_bytes(), 0) == name.len();
        assert!(is_token, "{name:?} is no field name");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
    }

    fn end_field(self) -> Self {
        self.0.extend_from_slice(b"\r\n");
        self
    }
}

fn write_u64(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; U64_DIGITS_MAX];
    let mut start = U64_DIGITS_MAX;
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// The reason phrase of a status (RFC 9110, section 15; RFC 6585; RFC 4918); empty for one that is
/// not listed, as the grammar allows.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_appended_byte_for_byte() {
        let mut out = b"before".to_vec();
        ResponseHead::new(&mut out, 206)
            .field("Content-Type", "application/octet-stream")
            .field_u64("Content-Length", 0)
            .field_u64("X-Max", u64::MAX)
            .field_date("Last-Modified", 784_111_777)
            .field("X-Empty", "")
            .field("X-Text", "ä\tb")
            .end();
        let expected = "beforeHTTP/1.1 206 Partial Content\r\nContent-Type: application/octet-stream\r\nContent-Length: 0\r\n\
            X-Max: 18446744073709551615\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nX-Empty: \r\nX-Text: ä\tb\r\n\r\n";
        assert_eq!(String::from_utf8(out).expect("it is text"), expected);
    }

    #[test]
    fn a_status_without_a_phrase_keeps_its_space() {
        let mut out = Vec::new();
        ResponseHead::new(&mut out, 299).end();
        assert_eq!(out, b"HTTP/1.1 299 \r\n\r\n");
    }

    #[test]
    fn every_written_head_is_one_that_another_parser_reads() {
        for status in (100..1_000).filter(|status| !reason_phrase(*status).is_empty()) {
            let mut out = Vec::new();
            ResponseHead::new(&mut out, status).field("A", "b").field_u64("C", 7).end();
            let mut fields = [httparse::EMPTY_HEADER; 2];
            let mut response = httparse::Response::new(&mut fields);
            assert_eq!(response.parse(&out), Ok(httparse::Status::Complete(out.len())));
            assert_eq!((response.code, response.reason), (Some(status), Some(reason_phrase(status))));
            assert_eq!((response.headers[0].value, response.headers[1].value), (&b"b"[..], &b"7"[..]));
        }
    }

    #[test]
    fn nothing_that_splits_a_head_is_written() {
        let write = |name: &str, value: &str| {
            let (name, value) = (name.to_owned(), value.to_owned());
            std::panic::catch_unwind(move || ResponseHead::new(&mut Vec::new(), 200).field(&name, &value).end()).is_ok()
        };
        assert!(write("a", "b"));
        for value in ["\r", "\n", "\0", "\x7f", "b\r\nSet-Cookie: c", "0123456789abcdef\n"] {
            assert!(!write("a", value), "{value:?}");
        }
        for name in ["", "a b", "a:", "a\r\n", "ä"] {
            assert!(!write(name, "b"), "{name:?}");
        }
    }

    #[test]
    fn a_status_has_three_digits() {
        for status in [0, 99, 1_000] {
            assert!(std::panic::catch_unwind(|| ResponseHead::new(&mut Vec::new(), status).end()).is_err());
        }
    }
}
