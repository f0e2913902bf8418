//! `GET /metrics`: the counters of all cores in Prometheus text format. Not open to all: the role
//! `metrics` is for who may see nothing else.

use nabu_engine::runtime::boot_time;

use super::readiness::reasons;
use crate::api::context::Context;
use crate::api::route::PathValues;
use crate::http::{Exchange, HttpError};
use crate::metrics::cluster::ClusterSnapshot;
use crate::metrics::collector::in_time;
use crate::metrics::process::Process;
use crate::metrics::render::{Snapshot, render};
use crate::metrics::text;

/// Answers the metrics. Served by any core, from copies, also while the store is being recovered.
pub async fn metrics(exchange: &mut Exchange, context: &Context, _: &PathValues) -> Result<(), HttpError> {
    let io = &exchange.core.io;
    let cores = context.node.collector.collect(io).await;
    let blobs = context.blobs();
    let snapshot = Snapshot {
        cores,
        store: match &blobs {
            None => None,
            Some(blobs) => in_time(io, blobs.status()).await,
        },
        cluster: context.cluster().ok().flatten().map(|handle| ClusterSnapshot::of(handle, boot_time())),
        process: Process::read(context.node.started_at),
        is_ready: reasons(context, exchange.core.is_stopping()).is_empty(),
        connections_max: exchange.core.limits().connections_max.into(),
    };
    exchange.answer_bytes(200, text::CONTENT_TYPE, &[("Cache-Control", "no-store")], &render(&snapshot));
    Ok(())
}
