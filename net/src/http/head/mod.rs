//! The request head (RFC 9112): what a parsed head says. The parser is in `parser`, the meaning of
//! the fields that decide framing in `known`, the refusals in `error`.
//!
//! Invariants: a [`RequestHead`] exists only for a head that passed every check, so its framing is
//! unambiguous. It holds offsets, not bytes: its accessors take the same input that was parsed, and
//! panic on an input they do not fit. Method, target and field names are ASCII.

mod error;
mod known;
mod parser;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use error::HeadError;
pub use parser::HeadParser;

/// Offsets in a head are kept in 16 bits, which halves what a head costs to store; this is the
/// largest that needs no more: the last field ends four bytes before the head does.
pub const HEAD_BYTES_MAX: usize = 1 << 16;
/// Fields of a head that are kept without allocating.
pub const FIELDS_INLINE: usize = 32;
/// No registered method is longer than 17 bytes.
pub const METHOD_BYTES_MAX: usize = 32;
/// Empty lines tolerated before a request line (RFC 9112, section 2.2, asks for one at least).
pub const EMPTY_LINES_MAX: usize = 4;

/// What a head may take at most.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of the whole head, request line and empty line included; at most [`HEAD_BYTES_MAX`].
    /// Over it: [`HeadError::TooLarge`] (431).
    pub head_bytes: usize,
    /// Bytes of the request target. Over it: [`HeadError::TargetTooLong`] (414).
    pub target_bytes: usize,
    /// Header fields. Over it: [`HeadError::TooLarge`].
    pub fields: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
    /// A well-formed token that names none of the above.
    Other,
}

impl Method {
    /// The name; `other` for those that have none here.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Other => "other",
        }
    }

    fn from_name(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"PATCH" => Self::Patch,
            _ => Self::Other,
        }
    }
}

/// How the request's body is framed (RFC 9112, section 6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyFraming {
    None,
    Length(u64),
    Chunked,
}

/// A range of the input.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Span {
    start: u16,
    end: u16,
}

impl Span {
    #[inline]
    fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end < HEAD_BYTES_MAX);
        Self { start: start as u16, end: end as u16 }
    }

    #[inline]
    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    #[inline]
    fn of(self, input: &[u8]) -> &[u8] {
        &input[self.range()]
    }

    fn text(self, input: &[u8]) -> &str {
        std::str::from_utf8(self.of(input))
            .expect("the accessor is given the bytes that were parsed, and these are ASCII")
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Field {
    name: Span,
    value: Span,
}

/// A parsed head: spans into the input it was parsed from, which the caller keeps.
#[derive(Clone, Debug)]
pub struct RequestHead {
    size: u32,
    method: Method,
    is_http_10: bool,
    has_connection_close: bool,
    has_connection_keep_alive: bool,
    has_connection_upgrade: bool,
    has_expect_continue: bool,
    framing: BodyFraming,
    method_name: Span,
    /// Empty for an absolute form without a path.
    target: Span,
    /// The authority of an absolute form, or the `Host` value; empty when there is neither.
    host: Span,
    field_count: usize,
    inline: [Field; FIELDS_INLINE],
    spill: Vec<Field>,
}

impl RequestHead {
    fn empty() -> Self {
        Self {
            size: 0,
            method: Method::Other,
            is_http_10: false,
            has_connection_close: false,
            has_connection_keep_alive: false,
            has_connection_upgrade: false,
            has_expect_continue: false,
            framing: BodyFraming::None,
            method_name: Span::default(),
            target: Span::default(),
            host: Span::default(),
            field_count: 0,
            inline: [Field::default(); FIELDS_INLINE],
            spill: Vec::new(),
        }
    }

    /// Makes it the empty head again; keeps what was allocated. Spans beyond the count are never
    /// looked at, and stay.
    fn clear(&mut self) {
        self.field_count = 0;
        self.spill.clear();
        self.host = Span::default();
        self.framing = BodyFraming::None;
        self.has_connection_close = false;
        self.has_connection_keep_alive = false;
        self.has_connection_upgrade = false;
        self.has_expect_continue = false;
    }

    #[inline]
    fn push(&mut self, field: Field) {
        match self.inline.get_mut(self.field_count) {
            Some(place) => *place = field,
            None => self.spill.push(field),
        }
        self.field_count += 1;
    }

    fn spans(&self) -> impl Iterator<Item = &Field> {
        self.inline[..self.field_count.min(FIELDS_INLINE)].iter().chain(&self.spill)
    }

    /// Bytes of the head in the input; the body starts here.
    pub fn size(&self) -> usize {
        self.size as usize
    }

    pub fn method(&self) -> Method {
        self.method
    }

    /// The method as written.
    pub fn method_name<'i>(&self, input: &'i [u8]) -> &'i str {
        self.method_name.text(input)
    }

    /// The target in origin form (an absolute form has lost its scheme and authority), ASCII, not
    /// decoded. `*` for `OPTIONS` of the server as a whole, and `HOST:PORT` for `CONNECT`.
    pub fn target<'i>(&self, input: &'i [u8]) -> &'i str {
        match self.target.range().is_empty() {
            false => self.target.text(input),
            true if self.method == Method::Options => "*",
            true => "/",
        }
    }

    /// The host asked for, with its port if one was given: the authority of an absolute form, else
    /// the `Host` field (RFC 9112, section 3.2.2). `None` only in HTTP/1.0.
    pub fn host<'i>(&self, input: &'i [u8]) -> Option<&'i str> {
        (!self.host.range().is_empty()).then(|| self.host.text(input))
    }

    pub fn is_http_10(&self) -> bool {
        self.is_http_10
    }

    pub fn framing(&self) -> BodyFraming {
        self.framing
    }

    /// Whether the connection may serve another request after this one.
    pub fn keep_alive(&self) -> bool {
        !self.has_connection_close && (!self.is_http_10 || self.has_connection_keep_alive)
    }

    /// Whether `Connection` lists `upgrade`; never in HTTP/1.0 (RFC 9110, section 7.8).
    pub fn wants_upgrade(&self) -> bool {
        self.has_connection_upgrade && !self.is_http_10
    }

    /// Whether the client waits for `100 Continue` before it sends the body. Without a body there
    /// is nothing to wait for.
    pub fn expects_continue(&self) -> bool {
        self.has_expect_continue && !matches!(self.framing, BodyFraming::None | BodyFraming::Length(0))
    }

    /// The value of the first field of this name (`name` in lowercase), without surrounding
    /// whitespace.
    pub fn field<'i>(&self, input: &'i [u8], name: &str) -> Option<&'i [u8]> {
        debug_assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()), "{name} is looked up in lowercase");
        self.spans()
            .find(|field| field.name.of(input).eq_ignore_ascii_case(name.as_bytes()))
            .map(|field| field.value.of(input))
    }

    /// Every field in order, names as written.
    pub fn fields<'i>(&self, input: &'i [u8]) -> impl Iterator<Item = (&'i str, &'i [u8])> {
        self.spans().map(move |field| (field.name.text(input), field.value.of(input)))
    }
}
