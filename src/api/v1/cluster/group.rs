//! How the group is asked, and for how long.

use std::sync::Arc;
use std::time::Duration;

use nabu_cluster::control::command::{Change, Outcome};

use super::refused::{self, Asked};
use crate::api::context::Context;
use crate::control::{Handle, View};
use crate::http::{Exchange, HttpError, Phase};

/// How long a change or a read waits for the group: a new leader is elected in less.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a node that is behind a caller waits for what the caller knows.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(1);

/// The way to the group that this node belongs to.
///
/// # Errors
/// 503 on a node that belongs to none: one that is standalone, that looks for its cluster, or that
/// was removed.
pub fn of(context: &Context) -> Result<&Handle, HttpError> {
    let handle = context.cluster()?.ok_or_else(refused::standalone)?;
    refused::check_membership(&handle.view())?;
    Ok(handle)
}

/// The view, as new as any answer that anybody was given before.
pub async fn read(exchange: &mut Exchange, handle: &Handle) -> Result<Arc<View>, HttpError> {
    exchange.enter(Phase::Read);
    let read = handle.read(&exchange.core.io, TIMEOUT).await;
    read.map_err(|failure| refused::not_read(failure, TIMEOUT, &handle.view()))
}

/// The view, as new as a caller's ring if that is available in a moment.
pub async fn caught_up(exchange: &mut Exchange, handle: &Handle, ring_version: u64) -> Arc<View> {
    let view = handle.view();
    if view.ring_version >= ring_version {
        return view;
    }
    exchange.enter(Phase::Read);
    // What there is otherwise is no worse than what there was.
    handle.read(&exchange.core.io, CATCH_UP_TIMEOUT).await.unwrap_or_else(|_| handle.view())
}

/// Has a change agreed on; the view that has it.
///
/// # Errors
/// It was refused, or nobody decided in time.
pub async fn change(
    exchange: &mut Exchange,
    handle: &Handle,
    change: Change,
    asked: &Asked<'_>,
) -> Result<Arc<View>, HttpError> {
    exchange.enter(Phase::Commit);
    match handle.change(&exchange.core.io, change, TIMEOUT).await {
        Ok(Outcome::Refused(refusal)) => Err(refused::refused(&refusal, asked, &handle.view())),
        Ok(_) => Ok(handle.view()),
        Err(failure) => Err(refused::not_changed(failure, TIMEOUT, &handle.view())),
    }
}
