//! The classes of requests that are counted apart: by the pattern of their path, and by their method.

use nabu_net::http::head::Method;

/// What a path names, for counting: as many as there are resources, whatever clients ask for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Route {
    Blobs,
    Blob,
    ClusterState,
    ClusterChange,
    Health,
    Readiness,
    Metrics,
    /// A path that names nothing, and a head that can't be read.
    #[default]
    Unknown,
}

impl Route {
    pub const ALL: [Route; 8] = [
        Route::Blobs,
        Route::Blob,
        Route::ClusterState,
        Route::ClusterChange,
        Route::Health,
        Route::Readiness,
        Route::Metrics,
        Route::Unknown,
    ];

    /// The pattern, as a label shows it.
    pub fn pattern(self) -> &'static str {
        match self {
            Route::Blobs => "/v1/blobs",
            Route::Blob => "/v1/blobs/{id}",
            Route::ClusterState => "/v1/cluster/state",
            Route::ClusterChange => "/v1/cluster/{change}",
            Route::Health => "/healthz",
            Route::Readiness => "/readyz",
            Route::Metrics => "/metrics",
            Route::Unknown => "unknown",
        }
    }
}

/// A method, as a label shows it.
pub fn method_label(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Options => "OPTIONS",
        Method::Patch => "PATCH",
        Method::Other => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_listed_in_its_place_and_has_a_pattern_of_its_own() {
        for (index, route) in Route::ALL.into_iter().enumerate() {
            assert_eq!(route as usize, index);
            assert_eq!(Route::ALL.iter().filter(|other| other.pattern() == route.pattern()).count(), 1);
        }
    }
}
