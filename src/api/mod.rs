//! The resources of the HTTP API, one file each.
//!
//! [`dispatch`] is the one way in: it finds the operation, checks who may do it, and hands the exchange to its handler. Checks go from what
//! any caller may know to what only some may: path and method, then the token, then whether the store is ready.

mod access;
mod blobs;
mod cluster;
pub mod error;
mod health;
pub mod json;
mod metrics;
pub mod request_id;
pub mod router;

use nabu_engine::runtime::RingIo;
use nabu_engine::store::Shard;
use nabu_engine::types::BlobId;
use nabu_net::http::target::split_query;

use self::error::ApiError;
use self::router::Operation;
use crate::server::{Core, Exchange, Serving, run_exchange};

/// An operation that may go ahead, with what it needs.
enum Admitted {
    Health,
    Readiness,
    Metrics,
    Store(Shard<RingIo>),
    List(Shard<RingIo>),
    Retrieve(Shard<RingIo>, BlobId),
    Delete(Shard<RingIo>, BlobId),
    ClusterState,
    ClusterChange,
}

/// Serves a request. Each operation has a future of its own size, so that a small one does not pay for a large one.
pub fn dispatch(exchange: Exchange) -> Serving {
    match admit(&exchange) {
        Err(error) => Box::pin(run_exchange(exchange, async move |_| Err(error))),
        Ok(Admitted::Health) => Box::pin(run_exchange(exchange, async |exchange| health::health(exchange))),
        Ok(Admitted::Readiness) => Box::pin(run_exchange(exchange, async |exchange| health::readiness(exchange))),
        Ok(Admitted::Metrics) => Box::pin(run_exchange(exchange, metrics::metrics)),
        Ok(Admitted::Store(shard)) => {
            Box::pin(run_exchange(exchange, async move |exchange| blobs::store::store(exchange, &shard).await))
        }
        Ok(Admitted::List(shard)) => {
            Box::pin(run_exchange(exchange, async move |exchange| blobs::list::list(exchange, &shard).await))
        }
        Ok(Admitted::Retrieve(shard, id)) => Box::pin(run_exchange(exchange, async move |exchange| {
            blobs::retrieve::retrieve(exchange, &shard, id).await
        })),
        Ok(Admitted::Delete(shard, id)) => {
            Box::pin(run_exchange(exchange, async move |exchange| blobs::delete::delete(exchange, &shard, id).await))
        }
        Ok(Admitted::ClusterState) => Box::pin(run_exchange(exchange, cluster::state)),
        Ok(Admitted::ClusterChange) => Box::pin(run_exchange(exchange, async |_| Err(cluster::standalone()))),
    }
}

fn admit(exchange: &Exchange) -> Result<Admitted, ApiError> {
    let (path, _) = split_query(exchange.target());
    let resource = router::resource(path)?;
    exchange.route.set(resource.route());
    let operation = resource.operation(exchange.method())?;
    if let Some(role) = operation.role() {
        access::check(exchange, role)?;
    }
    let core = &exchange.core;
    Ok(match operation {
        Operation::Health => Admitted::Health,
        Operation::Readiness => Admitted::Readiness,
        Operation::Metrics => Admitted::Metrics,
        Operation::StoreBlob => Admitted::Store(ready(core)?),
        Operation::ListBlobs => Admitted::List(ready(core)?),
        Operation::RetrieveBlob(segment) => {
            let id = blob_id(exchange, segment)?;
            Admitted::Retrieve(ready(core)?, id)
        }
        Operation::DeleteBlob(segment) => {
            let id = blob_id(exchange, segment)?;
            Admitted::Delete(ready(core)?, id)
        }
        Operation::ClusterState => Admitted::ClusterState,
        Operation::ClusterChange => Admitted::ClusterChange,
    })
}

fn blob_id(exchange: &Exchange, segment: &str) -> Result<BlobId, ApiError> {
    let id = router::blob_id(segment)?;
    exchange.blob_id.set(Some(id));
    Ok(id)
}

fn ready(core: &Core) -> Result<Shard<RingIo>, ApiError> {
    core.shard().ok_or_else(|| ApiError::unavailable("not ready", health::NOT_READY_REASON))
}
