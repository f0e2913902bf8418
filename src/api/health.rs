//! `/healthz` and `/readyz`: open to all, and answered from the moment that the port is bound.

use serde::Serialize;

use super::error::{ApiError, RETRY_AFTER_SECONDS};
use crate::server::Exchange;

/// Why a server that runs may not be ready.
pub const NOT_READY_REASON: &str = "the store is being recovered; try again";

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
}

#[derive(Serialize)]
struct NotReady {
    code: u16,
    error: &'static str,
    message: String,
    reasons: Vec<&'static str>,
}

pub fn health(exchange: &mut Exchange) -> Result<(), ApiError> {
    exchange.answer_json(200, &[], &Health { status: "ok" });
    Ok(())
}

pub fn readiness(exchange: &mut Exchange) -> Result<(), ApiError> {
    let mut reasons = Vec::new();
    if exchange.core.shard().is_none() {
        reasons.push(NOT_READY_REASON);
    }
    if exchange.core.is_stopping() {
        reasons.push("the server is shutting down");
    }
    if reasons.is_empty() {
        exchange.answer_json(200, &[], &Ready { ready: true });
    } else {
        let answer = NotReady { code: 503, error: "not ready", message: reasons.join("; "), reasons };
        exchange.answer_json(503, &[("Retry-After", RETRY_AFTER_SECONDS)], &answer);
    }
    Ok(())
}
