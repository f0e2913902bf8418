//! What every node serves beside its APIs: health, for load balancers, and metrics.

mod health;
mod metrics;
mod readiness;

use nabu_net::http::head::Method;

use super::errors;
use super::route::{Route, Table, handler, shorten};
use crate::auth::Role;
use crate::http::HttpError;

pub static TABLE: Table = Table {
    render: errors::render,
    routes: &[
        Route {
            method: Method::Get,
            pattern: "/healthz",
            role: None,
            query: &[],
            about: "Whether the node serves",
            handler: handler!(health::health),
        },
        Route {
            method: Method::Get,
            pattern: "/livez",
            role: None,
            query: &[],
            about: "Whether the process can answer at all",
            handler: handler!(health::health),
        },
        Route {
            method: Method::Get,
            pattern: "/readyz",
            role: None,
            query: &[],
            about: "Whether the node is ready for blobs; `503` with the reasons until then",
            handler: handler!(health::readiness),
        },
        Route {
            method: Method::Get,
            pattern: "/metrics",
            role: Some(Role::Metrics),
            query: &[],
            about: "Counters and histograms in Prometheus text format",
            handler: handler!(metrics::metrics),
        },
    ],
};

/// Lets through what is served on the port of operations.
///
/// # Errors
/// 404, naming those paths.
pub fn check_path(path: &str) -> Result<(), HttpError> {
    if TABLE.routes.iter().any(|route| route.pattern == path) {
        return Ok(());
    }
    let served: Vec<&str> = TABLE.routes.iter().map(|route| route.pattern).collect();
    let message = format!("this port serves only {}, not {:?}", served.join(", "), shorten(path));
    Err(HttpError::new(404, "not found", message))
}

/// Whether a path is one of health: those are open to all.
pub fn is_health(path: &str) -> bool {
    TABLE.routes.iter().any(|route| route.role.is_none() && route.pattern == path)
}
