//! `/v1/blobs`: contents under the id that their hash gives them.

mod base64;
mod delete;
mod digest;
mod labels;
mod list;
mod policy;
mod retrieve;
mod store;

use nabu_engine::types::BlobId;
use nabu_net::http::target::decode_segment;

pub use self::delete::delete;
pub use self::list::list;
pub use self::retrieve::retrieve;
pub use self::store::store;
use crate::api::route::{PathValues, shorten};
use crate::http::{Exchange, HttpError};

/// The id in the path.
fn blob_id(exchange: &Exchange, values: &PathValues) -> Result<BlobId, HttpError> {
    let id = parse_id(values.first(exchange))?;
    exchange.blob_id.set(Some(id));
    Ok(id)
}

fn parse_id(segment: &str) -> Result<BlobId, HttpError> {
    decode_segment(segment).ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
        let message = format!(
            "{:?} is not a blob ID: an ID is 32 lowercase hex characters, as in the answer to the upload",
            shorten(segment)
        );
        HttpError::new(400, "invalid blob ID", message)
    })
}

fn blob_not_found(id: BlobId) -> HttpError {
    HttpError::new(404, "blob not found", format!("blob {id} not found on any node"))
}
