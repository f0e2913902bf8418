//! `DELETE /v1/blobs/{id}`.

use nabu_engine::runtime::RingIo;
use nabu_engine::store::Shard;
use nabu_engine::types::BlobId;
use serde::Serialize;

use super::blob_not_found;
use crate::api::error::ApiError;
use crate::server::{Exchange, Phase};

#[derive(Serialize)]
struct Deleted {
    deleted: bool,
}

pub async fn delete(exchange: &mut Exchange, shard: &Shard<RingIo>, id: BlobId) -> Result<(), ApiError> {
    exchange.enter_at_once(Phase::Commit);
    if !shard.delete(id).await? {
        return Err(blob_not_found(id));
    }
    exchange.answer_json(200, &[], &Deleted { deleted: true });
    Ok(())
}
