//! Errors as HTTP knows them: a status, a short phrase, a message, and header fields. The body they
//! become is up to the API that answers: it hands in a [`Render`].
//!
//! `error` is a short phrase that programs match on and that never changes; `message` names the
//! value that was wrong and what to do. What only the operator may see (paths, what the kernel
//! said) goes to the log through [`HttpError::cause`], never to the client.

use nabu_net::http::head::HeadError;

/// Seconds that `Retry-After` asks a client to wait.
pub const RETRY_AFTER_SECONDS: &str = "1";

/// A refusal: what the client gets, and what else the log gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpError {
    pub status: u16,
    pub error: &'static str,
    pub message: String,
    /// Header fields of the answer, beyond those that every answer has.
    pub fields: Vec<(&'static str, String)>,
    /// Only for the log.
    pub cause: Option<String>,
}

impl HttpError {
    pub fn new(status: u16, error: &'static str, message: impl Into<String>) -> Self {
        Self { status, error, message: message.into(), fields: Vec::new(), cause: None }
    }

    /// A 503 that asks the client to come again.
    pub fn unavailable(error: &'static str, message: impl Into<String>) -> Self {
        Self::new(503, error, message).with_field("Retry-After", RETRY_AFTER_SECONDS)
    }

    pub fn with_field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Adds what only the log gets.
    pub fn with_cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}

/// Writes the body of an error answer, and names its media type.
pub type Render = fn(&HttpError) -> (&'static str, Vec<u8>);

impl From<HeadError> for HttpError {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::Malformed { offset, expected } => HttpError::new(
                400,
                "malformed request",
                format!("byte {offset} of the request head: expected {expected}"),
            ),
            HeadError::TooLarge => HttpError::new(
                431,
                "request header fields too large",
                "the request head is too large; send fewer or shorter header fields",
            ),
            HeadError::TargetTooLong => {
                HttpError::new(414, "URI too long", "the request target is too long; send a shorter one")
            }
            HeadError::Version => {
                HttpError::new(505, "HTTP version not supported", "this server speaks HTTP/1.1 and HTTP/1.0")
            }
            HeadError::Framing { reason } => {
                HttpError::new(400, "bad message framing", format!("the framing of the body is refused: {reason}"))
            }
            HeadError::TransferCoding => HttpError::new(
                501,
                "transfer coding not implemented",
                "the only transfer coding that this server accepts is chunked",
            ),
            HeadError::Host => {
                HttpError::new(400, "bad Host field", "an HTTP/1.1 request carries exactly one valid Host field")
            }
            HeadError::Expectation => {
                HttpError::new(417, "expectation failed", "the only expectation that this server meets is 100-continue")
            }
        }
    }
}
