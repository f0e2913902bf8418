//! The request head: a strict, incremental parser.

/// What a head may take at most.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of the whole head, request line and empty line included. Over it: [`HeadError::TooLarge`] (431).
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

/// How the request's body is framed (RFC 9112, section 6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyFraming {
    None,
    Length(u64),
    Chunked,
}

/// Why a head is refused. The connection must be closed after the answer: what follows can't be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadError {
    /// Not HTTP; the offset of the first byte that is wrong, and what was expected there.
    Malformed {
        offset: usize,
        expected: &'static str,
    },
    TooLarge,
    TargetTooLong,
    /// A version other than 1.0 and 1.1.
    Version,
    /// Framing that request smuggling lives on: says which rule.
    Framing {
        reason: &'static str,
    },
    /// A transfer coding other than `chunked`: 501.
    TransferCoding,
    /// No `Host`, or more than one, in HTTP/1.1.
    Host,
    /// An expectation other than `100-continue`: 417.
    Expectation,
}

/// Parses heads of one connection, one after another; remembers how far it looked, so that a head that trickles in costs its
/// length once.
pub struct HeadParser(HeadLimits);

/// A parsed head: spans into the input it was parsed from, which the caller keeps.
#[derive(Clone, Debug)]
pub struct RequestHead(());

#[allow(unused_variables)]
impl HeadParser {
    pub fn new(limits: HeadLimits) -> Self {
        Self(limits)
    }

    /// Parses a head at the start of `input`; `None` when it is not complete yet (call again with the same bytes and more).
    /// After a head or an error the parser is fresh again.
    pub fn parse(&mut self, input: &[u8]) -> Result<Option<RequestHead>, HeadError> {
        todo!()
    }
}

#[allow(unused_variables)]
impl RequestHead {
    /// Bytes of the head in the input; the body starts here.
    pub fn size(&self) -> usize {
        todo!()
    }
    pub fn method(&self) -> Method {
        todo!()
    }
    /// The method as written.
    pub fn method_name<'i>(&self, input: &'i [u8]) -> &'i str {
        todo!()
    }
    /// The target in origin form (an absolute form has lost its scheme and authority), ASCII, not decoded.
    pub fn target<'i>(&self, input: &'i [u8]) -> &'i str {
        todo!()
    }
    pub fn is_http_10(&self) -> bool {
        todo!()
    }
    pub fn framing(&self) -> BodyFraming {
        todo!()
    }
    /// Whether the connection may serve another request after this one.
    pub fn keep_alive(&self) -> bool {
        todo!()
    }
    pub fn expects_continue(&self) -> bool {
        todo!()
    }
    /// The value of the first field of this name (`name` in lowercase), without surrounding whitespace.
    pub fn field<'i>(&self, input: &'i [u8], name: &str) -> Option<&'i [u8]> {
        todo!()
    }
    /// Every field in order, names as written.
    pub fn fields<'i>(&self, input: &'i [u8]) -> impl Iterator<Item = (&'i str, &'i [u8])> {
        todo!();
        #[allow(unreachable_code)]
        std::iter::empty()
    }
}
