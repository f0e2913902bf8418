//! The one shape of an error: `{"code", "error", "message"}`.
//!
//! `error` is a short phrase that programs match on and that never changes; `message` names the value that was wrong and what to do. What
//! only the operator may see (paths, what the kernel said) goes to the log through [`ApiError::cause`], never to the client.

use nabu_engine::store::StoreError;
use nabu_net::http::head::HeadError;

/// Seconds that a client is told to wait before it tries again.
pub const RETRY_AFTER_SECONDS: &str = "1";

/// A refusal: what the client is told, and what the log is told on top.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiError {
    pub status: u16,
    pub error: &'static str,
    pub message: String,
    /// Header fields of the answer, beyond those that every answer has.
    pub fields: Vec<(&'static str, String)>,
    /// For the log alone.
    pub cause: Option<String>,
}

impl ApiError {
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

    pub fn with_cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => ApiError::new(
                507,
                "insufficient storage",
                "no space is left for more data: delete blobs or add a data directory; reads and deletes go on",
            ),
            StoreError::HashMismatch { expected, actual } => ApiError::new(
                422,
                "digest mismatch",
                format!(
                    "the body has SHA-256 {}, not {} as promised; nothing was stored",
                    actual.to_hex(),
                    expected.to_hex()
                ),
            ),
            StoreError::Collision { id } => ApiError::new(
                409,
                "blob ID collision",
                format!("another content with the id {id} is stored already, and stays"),
            ),
            StoreError::TooLarge => blob_too_large(nabu_engine::store::BLOB_SIZE_MAX),
            StoreError::Damaged { id } => ApiError::new(
                500,
                "blob damaged",
                format!("what is stored of blob {id} fails its checksum; store the blob again"),
            )
            .with_cause(format!("checksum failure in blob {id}")),
            StoreError::Quarantined { id, reason } => ApiError::new(
                500,
                "blob quarantined",
                format!("blob {id} is damaged and under quarantine; upload it again, or delete it"),
            )
            .with_cause(reason),
            StoreError::WriteFailed { reason } => ApiError::unavailable(
                "write failed",
                "the disk refused the write, nothing was stored; try again, and see the log of the server",
            )
            .with_cause(reason),
            StoreError::ReadFailed { id, dir, reason } => ApiError::new(
                500,
                "read failed",
                format!("the disk of data directory {} refused to read blob {id}; see the log of the server", dir + 1),
            )
            .with_cause(reason),
            StoreError::Degraded { missing } => ApiError::unavailable(
                "store is degraded",
                format!(
                    "{missing} of the data directories of this server are missing, and what was asked for may lie there; uploads and what the others \
                     hold are served"
                ),
            ),
            StoreError::DirectoryOut { dir, reason } => ApiError::unavailable(
                "data directory unavailable",
                format!(
                    "data directory {} of this server is out of service; what lies there can't be had until it is mended, see the log of the \
                     server",
                    dir + 1
                ),
            )
            .with_cause(reason),
            StoreError::Busy => {
                ApiError::unavailable("busy", "no memory came free in time; try again, with fewer transfers at once")
            }
            StoreError::Closed => ApiError::unavailable("shutting down", "this server is shutting down; try again"),
        }
    }
}

impl From<HeadError> for ApiError {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::Malformed { offset, expected } => ApiError::new(
                400,
                "malformed request",
                format!("byte {offset} of the request head: expected {expected}"),
            ),
            HeadError::TooLarge => ApiError::new(
                431,
                "request header fields too large",
                "the request head is too large; send fewer or shorter header fields",
            ),
            HeadError::TargetTooLong => {
                ApiError::new(414, "URI too long", "the request target is too long; send a shorter one")
            }
            HeadError::Version => {
                ApiError::new(505, "HTTP version not supported", "this server speaks HTTP/1.1 and HTTP/1.0")
            }
            HeadError::Framing { reason } => {
                ApiError::new(400, "bad message framing", format!("the framing of the body is refused: {reason}"))
            }
            HeadError::TransferCoding => ApiError::new(
                501,
                "transfer coding not implemented",
                "the only transfer coding that this server takes is chunked",
            ),
            HeadError::Host => {
                ApiError::new(400, "bad Host field", "an HTTP/1.1 request carries exactly one valid Host field")
            }
            HeadError::Expectation => {
                ApiError::new(417, "expectation failed", "the only expectation that this server meets is 100-continue")
            }
        }
    }
}

/// A 413 for a blob over `limit` bytes.
pub fn blob_too_large(limit: u64) -> ApiError {
    ApiError::new(413, "blob too large", format!("a blob takes at most {limit} bytes on this server"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_disk_said_is_for_the_log_and_not_for_the_client() {
        let reason = "/data/segments/00000001: Input/output error";
        let error = ApiError::from(StoreError::WriteFailed { reason: reason.to_owned() });
        assert_eq!(error.status, 503);
        assert_eq!(error.cause.as_deref(), Some(reason));
        assert!(!error.message.contains("/data"));
        assert!(error.fields.contains(&("Retry-After", RETRY_AFTER_SECONDS.to_owned())));
    }

    #[test]
    fn a_directory_that_is_out_of_service_is_named_by_its_number_and_not_by_its_path() {
        let reason = "an operation on /data/b was not answered".to_owned();
        let error = ApiError::from(StoreError::DirectoryOut { dir: 1, reason: reason.clone() });
        assert_eq!((error.status, error.error), (503, "data directory unavailable"));
        assert!(error.message.contains("data directory 2") && !error.message.contains('/'));
        assert_eq!(error.cause, Some(reason));
        assert!(error.fields.contains(&("Retry-After", RETRY_AFTER_SECONDS.to_owned())));
    }

    #[test]
    fn a_blob_under_quarantine_is_a_500_that_says_what_to_do() {
        let id = nabu_engine::types::BlobId([7; 16]);
        let error = ApiError::from(StoreError::Quarantined { id, reason: "segment 0000002a, offset 64".to_owned() });
        assert_eq!((error.status, error.error), (500, "blob quarantined"));
        assert!(error.message.contains("upload it again, or delete it") && error.message.contains(&id.to_string()));
        assert!(!error.message.contains("segment"));
    }
}
