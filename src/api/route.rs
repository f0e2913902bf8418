//! The table of endpoints: a row says all about one. Routing, `405` with `Allow`, the roles, the
//! query parameters, the labels of the metrics and the table in `docs/api.md` come from it.
//!
//! Paths are exact: no trailing slash, no case folding. A value in a path is one segment, still
//! encoded, so that `%2F` in it divides nothing.

use std::ops::Range;
use std::rc::Rc;

use nabu_net::http::head::Method;
use nabu_net::http::target::{query_pairs, split_query};

use super::context::Context;
use crate::auth::Role;
use crate::http::{Exchange, HttpError, Render, Serving};
use crate::metrics::RouteId;

/// The endpoints of one API, and the form of its errors.
pub struct Table {
    pub render: Render,
    pub routes: &'static [Route],
}

/// One endpoint.
pub struct Route {
    /// `GET` stands for `HEAD` too.
    pub method: Method,
    /// Segments in braces are values.
    pub pattern: &'static str,
    /// The role that a caller needs; `None` is open to all.
    pub role: Option<Role>,
    /// The query parameters that it has.
    pub query: &'static [&'static str],
    /// What it does, for the documentation.
    pub about: &'static str,
    pub handler: Handler,
}

/// Serves a request. It boxes a future of its own size, so that a small one doesn't pay for a large
/// one.
pub type Handler = fn(Exchange, Rc<Context>, PathValues) -> Serving;

/// Makes a [`Handler`] of an async function that takes the exchange, the context and the values of
/// the path.
macro_rules! handler {
    ($function:path) => {
        |exchange, context, values| {
            Box::pin($crate::http::run(exchange, async move |exchange| $function(exchange, &context, &values).await))
        }
    };
}
pub(super) use handler;

/// The most values of a path.
const VALUES_MAX: usize = 2;

/// Where the values of a path lie in the target.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct PathValues {
    ranges: [Range<u32>; VALUES_MAX],
    count: usize,
}

impl PathValues {
    /// The value of the first segment in braces, still encoded.
    pub fn first<'e>(&self, exchange: &'e Exchange) -> &'e str {
        self.get(0, exchange.target())
    }

    fn get<'t>(&self, index: usize, target: &'t str) -> &'t str {
        assert!(index < self.count, "a handler asks for the values that its pattern has");
        let range = &self.ranges[index];
        &target[range.start as usize..range.end as usize]
    }
}

/// A pattern, ready to be compared.
struct Pattern {
    /// What comes before the first value.
    prefix: &'static str,
    /// What comes behind each value.
    behind: Vec<&'static str>,
}

impl Pattern {
    fn new(pattern: &'static str) -> Self {
        let mut pieces = pattern.split('{');
        let prefix = pieces.next().expect("a split has a first piece");
        let behind: Vec<_> = pieces.map(|piece| piece.split_once('}').expect("a brace is closed").1).collect();
        assert!(behind.len() <= VALUES_MAX, "{pattern}: more values than {VALUES_MAX}");
        Self { prefix, behind }
    }

    fn values(&self, path: &str) -> Option<PathValues> {
        let mut rest = path.strip_prefix(self.prefix)?;
        let mut values = PathValues::default();
        for behind in &self.behind {
            let start = path.len() - rest.len();
            let end = start + rest.find('/').unwrap_or(rest.len());
            values.ranges[values.count] = start as u32..end as u32;
            values.count += 1;
            rest = path[end..].strip_prefix(behind)?;
        }
        rest.is_empty().then_some(values)
    }
}

struct Row {
    pattern: Pattern,
    route: &'static Route,
    render: Render,
    id: RouteId,
}

/// What a request was found to ask for.
pub struct Found {
    pub route: &'static Route,
    pub values: PathValues,
    pub render: Render,
    pub id: RouteId,
}

/// Why a request names no endpoint.
pub struct NotFound {
    pub error: HttpError,
    /// The path is known, and the method is not.
    pub known: Option<(Render, RouteId)>,
}

/// Finds endpoints.
pub struct Router {
    rows: Vec<Row>,
    labels: Vec<&'static str>,
}

impl Router {
    pub fn new(tables: &[&'static Table]) -> Self {
        let mut labels = vec![RouteId::UNKNOWN_LABEL];
        let mut rows = Vec::new();
        for (table, route) in tables.iter().flat_map(|table| table.routes.iter().map(move |route| (table, route))) {
            let known = labels.iter().position(|label| *label == route.pattern);
            let index = known.unwrap_or_else(|| {
                labels.push(route.pattern);
                labels.len() - 1
            });
            rows.push(Row { pattern: Pattern::new(route.pattern), route, render: table.render, id: RouteId(index) });
        }
        Self { rows, labels }
    }

    /// What requests are counted as; the first is for those that no endpoint fits.
    pub fn labels(&self) -> &[&'static str] {
        &self.labels
    }

    /// # Errors
    /// 404 for an unknown path, 405 with `Allow` for a method that it does not have.
    pub fn find(&self, method: Method, path: &str) -> Result<Found, NotFound> {
        let wanted = if method == Method::Head { Method::Get } else { method };
        let mut known = None;
        let mut allow = String::new();
        for row in &self.rows {
            let Some(values) = row.pattern.values(path) else { continue };
            if row.route.method == wanted {
                return Ok(Found { route: row.route, values, render: row.render, id: row.id });
            }
            known.get_or_insert((row.render, row.id));
            if !allow.is_empty() {
                allow.push_str(", ");
            }
            allow.push_str(if row.route.method == Method::Get { "GET, HEAD" } else { row.route.method.name() });
        }
        let error = if known.is_none() {
            unknown_path(path)
        } else {
            HttpError::new(405, "method not allowed", format!("this resource allows {allow}"))
                .with_field("Allow", allow)
        };
        Err(NotFound { error, known })
    }
}

impl Route {
    /// # Errors
    /// 400 for a query parameter that the endpoint does not have, or a query that can't be read.
    pub fn check_query(&self, target: &str) -> Result<(), HttpError> {
        for (name, _) in pairs(target)? {
            if !self.query.contains(&name.as_str()) {
                let known = match self.query {
                    [] => "none".to_owned(),
                    names => names.join(" and "),
                };
                let message =
                    format!("{:?} is not a query parameter of this endpoint, which takes {known}", shorten(&name));
                return Err(HttpError::new(400, "unknown query parameter", message));
            }
        }
        Ok(())
    }
}

/// The query parameters of a target, decoded.
///
/// # Errors
/// 400 for a query that can't be read.
pub fn pairs(target: &str) -> Result<Vec<(String, String)>, HttpError> {
    let Some(query) = split_query(target).1 else { return Ok(Vec::new()) };
    query_pairs(query)
        .map(|pair| {
            pair.map_err(|error| {
                let message = format!("byte {} of the query is in a bad percent escape", error.offset);
                HttpError::new(400, "malformed query", message)
            })
        })
        .collect()
}

fn unknown_path(path: &str) -> HttpError {
    let message = match path.strip_prefix("/api/").map(|rest| rest.split('/').next().unwrap_or(rest)) {
        Some(version) => format!("API version {:?} is not served; the version served is v1, at /v1", shorten(version)),
        None => format!("no resource has the path {:?}", shorten(path)),
    };
    HttpError::new(404, "not found", message)
}

/// A client's text, short enough to be repeated in a message.
pub fn shorten(text: &str) -> &str {
    const SHOWN_BYTES_MAX: usize = 128;
    &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHODS: [Method; 8] = [
        Method::Get,
        Method::Head,
        Method::Post,
        Method::Put,
        Method::Delete,
        Method::Options,
        Method::Patch,
        Method::Other,
    ];

    async fn nothing(_: &mut Exchange, _: &Context, _: &PathValues) -> Result<(), HttpError> {
        Ok(())
    }

    const fn row(method: Method, pattern: &'static str) -> Route {
        Route { method, pattern, role: None, query: &["page", "limit"], about: "", handler: handler!(nothing) }
    }

    fn render(_: &HttpError) -> (&'static str, Vec<u8>) {
        ("text/plain", Vec::new())
    }

    static TABLE: Table = Table {
        render,
        routes: &[
            row(Method::Get, "/files/{path}"),
            row(Method::Delete, "/files/{path}"),
            row(Method::Get, "/files/{path}/content"),
            row(Method::Put, "/tasks/{id}/action/{action}"),
            row(Method::Post, "/files"),
        ],
    };

    fn found(method: Method, path: &str) -> Result<(&'static str, Vec<&str>), HttpError> {
        let router = Router::new(&[&TABLE]);
        let found = router.find(method, path).map_err(|not_found| not_found.error)?;
        let values = (0..found.values.count).map(|index| found.values.get(index, path)).collect();
        Ok((found.route.pattern, values))
    }

    #[test]
    fn a_value_is_one_segment_and_stays_encoded() {
        for method in [Method::Get, Method::Head] {
            assert_eq!(found(method, "/files/a%2Fb"), Ok(("/files/{path}", vec!["a%2Fb"])));
        }
        assert_eq!(found(Method::Get, "/files/"), Ok(("/files/{path}", vec![""])));
        assert_eq!(found(Method::Get, "/files/a/content"), Ok(("/files/{path}/content", vec!["a"])));
        let action = "/tasks/{id}/action/{action}";
        assert_eq!(found(Method::Put, "/tasks/7/action/run"), Ok((action, vec!["7", "run"])));
        for path in ["/files/a/b", "/files/a/", "/files/a/content/", "/tasks/7/action/run/", "/tasks/7/action", "/file"]
        {
            assert_eq!(found(Method::Put, path).unwrap_err().status, 404, "{path}");
        }
    }

    #[test]
    fn a_method_that_a_path_does_not_have_is_told_those_that_it_has() {
        let cases = [
            ("/files/a", "GET, HEAD, DELETE", 3),
            ("/files", "POST", 1),
            ("/files/a/content", "GET, HEAD", 2),
            ("/tasks/1/action/run", "PUT", 1),
        ];
        for (path, allow, count) in cases {
            let refused: Vec<_> = METHODS.into_iter().filter_map(|method| found(method, path).err()).collect();
            assert_eq!(refused.len(), METHODS.len() - count, "{path}");
            for error in refused {
                assert_eq!((error.status, error.fields), (405, vec![("Allow", allow.to_owned())]), "{path}");
            }
        }
    }

    #[test]
    fn a_path_is_counted_by_its_pattern_also_when_its_method_is_refused() {
        let router = Router::new(&[&TABLE]);
        let label = |method, path| match router.find(method, path) {
            Ok(found) => router.labels()[found.id.0],
            Err(NotFound { known, .. }) => router.labels()[known.map_or(RouteId::UNKNOWN, |(_, id)| id).0],
        };
        assert_eq!(label(Method::Delete, "/files/a"), "/files/{path}");
        assert_eq!(label(Method::Patch, "/files/a"), "/files/{path}");
        assert_eq!(label(Method::Get, "/nothing"), RouteId::UNKNOWN_LABEL);
    }

    #[test]
    fn an_unknown_query_parameter_is_refused_and_told_those_that_there_are() {
        let route = row(Method::Get, "/files");
        for good in ["/files", "/files?", "/files?page=1", "/files?&limit=&page=%41"] {
            assert_eq!(route.check_query(good), Ok(()), "{good}");
        }
        let error = route.check_query("/files?page=1&pages=2").unwrap_err();
        assert_eq!((error.status, error.error), (400, "unknown query parameter"));
        assert!(error.message.contains("\"pages\"") && error.message.contains("page and limit"), "{}", error.message);
        let none = Route { query: &[], ..row(Method::Get, "/x") }.check_query("/x?a").unwrap_err();
        assert!(none.message.contains("takes none"), "{}", none.message);
        let long = format!("/x?{}=1", "ä".repeat(5000));
        assert!(route.check_query(&long).unwrap_err().message.len() < 400);
        assert_eq!(route.check_query("/x?%zz").unwrap_err().error, "malformed query");
    }
}
