//! `/v1/blobs`: contents under the id that their hash gives them.

mod base64;
pub mod delete;
mod digest;
mod encrypting;
mod labels;
pub mod list;
mod policy;
pub mod retrieve;
mod sending;
pub mod store;

use nabu_engine::types::BlobId;

use super::error::ApiError;

fn blob_not_found(id: BlobId) -> ApiError {
    ApiError::new(404, "blob not found", format!("blob {id} not found on any node"))
}
