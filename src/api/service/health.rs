//! `/healthz`, `/livez` and `/readyz`: open to all, and answered from the moment that the port is
//! bound, also where there are too many connections.

use std::borrow::Cow;

use serde::Serialize;

use super::readiness::reasons;
use crate::api::context::Context;
use crate::api::json;
use crate::api::route::PathValues;
use crate::http::{Exchange, HttpError, RETRY_AFTER_SECONDS};

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
    reasons: Vec<Cow<'static, str>>,
}

pub async fn health(exchange: &mut Exchange, _: &Context, _: &PathValues) -> Result<(), HttpError> {
    json::answer(exchange, 200, &[], &Health { status: "ok" });
    Ok(())
}

pub async fn readiness(exchange: &mut Exchange, context: &Context, _: &PathValues) -> Result<(), HttpError> {
    let reasons = reasons(context, exchange.core.is_stopping());
    if reasons.is_empty() {
        json::answer(exchange, 200, &[], &Ready { ready: true });
    } else {
        let answer = NotReady { code: 503, error: "not ready", message: reasons.join("; "), reasons };
        json::answer(exchange, 503, &[("Retry-After", RETRY_AFTER_SECONDS)], &answer);
    }
    Ok(())
}
