//! What requests mean: the APIs, each with its table of endpoints and the form of its errors.
//!
//! | room | what it serves |
//! | --- | --- |
//! | [`v1`] | blobs, and the cluster |
//! | [`service`] | health and metrics |
//!
//! No API imports another. What they share lies here: [`route`], [`context`], [`access`],
//! [`singleton`], [`json`], [`errors`].
//!
//! The node calls [`serve`] on each core. What it returns finds the endpoint, checks who may call
//! it, and hands the exchange to its handler. Checks go from what any caller may know to what only
//! some may: path and method, fields that appear twice, the token, the query, and then what the
//! handler checks.

mod access;
mod context;
mod errors;
pub mod json;
mod route;
mod service;
mod singleton;
mod v1;

use std::rc::Rc;

use nabu_net::http::target::split_query;

pub use self::context::{Context, Node};
use self::route::{Found, NotFound, Router, Table};
use crate::http::{Exchange, HttpError, Port, Service, Serving, run};

/// All APIs. Those that are asked most come first.
static TABLES: [&Table; 2] = [&v1::TABLE, &service::TABLE];

/// What answers the requests of one core.
pub fn serve(context: Rc<Context>) -> Service {
    let router = Router::new(&TABLES);
    Service {
        render: errors::render,
        is_always_answered: service::is_health,
        routes: router.labels().to_vec(),
        dispatch: Box::new(move |exchange| dispatch(&router, &context, exchange)),
    }
}

fn dispatch(router: &Router, context: &Rc<Context>, exchange: Exchange) -> Serving {
    match admit(router, context, &exchange) {
        Ok(found) => (found.route.handler)(exchange, context.clone(), found.values),
        Err(error) => Box::pin(run(exchange, async move |_| Err(error))),
    }
}

fn admit(router: &Router, context: &Context, exchange: &Exchange) -> Result<Found, HttpError> {
    let (path, _) = split_query(exchange.target());
    if exchange.client.port == Port::Ops {
        service::check_path(path)?;
    }
    let found = router.find(exchange.method(), path).map_err(|NotFound { error, known }| {
        if let Some((render, id)) = known {
            exchange.render.set(render);
            exchange.route.set(id);
        }
        error
    })?;
    exchange.render.set(found.render);
    exchange.route.set(found.id);
    singleton::check(exchange)?;
    if let Some(role) = found.route.role {
        access::check(exchange, &context.authority, role)?;
    }
    found.route.check_query(exchange.target())?;
    Ok(found)
}

/// The endpoints as a table for the documentation, a row each.
pub fn endpoints() -> String {
    let mut table = String::from("| request | role | query parameters | what it does |\n| --- | --- | --- | --- |\n");
    for route in TABLES.iter().flat_map(|table| table.routes) {
        let role = route.role.map_or("none", |role| role.name());
        let query = if route.query.is_empty() { "none".to_owned() } else { format!("`{}`", route.query.join("`, `")) };
        let method = route.method.name();
        table.push_str(&format!("| `{method} {}` | {role} | {query} | {} |\n", route.pattern, route.about));
    }
    table
}

#[cfg(test)]
mod tests {
    use nabu_net::http::head::Method;

    use super::*;
    use crate::auth::Role;

    #[test]
    fn the_documentation_has_every_endpoint_and_no_other() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/api.md");
        let text = std::fs::read_to_string(path).expect("docs/api.md is there");
        let start = text.find("| request | role |").expect("docs/api.md has the table of endpoints");
        let end = text[start..].find("\n\n").map_or(text.len(), |length| start + length + 1);
        if std::env::var_os("NABU_UPDATE_DOCS").is_some() {
            std::fs::write(path, format!("{}{}{}", &text[..start], endpoints(), &text[end..])).expect("written");
            return;
        }
        assert_eq!(&text[start..end], endpoints(), "run `NABU_UPDATE_DOCS=1 cargo test --lib documentation`");
    }

    #[test]
    fn the_documentation_has_a_section_with_an_example_for_every_endpoint_and_no_other() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/api.md")).expect("it is there");
        let mut documented = Vec::new();
        for section in text.split("\n### `").skip(1) {
            let (name, rest) = section.split_once("`\n").expect("a heading is a method and a path");
            let rest = rest.split("\n## ").next().expect("a split has a first part");
            let (_, pattern) = name.split_once(' ').expect("a method and a path");
            // What comes before the value in braces, if there is one.
            let path = format!("$NABU_API{}", pattern.split('{').next().expect("a split has a first part"));
            let mut examples = rest.split("```sh\n").skip(1).map(|example| example.split("```").next());
            assert!(examples.any(|example| example.is_some_and(|example| example.contains(&path))), "{name}");
            documented.push(name.to_owned());
        }
        let routes = TABLES.iter().flat_map(|table| table.routes);
        let mut expected: Vec<_> = routes.map(|route| format!("{} {}", route.method.name(), route.pattern)).collect();
        expected.sort_unstable();
        documented.sort_unstable();
        assert_eq!(documented, expected);
    }

    #[test]
    fn a_role_is_needed_for_everything_but_health() {
        for route in TABLES.iter().flat_map(|table| table.routes) {
            let is_open = ["/healthz", "/livez", "/readyz"].contains(&route.pattern);
            assert_eq!(route.role.is_none(), is_open, "{}", route.pattern);
            let writes = route.method != Method::Get;
            assert!(!writes || route.role >= Some(Role::Write), "{} {}", route.method.name(), route.pattern);
        }
    }

    #[test]
    fn paths_are_exact_and_another_version_is_told_which_are_served() {
        let router = Router::new(&TABLES);
        let error = |path| router.find(Method::Get, path).err().expect(path).error;
        for path in ["/", "/healthz/", "/v1", "/v1/blob", "/V1/blobs", "/v1/blobs/a/b", "/v1/cluster", "/metrics/", "*"]
        {
            assert_eq!(error(path).status, 404, "{path}");
        }
        let error = error("/api/v3/files");
        assert!(error.message.contains("\"v3\"") && error.message.contains("/v1"), "{}", error.message);
    }
}
