//! `DELETE /v1/blobs/{id}`.

use serde::Serialize;

use super::{blob_id, blob_not_found};
use crate::api::context::Context;
use crate::api::json;
use crate::api::route::PathValues;
use crate::http::{Exchange, HttpError, Phase};

#[derive(Serialize)]
struct Deleted {
    deleted: bool,
}

pub async fn delete(exchange: &mut Exchange, context: &Context, values: &PathValues) -> Result<(), HttpError> {
    let id = blob_id(exchange, values)?;
    let blobs = context.ready()?;
    exchange.enter_at_once(Phase::Commit);
    if !blobs.delete(id).await? {
        return Err(blob_not_found(id));
    }
    json::answer(exchange, 200, &[], &Deleted { deleted: true });
    Ok(())
}
