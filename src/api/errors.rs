//! What an error of the store is to a client of the API, and the one shape of an error body:
//! `{"code", "error", "message"}`.

use nabu_cluster::blobs;
use nabu_engine::store::{LABELS_BYTES_MAX, LABELS_MAX, StoreError};
use serde::Serialize;

use super::json;
use crate::http::HttpError;
use crate::text::human_size;

#[derive(Serialize)]
struct ErrorBody<'e> {
    code: u16,
    error: &'e str,
    message: &'e str,
}

/// The body of an error answer of v1 and of what serves all APIs.
pub fn render(error: &HttpError) -> (&'static str, Vec<u8>) {
    (json::MEDIA_TYPE, json::to_vec(&ErrorBody { code: error.status, error: error.error, message: &error.message }))
}

impl From<blobs::Error> for HttpError {
    fn from(error: blobs::Error) -> Self {
        match error {
            blobs::Error::Local(error) => error.into(),
        }
    }
}

impl From<StoreError> for HttpError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => HttpError::new(
                507,
                "insufficient storage",
                "no space is left for more data: delete blobs or add a data directory; reads and deletes still work",
            ),
            StoreError::NoRoom { size, room } => HttpError::new(
                507,
                "insufficient storage",
                format!(
                    "{} can't fit: at most {} are free or may become free; delete blobs or add a data directory; \
                     reads and deletes still work",
                    human_size(size),
                    human_size(room)
                ),
            ),
            StoreError::TooManyLabels { id } => HttpError::new(
                422,
                "too many labels",
                format!(
                    "blob {id} is stored with labels already, and has at most {LABELS_MAX} of \
                     {LABELS_BYTES_MAX} bytes together, names and values; \
                     nothing was changed"
                ),
            ),
            StoreError::HashMismatch { expected, actual } => HttpError::new(
                422,
                "digest mismatch",
                format!(
                    "the body has SHA-256 {}, not {} as promised; nothing was stored",
                    actual.to_hex(),
                    expected.to_hex()
                ),
            ),
            StoreError::Collision { id } => HttpError::new(
                409,
                "blob ID collision",
                format!("other content with the id {id} is already stored, and was kept"),
            ),
            StoreError::TooLarge => blob_too_large(nabu_engine::store::BLOB_SIZE_MAX),
            StoreError::Damaged { id } => HttpError::new(
                500,
                "blob damaged",
                format!("the stored bytes of blob {id} fail their checksum; store the blob again"),
            )
            .with_cause(format!("checksum failure in blob {id}")),
            StoreError::Quarantined { id, reason } => HttpError::new(
                500,
                "blob quarantined",
                format!("blob {id} is damaged and under quarantine; upload it again, or delete it"),
            )
            .with_cause(reason),
            StoreError::WriteFailed { reason } => HttpError::unavailable(
                "write failed",
                "the disk refused the write, nothing was stored; try again, and see the server's log",
            )
            .with_cause(reason),
            StoreError::ReadFailed { id, dir, reason } => HttpError::new(
                500,
                "read failed",
                format!("the disk of data directory {} refused to read blob {id}; see the server's log", dir + 1),
            )
            .with_cause(reason),
            StoreError::Degraded { missing } => HttpError::unavailable(
                "store is degraded",
                format!(
                    "{missing} of the data directories of this server are missing, and what was asked for may be \
                     there; uploads still work, and what the others hold is served"
                ),
            ),
            StoreError::DirectoryOut { dir, reason } => HttpError::unavailable(
                "data directory unavailable",
                format!(
                    "data directory {} of this server is out of service; what it holds is unavailable until the disk \
                     is repaired; see the server's log",
                    dir + 1
                ),
            )
            .with_cause(reason),
            StoreError::Busy => {
                HttpError::unavailable("busy", "no memory became free in time; try again, with fewer transfers at once")
            }
            StoreError::Closed => HttpError::unavailable("shutting down", "this server is shutting down; try again"),
        }
    }
}

/// A 413 for a blob over `limit` bytes.
pub fn blob_too_large(limit: u64) -> HttpError {
    HttpError::new(413, "blob too large", format!("a blob may have at most {limit} bytes on this server"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::RETRY_AFTER_SECONDS;

    #[test]
    fn what_the_disk_said_is_for_the_log_and_not_for_the_client() {
        let reason = "/data/segments/00000001: Input/output error";
        let error = HttpError::from(StoreError::WriteFailed { reason: reason.to_owned() });
        assert_eq!(error.status, 503);
        assert_eq!(error.cause.as_deref(), Some(reason));
        assert!(!error.message.contains("/data"));
        assert!(error.fields.contains(&("Retry-After", RETRY_AFTER_SECONDS.to_owned())));
    }

    #[test]
    fn a_directory_that_is_out_of_service_is_named_by_its_number_and_not_by_its_path() {
        let reason = "an operation on /data/b was not answered".to_owned();
        let error = HttpError::from(StoreError::DirectoryOut { dir: 1, reason: reason.clone() });
        assert_eq!((error.status, error.error), (503, "data directory unavailable"));
        assert!(error.message.contains("data directory 2") && !error.message.contains('/'));
        assert_eq!(error.cause, Some(reason));
        assert!(error.fields.contains(&("Retry-After", RETRY_AFTER_SECONDS.to_owned())));
    }

    #[test]
    fn a_blob_under_quarantine_is_a_500_that_says_what_to_do() {
        let id = nabu_engine::types::BlobId([7; 16]);
        let error = HttpError::from(StoreError::Quarantined { id, reason: "segment 0000002a, offset 64".to_owned() });
        assert_eq!((error.status, error.error), (500, "blob quarantined"));
        assert!(error.message.contains("upload it again, or delete it") && error.message.contains(&id.to_string()));
        assert!(!error.message.contains("segment"));
    }
}
