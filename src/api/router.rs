//! From a path to a resource, and which methods it has. Paths are exact: no trailing slash, no case folding.

use nabu_engine::types::BlobId;
use nabu_net::http::head::Method;
use nabu_net::http::target::decode_segment;

use super::error::ApiError;
use crate::auth::Role;
use crate::metrics::Route;

/// What a path names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resource<'p> {
    Health,
    Readiness,
    Metrics,
    Blobs,
    /// The segment in the id's place, still encoded.
    Blob(&'p str),
    ClusterState,
    /// One of the changes that only a cluster knows.
    ClusterChange,
}

/// What to do with a resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation<'p> {
    Health,
    Readiness,
    Metrics,
    StoreBlob,
    ListBlobs,
    RetrieveBlob(&'p str),
    DeleteBlob(&'p str),
    ClusterState,
    ClusterChange,
}

/// Finds the resource; 404 for an unknown path.
pub fn resource(path: &str) -> Result<Resource<'_>, ApiError> {
    find(path).ok_or_else(|| unknown_path(path))
}

/// The id in a path.
pub fn blob_id(segment: &str) -> Result<BlobId, ApiError> {
    decode_segment(segment).ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
        ApiError::new(
            400,
            "invalid blob ID",
            format!(
                "{:?} is no blob ID: it is exactly 32 lowercase hex characters, as the upload answered",
                shorten(segment)
            ),
        )
    })
}

fn find(path: &str) -> Option<Resource<'_>> {
    match path {
        "/healthz" => Some(Resource::Health),
        "/readyz" => Some(Resource::Readiness),
        "/metrics" => Some(Resource::Metrics),
        "/v1/blobs" => Some(Resource::Blobs),
        "/v1/cluster/state" => Some(Resource::ClusterState),
        "/v1/cluster/join" | "/v1/cluster/leave" | "/v1/cluster/heartbeat" | "/v1/cluster/sync-ring" => {
            Some(Resource::ClusterChange)
        }
        _ => path.strip_prefix("/v1/blobs/").filter(|segment| !segment.contains('/')).map(Resource::Blob),
    }
}

impl<'p> Resource<'p> {
    /// What its requests are counted as.
    pub fn route(self) -> Route {
        match self {
            Resource::Health => Route::Health,
            Resource::Readiness => Route::Readiness,
            Resource::Metrics => Route::Metrics,
            Resource::Blobs => Route::Blobs,
            Resource::Blob(_) => Route::Blob,
            Resource::ClusterState => Route::ClusterState,
            Resource::ClusterChange => Route::ClusterChange,
        }
    }

    /// Finds the operation; 405 with `Allow` for a method that the resource does not have.
    pub fn operation(self, method: Method) -> Result<Operation<'p>, ApiError> {
        self.offered(method).ok_or_else(|| {
            ApiError::new(405, "method not allowed", format!("this resource allows {}", self.allow()))
                .with_field("Allow", self.allow())
        })
    }

    fn allow(self) -> &'static str {
        match self {
            Resource::Health | Resource::Readiness | Resource::Metrics | Resource::ClusterState => "GET, HEAD",
            Resource::Blobs => "GET, HEAD, POST",
            Resource::Blob(_) => "GET, HEAD, DELETE",
            Resource::ClusterChange => "POST",
        }
    }

    fn offered(self, method: Method) -> Option<Operation<'p>> {
        let reads = matches!(method, Method::Get | Method::Head);
        match self {
            Resource::Health if reads => Some(Operation::Health),
            Resource::Readiness if reads => Some(Operation::Readiness),
            Resource::Metrics if reads => Some(Operation::Metrics),
            Resource::ClusterState if reads => Some(Operation::ClusterState),
            Resource::Blobs if reads => Some(Operation::ListBlobs),
            Resource::Blobs if method == Method::Post => Some(Operation::StoreBlob),
            Resource::Blob(segment) if reads => Some(Operation::RetrieveBlob(segment)),
            Resource::Blob(segment) if method == Method::Delete => Some(Operation::DeleteBlob(segment)),
            Resource::ClusterChange if method == Method::Post => Some(Operation::ClusterChange),
            _ => None,
        }
    }
}

impl Operation<'_> {
    /// The role that a caller needs; `None` is open to all.
    pub fn role(self) -> Option<Role> {
        match self {
            Operation::Health | Operation::Readiness => None,
            Operation::ListBlobs | Operation::RetrieveBlob(_) | Operation::ClusterState | Operation::Metrics => {
                Some(Role::Read)
            }
            Operation::StoreBlob | Operation::DeleteBlob(_) => Some(Role::Write),
            Operation::ClusterChange => Some(Role::Admin),
        }
    }
}

fn unknown_path(path: &str) -> ApiError {
    let message = match path.strip_prefix("/api/").map(|rest| rest.split('/').next().unwrap_or(rest)) {
        Some(version) => format!("API version {:?} is not served; the version served is v1, at /v1", shorten(version)),
        None => format!("no resource has the path {:?}", shorten(path)),
    };
    ApiError::new(404, "not found", message)
}

/// A client's text, short enough to be repeated in a message. Targets are ASCII, so any cut is a character's border.
fn shorten(text: &str) -> &str {
    const SHOWN_BYTES_MAX: usize = 128;
    text.get(..SHOWN_BYTES_MAX).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(method: Method, path: &str) -> Result<Operation<'_>, ApiError> {
        resource(path)?.operation(method)
    }

    #[test]
    fn every_path_has_its_operations_and_no_others() {
        let known: [(&str, &[(Method, Operation<'_>)]); 8] = [
            ("/healthz", &[(Method::Get, Operation::Health), (Method::Head, Operation::Health)]),
            ("/readyz", &[(Method::Get, Operation::Readiness), (Method::Head, Operation::Readiness)]),
            ("/metrics", &[(Method::Get, Operation::Metrics), (Method::Head, Operation::Metrics)]),
            (
                "/v1/blobs",
                &[
                    (Method::Get, Operation::ListBlobs),
                    (Method::Head, Operation::ListBlobs),
                    (Method::Post, Operation::StoreBlob),
                ],
            ),
            (
                "/v1/blobs/abc",
                &[
                    (Method::Get, Operation::RetrieveBlob("abc")),
                    (Method::Head, Operation::RetrieveBlob("abc")),
                    (Method::Delete, Operation::DeleteBlob("abc")),
                ],
            ),
            ("/v1/cluster/state", &[(Method::Get, Operation::ClusterState), (Method::Head, Operation::ClusterState)]),
            ("/v1/cluster/join", &[(Method::Post, Operation::ClusterChange)]),
            ("/v1/cluster/sync-ring", &[(Method::Post, Operation::ClusterChange)]),
        ];
        let methods = [
            Method::Get,
            Method::Head,
            Method::Post,
            Method::Put,
            Method::Delete,
            Method::Options,
            Method::Patch,
            Method::Other,
        ];
        for (path, operations) in known {
            for method in methods {
                let wanted = operations.iter().find(|(has, _)| *has == method).map(|(_, operation)| *operation);
                match (route(method, path), wanted) {
                    (Ok(found), Some(wanted)) => assert_eq!(found, wanted),
                    (Err(error), None) => {
                        assert_eq!(error.status, 405, "{method:?} {path}");
                        let allow = &error.fields.iter().find(|(name, _)| *name == "Allow").expect("an Allow field").1;
                        assert_eq!(allow.split(", ").count(), operations.len());
                    }
                    (found, wanted) => panic!("{method:?} {path}: {found:?}, not {wanted:?}"),
                }
            }
        }
    }

    #[test]
    fn paths_are_exact() {
        for path in ["/", "/healthz/", "/v1", "/v1/blob", "/V1/blobs", "/v1/blobs/a/b", "/v1/cluster", "/metrics/", "*"]
        {
            assert_eq!(route(Method::Get, path).unwrap_err().status, 404, "{path}");
        }
    }

    #[test]
    fn another_api_version_is_told_which_are_served() {
        let error = route(Method::Get, "/api/v3/files").unwrap_err();
        assert_eq!(error.status, 404);
        assert!(error.message.contains("\"v3\"") && error.message.contains("/v1"), "{}", error.message);
    }

    #[test]
    fn a_role_is_needed_for_everything_but_health() {
        assert_eq!(Operation::Health.role(), None);
        assert_eq!(Operation::Readiness.role(), None);
        assert_eq!(Operation::RetrieveBlob("").role(), Some(Role::Read));
        assert_eq!(Operation::Metrics.role(), Some(Role::Read));
        assert_eq!(Operation::StoreBlob.role(), Some(Role::Write));
        assert_eq!(Operation::DeleteBlob("").role(), Some(Role::Write));
        assert_eq!(Operation::ClusterChange.role(), Some(Role::Admin));
    }
}
