//! `GET /metrics`: the counters of all cores in Prometheus text format. Not open to all: who may read blobs may read them.

use super::error::ApiError;
use crate::metrics::{collector, render, text};
use crate::server::Exchange;

/// Answers the metrics. Served by any core, from copies, also while the store is being recovered.
pub async fn metrics(exchange: &mut Exchange) -> Result<(), ApiError> {
    let snapshot = collector::collect(&exchange.core).await;
    exchange.answer_bytes(200, text::CONTENT_TYPE, &[("Cache-Control", "no-store")], &render::render(&snapshot));
    Ok(())
}
